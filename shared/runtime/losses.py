"""What a host does about entries that are gone.

Trimmed before they were read (``refuse_gaps``)
    The service cannot go on: it writes ``GapDetected`` and stops with ``GapError``.
The log is not the one that was read (``TruncatedLogError``, ``TruncatedError``)
    Its tail was lost, or entries were replaced. The host finds out when it opened a connection, before each commit over
    a new one, and every few seconds. It writes nothing on top: it claims the group again, goes back to the newest entry
    that is still there (``go_back``), rebuilds its state, and writes ``LogTruncated`` (``announce``). What it had
    written since is written again, with the same event ids.
Commands are gone from the stream control
    Only a person can tell whether they still hold. A host that writes intents closes the fence of its partition
    (``announce``), and goes on deciding under the configuration that is left. The records of the machine show the loss
    also of a command that no service had read (``missing_commands``).
An event was stamped with a command that is gone
    The host waits until the command is restored, or an operator accepted the loss (``wait_for``). In the latter case
    the event becomes a dead letter (``without_accepted``).
The server holds the log of another installation, or none
    The service stops with ``ControlError`` (``refuse_another_log``).
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

import anyio

from schemas.catalogue import STREAMS
from schemas.codec import Encoded, encode
from schemas.operations import GapDetected, LogTruncated
from shared.control import ControlError, ControlReader, State
from shared.control.issuing import current
from shared.control.stamps import Stamp, holds, stamp_of
from shared.control.stream import CONTROL, read_control
from shared.log import START, Entry, Log, Lost, Position, ReadMark, StreamKey, TruncatedLogError
from shared.log.identity import digest_of
from shared.log.leases import id_order
from shared.recovery.fencing import close_fence
from shared.runtime.commits import Commits
from shared.runtime.entries import dead_letter
from shared.runtime.service import Received

LOOK_AGAIN_S: Final = 1.0
"""How long to wait before a log that turned out to be another one is read again."""


class GapError(RuntimeError):
    """Entries were trimmed before this group had read them; they cannot be handled any more."""


class Losses:
    """The entries of one group that are gone. ``accepted``: whether an operator accepted the loss of a command.
    ``noted``: what the records of this machine have of control that the log does not (``ControlRecord.lost``).
    ``looked_at``: when gaps were last looked for (s, monotonic clock). ``newest_ms``: the time in the newest entry id
    that the streams had then."""

    def __init__(
        self,
        commits: Commits,
        accepted: Callable[[Stamp], bool] | None,
        noted: Callable[[State], Lost | None] | None = None,
    ) -> None:
        self.looked_at = time.monotonic()
        self.newest_ms = 0
        self._commits = commits
        self._log = commits.log
        self._accepted = accepted
        self._noted = noted
        self._accepted_stamps: set[Stamp] = set()
        self._announced: set[Lost] = set()
        self._log_id = ""

    async def refuse_gaps(self) -> None:
        """Raise ``GapError`` if entries were trimmed before the group read them, and write ``GapDetected``. A new group
        begins with the oldest entry that is left."""
        self.looked_at = time.monotonic()
        commits = self._commits
        for stream, key in commits.keys.items():
            extent = await self._log.extent(key)
            self.newest_ms = max(self.newest_ms, id_order(extent.last)[0])
            position = commits.positions[stream]
            trimmed = extent.added - extent.length
            if position.id == START and position.seen < trimmed:
                await commits.commit([], {stream: Position(START, trimmed)}, commits.snapshot, commits.replay_from)
            if position.id == START or position.seen >= trimmed:
                continue
            gap = GapDetected(
                group=commits.group,
                stream=stream,
                committed=position.id,
                oldest=extent.first,
                at=commits.clock.now_ms(),
            )
            await commits.append([encode("alarms", gap)])
            raise GapError(
                f"{commits.group}: {trimmed - position.seen} entries of {key.key} were trimmed before they were read "
                f"(committed {position.id}, oldest left {extent.first}); restore them from the archive, "
                f"or accept the loss with `conclave groups skip {commits.group} {stream}`"
            )

    async def refuse_another_log(self) -> None:
        """Raise ``ControlError`` if the server holds another installation's log, or none (``another_log``)."""
        self._log_id = self._log_id or self._commits.control.state.log_id
        await refuse_another_log(self._log, self._log_id)

    async def lost_commands(self, lost: Sequence[Lost]) -> list[Lost]:
        """Return what control lost, if that is not in ``lost``: a group that is back at an earlier commit does not show
        it. What this service had read is compared first."""
        if any(each.place == CONTROL for each in lost):
            return []
        try:
            await self._log.check(self._commits.control.marks)
        except TruncatedLogError as error:
            return [error.lost]
        return await self.missing_commands()

    async def missing_commands(self) -> list[Lost]:
        """Return what the records of this machine have of control that the log does not, unless there is an alarm for
        it already. What this service read of control must be in the log.

        A command is recorded after it was appended. So a log that is read after the records has all of them, unless it
        lost them. It is read only if this service does not have all of them either."""
        if self._noted is None or self._noted(self._commits.control.state) is None:
            return []
        lost = self._noted(await current(self._log))
        known = {each.expected for each in self._announced if each.place == CONTROL}
        return [lost] if lost is not None and lost.expected not in known else []

    async def go_back(self) -> list[Lost]:
        """Compare the committed positions with the streams, and return what is lost. A position whose entry is gone
        moves to the newest entry that was read and is left: what follows it was not read."""
        lost: list[Lost] = []
        commits = self._commits
        for stream, key in commits.keys.items():
            position = commits.positions[stream]
            try:
                await self._log.check([ReadMark(key, position)])
                continue
            except TruncatedLogError as error:
                lost.append(error.lost)
            later, after = 0, position.id
            while entries := await self._log.scan(key, after=after):
                later, after = later + len(entries), entries[-1].id
            extent = await self._log.extent(key)
            newest = await self._log.tail(key, later + 1)
            left = Position(START, extent.added - extent.length)
            if len(newest) > later:
                left = Position(newest[0].id, extent.added - later, digest_of(newest[0].data))
            await commits.commit([], {stream: left}, commits.snapshot, commits.replay_from)
        return lost

    async def announce(self, lost: Sequence[Lost]) -> None:
        """Write ``LogTruncated`` for each loss, once. If commands are lost and the group writes intents, close the
        fence of its partition first."""
        for each in _merged(lost):
            if each in self._announced:
                continue
            event = truncation(self._commits.group, each, self._commits.clock.now_ms())
            if each.place == CONTROL and self._commits.group in STREAMS["intents"].writers:
                await close_fence(self._log, self._commits.partition, self._commits.group, event)
            await self._commits.append([encode("alarms", event)])
            self._announced.add(each)

    def end_start(self) -> None:
        """Note that a start is over. A loss that is found later is another one, even if it looks the same."""
        self._announced = {each for each in self._announced if each.place == CONTROL}

    async def wait_for(self, stamp: Stamp, stop: anyio.Event, alive: Callable[[], None]) -> None:
        """Wait until the control log holds ``stamp``, or an operator accepted that it is lost."""
        reader = ControlReader()
        while not stop.is_set():
            try:
                await read_control(self._log, reader)
            except TruncatedLogError:
                reader = ControlReader()
                continue
            if holds(reader.state, stamp):
                return
            if self._accepted is not None and self._accepted(stamp):
                self._accepted_stamps.add(stamp)
                return
            await self._log.renew(self._commits.claim)
            alive()
            with anyio.move_on_after(LOOK_AGAIN_S):
                await stop.wait()

    def without_accepted(
        self, entries: Sequence[Entry], events: list[Received]
    ) -> tuple[list[Received], list[Encoded]]:
        """Return the events without those that were stamped with a command whose loss was accepted, and a dead letter
        for each of these: nothing can tell the configuration under which to handle it."""
        if not self._accepted_stamps:
            return events, []
        kept: list[Received] = []
        letters: list[Encoded] = []
        by_id: dict[tuple[str, str], Entry] = {(entry.place.stream, entry.id): entry for entry in entries}
        for event in events:
            stamp = stamp_of(event)
            if stamp in self._accepted_stamps and not holds(self._commits.control.state, stamp):
                detail = f"stamped with version {stamp[0]} {(stamp[1] or '')[:12]} of control, whose loss was accepted"
                entry = by_id[event.stream, event.entry]
                letters.append(dead_letter(self._commits.group, entry, "handler_failed", detail))
            else:
                kept.append(event)
        return kept, letters


def _merged(lost: Sequence[Lost]) -> list[Lost]:
    """Return one loss for each stream of a partition: the first, with the details of all."""
    first = dict[StreamKey | Lost, Lost]()
    for each in lost:
        key = each if each.place == CONTROL else each.place
        known = first.setdefault(key, each)
        if each.detail not in known.detail:
            first[key] = known._replace(detail=f"{known.detail}; {each.detail}")
    return list(first.values())


def truncation(group: str, lost: Lost, at: int) -> LogTruncated:
    """Return the alarm of a group for a loss. ``at``: milliseconds, by the server's clock."""
    return LogTruncated(
        group=group,
        stream=lost.place.stream,
        expected=lost.expected,
        last=lost.last,
        detail=lost.detail[:2000],
        at=at,
    )


async def refuse_another_log(log: Log, log_id: str) -> None:
    """Raise ``ControlError`` if the server does not hold the log of the installation ``log_id``: such a log did not
    lose its tail. Nothing is compared if ``log_id`` is ''."""
    if log_id and (there := (await current(log)).log_id) != log_id:
        raise ControlError(
            f"the server holds another log than {log_id}: {there or 'none: its control stream is empty'}. Restore it "
            "(`conclave archive restore`), or give this installation its own server again"
        )
