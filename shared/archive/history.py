"""Reading recorded streams: from sealed files alone, or across them into Redis.

    history = SealedHistory(opened("var/archive"))            # no Redis
    history = WholeHistory(log, opened("var/archive"))        # both; the reader sees one stream
    async for entries in history.slices(Place("decisions"), after=START):
        ...

A slice is a list of consecutive entries: one frame of a sealed file, or up to 1,000 entries of Redis.
Nothing is left out silently: ``LostError`` where entries are neither sealed nor in Redis any more,
``CorruptError`` where a sealed file is not what its digests say.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from anyio.lowlevel import checkpoint

from schemas.codec import Envelope, decode
from shared.archive.files import Files, SegmentEnd
from shared.archive.store import SegmentStore
from shared.log import START, Entry, Log, StreamKey
from shared.log.leases import order

NEWEST: Final = "+"


class LostError(RuntimeError):
    """Entries are neither sealed nor in Redis. Says which stream and between which ids."""


class Reach(NamedTuple):
    """What a history holds of a stream: its first and last entry (``START`` where it holds none)."""

    first: str = START
    last: str = START


class ArchivedRecord(NamedTuple):
    """An entry with its envelope decoded. Raised as it is read: ``UnreadableError``."""

    entry: Entry
    envelope: Envelope[object]


class ArchivedHistory(Protocol):
    """Recorded streams, in log order. Bounded memory: a slice at a time."""

    async def reach(self, place: StreamKey) -> Reach:
        """Where the recorded stream begins and ends now."""

    def slices(self, place: StreamKey, *, after: str = START, until: str = NEWEST) -> AsyncIterator[Sequence[Entry]]:
        """Entries with after < id <= until, oldest first, in slices that are never empty; ends where the
        recorded stream ends now. ``after`` need not be an entry's id. Raises ``LostError``, ``CorruptError``,
        ``StoreError``."""


async def entries(
    history: ArchivedHistory, place: StreamKey, *, after: str = START, until: str = NEWEST
) -> AsyncIterator[Entry]:
    """The same one by one: id and exact bytes."""
    async for found in history.slices(place, after=after, until=until):
        for entry in found:
            yield entry


async def records(
    history: ArchivedHistory, place: StreamKey, *, after: str = START, until: str = NEWEST
) -> AsyncIterator[ArchivedRecord]:
    """The same with each envelope decoded. Raises ``UnreadableError`` at the first that is no event."""
    async for entry in entries(history, place, after=after, until=until):
        yield ArchivedRecord(entry, decode(place.stream, entry.data))


class SealedHistory:
    """Sealed files alone. ``read`` gives the same slices without a loop, for worker processes."""

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
        for found in self.read(place, after=after, until=until):
            await checkpoint()
            yield found

    def read(self, place: StreamKey, *, after: str = START, until: str = NEWEST) -> Iterator[Sequence[Entry]]:
        """See ``ArchivedHistory.slices``."""
        lower, upper = order(after), _upper(until)
        for found in Files(self.store, place).frames(after=after, until=until):
            kept = found
            if order(found[0].id) <= lower or order(found[-1].id) > upper:
                kept = [entry for entry in found if lower < order(entry.id) <= upper]
            if kept:
                yield kept

    def places(self) -> list[StreamKey]:
        """The streams that there are files of."""
        return Files.places(self.store)


class WholeHistory:
    """Sealed files as far as they go, then the log. Without a store: the log alone.

    What is trimmed while it is read is found in the files that were sealed before."""

    def __init__(self, log: Log, store: SegmentStore | None = None, *, slice_entries: int = 1000) -> None:
        self.log = log
        self.sealed = SealedHistory(store) if store is not None else None
        self._count = slice_entries

    async def reach(self, place: StreamKey) -> Reach:
        """See ``ArchivedHistory.reach``."""
        extent = await self.log.extent(place)
        held = await self.sealed.reach(place) if self.sealed else Reach()
        first = held.first if held.first != START else extent.first
        return Reach(first, max(held.last, extent.last, key=order))

    async def slices(
        self, place: StreamKey, *, after: str = START, until: str = NEWEST
    ) -> AsyncIterator[Sequence[Entry]]:
        """See ``ArchivedHistory.slices``."""
        at, upper, seen = after, _upper(until), 0
        while order(at) < upper:
            if self.sealed is not None and (end := self._sealed_end(place)) is not None:
                if order(end.last) > order(at):
                    async for found in self.sealed.slices(place, after=at, until=until):
                        yield found
                        at = found[-1].id
                    at = max(at, end.last, key=order)
                seen = max(seen, end.seen)
            found = await self.log.scan(place, after=at, until=until, count=self._count)
            if await self._trimmed(place, at, found, seen):
                again = self._sealed_end(place)
                if again is not None and order(again.last) > order(at):
                    continue  # sealed and trimmed since we looked
                first = found[0].id if found else "the end"
                raise LostError(
                    f"{place.key}: entries between {at} and {first} were trimmed and are not in the archive "
                    f"({self.sealed.store if self.sealed else 'none was given'}); name the archive that holds them, "
                    "or restore it from its copy"
                )
            if not found:
                return
            yield found
            at, seen = found[-1].id, seen + len(found)

    def _sealed_end(self, place: StreamKey) -> SegmentEnd | None:
        return Files(self.sealed.store, place).end() if self.sealed else None

    async def _trimmed(self, place: StreamKey, at: str, found: Sequence[Entry], seen: int) -> bool:
        """Whether entries behind ``at`` are gone from the log: it begins behind ``at``, and more is gone than the
        ``seen`` entries that are known to stand before."""
        extent = await self.log.extent(place)
        gone = extent.added - extent.length
        oldest = bool(found) and found[0].id == extent.first and order(extent.first) > order(at)
        return gone > seen and (oldest or not extent.length)


def _upper(until: str) -> tuple[int, int]:
    return (2**64, 0) if until == NEWEST else order(until)
