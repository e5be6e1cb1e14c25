"""What a source of bars yields, and what one series of bars may look like."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.market import BarClosed
from schemas.operations import Refusal

Series = tuple[str, int]
"""A symbol and an interval in milliseconds: what has an order of its own."""


class SourceError(ValueError):
    """A source that cannot be used as it stands. Says which file, what was expected, what to state."""


class Good(NamedTuple):
    """A row that is a bar. ``where`` is ``<file>:<line>``."""

    bar: BarClosed
    where: str


class RefusedRow(NamedTuple):
    """A row that is none, and why. ``raw`` is the row as it stood, cut at 2,000 characters;
    ``symbol`` is None where the row does not say."""

    reason: Refusal
    detail: str
    where: str
    raw: str
    symbol: str | None = None


Row = Good | RefusedRow


class BarSource(Protocol):
    """Rows in one fixed order.

    Guaranteed: two sources of one ``identity`` yield the same rows in the same order, every time, as
    far as both go.
    Each good row is a valid ``BarClosed`` on its interval's grid. Not guaranteed: that a series is
    free of repeats or of steps back in time; see ``misplaced``.
    """

    @property
    def name(self) -> str:
        """What to call it before a person."""

    @property
    def identity(self) -> str:
        """Hexadecimal digest of what is read and how; a cursor is only good for the same one."""

    def rows(self, skip: int = 0) -> Iterator[Row]:
        """The rows behind the first ``skip``."""


@dataclass(frozen=True)
class Bars:
    """One series as columns of equal length n, in strictly rising ``open_time``; bars may be missing.

    ``open_time`` int64 [n], milliseconds since 1970 UTC; prices and ``volume`` float64 [n]."""

    symbol: str
    interval_ms: int
    open_time: NDArray[np.int64]
    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.open_time)


def misplaced(last: BarClosed | None, bar: BarClosed) -> tuple[Refusal, str] | None:
    """Why ``bar`` may not follow ``last``, the newest bar of its series (None: there is none yet).

    Only the newest bar is remembered: a row older than it is ``out_of_order`` whatever it holds."""
    if bar.open_time % bar.interval_ms:
        return "off_grid", f"open_time {bar.open_time} is no multiple of {bar.interval_ms} ms"
    if last is None or bar.open_time > last.open_time:
        return None
    if bar.open_time < last.open_time:
        behind = last.open_time - bar.open_time
        return "out_of_order", f"open_time {bar.open_time} lies {behind} ms before the newest bar, {last.open_time}"
    if bar == last:
        return "duplicate", f"the bar of open_time {bar.open_time} came before, with the same content"
    return "conflict", f"the bar of open_time {bar.open_time} came before as {values(last)}"


def values(bar: BarClosed) -> str:
    """Open, high, low, close and volume for a person."""
    return f"{bar.open!r}, {bar.high!r}, {bar.low!r}, {bar.close!r}, {bar.volume!r}"


def gather(rows: Iterable[Row], refused: Callable[[RefusedRow], Any] | None = None) -> dict[Series, Bars]:
    """The bars of each series that hold their place (``misplaced``), as columns.

    ``refused`` is called with every other row, in order."""
    last: dict[Series, BarClosed] = {}
    kept: dict[Series, list[BarClosed]] = {}
    for row in rows:
        if isinstance(row, RefusedRow):
            if refused is not None:
                refused(row)
            continue
        bar = row.bar
        series = (bar.symbol, bar.interval_ms)
        fault = misplaced(last.get(series), bar)
        if fault is None:
            last[series] = bar
            kept.setdefault(series, []).append(bar)
        elif refused is not None:
            refused(RefusedRow(*fault, row.where, values(bar), bar.symbol))
    return {series: _columns(series, bars) for series, bars in sorted(kept.items())}


def _columns(series: Series, bars: list[BarClosed]) -> Bars:
    prices = np.array([(bar.open, bar.high, bar.low, bar.close, bar.volume) for bar in bars], dtype=np.float64)
    times = np.array([bar.open_time for bar in bars], dtype=np.int64)
    return Bars(*series, times, *np.ascontiguousarray(prices.T))
