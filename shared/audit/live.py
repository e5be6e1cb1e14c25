"""Read recorded entries from a server, preceded by sealed files, with blocking calls.

Pages are read one at a time, on an event loop of its own.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from shared.archive.files import Files
from shared.archive.history import WholeHistory
from shared.archive.store import SegmentStore
from shared.audit.source import END, PAGE, Ends, RecordedExtent, Recording, places_of
from shared.log import START, Entry, StreamKey
from shared.log.durability import reach_server
from shared.log.redis import RedisLog


class Live:
    """The log on a server, preceded by sealed files; without a store, only the log from its first entry."""

    def __init__(self, runner: asyncio.Runner, log: RedisLog, store: SegmentStore | None) -> None:
        self._runner, self._log, self._store = runner, log, store
        self._history = WholeHistory(log, store, slice_entries=PAGE)

    def entries(self, place: StreamKey, after: str = START, until: str = END) -> Iterator[Entry]:
        """Yield entries; with a store, ``LostError`` and ``CorruptError`` may be raised. See ``Recording``."""
        if self._store is None:
            while page := self._runner.run(self._log.scan(place, after=after, until=until, count=PAGE)):
                yield from page
                after = page[-1].id
            return
        slices = aiter(self._history.slices(place, after=after, until=until))

        async def following() -> list[Entry]:
            async for slice_ in slices:  # one slice per call; the iterator keeps its position
                return list(slice_)
            return []

        while slice_ := self._runner.run(following()):
            yield from slice_

    def whole(self, place: StreamKey) -> bool:
        """See ``Recording``."""
        extent = self._runner.run(self._log.extent(place))
        return self._store is not None or extent.added == extent.length

    def extent(self, place: StreamKey) -> RecordedExtent:
        """Return the extent of a stream. See ``CountedSource``.

        ``before`` is None without an archive where entries are missing: the server does not record whether they were
        trimmed or removed."""
        extent = self._runner.run(self._log.extent(place))
        before: int | None = 0
        if self._store is None:
            before = 0 if extent.added == extent.length else None
        elif numbers := Files(self._store, place).numbers():
            before = Files(self._store, place).open(numbers[0]).header.before
        return RecordedExtent(extent.last, extent.added, before, extent.deleted)

    def ends(self, partitions: int) -> Ends:
        """Return a cut through all streams as they are now."""
        extents: dict[StreamKey, RecordedExtent] = {}
        decisions: dict[int, str] = {}
        for place in places_of(partitions):
            extents[place] = self.extent(place)
            if place.stream == "intents":
                decisions[place.partition] = self.extent(StreamKey("decisions", place.partition)).last
        return Ends(extents, decisions)


@contextmanager
def live(url: str, store: SegmentStore | None = None) -> Iterator[Recording]:
    """Yield the entries in Redis and the sealed ones before them as one source. Raises ``UnavailableError``, at once if
    the server does not answer when this begins."""
    with asyncio.Runner() as runner:
        runner.run(reach_server(url))
        log = RedisLog(url, name="conclave:audit")
        try:
            yield Live(runner, log, store)
        finally:
            runner.run(log.close())
