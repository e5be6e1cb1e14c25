"""The rows of a source of bars, and the order of bars in one series."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.market import BarClosed, InputEvent
from schemas.operations import Refusal
from shared.bars.formats import FURTHER
from shared.inputs.samples import InputSamples

Series = tuple[str, int]
"""A symbol and an interval in milliseconds. The bars of one series have an order."""


VALUES: Final = ("open", "high", "low", "close", "volume")
COMMON: Final = 9
"""The fields of ``BarClosed`` that every bar has. The further ones follow them."""


class SourceError(ValueError):
    """A source cannot be used. The message names the file, what was expected, and what to state."""


class Good(NamedTuple):
    """A row with a valid bar. ``where`` is ``<file>:<line>``."""

    bar: BarClosed
    where: str


class RefusedRow(NamedTuple):
    """A row without a valid bar, and why. ``raw`` is the row as text, cut at 2,000 characters; ``symbol`` is None if it
    is not known."""

    reason: Refusal
    detail: str
    where: str
    raw: str
    symbol: str | None = None


Row = Good | RefusedRow


class InputRow(NamedTuple):
    """A row of a source of inputs with a valid event. ``where`` is ``<file>:<line>``."""

    event: InputEvent
    where: str

    @property
    def symbol(self) -> str:
        """The symbol of the event."""
        return self.event.symbol


class BarSource(Protocol):
    """A source of rows in a fixed order.

    Guaranteed: sources with the same ``identity`` always yield the same rows in the same order, up to the end of the
    shorter one. Each ``Good`` row is a valid ``BarClosed`` whose open time is a multiple of its interval. Not
    guaranteed: that a series has no duplicates and is in time order; see ``misplaced``.
    """

    @property
    def name(self) -> str:
        """The name of the source, for people."""

    @property
    def identity(self) -> str:
        """A hexadecimal digest of the content and of how it is read. A cursor is valid for one identity only."""

    def rows(self, skip: int = 0) -> Iterator[Row]:
        """Yield the rows after the first ``skip``."""


@dataclass(frozen=True)
class Bars:
    """One series as columns of equal length n, with strictly increasing ``open_time``. Bars may be missing.

    ``open_time`` is int64 [n], in milliseconds since 1970 UTC; prices and ``volume`` are float64 [n]. The next three
    are the further fields of ``BarClosed``, float64 [n] with NaN in a bar that lacks it; None where all bars do.
    ``inputs`` are the samples of what else is known of the symbol, at times of their own.
    ``shared.features.BarArrays`` has the same columns without a symbol, checked; ``shared.training.series`` makes it
    from this. It is a type of its own so that features depend on no source of bars.
    """

    symbol: str
    interval_ms: int
    open_time: NDArray[np.int64]
    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.float64]
    trades: NDArray[np.float64] | None = None
    quote_volume: NDArray[np.float64] | None = None
    taker_volume: NDArray[np.float64] | None = None
    inputs: InputSamples = field(default_factory=dict, kw_only=True)

    def __len__(self) -> int:
        return len(self.open_time)

    def at(self, rows: Any) -> "Bars":
        """Return these rows: a slice, an array of positions, or a mask. All inputs stay."""
        names = ("open_time", *VALUES, *FURTHER)
        columns: dict[str, Any] = {name: column for name in names if (column := getattr(self, name)) is not None}
        return replace(self, **{name: column[rows] for name, column in columns.items()})


def misplaced(last: BarClosed | None, bar: BarClosed) -> tuple[Refusal, str] | None:
    """Return why ``bar`` may not follow ``last``, the newest bar of its series; None if it may.

    ``last`` is None for the first bar. Only the newest bar is compared, so an older bar is ``out_of_order`` even if it
    is a duplicate.
    """
    if bar.open_time % bar.interval_ms:
        return "off_grid", f"open_time {bar.open_time} is not a multiple of {bar.interval_ms} ms"
    if last is None or bar.open_time > last.open_time:
        return None
    if bar.open_time < last.open_time:
        earlier = last.open_time - bar.open_time
        return "out_of_order", f"open_time {bar.open_time} is {earlier} ms before the newest bar, {last.open_time}"
    if _same(last, bar):
        return "duplicate", f"there was already a bar of open_time {bar.open_time}, with the same content"
    return "conflict", f"there was already a bar of open_time {bar.open_time}: {values(last)}"


def _same(last: BarClosed, bar: BarClosed) -> bool:
    """Return whether two bars have the same content. A further field that one of them lacks does not count: earlier
    releases did not read these from files."""
    pairs = [(getattr(last, name), getattr(bar, name)) for name in last.__struct_fields__]
    return all(one == other for one, other in pairs[:COMMON]) and all(
        one == other or one is None or other is None for one, other in pairs[COMMON:]
    )


def values(bar: BarClosed) -> str:
    """Return open, high, low, close and volume as text."""
    return f"{bar.open!r}, {bar.high!r}, {bar.low!r}, {bar.close!r}, {bar.volume!r}"


class LeftOut:
    """Counts the rows of a source that are left out, by reason, with the first of each. Call it with each of them."""

    def __init__(self) -> None:
        self.counts: Counter[Refusal] = Counter()
        self._first: dict[Refusal, RefusedRow] = {}

    def __call__(self, row: RefusedRow) -> None:
        """Count one more row."""
        self.counts[row.reason] += 1
        self._first.setdefault(row.reason, row)

    def reasons(self) -> list[tuple[Refusal, int, RefusedRow]]:
        """Return each reason with its number of rows and the first of them, the commonest reason first."""
        return [(reason, count, self._first[reason]) for reason, count in self.counts.most_common()]

    def sentence(self) -> str:
        """Return how many rows were left out and why, the commonest reason first; '' if there were none."""
        parts = [
            f"{count:,} {reason} (first at {first.where}: {first.detail})" for reason, count, first in self.reasons()
        ]
        return f"{self.counts.total():,} rows left out: {'; '.join(parts)}" if parts else ""


def gather(rows: Iterable[Row], refused: Callable[[RefusedRow], Any] | None = None) -> dict[Series, Bars]:
    """Return the bars of each series as columns, without refused and misplaced rows (``misplaced``).

    ``refused`` is called with every row that is left out, in order.
    """
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
    # None becomes NaN.
    values = np.array([[getattr(bar, name) for name in (*VALUES, *FURTHER)] for bar in bars], dtype=np.float64)
    times = np.array([bar.open_time for bar in bars], dtype=np.int64)
    columns = np.ascontiguousarray(values.T)
    further = [None if np.isnan(column).all() else column for column in columns[len(VALUES) :]]
    return Bars(*series, times, *columns[: len(VALUES)], *further)
