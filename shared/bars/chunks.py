"""Rows as columns, some thousand at a time: units of time, and the rules that one row alone can break."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.operations import Refusal

CHUNK: Final = 1024
"""Rows parsed at once: enough to vectorise, few enough to hold one chunk for each of many symbols."""
UNREADABLE: Final = -1
"""Stands in for a time that could not be read."""

Fault = tuple[Refusal, str]


class Chunk(NamedTuple):
    """Up to ``CHUNK`` rows of one file.

    ``lines`` [n] are line numbers from 1 (row numbers where the format has no lines); ``opened`` and
    ``closed`` int64 [n] are times in whatever unit the file has (``closed`` None: it has none);
    ``values`` float64 [n, 5] are open, high, low, close, volume; ``symbols`` [n] or None; ``raw`` [n]
    the rows themselves; ``bad`` says for each row that could not be parsed what is wrong with it."""

    lines: Sequence[int]
    opened: NDArray[np.int64]
    closed: NDArray[np.int64] | None
    values: NDArray[np.float64]
    symbols: Sequence[str] | None
    raw: Sequence[Any]
    bad: dict[int, str]


class RowReader(Protocol):
    """One file in one recognised format."""

    @property
    def has_symbol(self) -> bool:
        """Whether rows name their symbol."""

    def chunks(self) -> Iterator[Chunk]:
        """The file from its beginning. Raises ``SourceError`` where it cannot be read on."""


def milliseconds(times: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Times in seconds, milliseconds, microseconds or nanoseconds, told by their size for each value
    (exchanges changed from ms to us within one history), as milliseconds rounded down, and whether
    that was exact. Right for moments from March 1973 to the year 5138."""
    micro, nano = times >= 10**14, times >= 10**17
    divisor = np.where(nano, 10**6, np.where(micro, 1000, 1))
    factor = np.where((times >= 0) & (times < 10**11), 1000, 1)
    whole = times // divisor
    return whole * factor, whole * divisor == times


def faults(chunk: Chunk, interval_ms: int) -> tuple[NDArray[np.int64], dict[int, Fault]]:
    """``open_time`` in milliseconds, int64 [n], and what is wrong with which rows."""
    opened, whole = milliseconds(chunk.opened)
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
            & whole
            & (opened % interval_ms == 0)
            & (closed - opened >= interval_ms - 1)
            & (closed - opened <= interval_ms)
        )
    found: dict[int, Fault] = {row: ("bad_row", text) for row, text in chunk.bad.items()}
    for row in np.flatnonzero(~good).tolist():
        if row not in found:
            moment = (int(opened[row]), bool(whole[row]), int(closed[row]))
            found[row] = explain(moment, chunk.values[row].tolist(), interval_ms)
    return opened, found


def _ends(opened: NDArray[np.int64], closed: NDArray[np.int64], interval_ms: int) -> NDArray[np.int64]:
    """Close times in ms. Exchanges name a bar's last millisecond, so one in seconds its last second."""
    ends = milliseconds(closed)[0]
    return np.where((closed < 10**11) & (ends - opened == interval_ms - 1000), ends + 1000, ends)


def explain(moment: tuple[int, bool, int], numbers: list[float], interval_ms: int) -> Fault:
    """Why a row that breaks a rule does; ``moment`` is open time (ms), whether exact, close time (ms)."""
    opened, whole, closed = moment
    first, high, low, last, volume = numbers
    told = f"open {first!r}, high {high!r}, low {low!r}, close {last!r}, volume {volume!r}"
    if not np.isfinite(numbers).all():
        return "not_finite", told
    if volume < 0:
        return "negative_volume", told
    if not 0 < low <= high < 1e15 or not (low <= first <= high and low <= last <= high):
        return "impossible_prices", f"expected 0 < low <= open, close <= high < 1e15; got {told}"
    if volume >= 1e18:
        return "bad_row", f"volume {volume!r} is not under 1e18"
    if not 0 <= opened < 2**53:
        return "bad_row", f"open_time {opened} ms is no moment since 1970"
    if not whole or opened % interval_ms:
        part = "" if whole else " and a fraction"
        return "off_grid", f"open_time {opened}{part} is no multiple of {interval_ms} ms"
    lasted = closed - opened
    if lasted < interval_ms - 1:
        return (
            "bad_row",
            f"not a whole bar: it ends {lasted} ms after its open, not {interval_ms - 1} (still open, or cut off)",
        )
    return (
        "bad_row",
        f"close_time {closed} lies {lasted} ms after open_time, more than the interval of {interval_ms} ms",
    )
