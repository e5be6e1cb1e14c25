"""Recorded scores and verdicts as the console reads them: a page at a time, all partitions in order."""

import heapq
from collections.abc import AsyncIterator
from typing import NamedTuple

from schemas.codec import Envelope, UnreadableError, decode
from schemas.gates import EvidenceRestarted, VerdictReached
from schemas.scores import ScoreEvent
from shared.archive import SegmentStore, WholeHistory
from shared.log import START, Entry, Log, StreamKey
from shared.report.summary import Verdict

PAGE = 1000


class Recorded(NamedTuple):
    """An entry of ``scores``: its partition, its id on the log, and what it holds (None: unreadable)."""

    partition: int
    entry: str
    envelope: Envelope[ScoreEvent] | None

    @property
    def event(self) -> ScoreEvent | None:
        """The event, where it can be read."""
        return None if self.envelope is None else self.envelope.event

    @property
    def at(self) -> int:
        """When it was written (ms)."""
        return int(self.entry.partition("-")[0])


async def pages(
    log: Log, place: StreamKey, after: str = START, past: SegmentStore | None = None
) -> AsyncIterator[Entry]:
    """Every entry of one stream behind ``after``, never more than a page of them in memory. ``past``: where what was
    trimmed was sealed; raises ``LostError`` where something is in neither."""
    if past is not None:
        async for found in WholeHistory(log, past, slice_entries=PAGE).slices(place, after=after):
            for entry in found:
                yield entry
        return
    while entries := await log.scan(place, after=after, count=PAGE):
        for entry in entries:
            yield entry
        after = entries[-1].id


async def recorded_scores(log: Log, partitions: int, past: SegmentStore | None = None) -> AsyncIterator[Recorded]:
    """All of ``scores``, oldest bar first over the partitions, each partition in its own order. An entry
    that cannot be read keeps its place in it, without an event."""
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
        try:
            envelope = decode("scores", entry.data)
        except UnreadableError:
            envelope = None
        yield Recorded(partition, entry.id, envelope)


class Standing(NamedTuple):
    """Where a candidate stands in one partition: its newest verdict, void if ``restarted``: its evidence
    began anew since."""

    verdict: Verdict | None
    restarted: EvidenceRestarted | None


class Verdicts:
    """The newest word on each candidate, by (model, artifact) and partition; bounded by how many
    candidates there ever were. ``passed`` has the first passing verdict of each."""

    def __init__(self) -> None:
        self.standing: dict[tuple[str, str], dict[int, Standing]] = {}
        self.passed: dict[tuple[str, str], Verdict] = {}
        self.after: dict[StreamKey, str] = {}

    def take(self, entry: Entry) -> None:
        """Takes the next entry of ``gates``; one that cannot be read is passed over."""
        self.after[entry.place] = entry.id
        try:
            envelope = decode("gates", entry.data)
        except UnreadableError:
            return
        event = envelope.event
        if isinstance(event, VerdictReached):
            found = Standing(Verdict(envelope.id.hex(), event), None)
            if event.overall == "passed" and found.verdict is not None:
                self.passed.setdefault((event.model, event.artifact), found.verdict)
        elif isinstance(event, EvidenceRestarted):
            found = Standing(None, event)
        else:
            return
        self.standing.setdefault((event.model, event.artifact), {})[entry.place.partition] = found

    def newest(self) -> dict[tuple[str, str], Verdict]:
        """The verdicts in force; where partitions judged apart, that of the last partition."""
        return {
            name: found.verdict
            for name, standings in self.standing.items()
            for _, found in sorted(standings.items())
            if found.verdict is not None
        }


async def read_verdicts(log: Log, partitions: int) -> Verdicts:
    """All of ``gates``, folded."""
    verdicts = Verdicts()
    for partition in range(partitions):
        place = StreamKey("gates", partition)
        verdicts.after[place] = START
        async for entry in pages(log, place):
            verdicts.take(entry)
    return verdicts
