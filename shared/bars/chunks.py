"""Check rows as columns, about a thousand at a time: units of time, and the rules for a single row."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.operations import Refusal

CHUNK: Final = 1024
"""Rows parsed at once: enough for vectorised code, and few enough to keep one chunk for each of many symbols."""
UNREADABLE: Final = -1
"""The value of a time that could not be read."""
LIMITS: Final = np.array([2.0**53, 1e18, 1e18])
"""What the further fields of a bar must be less than: number of trades, quote volume, taker volume."""

Fault = tuple[Refusal, str]


class Chunk(NamedTuple):
    """Up to ``CHUNK`` rows of one file.

    ``lines`` [n] are line numbers from 1, or row numbers if the format has no lines. ``opened`` and ``closed``, int64
    [n], are open and close times in the unit of the file; ``closed`` is None if the file has no close times.
    ``values``, float64 [n, 5], are open, high, low, close, volume. ``symbols`` [n] is None if rows have no symbol.
    ``raw`` [n] are the rows as text. ``bad`` has an error message for each row that could not be parsed, by index.
    ``further``, float64 [n, 3], are the number of trades, the volume in the quote currency and the volume that takers
    bought, NaN where a row has none; None if the file has none of these columns.
    """

    lines: Sequence[int]
    opened: NDArray[np.int64]
    closed: NDArray[np.int64] | None
    values: NDArray[np.float64]
    symbols: Sequence[str] | None
    raw: Sequence[Any]
    bad: dict[int, str]
    further: NDArray[np.float64] | None = None


class RowReader(Protocol):
    """A reader of one file in a recognised format."""

    @property
    def has_symbol(self) -> bool:
        """Whether rows have a symbol."""

    def chunks(self) -> Iterator[Chunk]:
        """Yield the rows of the file from its beginning, never none at once. Raises ``SourceError`` if they cannot be
        read."""


def milliseconds(times: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return times in milliseconds, rounded down, and whether each conversion is exact.

    The unit (seconds, milliseconds, microseconds or nanoseconds) is inferred from the size of each value, since
    exchanges changed from ms to us within one history. Correct for times from March 1973 to the year 5138.
    """
    micro, nano = times >= 10**14, times >= 10**17
    divisor = np.where(nano, 10**6, np.where(micro, 1000, 1))
    factor = np.where((times >= 0) & (times < 10**11), 1000, 1)
    quotient = times // divisor
    return quotient * factor, quotient * divisor == times


def faults(chunk: Chunk, interval_ms: int) -> tuple[NDArray[np.int64], dict[int, Fault]]:
    """Return ``open_time`` in milliseconds, int64 [n], and the faults of the rows, by index."""
    opened, exact = milliseconds(chunk.opened)
    closed = opened + interval_ms if chunk.closed is None else _ends(opened, chunk.closed, interval_ms)
    first, high, low, last, volume = chunk.values.T
    with np.errstate(invalid="ignore"):
        good = (
            np.isfinite(chunk.values).all(axis=1)
            & (volume >= 0)
            & (volume < 1e18)
            & (low > 0)
            & (high < 1e15)
            & (low <= np.minimum(first, last))
            & (high >= np.maximum(first, last))
            & (opened >= 0)
            & (opened < 2**53)
            & exact
            & (opened % interval_ms == 0)
            & (closed - opened >= interval_ms - 1)
            & (closed - opened <= interval_ms)
        )
        if chunk.further is not None:
            good &= _usable(chunk.further).all(axis=1)
    by_row: dict[int, Fault] = {row: ("bad_row", text) for row, text in chunk.bad.items()}
    for row in np.flatnonzero(~good).tolist():
        if row not in by_row:
            times = (int(opened[row]), bool(exact[row]), int(closed[row]))
            further = chunk.further[row] if chunk.further is not None else None
            by_row[row] = explain(times, chunk.values[row].tolist(), interval_ms, further)
    return opened, by_row


def _usable(further: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return whether each further field is absent or within its limits."""
    within = (further >= 0) & (further < LIMITS)
    within[..., 0] &= np.floor(further[..., 0]) == further[..., 0]
    return np.isnan(further) | within


def _ends(opened: NDArray[np.int64], closed: NDArray[np.int64], interval_ms: int) -> NDArray[np.int64]:
    """Return close times in ms. Exchanges give the last millisecond of a bar, or its last second if in seconds."""
    ends = milliseconds(closed)[0]
    return np.where((closed < 10**11) & (ends - opened == interval_ms - 1000), ends + 1000, ends)


def explain(
    times: tuple[int, bool, int], numbers: list[float], interval_ms: int, further: NDArray[np.float64] | None = None
) -> Fault:
    """Return why a row is refused. ``times`` is the open time (ms), whether it is exact, and the close time (ms)."""
    opened, exact, closed = times
    first, high, low, last, volume = numbers
    bar = f"open {first!r}, high {high!r}, low {low!r}, close {last!r}, volume {volume!r}"
    if not np.isfinite(numbers).all():
        return "not_finite", bar
    if volume < 0:
        return "negative_volume", bar
    if not 0 < low <= high < 1e15 or not (low <= first <= high and low <= last <= high):
        return "impossible_prices", f"expected 0 < low <= open, close <= high < 1e15; got {bar}"
    if volume >= 1e18:
        return "bad_row", f"expected a volume below 1e18, got {volume!r}"
    if not 0 <= opened < 2**53:
        return "bad_row", f"expected an open_time from 1970 on, in 53 bits; got {opened} ms"
    if not exact or opened % interval_ms:
        part = "" if exact else " and a fraction"
        return "off_grid", f"open_time {opened}{part} is not a multiple of {interval_ms} ms"
    if further is not None and not _usable(further).all():
        return "bad_row", f"expected a whole number of trades, and volumes from 0 to 1e18; got {further.tolist()}"
    length = closed - opened
    if length < interval_ms - 1:
        return (
            "bad_row",
            f"incomplete bar: it ends {length} ms after its open, not {interval_ms - 1} (still open, or cut off)",
        )
    return (
        "bad_row",
        f"close_time {closed} is {length} ms after open_time, more than the interval of {interval_ms} ms",
    )
