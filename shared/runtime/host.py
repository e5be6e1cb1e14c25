"""Host a service's core on the log: start, then read, handle and commit batches until the process is stopped.

Where to look
    start and recovery    ``startup``; the state as of the last commit: ``replay``
    commits               ``commits``: what is in one, and what happens if the process dies in it
    entries that are gone ``losses``
    the control stream    ``follower``; alarms for its refused entries, notes outside the log: ``notices``

A turn
    Read, decode, hand over to the core, commit its outputs with the positions. An event is handed over once every
    command up to its stamp was (``schemas.features``). An entry that cannot be decoded becomes a dead letter in the
    same commit. Positions alone are committed when nothing is left to read.

A long batch
    The core is handed a batch in pieces that take about a second at most. Between two pieces the lease is renewed and
    the supervisor gets a sign of life, so a service that works is not taken for dead.

The core raises
    Its state cannot be trusted any more: rebuild it, and hand over what follows the last commit one event at a time. An
    event on which it raises again becomes a dead letter (``handler_failed``) and is set aside.

The fence
    A service that writes intents or orders handles and commits each batch under the mark of its partition's fence
    (``shared.control.fence``). If the mark has moved by the time of the commit, the batch is handled again under the
    new one.

The clock
    A core that needs the time gets the server's (``shared.runtime.clock``). It is read at the start, every few seconds,
    and whenever the entries that were read do not fit it. Nothing is asked between a bar and its decision otherwise.

The end
    After ``stop``: finish the batch, commit, release the claim. The host never ends silently otherwise. It raises
    ``SupersededError`` (another process owns the group), ``GapError`` (entries were trimmed before they were read),
    ``ControlError`` (the control log cannot be trusted or understood), or ``LostGroupError`` (the group's record is
    gone, and its state cannot be rebuilt).
"""

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Final, Generic, TypeVar

import anyio

from schemas.codec import Encoded, Envelope, encode
from schemas.control import CommandRecorded
from shared.control import ControlError, ControlReader, State
from shared.control.stamps import Stamp, TruncatedError, missing_stamp
from shared.control.stream import CONTROL
from shared.log import (
    Entry,
    HaltedError,
    Log,
    Lost,
    Owner,
    StreamKey,
    SupersededError,
    TruncatedLogError,
    UnavailableError,
)
from shared.log.leases import id_order
from shared.log.written import Written
from shared.recovery.storage import Storage
from shared.runtime.clock import ClockAlarms, ServerClock
from shared.runtime.commits import Commits
from shared.runtime.entries import dead_letter, decoded
from shared.runtime.follower import ControlFollower
from shared.runtime.losses import Losses
from shared.runtime.notices import ControlAlarms, Notes
from shared.runtime.replay import Replica
from shared.runtime.reported import reported
from shared.runtime.service import Background, Backpressure, Batch, Received, Service
from shared.runtime.startup import Startup
from shared.telemetry.reporting import Telemetry

S = TypeVar("S")

BATCH: Final = 1000
"""The most entries of one stream in a batch."""
BLOCK_MS: Final = 250
"""The longest wait for an entry."""
PIECE: Final = 16
"""Events that a background service is handed at a time. All pieces of a batch are committed at once."""
WORK_S: Final = 0.002
PAUSE_S: Final = 0.004
"""After so much processor time a background service pauses for so long between two pieces, so that the way from bar to
decision has the processor."""
SLOW_S: Final = 1.0
"""The longest time that a core should take for what it is handed at once. The lease is renewed between two pieces of a
batch, so a piece must take well under the ten seconds of a lease."""
LOOK_FOR_GAPS_AFTER_S: Final = 5.0
NEW_MS: Final = 1_000
"""The newest entry of a batch should be at most so much older than the present, and not later. Otherwise this process
lags, or a clock was set, and the clock is read again."""


class Host(Generic[S]):
    """One service on one partition. ``run`` returns after ``stop`` is set, or raises.

    ``take_over``: claim the group even from a live owner. ``lost``: what is known to be lost before the start.
    ``accepted`` and ``noted``: see ``losses.Losses``. ``reconnected`` is called after a connection was opened,
    ``ready`` after the start, ``alive`` after each turn. ``note_head`` and ``note_digests``: see ``notices.Notes``.
    ``reader`` makes the reader of the control stream. ``clock``: the clocks of this process and the server; if it is
    given, what is wrong with them is an alarm. ``storage``: the files outside the log; which of them cannot be written
    is an alarm."""

    def __init__(
        self,
        service: Service[S],
        log: Log,
        partition: int,
        owner: Owner,
        *,
        telemetry: Telemetry | None = None,
        take_over: bool = False,
        ready: Callable[[], None] | None = None,
        alive: Callable[[], None] | None = None,
        note_head: Callable[[State], None] | None = None,
        note_digests: Callable[[State, Mapping[str, Written]], bool | None] | None = None,
        reader: Callable[[], ControlReader] = ControlReader,
        lost: Lost | None = None,
        accepted: Callable[[Stamp], bool] | None = None,
        noted: Callable[[State], Lost | None] | None = None,
        reconnected: Callable[[], Awaitable[None]] | None = None,
        clock: ServerClock | None = None,
        storage: Storage | None = None,
    ) -> None:
        self.service = service
        self.log = log
        self.clock = clock or ServerClock()
        self.control = ControlFollower(log, reader)
        self.commits = Commits(
            log,
            service.group,
            service.reads,
            partition,
            owner,
            control=self.control,
            telemetry=telemetry,
            clock=self.clock,
            reconnected=self._on_new_connection,
        )
        self.replica = Replica(service, self.commits)
        if telemetry is not None:
            telemetry.use_clock(self.clock.now_ns)
        self._clock_alarms = (
            ClockAlarms(clock, service.group, server=self.replica.decides) if clock is not None else None
        )
        self._losses = Losses(self.commits, accepted, noted)
        self._alarms = ControlAlarms(self.commits)
        self._storage = storage or Storage(service.group)
        self._notes = Notes(self.commits, note_head, note_digests)
        self._startup = Startup(self.replica, self._losses, self._alarms, self._notes)
        self._take_over = take_over
        self._reconnected = reconnected
        self._lost = [lost] if lost is not None else []
        self._ready = ready or _nothing
        self._alive = alive or _nothing
        # Asked once, since to look a protocol up takes longer than a small batch.
        self._backpressure = service if isinstance(service, Backpressure) else None
        self._poll_s = service.poll_ms / 1000 if isinstance(service, Background) else 0.0
        self._block_ms = min(service.ticks or BLOCK_MS, BLOCK_MS)
        self._most = BATCH
        """The most events that the core is handed at once. Fewer than a batch, if it is slow."""
        self._one_at_a_time = 0
        """Entries that are still to be handed over one at a time, after the core raised."""

    @property
    def state(self) -> S:
        """The state of the core."""
        return self.replica.state

    async def run(self, stop: anyio.Event) -> None:
        """Start, handle batches until ``stop``, and release the group."""
        await self.commits.claim_group(take_over=self._take_over)
        try:
            await self._read_clock()
            if self._clock_alarms is not None:
                earlier = await reported(self.log, self.commits.partition, self.service.group)
                self._clock_alarms.resume(apart=earlier.apart)
                self._storage.resume(earlier.files)
            await self._startup.start(self._lost)
            await self._check_clock()
            self._ready()
            while not stop.is_set():
                try:
                    caught_up = await self._turn()
                except (TruncatedLogError, TruncatedError) as error:
                    await self._start_again(error, stop)
                    continue
                self._alive()
                if caught_up and self._poll_s:
                    with anyio.move_on_after(self._poll_s):
                        await stop.wait()
            await self.replica.commit_positions()
            await self._notes.digests()
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                await self.log.release(self.commits.claim)

    async def _start_again(self, error: TruncatedLogError | TruncatedError, stop: anyio.Event) -> None:
        """Claim the group again and start from what the log has now."""
        while True:
            await self.commits.claim_group()
            await self._startup.start([error.lost])
            if isinstance(error, TruncatedLogError):
                return
            try:
                await self._losses.wait_for(error.stamp, stop, self._alive)
                await self.replica.rebuild()
                return
            except TruncatedLogError as another:
                error = another

    async def _turn(self) -> bool:
        """Read a batch, handle it, commit it. Return whether it was all there was, and not empty."""
        entries = await self.log.read(self._read_after(), count=BATCH, block_ms=self._block_ms, ahead=not self._poll_s)
        await self.commits.check_new_connection()
        caught_up = 0 < len(entries) < BATCH and not self._one_at_a_time
        if self._one_at_a_time:
            entries = entries[:1]
        if entries or self.service.ticks:
            await self._handle(entries)
        await self._alarms.raise_missing()
        if not entries:
            await self.replica.commit_positions()
        await self._notes.when_due()
        if alarms := self._storage.due(self.clock.now_ms()):
            await self.commits.append([encode("alarms", alarm) for alarm in alarms])
        await self.commits.renew_if_due()
        if time.monotonic() - self._losses.looked_at > LOOK_FOR_GAPS_AFTER_S:
            await self._losses.refuse_gaps()
            await self.commits.check()
            await self._read_clock()
            await self._check_clock()
        return caught_up and not self._one_at_a_time

    async def _read_clock(self) -> None:
        await self.clock.read(self.log, self.commits.partition)

    async def _check_clock(self) -> None:
        """Raise the alarms about the clocks that are due after a reading."""
        if self._clock_alarms is None:
            return
        if alarms := self._clock_alarms.after_read(self._losses.newest_ms):
            await self.commits.append([encode("alarms", alarm) for alarm in alarms])

    async def _follow_clock(self, events: Sequence[Entry]) -> None:
        """Read the clock again if the newest of these entries does not fit it: this process lags, or a clock was
        set."""
        if events and abs(id_order(events[-1].id)[0] - self.clock.now_ms()) > NEW_MS:
            await self._read_clock()

    async def _on_new_connection(self) -> None:
        """Call ``reconnected``, and raise ``TruncatedLogError`` if the log lost commands that the records of this
        machine have. This service need not have read them."""
        if self._reconnected is not None:
            await self._reconnected()
        if self.replica.decides and (lost := await self._losses.missing_commands()):
            raise TruncatedLogError(lost[0].detail, lost[0])

    def _read_after(self) -> dict[StreamKey, str]:
        """Return the entry after which to read each stream, without those that backpressure pauses."""
        paused = self._backpressure.paused_streams(self.state) if self._backpressure is not None else ()
        positions = self.commits.positions
        after = {self.commits.keys[stream]: at.id for stream, at in positions.items() if stream not in paused}
        return {CONTROL: self.control.reader.last, **after} if self.service.follows_control else after

    async def _handle(self, entries: Sequence[Entry]) -> None:
        """Hand entries to the core, and commit what it returns with the positions after them."""
        started_ns = self.clock.now_ns()
        control = [entry for entry in entries if entry.place == CONTROL]
        events = [entry for entry in entries if entry.place != CONTROL] if control else entries
        try:
            commands, received, outputs = await self._decode(control, events)
            # A command may have moved the fence: better seen now than by a commit that is refused.
            if commands and self.replica.fenced and not await self.replica.read_mark():
                await self.replica.rebuild()
                return
            if self.service.ticks:
                await self._follow_clock(events)
            paused_ns = await self._hand_over(commands, received, outputs)
        except (ControlError, SupersededError, TruncatedLogError, UnavailableError):
            raise
        except Exception as error:
            await self._recover(events, error)
            return
        handled_ns = self.clock.now_ns()
        after = self.commits.positions = self.commits.after(events)
        # Entries that led to nothing are committed with later ones: after a crash they are read again.
        if outputs or self._one_at_a_time or self.commits.uncommitted >= BATCH:
            try:
                await self.replica.commit(outputs, after)
            except HaltedError as error:
                await self._handle_again(error)
                return
        if self._one_at_a_time:
            self._one_at_a_time = max(self._one_at_a_time - len(events), 0)
        if events or outputs:
            self.commits.report(events, outputs, started_ns=started_ns + paused_ns, handled_ns=handled_ns)

    async def _decode(
        self, control: Sequence[Entry], events: Sequence[Entry]
    ) -> tuple[Sequence[Envelope[CommandRecorded]], list[Received], list[Encoded]]:
        """Return the commands and the events to hand over, and a dead letter for each event that cannot be. The
        commands reach up to the newest stamp of the events, if they must be read for that."""
        commands = self.control.fold(control)
        received, letters = decoded(events, self.service.group)
        received, lost = self._losses.without_accepted(events, received)
        if self.service.follows_control:
            while (stamp := missing_stamp(self.control.state, received)) is not None:
                commands = [*commands, *await self.control.commands_up_to(stamp)]
        return commands, received, [*letters, *lost]

    async def _hand_over(
        self, commands: Sequence[Envelope[CommandRecorded]], events: Sequence[Received], outputs: list[Encoded]
    ) -> int:
        """Hand commands and events to the core, and append what it returns to ``outputs``. Return how long a background
        service paused meanwhile (ns)."""
        paused_ns = 0
        worked_s = time.thread_time() if self._poll_s else 0.0
        for piece in self._pieces(events):
            await self.commits.renew_if_due()
            self._alive()
            if self._poll_s and time.thread_time() - worked_s > WORK_S:
                paused_at = self.clock.now_ns()
                await anyio.sleep(PAUSE_S)
                paused_ns += self.clock.now_ns() - paused_at
                worked_s = time.thread_time()
            started_s = time.monotonic()
            now = self.clock.now_ms() if self.service.ticks else None
            batch = Batch(commands, piece, now, self.replica.halted, self.clock.steady_ms())
            outputs += self.service.handle(self.state, batch)
            commands = ()
            self._resize(len(piece), time.monotonic() - started_s)
        return paused_ns

    def _pieces(self, events: Sequence[Received]) -> Iterator[Sequence[Received]]:
        """Cut events into what the core is handed at once: little for a background service, unless it lags by a whole
        batch, and less than a batch for a slow core."""
        small = self._poll_s > 0 and len(events) < BATCH
        at = 0
        while True:
            most = min(self._most, PIECE) if small else self._most
            yield events[at : at + most]
            at += most
            if at >= len(events):
                return

    def _resize(self, events: int, took_s: float) -> None:
        """Hand the core less at once, if this took long, and more again, if as much as was allowed took short."""
        if took_s > SLOW_S:
            self._most = max(self._most // 2, 1)
        elif events == self._most and took_s < SLOW_S / 4:
            self._most = min(self._most * 2, BATCH)

    async def _recover(self, events: Sequence[Entry], error: Exception) -> None:
        """Rebuild the state after the core raised, and hand over the entries since the last commit one at a time. An
        event on which the core raises alone is set aside as a dead letter.

        Raises ``error`` if there is no such entry: then a tick or a command is at fault, and the process stops."""
        again = self.commits.uncommitted + len(events)
        if not again:
            raise error
        alone = self._one_at_a_time > 0 and len(events) == 1
        await self.replica.rebuild()
        self._one_at_a_time = self._one_at_a_time - 1 if alone else again
        if alone:
            [entry] = events
            self.replica.set_aside.add((entry.place.stream, entry.id))
            letter = dead_letter(self.service.group, entry, "handler_failed", f"{type(error).__name__}: {error}")
            await self.commits.append([letter], self.commits.after(events))

    async def _handle_again(self, error: HaltedError) -> None:
        """Rebuild the state after the fence was moved: the entries since the last commit are read again and handled
        under its new mark. Raises ``error`` if the mark is the same: then the core wrote intents under a closed
        fence."""
        if error.mark == self.replica.mark:
            raise error
        await self.replica.rebuild()


def _nothing() -> None:
    """Stands for a callback that is not given."""
