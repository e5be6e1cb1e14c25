"""The bars of a simulation."""

from collections.abc import Iterator, Sequence
from typing import Final

from schemas.market import BarClosed
from shared.bars.rows import Good
from tests.simulation.artifacts import FIRST_BAR_MS, HOUR
from tests.simulation.plan import Plan

SYMBOLS: Final = {"LIVE": "live", "SYN": "synthetic"}


class Source:
    """The bars of a plan, as a ``BarSource``: the ``history``, then those that are fed."""

    name = "the simulation"
    identity = "51" * 32

    def __init__(self, history: Sequence[BarClosed], fed: Sequence[BarClosed]) -> None:
        self.history = history
        self._rows = [*history, *fed]
        self.bars = list({(bar.symbol, bar.open_time): bar for bar in self._rows}.values())

    def rows(self, skip: int = 0) -> Iterator[Good]:
        """See ``BarSource``."""
        return (Good(bar, f"row:{number}") for number, bar in enumerate(self._rows) if number >= skip)


def source_of(plan: Plan) -> Source:
    """Return the source of a plan."""
    history = [_bar(symbol, number) for number in range(plan.history) for symbol in SYMBOLS]
    bars = [_bar(symbol, number) for number in range(plan.history, plan.history + plan.bars) for symbol in SYMBOLS]
    rows: list[BarClosed] = []
    for number, bar in enumerate(bars):
        rows += [bar] * ((number not in plan.missing) + (number in plan.doubled))
    return Source(history, rows)


def _bar(symbol: str, number: int) -> BarClosed:
    turn = (number * 7919 + len(symbol) * 104_729) % 1000 / 1000
    return BarClosed(
        symbol=symbol,
        interval_ms=HOUR,
        open_time=FIRST_BAR_MS + number * HOUR,
        open=100.0,
        high=102.0,
        low=99.0,
        close=100.0 + turn,
        volume=5.0,
        origin=SYMBOLS[symbol],  # type: ignore[arg-type]
    )
