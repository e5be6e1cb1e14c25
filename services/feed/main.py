"""Run the feed: read a source, keep the pace, wait for slow readers, commit."""

import logging
import math
import time
from collections.abc import Collection, Sequence
from functools import partial
from typing import Final, NamedTuple

import anyio
from anyio import to_thread

from schemas.codec import Encoded, encode
from services.feed import core
from services.feed.backlog import Backlog
from services.feed.core import Numbered, RowSource, State, Tick
from services.feed.pace import Pace
from shared.bars.rows import InputRow
from shared.log import START, Commit, Lost, StreamKey, TruncatedLogError
from shared.runtime.loop import Loop, wait
from shared.runtime.losses import truncation

BATCH: Final = 500
"""The largest number of rows in one commit, unless more close at the same time."""
MOST_AT_ONCE: Final = 10_000
"""The largest number of rows in one commit that close at the same time."""
MEMO_LAG: Final = 5_000
"""The largest number of rows that the memo of a partition lacks while none of them is its own. A restart reads these
rows again, and writes nothing for them."""
_log = logging.getLogger(__name__)


class Counts(NamedTuple):
    """The result of a run of the feed: bars sent, rows refused, and bars skipped because ``market`` had them.
    ``before``: rows at the start of the source that an earlier run handled. ``inputs``: inputs sent."""

    sent: int = 0
    refused: int = 0
    skipped: int = 0
    before: int = 0
    inputs: int = 0

    def plus(self, handled: core.Handled) -> "Counts":
        """Return these counts plus those of more rows."""
        return self._replace(
            sent=self.sent + handled.sent,
            refused=self.refused + handled.refused,
            skipped=self.skipped + handled.skipped,
            inputs=self.inputs + handled.inputs,
        )


async def feed(
    loop: Loop,
    source: RowSource,
    *,
    partitions: int = 1,
    speed: float | None = None,
    window: int = 2000,
    stop: anyio.Event | None = None,
    sample: float = 0.0,
    restart: bool = False,
    take_over: bool = False,
    references: Collection[str] = (),
) -> Counts:
    """Send the bars of a source, from the first row that is not handled yet, until its end or until ``stop``. Owns the
    group meanwhile.

    ``speed``: bars a second over all symbols; None: as fast as the readers take them. ``window``: entries by which a
    group may lag in a partition before the feed waits for it; a group without lag gets at least one batch. ``sample``:
    share of bars that are traced. ``restart``: leave the source of the last run, though it was not read to its end.
    ``references``: symbols whose bars are sent before those of others with their close, and copied into each partition.

    If the server lost the last bars, they are sent again from the source, after ``LogTruncated`` was raised.

    Raises ``OwnedError`` (another feed runs), ``SupersededError`` (another process took over), ``SourceError`` (the
    source cannot be read further, or is another than that of the last run), ``UnavailableError``."""
    if window < 1 or partitions < 1 or (speed is not None and not 0 < speed < math.inf):
        raise ValueError(f"expected window, partitions and speed above 0; got {window}, {partitions}, {speed}")
    async with loop.owned(partitions, take_over=take_over):
        left = {claim.memo for claim in loop.claims} if restart else set[bytes]()
        run = _Run(loop, _states(loop, source, left), window, sample, frozenset(references))
        loop.ready()
        lost = False
        while True:
            try:
                if lost:
                    await loop.claim_again()
                    run, lost = await run.again(source, left), False
                return await loop.alongside(partial(run.send_all, source, speed, stop or anyio.Event()))
            except TruncatedLogError as error:
                _log.error("%s", error)
                lost = True


def _states(loop: Loop, source: RowSource, left: Collection[bytes]) -> list[State]:
    """Return the state of each partition after its last commit. ``left``: the memos of runs whose source is left."""
    partitions = len(loop.claims)
    return [
        core.initial(claim.memo, source.identity, source.name, partitions, restart=claim.memo in left)
        for claim in loop.claims
    ]


class _Run:
    """One run over a source."""

    def __init__(
        self, loop: Loop, states: Sequence[State], window: int, sample: float, references: frozenset[str]
    ) -> None:
        self.loop = loop
        self.references = references
        self.states = states
        self.window = window
        self.sample = sample
        self.backlog = Backlog(loop.log, window, len(states))
        self.committed = [state.rows for state in states]
        self.counts = Counts(before=min(self.committed))

    async def again(self, source: RowSource, left: Collection[bytes]) -> "_Run":
        """Return the run that goes on with what the server has, after it lost its last writes. Raise ``LogTruncated``
        in each partition whose bars must be sent again."""
        run = _Run(self.loop, _states(self.loop, source, left), self.window, self.sample, self.references)
        run.counts = self.counts
        for partition, (claim, state) in enumerate(zip(self.loop.claims, run.states, strict=True)):
            sent = self.committed[partition]
            if sent > state.rows:
                place = StreamKey("market", partition)
                last = (await self.loop.log.extent(place)).last
                detail = f"rows {state.rows + 1} to {sent} of {source.name} are gone; they are sent again"
                alarm = encode(
                    "alarms", truncation(core.GROUP, Lost(place, START, last, detail), self.loop.clock.now_ms())
                )
                await self.loop.commit(claim, Commit([alarm], {}, {}, claim.memo))
        return run

    async def send_all(self, source: RowSource, speed: float | None, stop: anyio.Event) -> Counts:
        """Send from the first row that a partition has not handled, to the end or to ``stop``."""
        skip = min(state.rows for state in self.states)
        ticks = core.ticks(source.rows(skip), skip, MOST_AT_ONCE, self.references)
        tick = await to_thread.run_sync(next, ticks, None)
        pace = Pace(speed, time.monotonic())
        while tick is not None and not stop.is_set():
            await wait(pace.due() - time.monotonic(), stop)
            if stop.is_set():
                break
            rows: list[Numbered] = []
            while tick is not None and (not rows or self._joins(tick, rows, pace)):
                rows += tick.rows
                pace.sent(sum(not isinstance(each.row, InputRow) for each in tick.rows), time.monotonic())
                tick = next(ticks, None)
            if not await self._send(rows, stop):
                break
        for partition, state in enumerate(self.states):
            await self._commit_end(partition, state, ended=tick is None and not stop.is_set())
        return self.counts

    def _joins(self, tick: Tick, rows: Sequence[Numbered], pace: Pace) -> bool:
        most = min(BATCH, max(self.window // 4, 1))
        return len(rows) + len(tick.rows) <= most and pace.due() <= time.monotonic()

    async def _send(self, rows: Sequence[Numbered], stop: anyio.Event) -> bool:
        """Commit once in each partition that has some of these rows. Return false if ``stop`` was set first."""
        until = max(row.number for row in rows) + 1
        parts = core.split(rows, len(self.states), self.references)
        for partition, part in enumerate(parts):
            if part and not await self.backlog.wait(partition, len(part), stop):
                return False
        for partition, (state, part) in enumerate(zip(self.states, parts, strict=True)):
            started = self.loop.clock.now_ns()
            handled = core.handle(state, part, until, self.sample)
            self.counts = self.counts.plus(handled)
            if handled.outputs or until - self.committed[partition] >= MEMO_LAG:
                await self._commit(partition, state, handled.outputs, started)
                self.backlog.used(partition, len(handled.outputs))
        return True

    async def _commit(
        self, partition: int, state: State, outputs: Sequence[Encoded], started_ns: int | None = None
    ) -> None:
        commit = Commit(outputs, {}, {}, core.snapshot(state))
        await self.loop.commit(self.loop.claims[partition], commit, started_ns=started_ns)
        self.committed[partition] = state.rows

    async def _commit_end(self, partition: int, state: State, *, ended: bool) -> None:
        """Commit where the run ended, also in a partition that had none of its last rows."""
        if self.committed[partition] < state.rows or state.ended != ended:
            state.ended = ended
            await self._commit(partition, state, ())
