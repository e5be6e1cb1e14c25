"""A source over the log on a server, and sealed files before it, for code that pulls: one page at a time, on an
event loop of its own."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from shared.archive.files import Files
from shared.archive.history import WholeHistory
from shared.archive.store import SegmentStore
from shared.audit.source import END, PAGE, Ends, RecordedExtent, Recording, places_of
from shared.log import START, Entry, StreamKey
from shared.log.redis import RedisLog


class Live:
    """See the module. Without a store, the log alone from its first entry on."""

    def __init__(self, runner: asyncio.Runner, log: RedisLog, store: SegmentStore | None) -> None:
        self._runner, self._log, self._store = runner, log, store
        self._history = WholeHistory(log, store, slice_entries=PAGE)

    def entries(self, place: StreamKey, after: str = START, until: str = END) -> Iterator[Entry]:
        """See ``Recording``. With a store, raises ``LostError`` and ``CorruptError`` too."""
        if self._store is None:
            while page := self._runner.run(self._log.scan(place, after=after, until=until, count=PAGE)):
                yield from page
                after = page[-1].id
            return
        slices = aiter(self._history.slices(place, after=after, until=until))

        async def following() -> list[Entry]:
            async for found in slices:  # one a call: it is left standing where it is
                return list(found)
            return []

        while found := self._runner.run(following()):
            yield from found

    def whole(self, place: StreamKey) -> bool:
        """See ``Recording``."""
        extent = self._runner.run(self._log.extent(place))
        return self._store is not None or extent.added == extent.length

    def extent(self, place: StreamKey) -> RecordedExtent:
        """See ``CountedSource``. ``before`` is not known without an archive: the server does not say whether entries
        were trimmed or removed."""
        found = self._runner.run(self._log.extent(place))
        before: int | None = 0
        if self._store is None:
            before = 0 if found.added == found.length else None
        elif numbers := Files(self._store, place).numbers():
            before = Files(self._store, place).open(numbers[0]).header.before
        return RecordedExtent(found.last, found.added, before, found.deleted)

    def ends(self, partitions: int) -> Ends:
        """A cut through all streams as they stand now."""
        extents: dict[StreamKey, RecordedExtent] = {}
        decisions: dict[int, str] = {}
        for place in places_of(partitions):
            extents[place] = self.extent(place)
            if place.stream == "intents":
                decisions[place.partition] = self.extent(StreamKey("decisions", place.partition)).last
        return Ends(extents, decisions)


@contextmanager
def live(url: str, store: SegmentStore | None = None) -> Iterator[Recording]:
    """What stands in Redis now, behind what was sealed. Raises ``UnavailableError``."""
    with asyncio.Runner() as runner:
        log = RedisLog(url, name="conclave:audit")
        try:
            yield Live(runner, log, store)
        finally:
            runner.run(log.close())
