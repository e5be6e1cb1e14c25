"""Hosts a service's core on the log: start, catch up, live, drain. There is no other path: recovery
after a crash is the same start.

start
    Claim the group (a second copy is refused here), compare the entries at the durable positions with those that
    were read, look for a gap between them and what the streams still hold, fold the control stream from its beginning.
catch up
    Begin from the memo, read again from ``since`` to the position, apply without writing.
live
    Read, decode, hand over, commit outputs with positions. An event is handed over once every command up to
    its stamp has been (``schemas.features``). Entries that cannot be decoded become dead letters in the same
    commit. Positions alone are committed when nothing is left to read. A
    core that raises is rebuilt as at a start, and handed what follows one event at a time; the event
    at fault becomes a dead letter.
fence
    Where the service writes intents, each batch is handled and committed under the mark of the partition's fence
    (``shared.control.fence``). A commit that is refused, because the mark is another one now, is decided again.
drain
    On ``stop``: finish the batch in hand, commit, release the claim.
a log that is not the one that was read
    Compared whenever a connection was opened, before anything is written over it, and every few seconds. Where it
    differs, nothing is written on top of it: claim again, take positions and control as they are there, rebuild, raise
    ``LogTruncated``, and close the fence of the partition, if this is who writes intents. Events that were stamped with
    a command that is gone are waited with until it is back or its loss was accepted; then they are dead letters.

Control entries that were written past the door are not handed over; each is raised as an alarm once
in a partition (``shared.control.Reader`` says which those are).

Stops with an error, never silently: ``FencedError`` (another owner), ``GapError`` (entries trimmed
before they were read), ``ControlError`` (a control log that nobody can trust or understand), ``LostGroupError``
(the record of the group is gone, and what it remembered cannot be had again).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, Generic, TypeVar

import anyio

from schemas.catalogue import STREAMS
from schemas.codec import Encoded, Envelope, UnreadableError, decode, encode
from schemas.control import CommandRecorded
from schemas.operations import DeadLetter, GapDetected, GroupRecreated, LogTruncated, OwnerReplaced
from shared.control import ControlError, ControlReader, State
from shared.control.fence import last_move, restored
from shared.control.stamps import Stamp, TruncatedError, holds, newest_stamp, stamp_of
from shared.control.stream import CONTROL, alarm_of, marks_of, now_ms, patience, read_control, standing
from shared.log import (
    START,
    Commit,
    Entry,
    HaltedError,
    Log,
    Lost,
    Mark,
    Owner,
    Position,
    StreamKey,
    TruncatedLogError,
    UnavailableError,
)
from shared.log.identity import digest_of
from shared.log.leases import is_open, order
from shared.log.written import Written
from shared.recovery.fencing import close_fence
from shared.runtime.service import Background, Backpressure, Batch, Recallable, Received, Service
from shared.telemetry.reporting import BatchReport, Telemetry

S = TypeVar("S")

PLACE: Final = itemgetter(0)
BATCH: Final = 1000
BLOCK_MS: Final = 250
PIECE: Final = 16
WORK_S: Final = 0.002
PAUSE_S: Final = 0.004
"""What nobody waits for is handed over so many entries at a time, and after so much work (processor time) there
is a pause, in which the way from bar to decision has the processor. All of it is committed at once."""
RENEW_AFTER_S: Final = 3.0
LOOK_FOR_GAPS_AFTER_S: Final = 5.0
LOOK_AGAIN_S: Final = 1.0
"""After the log turned out to be another: how long until it is looked at again."""
NOTE_AFTER_S: Final = 30.0
"""How often the head of the control log is noted outside it (``shared.control.checkpoint``)."""

NOTE_DIGESTS_AFTER_S: Final = 300.0
"""How often the group's running digests are noted outside the log, if they grew."""


class GapError(RuntimeError):
    """Entries were trimmed before this group had read them; they cannot be handled any more."""


class LostGroupError(RuntimeError):
    """The record of the group is gone, and its state cannot be had again from the streams."""


class Host(Generic[S]):
    """One service on one partition. ``run`` returns after ``stop`` is set, or raises."""

    def __init__(
        self,
        service: Service[S],
        log: Log,
        partition: int,
        owner: Owner,
        *,
        meter: Telemetry | None = None,
        take_over: bool = False,
        ready: Callable[[], None] | None = None,
        noting: Callable[[State], None] | None = None,
        noting_digests: Callable[[State, Mapping[str, Written]], None] | None = None,
        alive: Callable[[], None] | None = None,
        reader: Callable[[], ControlReader] = ControlReader,
        lost: Lost | None = None,
        accepted: Callable[[Stamp], bool] | None = None,
    ) -> None:
        self.service = service
        self.log = log
        self.partition = partition
        self.owner = owner
        self.meter = meter
        self.take_over = take_over
        self.ready = ready
        # Asked once: looking a protocol up takes longer than a small batch.
        self.paced = service if isinstance(service, Backpressure) else None
        self.rest_s = service.rest_ms / 1000 if isinstance(service, Background) else 0.0
        self.places = {stream: StreamKey(stream, partition) for stream in service.reads}
        self.positions: dict[str, Position] = {}
        self.committed: dict[str, Position] = {}
        self.fenced = service.group in STREAMS["intents"].writers
        self.mark = ""
        self.moved_by = ""
        self.careful = 0
        self.reader = reader
        self.control = reader()
        self.lost = lost
        self.accepted = accepted
        self.log_id = ""
        self.void: set[Stamp] = set()
        self.told: set[Lost] = set()
        self.verified = -1
        self.known: tuple[object, tuple[Mark, ...]] = (None, ())
        self.alarmed = 0
        self.patience_until: float | None = None
        self.block_ms = min(service.ticks or BLOCK_MS, BLOCK_MS)
        self.noting = noting
        self.alive = alive
        self.noted_at = time.monotonic()
        self.noting_digests = noting_digests
        self.digests: Mapping[str, Written] = {}
        self.digests_noted_at = time.monotonic()
        self.set_aside: set[tuple[str, str]] = set()
        self.committed_at = time.monotonic()
        self.looked_at = time.monotonic()

    async def run(self, stop: anyio.Event) -> None:
        """Start, catch up, live, drain."""
        await self._claim(take_over=self.take_over)
        try:
            await self._begin([self.lost] if self.lost is not None else [])
            if self.ready is not None:
                self.ready()
            while not stop.is_set():
                try:
                    caught_up = await self._turn()
                except (TruncatedLogError, TruncatedError) as error:
                    await self._claim()
                    await self._begin([error.lost])
                    if isinstance(error, TruncatedError):
                        await self._wait_for(error.stamp, stop)
                        await self._rebuild()
                    continue
                if self.alive is not None:
                    self.alive()
                if caught_up and self.rest_s:
                    with anyio.move_on_after(self.rest_s):
                        await stop.wait()
            await self._settle()
            if self.noting_digests is not None:
                await self._note_digests(await self.log.written(self.claim))
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                await self.log.release(self.claim)

    async def _claim(self, *, take_over: bool = False) -> None:
        self.claim = await self.log.claim(
            self.service.group, self.service.reads, self.partition, self.owner, take_over=take_over
        )

    async def _begin(self, lost: Sequence[Lost]) -> None:
        """Starts; again where the log that is there changed meanwhile."""
        while True:
            try:
                await self._start(lost)
                return
            except TruncatedLogError as error:
                lost = [*lost, error.lost]
            await anyio.sleep(LOOK_AGAIN_S)
            await self._claim()

    async def _start(self, lost: Sequence[Lost] = ()) -> None:
        self.verified = -1
        self.committed = dict(self.claim.positions)
        self.positions = dict(self.committed)
        self.memo, self.since = self.claim.memo, self.claim.since
        await self._note_digests(self.claim.written)
        if lost:
            await self._refuse_another_log()
        self.control = self.reader()  # what was read of it is no ground for what is written from here on
        if self.claim.restored:
            await self._restore()
        lost = [*lost, *await self._take_positions_as_they_are()]
        await self._refuse_gaps()
        if self.claim.former is not None and not lost:
            replaced = OwnerReplaced(self.claim.group, self.claim.former, str(self.owner), self.claim.epoch, now_ms())
            await self._say([encode("alarms", replaced)])
        if lost:
            await self._tell_lost(lost)
        await self._rebuild()
        await self._alarm()

    async def _note_digests(self, written: Mapping[str, Written]) -> None:
        """Notes what the group has written, if that is not the last that was noted. In a thread: a disk may be slow,
        and nothing waits for this."""
        self.digests_noted_at = time.monotonic()
        if self.noting_digests is not None and written != self.digests:
            await anyio.to_thread.run_sync(self.noting_digests, self.control.state, written)
            self.digests = written

    async def _refuse_another_log(self) -> None:
        """A server that was emptied, or holds another installation's log, is no log that lost its tail."""
        self.log_id = self.log_id or self.control.state.log_id
        if not self.log_id:
            return
        reader = ControlReader()
        await read_control(self.log, reader)
        if reader.state.log_id != self.log_id:
            found = reader.state.log_id or "none: its control stream is empty"
            raise ControlError(
                f"the server holds another log than {self.log_id}: {found}. Restore it (`conclave archive restore`), "
                "or give this installation its own server again"
            )

    async def _restore(self) -> None:
        """The state of a group whose record is gone, from what it wrote and read. Committed at once: a start that
        ends before that is again one whose record is gone."""
        group, restored = self.claim.group, self.claim.restored
        if not isinstance(self.service, Recallable):
            stands = ", ".join(f"{stream} at {self.positions[stream].id}" for stream in restored)
            raise LostGroupError(
                f"the record of group {group} in partition {self.partition} is gone; its consumer groups still know "
                f"{stands}, but what it remembered is in no stream. Restore the server from the archive "
                f"(`conclave archive restore`), or let it begin after these entries with an empty memory "
                f"(`conclave recover --forget {group} --partition {self.partition} --reason ...`)"
            )
        memo = b""
        for stream in self.service.recalls:
            place, after = StreamKey(stream, self.partition), START
            while entries := await self.log.scan(place, after=after):
                after = entries[-1].id
                found = [self._open(entry)[0] for entry in entries]
                memo = self.service.recall(memo, [event for event in found if event is not None])
        alarms = [
            encode("alarms", GroupRecreated(group, stream, self.positions[stream].id, now_ms())) for stream in restored
        ]
        self.memo, self.since = memo, dict.fromkeys(restored, START)
        await self._rebuild(self.service.reapply)
        await self._commit(alarms, {}, self.service.snapshot(self.state), self.service.replay_from(self.state))

    async def _take_positions_as_they_are(self) -> list[Lost]:
        """Compares the durable positions with the streams. One whose entry is gone goes back to the newest entry
        before it: what is left up to there was read, and whatever comes after it was not."""
        lost: list[Lost] = []
        for stream, place in self.places.items():
            position = self.positions[stream]
            try:
                await self.log.check([Mark(place, position)])
                continue
            except TruncatedLogError as error:
                lost.append(error.lost)
            later, after = 0, position.id
            while entries := await self.log.scan(place, after=after):
                later, after = later + len(entries), entries[-1].id
            extent = await self.log.extent(place)
            newest = await self.log.tail(place, later + 1)
            stands = Position(START, extent.added - extent.length)
            if len(newest) > later:
                stands = Position(newest[0].id, extent.added - later, digest_of(newest[0].data))
            await self._commit([], {stream: stands}, self.memo, self.since)
        return lost

    async def _tell_lost(self, lost: Sequence[Lost]) -> None:
        """Raises what was lost, once in a life, and stops intents where this is who writes them."""
        for each in lost:
            if each in self.told:
                continue
            event = LogTruncated(
                group=self.claim.group,
                stream=each.place.stream,
                expected=each.expected,
                last=each.last,
                detail=each.detail[:2000],
                at=now_ms(),
            )
            if self.claim.group in STREAMS["intents"].writers:
                await close_fence(self.log, self.partition, self.claim.group, event)
            await self._say([encode("alarms", event)])
            self.told.add(each)

    async def _wait_for(self, stamp: Stamp, stop: anyio.Event) -> None:
        """Until control holds what an event was stamped with, or an operator accepted that it is gone."""
        reader = ControlReader()
        while not stop.is_set():
            try:
                await read_control(self.log, reader)
            except TruncatedLogError:
                reader = ControlReader()
                continue
            if holds(reader.state, stamp):
                return
            if self.accepted is not None and self.accepted(stamp):
                self.void.add(stamp)
                return
            await self.log.renew(self.claim)
            if self.alive is not None:
                self.alive()
            with anyio.move_on_after(LOOK_AGAIN_S):
                await stop.wait()

    async def _rebuild(self, take: Callable[[S, Batch], None] | None = None) -> None:
        """The state as of the last commit, from the memo and from what ``since`` says to read again.

        An event that the core refused before its memo was written is refused here too: it is found
        by reading one at a time, and left out."""
        self.positions = dict(self.committed)
        # Before control is read: see ``restored``.
        mark = await self.log.fence(self.partition) if self.fenced else ""
        size = BATCH
        while (fault := await self._apply(size, take or self.service.apply)) is not None:
            if size == 1:
                self.set_aside.add(fault)
            size = 1
        if self.fenced:
            halted = self.control.state.halted
            self.mark = await restored(self.log, self.partition, mark, self.moved_by, self.service.group, halted=halted)

    async def _apply(self, size: int, take: Callable[[S, Batch], None]) -> tuple[str, str] | None:
        """Begins anew and reads again; the first entry of the slice that the core refused, if any."""
        self.state = self.service.initial(self.memo)
        if self.service.follows_control:
            self.control = self.reader()
            commands = await read_control(self.log, self.control)
            self.moved_by = last_move(envelope.event for envelope in commands)
            self.service.apply(self.state, Batch(commands, ()))
        for stream, since in self.since.items():
            after, until = since, self.positions[stream].id
            while entries := await self.log.scan(self.places[stream], after=after, until=until, count=size):
                after = entries[-1].id
                kept = [entry for entry in entries if (stream, entry.id) not in self.set_aside]
                received, _ = self._decode(kept)
                if self.service.follows_control:
                    # What was stamped with a command that is gone is waited with, or was given up.
                    received = [event for event in received if holds(self.control.state, stamp_of(event))]
                try:
                    take(self.state, Batch((), received))
                except ControlError:
                    raise
                except Exception:
                    return stream, entries[0].id
        return None

    async def _turn(self) -> bool:
        """One batch: read, decode, hand over, commit. Whether it was all there was."""
        held = self.paced.hold(self.state) if self.paced is not None else ()
        after = {self.places[stream]: at.id for stream, at in self.positions.items() if stream not in held}
        if self.service.follows_control:
            after = {CONTROL: self.control.last, **after}
        entries = await self.log.read(after, count=BATCH, block_ms=self.block_ms, ahead=not self.rest_s)
        if self.log.opened != self.verified:
            self.verified = self.log.opened
            await self.log.check(self._marks())
        caught_up = 0 < len(entries) < BATCH and not self.careful
        if self.careful:
            entries = entries[:1]
        if entries or self.service.ticks:
            await self._take(entries)
        if len(self.control.refused) != self.alarmed:
            await self._alarm()
        if not entries:
            await self._settle()
        now = time.monotonic()
        if self.noting is not None and now - self.noted_at > NOTE_AFTER_S:
            self.noting(self.control.state)
            self.noted_at = now
        if self.noting_digests is not None and now - self.digests_noted_at > NOTE_DIGESTS_AFTER_S:
            await self._note_digests(await self.log.written(self.claim))
        if now - self.committed_at > RENEW_AFTER_S:
            await self.log.renew(self.claim)
            self.committed_at = now
        if now - self.looked_at > LOOK_FOR_GAPS_AFTER_S:
            await self._refuse_gaps()
            await self.log.check(self._marks())
        return caught_up and not self.careful

    def _marks(self) -> list[Mark]:
        """What was read, entry by entry."""
        return [*self._known(), *(Mark(place, self.positions[stream]) for stream, place in self.places.items())]

    def _known(self) -> tuple[Mark, ...]:
        """What was read of control: for every commit, so kept until more of it comes."""
        if self.known[0] is not self.control.newest:
            self.known = self.control.newest, marks_of(self.control)
        return self.known[1]

    async def _take(self, entries: Sequence[Entry]) -> None:
        started = time.time_ns()
        control = [entry for entry in entries if entry.place == CONTROL]
        events = [entry for entry in entries if entry.place != CONTROL] if control else entries
        try:
            commands = standing(self.control, control) if control else ()
            received, outputs = self._decode(events)
            if self.void:
                received = self._without_void(events, received, outputs)
            if self.service.follows_control:
                stamp = newest_stamp(received)
                if not holds(self.control.state, stamp):
                    commands = [*commands, *await self._commands_up_to(stamp)]
            if commands and self.fenced:
                # A command may have moved it: better seen now than by a commit that is refused.
                self.mark = await self.log.fence(self.partition)
                if not self.mark:
                    await self._rebuild()
                    return
            halted = self.fenced and not is_open(self.mark)
            worked = time.thread_time() if self.rest_s else 0.0
            for piece in self._pieces(received):
                if self.rest_s and time.thread_time() - worked > WORK_S:
                    rested = time.time_ns()
                    await anyio.sleep(PAUSE_S)
                    started += time.time_ns() - rested
                    worked = time.thread_time()
                outputs += self.service.handle(self.state, Batch(commands, piece, self._now(), halted))
                commands = ()
        except (ControlError, TruncatedLogError, UnavailableError):
            raise
        except Exception as error:
            await self._recover(events, error)
            return
        handled = time.time_ns()
        after = self.positions = self._after(events)
        # What led to nothing yet need not be committed by itself: after a crash it is read again.
        if outputs or self.careful or self._uncommitted() >= BATCH:
            memo, since = self.service.snapshot(self.state), self.service.replay_from(self.state)
            try:
                await self._commit(outputs, after, memo, since, self.mark if self.fenced else None)
            except HaltedError as error:
                await self._decide_again(error)
                return
        if self.careful:
            self.careful = max(self.careful - len(events), 0)
        if self.meter is not None and (events or outputs):
            self._tell(self.meter, events, outputs, started, handled)

    def _pieces(self, received: Sequence[Received]) -> list[Sequence[Received]]:
        """All at once; of a service that nobody waits for, unless it is behind, a few at a time."""
        if not self.rest_s or not PIECE < len(received) < BATCH:
            return [received]
        return [received[at : at + PIECE] for at in range(0, len(received), PIECE)]

    def _tell(
        self, meter: Telemetry, events: Sequence[Entry], outputs: Sequence[Encoded], started: int, handled: int
    ) -> None:
        consumed: dict[str, int] = {}
        oldest: int | None = None
        place = None
        for entry in events:
            if entry.place is not place:  # the first of its stream
                place = entry.place
                written = order(entry.id)[0]
                oldest = written if oldest is None else min(oldest, written)
            consumed[place.stream] = consumed.get(place.stream, 0) + 1
        meter.batch(
            BatchReport(
                consumed=consumed,
                outputs=outputs,
                started_ns=started,
                handled_ns=handled,
                committed_ns=time.time_ns(),
                oldest_ms=oldest,
            )
        )

    def _uncommitted(self) -> int:
        return sum(position.seen - self.committed[stream].seen for stream, position in self.positions.items())

    async def _settle(self) -> None:
        """Commits positions that were reached without anything to write."""
        if self.positions != self.committed:
            await self._commit(
                [], self.positions, self.service.snapshot(self.state), self.service.replay_from(self.state)
            )

    def _decode(self, events: Sequence[Entry]) -> tuple[list[Received], list[Encoded]]:
        """The events in these entries, and a dead letter for each entry that is none."""
        received: list[Received] = []
        refusals: list[Encoded] = []
        for entry in events:
            found, refusal = self._open(entry)
            if found is not None:
                received.append(found)
            elif refusal is not None:
                refusals.append(refusal)
        return received, refusals

    async def _commands_up_to(self, stamp: Stamp) -> Sequence[Envelope[CommandRecorded]]:
        """Commands that events of this batch were stamped with and that have not been read yet. Whoever wrote a
        stamp had read them, so they are on the log; where they are not, the log lost its tail.

        Raises ``TruncatedError`` where the log does not hold what the stamp names."""
        version, head = stamp
        commands = await read_control(self.log, self.control) if version > self.control.state.version else ()
        state = self.control.state
        if not holds(state, stamp):
            known = state.past[version].head[:12] if version <= state.version else f"its end at {state.version}"
            raise TruncatedError(
                f"an event was written under version {version} {(head or '')[:12]} of control, which has {known}",
                stamp,
                self.control.last,
            )
        return commands

    def _after(self, events: Sequence[Entry]) -> dict[str, Position]:
        """Where the group stands after these entries."""
        after = dict(self.positions)
        # Entries of one stream stand together: one position a run of them, not one an entry.
        for place, run in groupby(events, key=PLACE):
            entries = list(run)
            last = entries[-1]
            after[place.stream] = Position(last.id, after[place.stream].seen + len(entries), digest_of(last.data))
        return after

    def _without_void(
        self, events: Sequence[Entry], received: Sequence[Received], outputs: list[Encoded]
    ) -> list[Received]:
        """The events without those that were stamped with a command whose loss was accepted: nobody knows the
        configuration they are to be handled under."""
        kept, entries = list[Received](), {(entry.place.stream, entry.id): entry for entry in events}
        for event in received:
            stamp = stamp_of(event)
            if stamp in self.void and not holds(self.control.state, stamp):
                detail = f"stamped with version {stamp[0]} {(stamp[1] or '')[:12]} of control, whose loss was accepted"
                outputs.append(self._dead(entries[event.stream, event.entry], "handler_failed", detail))
            else:
                kept.append(event)
        return kept

    def _now(self) -> int | None:
        return now_ms() if self.service.ticks else None

    def _open(self, entry: Entry) -> tuple[Received | None, Encoded | None]:
        stream = entry.place.stream
        try:
            return Received(stream, entry.id, decode(stream, entry.data)), None
        except UnreadableError as error:
            return None, self._dead(entry, "unreadable", str(error))

    def _dead(self, entry: Entry, reason: Any, detail: str) -> Encoded:
        source = f"{entry.place.key}@{entry.id}"
        letter = DeadLetter(self.service.group, source, reason, detail[:2000], entry.data.hex()[:2000])
        return encode("dead", letter)

    async def _recover(self, events: Sequence[Entry], error: Exception) -> None:
        """The core raised. Its state cannot be trusted: rebuild it, and read again from the last commit,
        one event at a time until this point is passed. An event that raises by itself is set aside.
        Where there is no event, the core is at fault (a tick, a control entry): the process stops."""
        behind = self._uncommitted() + len(events)
        if not events and not behind:
            raise error
        alone = self.careful > 0 and len(events) == 1
        await self._rebuild()
        self.careful = self.careful - 1 if alone else behind
        if alone:
            [entry] = events
            stream = entry.place.stream
            self.set_aside.add((stream, entry.id))
            letter = self._dead(entry, "handler_failed", f"{type(error).__name__}: {error}")
            position = Position(entry.id, self.positions[stream].seen + 1, digest_of(entry.data))
            after = {**self.positions, stream: position}
            await self._say([letter], after)

    async def _say(self, outputs: Sequence[Encoded], after: Mapping[str, Position] | None = None) -> None:
        """Commits what came of no batch: an alarm, a dead letter. It counts as any output does."""
        now = time.time_ns()
        await self._commit(outputs, after or {}, self.memo, self.since)
        if self.meter is not None:
            self._tell(self.meter, (), outputs, now, now)

    async def _decide_again(self, error: HaltedError) -> None:
        """The fence was moved since the batch was handed over: reads it again from the last commit, under the mark
        that is there now. A core that writes intents under a mark that is not open is at fault, and stopped."""
        if error.mark == self.mark:
            raise error
        await self._rebuild()

    async def _commit(
        self,
        outputs: Sequence[Encoded],
        after: Mapping[str, Position],
        memo: bytes,
        since: Mapping[str, str],
        fence: str | None = None,
    ) -> None:
        before = {stream: self.committed[stream] for stream in after}
        commit = Commit(outputs, before, after, memo, since, fence, self._known())
        committed = await self.log.commit(self.claim, commit)
        self.committed_at = time.monotonic()
        self.committed.update(after)
        self.positions.update(after)
        self.memo, self.since = memo, since
        if committed.recreated:
            alarms = [
                encode("alarms", GroupRecreated(self.claim.group, stream, self.positions[stream].id, now_ms()))
                for stream in committed.recreated
            ]
            await self._say(alarms)

    async def _alarm(self) -> None:
        """Raises what was written past the door of the control stream, unless this partition's alarms
        have it. Whoever writes intents does so at once, others after a while of their own, if need be:
        two that look at the same moment may both write it, under one id."""
        if len(self.control.refused) == self.alarmed:
            return
        if self.patience_until is None:
            self.patience_until = time.monotonic() + patience(self.service.group)
        if time.monotonic() < self.patience_until:
            return
        raised: set[bytes] = set()
        place, after = StreamKey("alarms", self.partition), START
        while entries := await self.log.scan(place, after=after):
            raised |= {decode("alarms", entry.data).id for entry in entries}
            after = entries[-1].id
        alarms = [alarm_of(refused) for refused in self.control.refused]
        missing = [alarm for alarm in alarms if alarm.envelope.id not in raised]
        if missing:
            await self._say(missing)
        self.alarmed = len(alarms)
        self.patience_until = None

    async def _refuse_gaps(self) -> None:
        """Entries that were trimmed before the group had read them are gone: say so, and stop."""
        self.looked_at = time.monotonic()
        for stream, place in self.places.items():
            extent = await self.log.extent(place)
            position = self.positions[stream]
            trimmed = extent.added - extent.length
            if position.id == START and position.seen < trimmed:
                # Nothing was ever read here: the group is new, and begins with the oldest that is left.
                await self._commit([], {stream: Position(START, trimmed)}, self.memo, self.since)
            if position.id == START or position.seen >= trimmed:
                continue
            lost = trimmed - position.seen
            gap = GapDetected(self.claim.group, stream, position.id, extent.first, now_ms())
            await self._say([encode("alarms", gap)])
            raise GapError(
                f"{self.claim.group}: {lost} entries of {place.key} were trimmed before they were read "
                f"(committed {position.id}, oldest left {extent.first}); restore them from the archive, "
                f"or accept the loss with `conclave groups skip {self.claim.group} {stream}`"
            )
