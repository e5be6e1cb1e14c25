"""Read recorded scores and verdicts of all partitions, one page at a time."""

import heapq
from collections.abc import AsyncIterator
from typing import NamedTuple

from schemas.codec import Envelope
from schemas.gates import EvidenceRestarted, GateEvent, VerdictReached
from schemas.scores import ScoreEvent
from shared.archive import SegmentStore, WholeHistory
from shared.log import START, Entry, Log, StreamKey
from shared.log.events import Unreadable, events_of, reported_elsewhere
from shared.report.summary import Verdict

PAGE = 1000


class Recorded(NamedTuple):
    """An entry of ``scores``: its partition, its entry id, and its envelope (None: it cannot be decoded)."""

    partition: int
    entry: str
    envelope: Envelope[ScoreEvent] | None

    @property
    def event(self) -> ScoreEvent | None:
        """The event; None if it cannot be decoded."""
        return None if self.envelope is None else self.envelope.event

    @property
    def at(self) -> int:
        """The time of the write (ms)."""
        return int(self.entry.partition("-")[0])


async def pages(
    log: Log, place: StreamKey, after: str = START, past: SegmentStore | None = None
) -> AsyncIterator[Entry]:
    """Yield every entry of a stream after ``after``, with at most one page in memory. ``past``: the archive of trimmed
    entries. Raises ``LostError`` if entries are in neither."""
    if past is not None:
        async for page in WholeHistory(log, past, slice_entries=PAGE).slices(place, after=after):
            for entry in page:
                yield entry
        return
    while entries := await log.scan(place, after=after, count=PAGE):
        for entry in entries:
            yield entry
        after = entries[-1].id


async def entries_in(log: Log, stream: str, partitions: int) -> int:
    """Return how many entries were ever added to a stream, over its partitions."""
    return sum([(await log.extent(StreamKey(stream, partition))).added for partition in range(partitions)])


async def recorded_scores(log: Log, partitions: int, past: SegmentStore | None = None) -> AsyncIterator[Recorded]:
    """Yield all entries of ``scores``, merged over the partitions by the time of the bar. Within a partition the order
    of the stream is kept, also for entries that cannot be decoded."""
    waiting: list[tuple[int, int, Recorded]] = []
    streams = [_partition(log, partition, past) for partition in range(partitions)]
    moments = [0] * partitions

    async def next_of(partition: int) -> None:
        found = await anext(streams[partition], None)
        if found is not None:
            if found.event is not None:
                moments[partition] = found.event.open_time
            heapq.heappush(waiting, (moments[partition], partition, found))

    for partition in range(partitions):
        await next_of(partition)
    while waiting:
        _, partition, found = heapq.heappop(waiting)
        yield found
        await next_of(partition)


async def _partition(log: Log, partition: int, past: SegmentStore | None) -> AsyncIterator[Recorded]:
    async for entry in pages(log, StreamKey("scores", partition), past=past):
        envelope = next((envelope for _, envelope in events_of([entry], reported_elsewhere)), None)
        yield Recorded(partition, entry.id, envelope)


class NewestVerdict(NamedTuple):
    """The newest verdict on a candidate in one partition; None if its evidence was ``restarted`` since."""

    verdict: Verdict | None
    restarted: EvidenceRestarted | None


class Verdicts:
    """The newest verdict on each candidate, by (model, artifact) and partition, and in ``passed`` the first verdict
    that each passed. Memory grows with the number of candidates."""

    def __init__(self) -> None:
        self.candidates: dict[tuple[str, str], dict[int, NewestVerdict]] = {}
        self.passed: dict[tuple[str, str], Verdict] = {}
        self.after: dict[StreamKey, str] = {}
        self.unreadable = Unreadable()

    def apply(self, entry: Entry) -> None:
        """Fold the next entry of ``gates``. One that cannot be decoded is collected in ``unreadable``."""
        self.after[entry.place] = entry.id
        for _, envelope in events_of([entry], self.unreadable):
            self._apply(entry.place.partition, envelope)

    def _apply(self, partition: int, envelope: Envelope[GateEvent]) -> None:
        event = envelope.event
        if isinstance(event, VerdictReached):
            verdict = Verdict(envelope.id.hex(), event)
            newest = NewestVerdict(verdict, None)
            if event.overall == "passed":
                self.passed.setdefault((event.model, event.artifact), verdict)
        elif isinstance(event, EvidenceRestarted):
            newest = NewestVerdict(None, event)
        else:
            return
        self.candidates.setdefault((event.model, event.artifact), {})[partition] = newest

    def newest(self) -> dict[tuple[str, str], Verdict]:
        """Return the newest verdict on each candidate; if several partitions judged it, that of the last partition."""
        return {
            name: newest.verdict
            for name, partitions in self.candidates.items()
            for _, newest in sorted(partitions.items())
            if newest.verdict is not None
        }


async def read_verdicts(log: Log, partitions: int) -> Verdicts:
    """Read all of ``gates`` and return its fold."""
    verdicts = Verdicts()
    for partition in range(partitions):
        place = StreamKey("gates", partition)
        verdicts.after[place] = START
        async for entry in pages(log, place):
            verdicts.apply(entry)
    return verdicts
