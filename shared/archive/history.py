"""Read recorded streams, from sealed files alone, or from sealed files and then from Redis.

    history = SealedHistory(open_store("var/archive"))            # no Redis
    history = WholeHistory(log, open_store("var/archive"))        # both, as one stream
    async for entries in history.slices(StreamKey("decisions"), after=START):
        ...

A slice is a list of consecutive entries: one frame of a sealed file, or up to 1,000 entries of Redis. No entry is
skipped silently: ``LostError`` is raised if entries are neither sealed nor in Redis, and ``CorruptError`` if a sealed
file does not match its digests.
"""

import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from anyio.lowlevel import checkpoint

from schemas.codec import Envelope
from shared.archive.files import Files, SegmentEnd
from shared.archive.store import SegmentStore
from shared.log import START, Entry, Log, StreamKey
from shared.log.events import Unreadable, events_of
from shared.log.leases import id_order

NEWEST: Final = "+"
PAGE: Final = 1000
_log = logging.getLogger(__name__)


class LostError(RuntimeError):
    """Entries are neither sealed nor in Redis. The message names the stream and the ids before and after them."""


class Reach(NamedTuple):
    """The first and the last entry of a stream in a history; ``START`` if there are none."""

    first: str = START
    last: str = START


class ArchivedRecord(NamedTuple):
    """An entry with its decoded envelope."""

    entry: Entry
    envelope: Envelope[object]


class ArchivedHistory(Protocol):
    """Recorded streams, in the order of the log. Memory is bounded by one slice."""

    async def reach(self, place: StreamKey) -> Reach:
        """Return the current first and last entry of the recorded stream."""

    def slices(self, place: StreamKey, *, after: str = START, until: str = NEWEST) -> AsyncIterator[Sequence[Entry]]:
        """Yield the entries with after < id <= until, oldest first, in slices that are never empty.

        Ends at the current end of the recorded stream. ``after`` need not be the id of an entry. Raises ``LostError``,
        ``CorruptError``, ``StoreError``.
        """


async def entries(
    history: ArchivedHistory, place: StreamKey, *, after: str = START, until: str = NEWEST
) -> AsyncIterator[Entry]:
    """Yield the entries with after < id <= until one by one. Raises what ``slices`` raises."""
    async for page in history.slices(place, after=after, until=until):
        for entry in page:
            yield entry


async def stream_entries(
    log: Log, place: StreamKey, past: SegmentStore | None = None, *, after: str = START
) -> AsyncIterator[Entry]:
    """Yield every entry of a stream after ``after``, with at most one page in memory. ``past``: the archive of trimmed
    entries; without it the entries that the log still holds. Raises ``LostError`` if entries are in neither."""
    if past is not None:
        async for entry in entries(WholeHistory(log, past), place, after=after):
            yield entry
        return
    while page := await log.scan(place, after=after, count=PAGE):
        for entry in page:
            yield entry
        after = page[-1].id


async def records(
    history: ArchivedHistory, place: StreamKey, *, after: str = START, until: str = NEWEST
) -> AsyncIterator[ArchivedRecord]:
    """Yield the entries with their decoded envelopes. An entry that cannot be decoded is left out, and logged."""
    unreadable = Unreadable()
    async for page in history.slices(place, after=after, until=until):
        for entry, envelope in events_of(page, unreadable):
            yield ArchivedRecord(entry, envelope)
    unreadable.log(_log)


class SealedHistory:
    """Read recorded streams from sealed files alone. ``read`` is ``slices`` without an event loop, for processes."""

    def __init__(self, store: SegmentStore) -> None:
        self.store = store

    async def reach(self, place: StreamKey) -> Reach:
        """See ``ArchivedHistory.reach``."""
        await checkpoint()
        files = Files(self.store, place)
        numbers = files.numbers()
        if not numbers:
            return Reach()
        return Reach(files.open(numbers[0]).header.first, files.open(numbers[-1]).header.last)

    async def slices(
        self, place: StreamKey, *, after: str = START, until: str = NEWEST
    ) -> AsyncIterator[Sequence[Entry]]:
        """See ``ArchivedHistory.slices``."""
        for page in self.read(place, after=after, until=until):
            await checkpoint()
            yield page

    def read(self, place: StreamKey, *, after: str = START, until: str = NEWEST) -> Iterator[Sequence[Entry]]:
        """See ``ArchivedHistory.slices``."""
        lower, upper = id_order(after), _upper(until)
        for frame in Files(self.store, place).frames(after=after, until=until):
            kept = frame
            if id_order(frame[0].id) <= lower or id_order(frame[-1].id) > upper:
                kept = [entry for entry in frame if lower < id_order(entry.id) <= upper]
            if kept:
                yield kept

    def places(self) -> list[StreamKey]:
        """Return the streams that have sealed files."""
        return Files.places(self.store)


class WholeHistory:
    """Read recorded streams from sealed files as far as they go, then from the log. Without a store: the log alone.

    Entries that are trimmed from the log during a read are read from the files, which were sealed before.
    """

    def __init__(self, log: Log, store: SegmentStore | None = None, *, slice_entries: int = PAGE) -> None:
        self.log = log
        self.sealed = SealedHistory(store) if store is not None else None
        self._count = slice_entries

    async def reach(self, place: StreamKey) -> Reach:
        """See ``ArchivedHistory.reach``."""
        extent = await self.log.extent(place)
        sealed = await self.sealed.reach(place) if self.sealed else Reach()
        first = sealed.first if sealed.first != START else extent.first
        return Reach(first, max(sealed.last, extent.last, key=id_order))

    async def slices(
        self, place: StreamKey, *, after: str = START, until: str = NEWEST
    ) -> AsyncIterator[Sequence[Entry]]:
        """See ``ArchivedHistory.slices``."""
        at, upper, seen = after, _upper(until), 0
        while id_order(at) < upper:
            if self.sealed is not None and (end := self._sealed_end(place)) is not None:
                if id_order(end.last) > id_order(at):
                    async for page in self.sealed.slices(place, after=at, until=until):
                        yield page
                        at = page[-1].id
                    at = max(at, end.last, key=id_order)
                seen = max(seen, end.seen)
            page = await self.log.scan(place, after=at, until=until, count=self._count)
            if await self._trimmed(place, at, page, seen):
                again = self._sealed_end(place)
                if again is not None and id_order(again.last) > id_order(at):
                    continue  # sealed and trimmed in the meantime
                first = page[0].id if page else "the end"
                raise LostError(
                    f"{place.key}: entries between {at} and {first} were trimmed and are not in the archive "
                    f"({self.sealed.store if self.sealed else 'none was given'}); name the archive that has them, "
                    "or restore it from its copy"
                )
            if not page:
                return
            yield page
            at, seen = page[-1].id, seen + len(page)

    def _sealed_end(self, place: StreamKey) -> SegmentEnd | None:
        return Files(self.sealed.store, place).end() if self.sealed else None

    async def _trimmed(self, place: StreamKey, at: str, page: Sequence[Entry], seen: int) -> bool:
        """Return whether entries later than ``at`` were trimmed from the log.

        They were if the log begins after ``at`` and more entries were trimmed than the ``seen`` entries up to ``at``.
        """
        extent = await self.log.extent(place)
        gone = extent.added - extent.length
        oldest = bool(page) and page[0].id == extent.first and id_order(extent.first) > id_order(at)
        return gone > seen and (oldest or not extent.length)


def _upper(until: str) -> tuple[int, int]:
    return (2**64, 0) if until == NEWEST else id_order(until)
