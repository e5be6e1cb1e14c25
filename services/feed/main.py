"""The feed's shell: claims, clock, flow control, commits around ``services.feed.core``."""

import logging
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple

import anyio
from anyio import to_thread

from schemas.codec import Encoded
from services.feed import core
from services.feed.core import Numbered, State, Tick
from services.feed.pace import MarketTime, Pace, Speed, parse_speed
from shared.bars.rows import BarSource
from shared.log import Commit, GroupView
from shared.runtime.loop import Loop, wait

__all__ = ["Counts", "MarketTime", "Speed", "feed", "parse_speed"]

BATCH: Final = 500
"""Rows of one round of commits, unless more close at once."""
MOST_AT_ONCE: Final = 10_000
"""Rows that are put together because they close at once."""
BEHIND: Final = 5_000
"""Rows by which a partition's memo may lag behind where it saw no row of its own: what a restart reads
again in vain."""
POLL_S: Final = 0.01
TELL_S: Final = 10.0
_log = logging.getLogger(__name__)


class Counts(NamedTuple):
    """What a run of the feed did: bars sent, rows refused, bars passed over since the market had them."""

    sent: int = 0
    refused: int = 0
    passed: int = 0

    def plus(self, told: core.Told) -> "Counts":
        """These, and what came of more rows."""
        return Counts(self.sent + told.sent, self.refused + told.refused, self.passed + told.passed)


async def feed(
    loop: Loop,
    source: BarSource,
    *,
    partitions: int = 1,
    speed: Speed = None,
    window: int = 2000,
    stop: anyio.Event | None = None,
    sample: float = 0.0,
    restart: bool = False,
    take_over: bool = False,
) -> Counts:
    """Sends a source's bars from where the last run stood, until its end or until ``stop``. Owns the group meanwhile.

    ``window``: entries that a group may lag behind in a partition before the feed waits for it (at
    least one batch goes to groups that have read all). ``sample``: share of bars that are traced.
    Raises ``OwnedError`` (another feed runs), ``FencedError`` (it was replaced), ``SourceError`` (a
    source that cannot be read on, or another than the one it stands in), ``UnavailableError``."""
    if window < 1 or partitions < 1 or (speed is not None and not 0 < _rate(speed) < float("inf")):
        raise ValueError(f"expected window, partitions and speed above 0; got {window}, {partitions}, {speed}")
    async with loop.owned(partitions, take_over=take_over):
        states = [
            core.begin(claim.memo, source.identity, source.name, partitions, restart=restart) for claim in loop.claims
        ]
        loop.ready()
        run = _Run(loop, states, window, sample)
        return await loop.alongside(partial(run.through, source, speed, stop or anyio.Event()))


def _rate(speed: float | MarketTime) -> float:
    return speed.times if isinstance(speed, MarketTime) else speed


class _Run:
    """One run over a source. ``room`` is how many entries each partition may take before its groups
    are looked at again."""

    def __init__(self, loop: Loop, states: Sequence[State], window: int, sample: float) -> None:
        self.loop = loop
        self.states = states
        self.window = window
        self.sample = sample
        self.room = [0] * len(states)
        self.committed = [state.rows for state in states]
        self.counts = Counts()

    async def through(self, source: BarSource, speed: Speed, stop: anyio.Event) -> Counts:
        """From the first row that a partition has not handled, to the end or to ``stop``."""
        skip = min(state.rows for state in self.states)
        ticks = core.ticks(source.rows(skip), skip, MOST_AT_ONCE)
        tick = await to_thread.run_sync(_next, ticks)
        pace = Pace(speed, time.monotonic())
        while tick is not None and not stop.is_set():
            await wait(pace.due(tick) - time.monotonic(), stop)
            if stop.is_set():
                break
            rows: list[Numbered] = []
            while tick is not None and (not rows or self._joins(tick, rows, pace)):
                rows += tick.rows
                pace.sent(tick, time.monotonic())
                tick = _next(ticks)
            if not await self._send(rows, stop):
                break
        for partition, state in enumerate(self.states):
            await self._stand(partition, state, ended=tick is None and not stop.is_set())
        return self.counts

    def _joins(self, tick: Tick, rows: Sequence[Numbered], pace: Pace) -> bool:
        most = min(BATCH, max(self.window // 4, 1))
        return len(rows) + len(tick.rows) <= most and pace.due(tick) <= time.monotonic()

    async def _send(self, rows: Sequence[Numbered], stop: anyio.Event) -> bool:
        """One commit in each partition that has rows of these; false where ``stop`` came first."""
        until = rows[-1].number + 1
        parts = core.split(rows, len(self.states))
        for partition, part in enumerate(parts):
            if part and not await self._taken_up(partition, len(part), stop):
                return False
        for partition, (state, part) in enumerate(zip(self.states, parts, strict=True)):
            started = time.time_ns()
            told = core.handle(state, part, until, self.sample)
            if not told.outputs and until - self.committed[partition] < BEHIND:
                self.counts = self.counts.plus(told)
                continue
            await self._commit(partition, state, told.outputs, started)
            self.room[partition] -= len(told.outputs)
            self.counts = self.counts.plus(told)
        return True

    async def _commit(
        self, partition: int, state: State, outputs: Sequence[Encoded], started_ns: int | None = None
    ) -> None:
        commit = Commit(outputs, {}, {}, core.memo_of(state))
        await self.loop.commit(self.loop.claims[partition], commit, started_ns=started_ns)
        self.committed[partition] = state.rows

    async def _stand(self, partition: int, state: State, *, ended: bool) -> None:
        """Leaves a memo that says where the run ended, in partitions that saw none of its last rows too."""
        if self.committed[partition] < state.rows or state.ended != ended:
            state.ended = ended
            await self._commit(partition, state, ())

    async def _taken_up(self, partition: int, entries: int, stop: anyio.Event) -> bool:
        """Waits until the partition's groups leave room for so many entries, or have read everything;
        false where ``stop`` came first."""
        tell_at = time.monotonic() + TELL_S
        while self.room[partition] < entries and not stop.is_set():
            slowest = max(await self.loop.log.groups(partition), key=_lag, default=None)
            lag = _lag(slowest) if slowest is not None else 0
            self.room[partition] = max(self.window, entries) - lag
            if self.room[partition] >= entries or slowest is None:
                break
            if time.monotonic() > tell_at:
                state = "alive" if slowest.alive else "not running"
                _log.warning(
                    "the feed waits for %s of partition %d: %d entries behind, %s; window %d",
                    slowest.group,
                    partition,
                    lag,
                    state,
                    self.window,
                )
                tell_at += TELL_S
            await wait(POLL_S, stop)
        return not stop.is_set()


def _lag(view: GroupView) -> int:
    return max(view.lag.values(), default=0)


def _next(ticks: Iterator[Tick]) -> Tick | None:
    return next(ticks, None)
