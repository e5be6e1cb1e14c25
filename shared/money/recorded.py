"""Read the money of an installation from what it recorded: bars, predictions, orders and the configuration.

Used by ``conclave money``, by reports and by the demo. Memory grows with the number of predictions that are not HOLD.
"""

import heapq
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar

from msgspec import Struct

from schemas.control import SetExecutionPolicy
from schemas.market import BarClosed
from schemas.orders import AccountEvent
from schemas.predictions import PredictionMade
from shared.archive import SegmentStore, stream_entries
from shared.control import EMPTY, ControlReader, State
from shared.control.stream import CONTROL
from shared.log import Log, StreamKey
from shared.log.events import OnUnreadable, events_of, reported_elsewhere
from shared.money.account import Key, key_of
from shared.money.comparison import MoneyComparison
from shared.money.figures import MoneyFigures
from shared.money.orders import lone_signal
from shared.money.venue import TradedBar
from shared.voting.in_force import PolicyUse, PolicyUses
from shared.voting.pool import own_action

T = TypeVar("T")


class Watch(Protocol):
    """A function that gives items as they come, and shows how many of the ``total`` were taken."""

    def __call__(
        self, items: AsyncIterator[T], words: str, unit: str, total: float, /
    ) -> AbstractContextManager[AsyncIterator[T]]:
        """Return a context in which the items are taken. ``total`` may be an estimate."""


@contextmanager
def _unwatched(items: AsyncIterator[T], _words: str, _unit: str, _total: float, /) -> Iterator[AsyncIterator[T]]:
    yield items


class MoneyReport(Struct, frozen=True):
    """The figures of all lines, and how many bars they cover. ``policies``: the voting policies that were in force."""

    bars: int
    lines: Sequence[MoneyFigures]
    policies: Sequence[PolicyUse] = ()

    @property
    def empty(self) -> bool:
        """Whether there was neither a prediction nor a fill."""
        return len(self.lines) == 1 and not self.lines[0].fills


async def read_money(
    log: Log,
    partitions: int,
    model: str | None = None,
    since: int | None = None,
    past: SegmentStore | None = None,
    unreadable: OnUnreadable = reported_elsewhere,
    watch: Watch = _unwatched,
) -> MoneyReport:
    """Read bars, predictions and orders, sealed ones included, and return the figures of all lines. ``watch`` shows
    the progress of what is long."""
    versions = await _versions(log)
    policies: list[SetExecutionPolicy] = [state.execution for state in versions]
    comparison, uses = MoneyComparison(policies, partitions, since), PolicyUses()
    for partition in range(partitions):
        place = StreamKey("predictions", partition)
        predictions, total = stream_entries(log, place, past), (await log.extent(place)).added
        with watch(predictions, "reading predictions", "entries", total) as entries:
            async for entry in entries:
                for _, envelope in events_of([entry], unreadable):
                    made = envelope.event
                    if isinstance(made, PredictionMade) and model in (None, made.model):
                        _note(comparison, versions, made, envelope.id.hex())
                    if isinstance(made, PredictionMade) and made.open_time + made.interval_ms > (since or 0):
                        uses.note(made.control_version, versions[made.control_version].policy, made.open_time)
        async for entry in stream_entries(log, StreamKey("orders", partition), past):
            for _, envelope in events_of([entry], unreadable):
                if not isinstance(envelope.event, AccountEvent):
                    comparison.order(key_of(envelope.event), envelope.event)
    bars = 0
    total = sum([(await log.extent(StreamKey("market", partition))).added for partition in range(partitions)])
    with watch(_bars(log, partitions, past, unreadable), "reading bars", "bars", total) as read:
        async for partition, key, bar in read:
            comparison.bar(partition, key, bar)
            bars += 1
    return MoneyReport(bars, comparison.figures(), uses.found())


async def _versions(log: Log) -> list[State]:
    """Return the configuration of each version, from version 0 on."""
    reader = ControlReader()
    taken = [
        reader.state async for entry in stream_entries(log, CONTROL) if reader.take(entry.id, entry.data) is not None
    ]
    return [EMPTY, *taken]


def _note(comparison: MoneyComparison, versions: Sequence[State], made: PredictionMade, event: str) -> None:
    """Note what a prediction decides alone: for the line of its model if it is the champion, else for its own."""
    artifact = made.artifact.hex()
    state = versions[made.control_version]
    champion = state.model(made.model).champion == artifact
    line = f"model {made.model}" if champion else f"shadow {made.model}@{artifact[:12]}"
    signal = lone_signal(made, event, own_action(state.policy, made.probabilities), state.policy)
    comparison.signal(line, key_of(made), made.open_time, signal)


async def _bars(
    log: Log, partitions: int, past: SegmentStore | None, unreadable: OnUnreadable
) -> AsyncIterator[tuple[int, Key, TradedBar]]:
    """Yield the bars of all partitions, merged by the time of their close. Of bars that were written twice, or out of
    order, the first counts, as it does for all services."""
    streams = [_of_partition(log, partition, past, unreadable) for partition in range(partitions)]
    waiting: list[tuple[int, int, Key, TradedBar]] = []
    last: dict[Key, int] = {}

    async def next_of(partition: int) -> None:
        async for key, bar in streams[partition]:
            if bar.open_time > last.get(key, -1):
                last[key] = bar.open_time
                heapq.heappush(waiting, (bar.open_time + key[1], partition, key, bar))
                return

    for partition in range(partitions):
        await next_of(partition)
    while waiting:
        _, partition, key, bar = heapq.heappop(waiting)
        yield partition, key, bar
        await next_of(partition)


async def _of_partition(
    log: Log, partition: int, past: SegmentStore | None, unreadable: OnUnreadable
) -> AsyncIterator[tuple[Key, TradedBar]]:
    async for entry in stream_entries(log, StreamKey("market", partition), past):
        for _, envelope in events_of([entry], unreadable):
            event = envelope.event
            if isinstance(event, BarClosed):
                bar = TradedBar(event.open_time, event.origin, event.open, event.close, event.volume)
                yield key_of(event), bar
