"""Train all four families at their default sizes: measure time, memory and skill, and check for leaks.

    python -m bench retrain [BTCUSDT-15m.csv.gz ETHUSDT-15m.csv.gz] [--quick]

Each training is a process with lowered priority, as under the trainer; its memory is the peak of the resident set. The
data are the bars of the files, or a synthetic market of the same size. Each training is repeated with labels shifted by
a third of the table, for which no skill is possible: skill there is a leak. On the synthetic market the skill is
compared with that of the exact posterior on the same rows, which knows the hidden volatility too and is an upper bound.
How much of it a model reaches depends on the number of rows, since labels of twelve bars overlap, so a longer market is
measured as well.
"""

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.harness import Figure
from schemas.training import Recipe
from services.trainer.isolation import isolate, peak_mb
from shared.artifacts.scoring import log_losses, score
from shared.bars import Bars, gather, open_source
from shared.families import complete, family_named
from shared.features import SETS
from shared.labels.batch import volatility
from shared.synthetic import SyntheticMarket
from shared.synthetic.theory import posterior
from shared.training.fitting import HOLD, HORIZON, Origin, Prepared, cut, fit, measure, prepare, uncalibrated
from shared.training.series import SymbolSeries, computed

SETS_OF = {
    "xgboost": SETS["core-28"],
    "lightgbm": SETS["core-28"],
    "nhits": SETS["window-7"],
    "patchtst": SETS["window-7"],
}
MNAT = 1000.0
NOISE = 3.0
"""Gains below this, with shifted labels, are noise (mnat)."""


class Data(NamedTuple):
    """The bars of ``files``; without files, ``rows`` bars of each of ``symbols`` symbols of the synthetic market."""

    files: tuple[str, ...]
    symbols: int
    rows: int

    @property
    def market(self) -> SyntheticMarket:
        return SyntheticMarket(tuple(f"SYN{number}" for number in range(self.symbols)), "sequence", 3, self.rows)

    def series(self, family: str) -> dict[str, SymbolSeries]:
        bars: dict[str, Bars] = {}
        for file in self.files:
            found = gather(open_source(Path(file)).rows(), None)
            bars |= {symbol: columns for (symbol, _), columns in found.items()}
        if not self.files:
            bars = {symbol: columns for (symbol, _), columns in self.market.load().items()}
        return computed(bars, SETS_OF[family], 3)


ONE_JOB = 2, 23_500
LONG = 10, 40_000
"""Symbols, and bars of each. The first market has as many bars as two years of BTC and ETH; the second is long."""


class Done(NamedTuple):
    """The result of a training: its time (s), peak memory (MB), skill (mnat) with its interval, number of rows, and the
    share of the best possible skill."""

    seconds: float
    peak: float
    skill: tuple[float, float, float]
    rows: int
    share: float


def recipe(family: str, data: Data, quick: bool) -> Recipe:
    """Return the default recipe, with more rounds for trees, as a long market needs."""
    networks = family in {"nhits", "patchtst"}
    params: dict[str, float] = {"epochs": 1} if quick and networks else {}
    if (data.symbols, data.rows) == LONG and not networks:
        params = {"rounds": 1000}
    return Recipe(family, SETS_OF[family].name, complete(family_named(family), params), HORIZON, HOLD, 1)


def train(family: str, data: Data, quick: bool) -> Done:
    """Train one family in this process."""
    isolate(8192)
    begun = time.monotonic()
    series = data.series(family)
    prepared = prepare(series, SETS_OF[family], recipe(family, data, quick))
    trained = measure(prepared, fit(prepared), Origin("bench", 3, series))
    seconds = time.monotonic() - begun
    scores = trained.manifest.metrics.test
    share = 0.0 if data.files else scores.skill.value / best(prepared, data)
    skill = (scores.skill.value, scores.skill.low, scores.skill.high)
    return Done(seconds, peak_mb(), skill, len(prepared.table.time), share)


def leak(family: str, data: Data, quick: bool) -> Done:
    """Train with labels shifted by a third of the table, where any skill is a leak."""
    isolate(8192)
    whole = prepare(data.series(family), SETS_OF[family], recipe(family, data, quick))
    moved = whole.table._replace(z=np.roll(whole.table.z, len(whole.table.z) // 3))
    prepared = cut(moved, SETS_OF[family], whole.recipe, whole.interval_ms)
    test = prepared.parts.test
    answers = uncalibrated(prepared, fit(prepared), test)
    found = score(answers, prepared.y[test], prepared.table.time[test], prepared.prior, horizon=HORIZON)
    return Done(0.0, peak_mb(), (found.skill.value, found.skill.low, found.skill.high), len(test), 0.0)


def best(prepared: Prepared, data: Data) -> float:
    """Return the gain of the exact posterior over the prior on the test part (mnat)."""
    y = prepared.y[prepared.parts.test]
    base = np.tile(np.array(prepared.prior), (len(y), 1))
    return float(MNAT * (log_losses(base, y) - log_losses(exact(prepared, data.market), y)).mean())


def exact(prepared: Prepared, market: SyntheticMarket) -> NDArray[np.float64]:
    """Return the probabilities of the exact posterior for the test part, [N, 3].

    Labels use the volatility estimated from bars, while the posterior knows the true one, so its threshold is scaled by
    their ratio."""
    bars = {symbol: columns for (symbol, _), columns in market.load().items()}
    test, table = prepared.parts.test, prepared.table
    answers = np.empty((len(test), 3))
    for number, symbol in enumerate(sorted(bars)):
        columns = bars[symbol]
        truth = market.truth(symbol, len(columns))
        known = volatility(columns.open_time, columns.close, prepared.interval_ms)
        kappa = prepared.kappa * np.sqrt(HORIZON) * known / truth.sigma
        chances = posterior(truth.z, market.signal, HORIZON, kappa, truth.u)
        of_symbol = table.symbol[test] == number
        at = np.searchsorted(columns.open_time, table.time[test[of_symbol]])
        answers[of_symbol] = chances[at]
    return answers


def apart(work: Callable[[str, Data, bool], Done], family: str, data: Data, quick: bool) -> Done:
    """Do ``work`` in another process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, family, data, quick).result()


def run(quick: bool, *files: str) -> dict[str, Figure]:
    """Run the benchmark; see the docstring of the module."""
    data = Data(files, 2, 4_000) if quick else Data(files, *ONE_JOB)
    figures: dict[str, Figure] = {}
    for family in SETS_OF:
        found = apart(train, family, data, quick)
        value, low, high = found.skill
        said = f"{found.rows:,} rows, skill {value:+.1f} [{low:+.1f}, {high:+.1f}] mnat"
        figures[f"{family}_seconds"] = Figure(found.seconds, "s", "< 600", said)
        figures[f"{family}_peak"] = Figure(found.peak, "MB", "", said)
        figures[f"{family}_skill"] = Figure(value, "mnat", "", f"95 %: {low:+.1f} to {high:+.1f}")
        if not files:
            figures[f"{family}_of_the_best"] = Figure(found.share, "", "", "the exact posterior on the same rows")
    for family in SETS_OF:
        value, low, high = apart(leak, family, data, quick).skill
        said = f"skill {value:+.1f} [{low:+.1f}, {high:+.1f}] mnat: the lower end"
        figures[f"{family}_labels_moved"] = Figure(low, "mnat", f"< {NOISE:g}", said)
    for family in () if quick or files else SETS_OF:
        found = apart(train, family, Data((), *LONG), quick)
        said = f"the exact posterior on the same {found.rows:,} rows; {found.seconds:.0f} s, {found.peak:,.0f} MB"
        figures[f"{family}_of_the_best_in_a_long_market"] = Figure(found.share, "", ">= 0.9", said)
    return figures
