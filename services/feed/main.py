"""The feed's shell: claims, clock, flow control, commits around ``services.feed.core``."""

import logging
import time
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import anyio
from anyio import to_thread

from schemas.codec import Encoded, encode
from schemas.operations import OwnerReplaced
from services.feed import core
from services.feed.core import Numbered, State, Tick
from services.feed.pace import MarketTime, Pace, Speed, parse_speed
from shared.bars.rows import BarSource
from shared.control.stream import now_ms
from shared.log import Claim, Commit, GroupView, Log, Owner
from shared.telemetry.reporting import BatchReport, Telemetry

__all__ = ["Counts", "MarketTime", "Speed", "feed", "parse_speed"]

BATCH: Final = 500
"""Rows of one round of commits, unless more close at once."""
MOST_AT_ONCE: Final = 10_000
"""Rows that are put together because they close at once."""
BEHIND: Final = 5_000
"""Rows by which a partition's memo may lag behind where it saw no row of its own: what a restart reads
again in vain."""
RENEW_S: Final = 3.0
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
    log: Log,
    source: BarSource,
    *,
    owner: Owner,
    partitions: int = 1,
    speed: Speed = None,
    window: int = 2000,
    stop: anyio.Event | None = None,
    sample: float = 0.0,
    restart: bool = False,
    take_over: bool = False,
    meter: Telemetry | None = None,
) -> Counts:
    """Sends a source's bars from where the last run stood, until its end or until ``stop``.

    ``window``: entries that a group may lag behind in a partition before the feed waits for it (at
    least one batch goes to groups that have read all). ``sample``: share of bars that are traced.
    Raises ``OwnedError`` (another feed runs), ``FencedError`` (it was replaced), ``SourceError`` (a
    source that cannot be read on, or another than the one it stands in), ``UnavailableError``."""
    if window < 1 or partitions < 1 or (speed is not None and not 0 < _rate(speed) < float("inf")):
        raise ValueError(f"expected window, partitions and speed above 0; got {window}, {partitions}, {speed}")
    claims: list[Claim] = []
    try:
        for partition in range(partitions):
            claim = await log.claim(core.GROUP, (), partition, owner, take_over=take_over)
            claims.append(claim)  # at once: released if the next is refused
        states = [core.begin(claim.memo, source.identity, source.name, partitions, restart=restart) for claim in claims]
        run = _Run(log, claims, states, window, sample, meter)
        return await _renewed(log, claims, run, source, speed, stop or anyio.Event())
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(2):
            for claim in claims:
                await log.release(claim)


def _rate(speed: float | MarketTime) -> float:
    return speed.times if isinstance(speed, MarketTime) else speed


async def _renewed(
    log: Log, claims: Sequence[Claim], run: "_Run", source: BarSource, speed: Speed, stop: anyio.Event
) -> Counts:
    """Runs while the claims are renewed beside it, since a source may take long to open or to wait for."""

    async def renew() -> None:
        while True:
            await anyio.sleep(RENEW_S)
            for claim in claims:
                await log.renew(claim)

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(renew)
            counts = await run.through(source, speed, stop)
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # What ended the feed, rather than the group that it ended in.
        raise group.exceptions[0] from None
    return counts


class _Run:
    """One run over a source. ``room`` is how many entries each partition may take before its groups
    are looked at again."""

    def __init__(
        self,
        log: Log,
        claims: Sequence[Claim],
        states: Sequence[State],
        window: int,
        sample: float,
        meter: Telemetry | None,
    ) -> None:
        self.log = log
        self.claims = claims
        self.states = states
        self.window = window
        self.sample = sample
        self.meter = meter
        self.room = [0] * len(claims)
        self.committed = [state.rows for state in states]
        self.counts = Counts()

    async def through(self, source: BarSource, speed: Speed, stop: anyio.Event) -> Counts:
        """From the first row that a partition has not handled, to the end or to ``stop``."""
        await self._tell_replaced()
        skip = min(state.rows for state in self.states)
        ticks = core.ticks(source.rows(skip), skip, MOST_AT_ONCE)
        tick = await to_thread.run_sync(_next, ticks)
        pace = Pace(speed, time.monotonic())
        while tick is not None and not stop.is_set():
            await _sleep(pace.due(tick) - time.monotonic(), stop)
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
            handled = time.time_ns()
            if not told.outputs and until - self.committed[partition] < BEHIND:
                self.counts = self.counts.plus(told)
                continue
            await self._commit(partition, state, told.outputs)
            self.room[partition] -= len(told.outputs)
            self.counts = self.counts.plus(told)
            if self.meter is not None and told.outputs:
                self.meter.batch(
                    BatchReport(
                        consumed={},
                        outputs=told.outputs,
                        started_ns=started,
                        handled_ns=handled,
                        committed_ns=time.time_ns(),
                    )
                )
        return True

    async def _commit(self, partition: int, state: State, outputs: Sequence[Encoded]) -> None:
        await self.log.commit(self.claims[partition], Commit(outputs, {}, {}, core.memo_of(state)))
        self.committed[partition] = state.rows

    async def _stand(self, partition: int, state: State, *, ended: bool) -> None:
        """Leaves a memo that says where the run ended, in partitions that saw none of its last rows too."""
        if self.committed[partition] < state.rows or state.ended != ended:
            state.ended = ended
            await self._commit(partition, state, ())

    async def _tell_replaced(self) -> None:
        for partition, claim in enumerate(self.claims):
            if claim.former is not None:
                alarm = OwnerReplaced(claim.group, claim.former, str(claim.owner), claim.epoch, now_ms())
                commit = Commit([encode("alarms", alarm)], {}, {}, claim.memo, claim.since)
                await self.log.commit(self.claims[partition], commit)

    async def _taken_up(self, partition: int, entries: int, stop: anyio.Event) -> bool:
        """Waits until the partition's groups leave room for so many entries, or have read everything;
        false where ``stop`` came first."""
        tell_at = time.monotonic() + TELL_S
        while self.room[partition] < entries and not stop.is_set():
            slowest = max(await self.log.groups(partition), key=_lag, default=None)
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
            await _sleep(POLL_S, stop)
        return not stop.is_set()


def _lag(view: GroupView) -> int:
    return max(view.lag.values(), default=0)


def _next(ticks: Iterator[Tick]) -> Tick | None:
    return next(ticks, None)


async def _sleep(seconds: float, stop: anyio.Event) -> None:
    """Sleeps, or less where ``stop`` is set; not at all without anything to wait for."""
    if seconds > 0:
        with anyio.move_on_after(seconds):
            await stop.wait()
