"""Generate a synthetic market: hidden returns and volatility, and the bars made from them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.market import BarClosed
from shared.bars.names import SYMBOL, interval_text
from shared.bars.rows import Bars, Good, Row, Series, SourceError
from shared.synthetic.theory import LAGS, PERSISTENCE, Signal, coefficients

Array = NDArray[np.float64]

START_MS: Final = 1_704_067_200_000
"""2024-01-01T00:00Z: the open time of the first bar."""
DAY_MS: Final = 86_400_000
SYMBOLS: Final = ("SYN1", "SYN2", "SYN3", "SYN4")
SCENARIOS: Final = {
    "null": Signal(),
    "medium": Signal(sequence=0.12),
    "sequence": Signal(sequence=0.25),
    "flow": Signal(row=0.15),
    "flow-null": Signal(),
    "lead": Signal(row=0.15),
    "lead-null": Signal(),
}
"""The planted signals by name: none, a weak and a strong one in past returns, one in the order flow, none with an order
flow, one in the returns of another symbol, none with that symbol. All scenarios have the three states of volatility."""
WITH_FLOW: Final = ("flow", "flow-null")
"""The scenarios whose bars have trades, quote volume and taker volume. Takers bought a share 0.5 + ``u`` / 10 of the
volume, at least 0 and at most 1. So it shows ``u``, which predicts returns in ``flow`` and nothing in ``flow-null``."""

LED: Final = ("lead", "lead-null")
"""The scenarios in which ``u`` of all symbols is driven by the returns of ``LEADER``, which depend on nothing. So these
show ``u``, which predicts the returns of the others in ``lead`` and nothing in ``lead-null``."""
LEADER: Final = "SYN1"

BLOCK: Final = 512
"""Bars generated at once. Another value would give another market, since a block draws its random numbers together."""
CORRELATION: Final = 0.3
STATES: Final = ((6e-4, 0.998), (1.2e-3, 0.996), (3e-3, 0.994))
"""The volatility of a bar's log return in each state, and the probability of staying in the state for another bar."""
STEPS: Final = 8
"""Steps of the Brownian bridge from a bar's open to its close. Its extremes are high and low."""
FREE: Final = 3
"""Consecutive bars that can be computed together: the newest two returns have no weight in the next."""


class Truth(NamedTuple):
    """The hidden variables of one symbol: standardised returns ``z``, the volatility ``sigma`` that scales them, and
    ``u`` of the signal; each float64 [n], aligned with the bars."""

    z: Array
    sigma: Array
    u: Array


class _Hidden(NamedTuple):
    z: Array
    sigma: Array
    u: Array
    volume: Array
    bridge: Array


class _Block(NamedTuple):
    """``BLOCK`` bars of all s symbols; ``columns`` [5 or 8, BLOCK, s] are open, high, low, close, volume, and where the
    scenario has them, trades, quote volume, taker volume."""

    columns: Array
    hidden: _Hidden


@dataclass(frozen=True)
class SyntheticMarket:
    """A ``BarSource`` of origin ``synthetic``, endless or with ``bars`` bars of each symbol.

    The same scenario, seed and interval give the same bars of a symbol in every run, for any other symbols and any
    division into reads, as long as NumPy does not change its random streams. The bars of all symbols close at the same
    times, and are in the order of the symbols' names. Innovations of symbols have a correlation of 0.3. Raises
    ``SourceError`` for invalid arguments.
    """

    symbols: tuple[str, ...] = SYMBOLS
    scenario: str = "sequence"
    seed: int = 1
    bars: int | None = None
    interval_ms: int = 300_000

    def __post_init__(self) -> None:
        if self.scenario not in SCENARIOS:
            raise SourceError(f"no synthetic scenario {self.scenario!r}; expected one of {', '.join(SCENARIOS)}")
        wrong = [symbol for symbol in self.symbols if not SYMBOL.fullmatch(symbol)]
        if wrong or not self.symbols or len(set(self.symbols)) < len(self.symbols):
            raise SourceError(f"expected one or more different symbols; got {', '.join(self.symbols) or 'none'}")
        if self.seed < 0:
            raise SourceError(f"seed {self.seed}: expected 0 or more")
        if DAY_MS % self.interval_ms or self.interval_ms < 1000:
            raise SourceError(f"an interval of {self.interval_ms} ms: expected a divisor of a day, of 1 s or more")

    @property
    def name(self) -> str:
        """The name of the source, for people."""
        return f"synthetic/{self.scenario}/{interval_text(self.interval_ms)}/seed-{self.seed}"

    @property
    def identity(self) -> str:
        """A digest of all arguments but ``bars``, so that a longer market continues a shorter one."""
        content = (1, self.scenario, SCENARIOS[self.scenario], self.seed, sorted(self.symbols), self.interval_ms)
        return blake2b(repr(content).encode(), digest_size=16).hexdigest()

    @property
    def signal(self) -> Signal:
        """The planted signal, for ``shared.synthetic.theory``."""
        return SCENARIOS[self.scenario]

    @property
    def series(self) -> tuple[Series, ...]:
        """The series of the market."""
        return tuple((symbol, self.interval_ms) for symbol in sorted(self.symbols))

    def rows(self, skip: int = 0) -> Iterator[Row]:
        """See ``BarSource.rows``. Skipped bars are drawn, but no rows are made of them."""
        symbols = sorted(self.symbols)
        stop = None if self.bars is None else max(self.bars * len(symbols) - skip, 0)
        return islice(self._rows(symbols, skip), stop)

    def __iter__(self) -> Iterator[Row]:
        return self.rows()

    def _rows(self, symbols: list[str], skip: int) -> Iterator[Row]:
        size = BLOCK * len(symbols)
        number = 0
        for block in self._blocks(symbols):
            if number + size <= skip:
                number += size
                continue
            table = block.columns.reshape(len(block.columns), size).T.tolist()
            for first, high, low, last, volume, *further in table[max(skip - number, 0) :]:
                number = max(number, skip)
                time, rank = divmod(number, len(symbols))
                number += 1
                opened = START_MS + time * self.interval_ms
                bar = BarClosed(
                    symbol=symbols[rank],
                    interval_ms=self.interval_ms,
                    open_time=opened,
                    open=first,
                    high=high,
                    low=low,
                    close=last,
                    volume=volume,
                    origin="synthetic",
                    **_further(further),
                )
                yield Good(bar, f"{self.name}:{number}")

    def load(self, bars: int | None = None) -> dict[Series, Bars]:
        """Return the first ``bars`` bars of each symbol as columns, like ``shared.bars.load``."""
        count = bars if bars is not None else self.bars
        if count is None:
            raise SourceError("the synthetic market has no end; state how many bars of each symbol to load")
        blocks = list(islice(self._blocks(sorted(self.symbols)), math.ceil(count / BLOCK)))
        columns = np.concatenate([block.columns for block in blocks], axis=1)[:, :count]
        times = START_MS + self.interval_ms * np.arange(count, dtype=np.int64)
        return {
            series: Bars(*series, times, *np.ascontiguousarray(columns[:, :, rank]))
            for rank, series in enumerate(self.series)
        }

    def truth(self, symbol: str, bars: int) -> Truth:
        """Return the hidden variables of the first ``bars`` bars of ``symbol``."""
        blocks = [block.hidden for block in islice(self._blocks([symbol]), math.ceil(bars / BLOCK))]
        z, sigma, u = (
            np.concatenate([getattr(block, field)[:, 0] for block in blocks])[:bars] for field in ("z", "sigma", "u")
        )
        return Truth(z, sigma, u)

    def _blocks(self, symbols: list[str]) -> Iterator[_Block]:
        price = np.full(len(symbols), math.log(100.0))
        close = np.full(len(symbols), 100.0)
        for hidden in self._hidden(symbols):
            moves = hidden.z * hidden.sigma
            level = np.cumsum(np.vstack([price, moves]), axis=0)
            path = hidden.bridge * hidden.sigma[:, :, None] / math.sqrt(STEPS)
            # The bridge: a random walk, shifted linearly so that it ends at the close of the bar.
            walk = np.cumsum(path, axis=2)
            walk += (moves - walk[:, :, -1])[:, :, None] * (np.arange(1, STEPS + 1) / STEPS)
            last = np.round(np.exp(level[1:]), 6)
            first = np.vstack([close, last[:-1]])
            high = np.round(np.exp(level[:-1] + walk.max(axis=2)), 6)
            low = np.round(np.exp(level[:-1] + walk.min(axis=2)), 6)
            high = np.maximum(high, np.maximum(first, last))
            low = np.minimum(low, np.minimum(first, last))
            columns = [first, high, low, last, hidden.volume]
            if self.scenario in WITH_FLOW:
                columns += _flow(hidden, first, last)
            yield _Block(np.stack(columns), hidden)
            price, close = level[-1], last[-1]

    def _hidden(self, symbols: list[str]) -> Iterator[_Hidden]:
        common = _generator(self.seed, self.scenario, "*")
        draws = [_generator(self.seed, self.scenario, symbol) for symbol in symbols]
        leader = _generator(self.seed, self.scenario, LEADER)
        led = self.scenario in LED
        strength = np.array([0.0 if led and symbol == LEADER else self.signal.row for symbol in symbols])
        coefficient = coefficients(self.signal)
        returns = np.zeros((LAGS, len(symbols)))
        row = np.zeros(len(symbols))
        states = [-1] * len(symbols)
        # The first block is discarded: it starts from an empty past.
        for number in range(-1, 1 << 62):
            shared = common.standard_normal(BLOCK) * math.sqrt(CORRELATION)
            shocks, fresh, volumes, bridges, volatility = [], [], [], [], []
            leading = _leading(leader) if led else None
            for rank, draw in enumerate(draws):
                own = draw.standard_normal(BLOCK)
                alone = led and symbols[rank] == LEADER
                shocks.append(own if alone else shared + own * math.sqrt(1 - CORRELATION))
                drawn = draw.standard_normal(BLOCK)
                fresh.append(drawn if leading is None else leading)
                volumes.append(draw.standard_normal(BLOCK))
                bridges.append(draw.standard_normal((BLOCK, STEPS)))
                path, states[rank] = _states(states[rank], draw.random(BLOCK).tolist())
                volatility.append(path)
            u = _persistent(row, np.stack(fresh, axis=1))
            pushed = np.stack(shocks, axis=1) + strength * np.vstack([row, u[:-1]])
            z = _autoregressed(coefficient, returns, pushed)
            returns, row = z[-LAGS:], u[-1]
            if number < 0:
                continue
            season = 1 + 0.3 * np.sin(
                2 * np.pi * ((number * BLOCK + np.arange(BLOCK)) * self.interval_ms % DAY_MS) / DAY_MS
            )
            sigma = np.stack(volatility, axis=1) * season[:, None]
            volume = np.round(100 * sigma / STATES[1][0] * np.exp(0.5 * np.stack(volumes, axis=1)), 5)
            yield _Hidden(z, sigma, u, volume, np.stack(bridges, axis=1))


def _leading(draw: np.random.Generator) -> Array:
    """Return the returns of ``LEADER`` over a block, [BLOCK], from a generator like its own: draw as for any symbol."""
    returns = draw.standard_normal(BLOCK)
    draw.standard_normal((2 + STEPS) * BLOCK)
    draw.random(BLOCK)
    return returns


def _flow(hidden: _Hidden, first: Array, last: Array) -> list[Array]:
    """Return trades, quote volume and taker volume of a block, each [BLOCK, s]."""
    share = np.clip(0.5 + hidden.u / 10, 0.0, 1.0)
    traded = np.round(hidden.volume * (first + last) / 2, 5)
    return [np.ceil(10 * hidden.volume), traded, np.round(hidden.volume * share, 5)]


def _further(values: list[float]) -> dict[str, Any]:
    """Return the further fields of a bar by name; none for a scenario without them."""
    if not values:
        return {}
    trades, quote_volume, taker_volume = values
    return {"trades": int(trades), "quote_volume": quote_volume, "taker_volume": taker_volume}


def _generator(seed: int, scenario: str, symbol: str) -> np.random.Generator:
    words = np.frombuffer(blake2b(f"{scenario}/{symbol}".encode(), digest_size=16).digest(), dtype=np.uint32)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *words.tolist()])))


def _states(state: int, chances: list[float]) -> tuple[list[float], int]:
    """Return the volatility over a block and the last state of a Markov chain that starts in ``state`` (-1: a draw from
    its stationary distribution)."""
    if state < 0:
        stays = np.cumsum([1 / (1 - stay) for _, stay in STATES])
        state = int(np.searchsorted(stays, chances[0] * stays[-1]))
        chances = [0.0, *chances[1:]]
    path = []
    for chance in chances:
        stay = STATES[state][1]
        if chance > stay:
            # Either of the other two states with equal probability, by the remainder of the random number.
            state = (state + 1 + (2 * chance > 1 + stay)) % len(STATES)
        path.append(STATES[state][0])
    return path, state


def _persistent(start: Array, fresh: Array) -> Array:
    """Return the AR(1) of unit variance [n, s] from ``start`` [s], driven by ``fresh`` [n, s]."""
    path = np.empty_like(fresh)
    scale = math.sqrt(1 - PERSISTENCE**2)
    for step, shock in enumerate(fresh):
        start = path[step] = PERSISTENCE * start + scale * shock
    return path


def _autoregressed(coefficient: Array, past: Array, pushed: Array) -> Array:
    """Return the autoregressive returns [n, s] after ``past`` [48, s], driven by ``pushed`` [n, s].

    Three bars are computed at a time. Sums over lags have one fixed order, so that the returns of a symbol do not
    depend on the other symbols.
    """
    length = len(pushed)
    z = np.concatenate([past, pushed])
    if not coefficient.any():
        return z[LAGS:]
    weights = np.ascontiguousarray(coefficient[FREE - 1 :][::-1])[:, None, None]
    lags = len(weights)
    for start in range(LAGS, LAGS + length, FREE):
        count = min(FREE, LAGS + length - start)
        oldest = start - LAGS
        window = np.lib.stride_tricks.sliding_window_view(z[oldest : oldest + lags + FREE - 1], FREE, axis=0)
        z[start : start + count] += np.add.reduce(weights * window.transpose(0, 2, 1), axis=0)[:count]
    return z[LAGS:]
