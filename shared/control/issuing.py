"""The door of the control stream: read, decide, sign, append only if nobody else did meanwhile.

    state = await current(log)
    issued = await issue(log, Halt(), actor="ada", reason="exchange outage")

An entry's id follows the last id on the stream (in a log that nobody wrote to past this door: the id is
the version), so of two racing operators one wins, and the other decides again on what the first one
made. Whoever issues many commands keeps a ``ControlWriter``, which reads the stream once.

A halt is more than its entry: it closes the fence of every partition before it is appended, a resume opens
them after (``shared.control.fence``). No commit with an intent is applied once a halt was accepted.
"""

import secrets
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from schemas.codec import UnreadableError, decode, encode
from schemas.control import Command, CommandRecorded, Halt, Resume
from shared.control import (
    ControlReader,
    RefusedEntry,
    Repeated,
    State,
    fold,
    following,
    head_of,
    may,
    propose,
)
from shared.control.fence import FenceError, Move, Order, last_move, repair
from shared.control.signing import Signer
from shared.control.stream import CONTROL, marks_of, now_ms, read_control
from shared.log import Log, TruncatedLogError

RACES: Final = 20
"""How often a lost race is run again before giving up."""


class RefusedError(ValueError):
    """A command that may not stand. The message says why, and the way out."""


class Issued(NamedTuple):
    """A command that stands: the version it made, and the configuration from there on. ``repeated``
    where it had been issued before, or a halt or resume was in force already, and nothing was appended.
    ``repaired``: partitions whose fence was not as it should be then, and was set."""

    version: int
    state: State
    repeated: bool = False
    repaired: tuple[int, ...] = ()


Missing = Callable[[State], str | None]
"""What of the control log is known to be missing, in words; None where nothing is (``shared.recovery``)."""


class ControlWriter:
    """The control stream as one operator sees it. Reads it from the beginning once, then what is new. ``missing``
    is asked before anything but a halt is appended: what was lost can be brought back only to a log that ends where
    it was cut."""

    def __init__(self, log: Log, signer: Signer | None = None, missing: Missing | None = None) -> None:
        self.log = log
        self.signer = signer
        self.reader = ControlReader()
        self._missing = missing

    async def state(self) -> State:
        """The configuration now. Raises ``ControlError`` if the log cannot be trusted, ``TruncatedLogError`` if it is
        not the one that was read; the next call begins with what is there."""
        try:
            await read_control(self.log, self.reader)
        except TruncatedLogError:
            self.reader = ControlReader()
            raise
        return self.reader.state

    def missing(self) -> str | None:
        """Why nothing but a halt may be appended to the log as it was read last; None where it may."""
        return self._missing(self.reader.state) if self._missing is not None else None

    async def issue(
        self,
        command: Command,
        *,
        actor: str,
        reason: str,
        command_id: str | None = None,
        expects: int | None = None,
        dry_run: bool = False,
    ) -> Issued:
        """See ``issue``."""
        chosen = command_id or secrets.token_hex(8)
        state = await self.state()
        if not isinstance(command, Halt) and (gone := self.missing()) is not None:
            raise RefusedError(gone)
        fences = Move(self.log, command, Order(chosen, actor, reason), state.partitions)
        known = state.version if expects is None else min(expects, state.version)
        for _ in range(RACES):
            answer = propose(
                state,
                command,
                command_id=chosen,
                actor=actor,
                reason=reason,
                at=now_ms(),
                expects=expects,
                signer=self._signer(state),
            )
            if isinstance(answer, Repeated):
                await self._refuse_another(answer.version, command, chosen)
            if not isinstance(answer, CommandRecorded):
                in_force = not dry_run and expects in (None, state.version) and self._in_force(state, command)
                repaired = await self._repaired(state, actor, reason) if in_force else ()
                if isinstance(answer, Repeated) or repaired:
                    version = answer.version if isinstance(answer, Repeated) else state.version
                    return Issued(version, state, repeated=True, repaired=repaired)
                closed = await fences.withdraw() if not state.halted else ()
                raise RefusedError(answer.reason + _meanwhile(await self._since(known)) + _left(closed))
            if dry_run:
                return Issued(answer.version, fold(state, answer))
            await fences.before()
            if await self._append(answer):
                await fences.after(f"{_tag(command)} is version {answer.version}")
                return Issued(answer.version, await self._at(answer))
            before, state = self.reader.last, await self.state()
            if self.reader.last == before:
                raise RefusedError(
                    f"the stream takes no entry {self._next()}, yet none is there behind {before}: entries were "
                    "deleted at its end, or its last id was set; compare it with a checkpoint, and restore it"
                    + fences.kept
                )
        raise RefusedError(
            f"{RACES} other commands came first, one after another; look at who is writing, then try again"
            + fences.kept
        )

    def _in_force(self, state: State, command: Command) -> bool:
        """Whether a halt or resume changes nothing, and whoever issues it may issue it."""
        if not isinstance(command, Halt | Resume) or state.halted != isinstance(command, Halt):
            return False
        signer = self._signer(state)
        key = state.keys.get(signer.key_id) if signer is not None else None
        trusted = key is not None and signer is not None and key.public_key == signer.public_key
        return state.open or (trusted and key is not None and may(key, type(command)))

    async def _repaired(self, state: State, actor: str, reason: str) -> tuple[int, ...]:
        """The partitions whose fence did not say what ``control`` says, as after a crash between the two steps of a
        command, and was set under the command in force. Raises ``FenceError``."""
        order = Order(last_move(await self._since(0)), actor, reason)
        found = await repair(self.log, state.partitions, order, halted=state.halted)
        if found.faults:
            where = "; ".join(f"partition {partition}: {fault}" for partition, fault in sorted(found.faults.items()))
            raise FenceError(f"fences were not reached, and count as closed. {where}. Issue the command again")
        return tuple(found.marks)

    async def _append(self, entry: CommandRecorded) -> bool:
        """Whether it was the next. Raises ``TruncatedLogError`` where the log that it follows is not there."""
        try:
            return await self.log.append_at(
                CONTROL, self._next(), encode("control", entry).data, marks=marks_of(self.reader)
            )
        except TruncatedLogError:
            self.reader = ControlReader()
            raise

    def _signer(self, state: State) -> Signer | None:
        """The signer under the id by which its key is trusted, whatever its file is called: so the key of a
        service can be replaced, though no id comes back."""
        if self.signer is None or state.open:
            return self.signer
        known = (key_id for key_id, key in state.keys.items() if key.public_key == self.signer.public_key)
        return self.signer._replace(key_id=next(known, self.signer.key_id))

    async def _at(self, entry: CommandRecorded) -> State:
        """The configuration that an appended entry made. Others may have gone on from there."""
        before, after = self.reader.state, await self.state()
        return after if after.version == entry.version else fold(before, entry)

    def _next(self) -> str:
        found = following(self.reader.last)
        if found is None:
            raise RefusedError(
                f"entry {self.reader.last} has the greatest id there is, so nothing can follow; it was written past "
                "this door: delete it (XDEL), and restore the stream under its own ids (XSETID)"
            )
        return found

    async def _since(self, version: int) -> Sequence[CommandRecorded]:
        """The entries behind ``version``, found from the end; each is the one that was folded."""
        state = self.reader.state
        count = state.version - version
        if count <= 0:
            return ()
        found = {}
        for entry in await self.log.tail(CONTROL, count + len(self.reader.refused)):
            try:
                recorded = decode("control", entry.data).event
            except UnreadableError:
                continue
            if version < recorded.version <= state.version and head_of(recorded) == state.past[recorded.version].head:
                found[recorded.version] = recorded
        return [found[each] for each in sorted(found)]

    async def _refuse_another(self, version: int, command: Command, command_id: str) -> None:
        """The same id for another command is a mistake, not a retry."""
        stands = (await self._since(version - 1))[0].command
        if stands != command:
            raise RefusedError(
                f"command id {command_id!r} stands at version {version} for {_tag(stands)}, not for this "
                f"{_tag(command)}; another command needs another id"
            )


async def issue(
    log: Log,
    command: Command,
    *,
    actor: str,
    reason: str,
    command_id: str | None = None,
    expects: int | None = None,
    dry_run: bool = False,
    signer: Signer | None = None,
) -> Issued:
    """Appends ``command`` as the next version. ``command_id`` makes a retry harmless; ``expects``
    refuses unless the configuration is at that very version; ``dry_run`` decides without appending;
    ``signer`` signs wherever keys count.

    Raises ``RefusedError``, which names what came in between, ``ControlError``, ``TruncatedLogError``,
    ``UnavailableError``, and ``FenceError`` where the command stands, and the fence of a partition could not be set."""
    door = ControlWriter(log, signer)
    return await door.issue(
        command, actor=actor, reason=reason, command_id=command_id, expects=expects, dry_run=dry_run
    )


async def current(log: Log, version: int | None = None) -> State:
    """The configuration now, or as of ``version``. Raises ``ControlError`` if the log cannot be trusted."""
    reader = ControlReader()
    while entries := await log.scan(CONTROL, after=reader.last):
        for entry in entries:
            if version is not None and reader.state.version >= version:
                return reader.state
            reader.take(entry.id, entry.data)
    return reader.state


async def history(log: Log) -> list[CommandRecorded]:
    """Every entry that stands, oldest first; each was checked against the chain."""
    return [envelope.event for envelope in await read_control(log, ControlReader())]


async def refused(log: Log) -> list[RefusedEntry]:
    """What was written to the control stream past the door, and does not count."""
    reader = ControlReader()
    await read_control(log, reader)
    return reader.refused


def _meanwhile(entries: Sequence[CommandRecorded]) -> str:
    """What came in between, for whoever lost a race or expected another version."""
    if not entries:
        return ""
    said = [f"{entry.version} {_tag(entry.command)} by {entry.actor} ({entry.reason})" for entry in entries[-5:]]
    more = f"{len(entries) - 5} more, then " if len(entries) > 5 else ""
    return f". Meanwhile: {more}{'; '.join(said)}"


def _left(closed: Sequence[int]) -> str:
    """What a refused halt has left behind where it could not open a fence again."""
    if not closed:
        return ""
    return f". The fences of partitions {closed} stay closed: `conclave resume` opens them"


def _tag(command: Command) -> str:
    return str(type(command).__struct_config__.tag)
