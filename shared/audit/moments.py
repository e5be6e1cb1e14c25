"""What the orders of a partition depend on besides intents: bars by series, closures of the fence, times."""

from bisect import bisect_left, bisect_right
from collections.abc import Collection
from itertools import pairwise
from typing import Final, NamedTuple

from schemas.common import Origin
from schemas.decisions import FenceClosed, FenceOpened
from schemas.market import BarClosed
from shared.audit.findings import Findings
from shared.audit.source import EntryRange, ReadEvent, Recording, readable
from shared.log import StreamKey
from shared.log.events import events_of, reported_elsewhere
from shared.log.leases import id_order
from shared.money.account import Key, key_of
from shared.money.venue import TradedBar

APART_MS: Final = 60_000
"""Largest difference (ms) between two clocks, or between the ids of two streams, that proves nothing."""


class RecordedBar(NamedTuple):
    """A bar and its entry on ``market``."""

    bar: TradedBar
    entry: tuple[int, int]


class TradedBars:
    """The bars of the series that have intents, read forward. A bar that is not later than the one before it does not
    count, as for the executor."""

    def __init__(
        self, source: Recording, partition: int, span: EntryRange, aside: Collection[tuple[str, str]] = ()
    ) -> None:
        intents = readable(source, StreamKey("intents", partition), "file", Findings(), span)
        self._wanted = {key_of(read.opened.envelope.event) for read in intents}
        self._reads = readable(source, StreamKey("market", partition), "file", Findings(), span)
        self._aside = aside
        self._ahead: ReadEvent | None = None
        self._bars: dict[Key, list[RecordedBar]] = {}
        self._last: dict[Key, int] = {}

    def advance(self, until_ms: int) -> None:
        """Read the entries up to a moment."""
        while True:
            read = self._ahead or next(self._reads, None)
            self._ahead = None
            if read is None:
                return
            entry = id_order(read.entry)
            if entry[0] > until_ms:
                self._ahead = read
                return
            event = read.opened.envelope.event
            key = key_of(event)
            known = isinstance(event, BarClosed) and key in self._wanted and ("market", read.entry) not in self._aside
            if known and event.open_time > self._last.get(key, -1):
                self._last[key] = event.open_time
                bar = TradedBar(event.open_time, event.origin, event.open, event.close, event.volume)
                self._bars.setdefault(key, []).append(RecordedBar(bar, entry))

    def at(self, key: Key, open_time: int) -> RecordedBar | None:
        """Return the bar of a series that opens at a moment; None if none was read."""
        bars = self._bars.get(key, [])
        index = bisect_left(bars, open_time, key=_opens)
        return bars[index] if index < len(bars) and bars[index].bar.open_time == open_time else None

    def after(self, key: Key, open_time: int) -> RecordedBar | None:
        """Return the first bar that opens later; None if none was read."""
        bars = self._bars.get(key, [])
        index = bisect_right(bars, open_time, key=_opens)
        return bars[index] if index < len(bars) else None

    def later(self, key: Key, open_time: int, moment: int) -> int:
        """Return how many later bars of a series were on ``market`` at a moment (ms)."""
        bars = self._bars.get(key, [])
        return sum(each.entry[0] <= moment for each in bars[bisect_right(bars, open_time, key=_opens) :])

    def drop(self, key: Key, open_time: int) -> None:
        """Drop the bars of a series that open earlier."""
        bars = self._bars.get(key, [])
        del bars[: bisect_left(bars, open_time, key=_opens)]


def _opens(recorded: RecordedBar) -> int:
    return recorded.bar.open_time


class Closures:
    """When the fence of a partition was closed, by its marks on ``decisions``. It counts as open before the first."""

    def __init__(self, source: Recording, partition: int) -> None:
        self._marks: list[tuple[int, bool]] = []
        marks = (entry for entry in source.entries(StreamKey("decisions", partition)) if b'"fence.' in entry.data)
        for entry, envelope in events_of(marks, reported_elsewhere):
            if isinstance(envelope.event, FenceClosed | FenceOpened):
                self._marks.append((id_order(entry.id)[0], isinstance(envelope.event, FenceClosed)))
        self._closed = [(at, until) for (at, closed), (until, _) in pairwise([*self._marks, (2**63, False)]) if closed]

    def possible(self, moment: int) -> bool:
        """Return whether the fence was closed within ``APART_MS`` of a moment (ms), or had not been marked by then."""
        unmarked = not self._marks or moment < self._marks[0][0]
        return unmarked or any(at - APART_MS <= moment <= until + APART_MS for at, until in self._closed)

    def certain(self, moment: int) -> bool:
        """Return whether the fence was closed all the time from ``APART_MS`` before a moment to ``APART_MS`` after."""
        return any(at + APART_MS < moment < until - APART_MS for at, until in self._closed)


def time_fault(origin: Origin, at: int | None, moment: int, findings: Findings) -> str:
    """Return what is wrong with the time of an event that was written at ``moment`` (ms); empty where nothing is."""
    if origin != "live":
        return "" if at is None else f"it has a time, though its bar is {origin}"
    if at is None:
        return "it has no time, though its bar is live"
    if at > moment + APART_MS:
        return f"its time is {(at - moment) / 1000:.0f} s later than that of its entry"
    if at < moment - APART_MS:
        findings.skip("orders: written more than a minute after their time: the executor was suspended, or a clock set")
    return ""
