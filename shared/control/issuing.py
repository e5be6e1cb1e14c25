"""Write commands to the control stream: read it, decide, sign, and append unless another entry came first.

    state = await current(log)
    issued = await issue(log, Halt(), actor="ada", reason="exchange outage")

The id of an entry follows the last id on the stream; if every entry was written by a ``ControlWriter``, the id is the
version. Of two operators who issue a command at once, one appends it, and the other decides again on the configuration
that the first one made. Keep one ``ControlWriter`` for many commands: it reads the stream once.

A halt also closes the fence of every partition, before it is appended; a resume opens the fences, after it is appended
(``shared.control.fence``). No commit with an intent is applied once a halt was accepted. A halt or resume that is in
force already sets the fences that do not match it; before it opens one that no recorded command closed, it waits for
the halt that may be on its way to ``control``.
"""

import secrets
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import anyio

from schemas.codec import encode
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
from shared.control.fence import Authority, FenceError, Move, each, last_move, repair
from shared.control.signing import Signer
from shared.control.stream import CONTROL, marks_of, read_control
from shared.log import CLOSED, Log, TruncatedLogError, UnavailableError
from shared.log.events import events_of, reported_elsewhere

UNDER_WAY_S: Final = 3.0
"""How long a halt may take from the first fence that it closes to its entry on ``control``."""
RACES: Final = 20
"""How often a command is decided again because another one was appended first."""


class RefusedError(ValueError):
    """A command was refused. The message says why, and what to do."""


class Issued(NamedTuple):
    """An accepted command: the version it made, and the configuration at that version or a later one.

    ``repeated``: nothing was appended, because the command was recorded before, or its halt or resume was in force
    already. ``repaired``: the partitions whose fence did not match that halt or resume, and was set."""

    version: int
    state: State
    repeated: bool = False
    repaired: tuple[int, ...] = ()


Missing = Callable[[State], str | None]
"""Return, in words, which entries of the control log are known to be missing; None if none (``shared.recovery``)."""


class ControlWriter:
    """Issue commands for one operator. It reads the stream from its beginning once, then only new entries.

    ``missing`` is called before any command but a halt is appended: lost entries can be restored only to a log that
    still ends where it was cut."""

    def __init__(self, log: Log, signer: Signer | None = None, missing: Missing | None = None) -> None:
        self.log = log
        self.signer = signer
        self.reader = ControlReader()
        self._missing = missing

    async def state(self) -> State:
        """Return the configuration now. Raises ``ControlError`` if the log cannot be trusted, and ``TruncatedLogError``
        if it is not the one that was read before; the next call then reads the log from its beginning."""
        try:
            await read_control(self.log, self.reader)
        except TruncatedLogError:
            self.reader = ControlReader()
            raise
        return self.reader.state

    def missing(self) -> str | None:
        """Return why only a halt can be appended to the log as it was last read; None if every command can."""
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
        if not isinstance(command, Halt) and (missing := self.missing()) is not None:
            raise RefusedError(missing)
        fences = Move(self.log, command, Authority(chosen, actor, reason), state.partitions)
        known = state.version if expects is None else min(expects, state.version)
        for _ in range(RACES):
            answer = propose(
                state,
                command,
                command_id=chosen,
                actor=actor,
                reason=reason,
                at=await self.log.time(),
                expects=expects,
                signer=self._signer(state),
            )
            if isinstance(answer, Repeated):
                await self.refuse_another(answer.version, command, chosen)
            if not isinstance(answer, CommandRecorded):
                trusted = not dry_run and expects in (None, state.version) and self._may(state, command)
                repaired = await self.repair_fences(state, command, actor, reason) if trusted else ()
                if isinstance(answer, Repeated) or repaired:
                    version = answer.version if isinstance(answer, Repeated) else state.version
                    return Issued(version, state, repeated=True, repaired=repaired)
                closed = await fences.withdraw() if not state.halted else ()
                raise RefusedError(answer.reason + meanwhile(await self.since(known)) + _left(closed))
            if dry_run:
                return Issued(answer.version, fold(state, answer))
            issued = await self.write(answer, fences)
            if issued is not None:
                return issued
            state = self.reader.state
        raise RefusedError(
            f"{RACES} other commands were appended first; see who issues them (`conclave history`), then try again"
            + fences.kept
        )

    async def write(self, entry: CommandRecorded, fences: Move) -> Issued | None:
        """Append an entry that follows the configuration as it was read, and move the fences. Return None if another
        entry was appended first; the configuration with it is then read. The entry must be one that counts
        (``propose``)."""
        tag = _tag(entry.command)
        await fences.before()
        try:
            appended = await self._append(entry)
        except UnavailableError as error:
            raise UnavailableError(
                f"{tag}: the server did not confirm that it is recorded. {error}{fences.kept}. Issue it "
                f"again with --command-id {entry.command_id}, which records it once"
            ) from None
        if appended:
            await fences.after(f"{tag} is version {entry.version}")
            return Issued(entry.version, await self._at(entry))
        before = self.reader.last
        await self.state()
        if self.reader.last == before:
            raise RefusedError(
                f"the stream takes no entry {self._next()}, yet it has no entry after {before}: entries at its end "
                "were deleted, or its last id was set; compare it with a checkpoint, and restore it" + fences.kept
            )
        return None

    def _may(self, state: State, command: Command) -> bool:
        """Return whether the signer can issue this kind of command."""
        signer = self._signer(state)
        key = state.keys.get(signer.key_id) if signer is not None else None
        trusted = key is not None and signer is not None and key.public_key == signer.public_key
        return state.open or (trusted and key is not None and may(key, type(command)))

    async def repair_fences(self, state: State, command: Command, actor: str, reason: str) -> tuple[int, ...]:
        """Set the fences that do not match a halt or resume that is in force already, as after a crash between the two
        steps of a command, and return their partitions; none for any other command. Raises ``FenceError``."""
        if not isinstance(command, Halt | Resume) or state.halted != isinstance(command, Halt):
            return ()
        authority = Authority(last_move(await self.since(0)), actor, reason)
        if not state.halted and await self._halt_under_way(state):
            await anyio.sleep(UNDER_WAY_S)
            if (await self.state()).halted:
                return ()
        reached = await repair(self.log, state.partitions, authority, halted=state.halted)
        if reached.faults:
            where = "; ".join(f"partition {partition}: {fault}" for partition, fault in sorted(reached.faults.items()))
            raise FenceError(f"fences were not reached, and count as closed. {where}. Issue the command again")
        return tuple(reached.marks)

    async def _halt_under_way(self, state: State) -> bool:
        """Return whether a fence was closed by a command that is not recorded: a halt closes fences before it is
        appended. To open them now would let intents through until it closes them again."""
        reached = await each(range(state.partitions), self.log.fence)
        closed = [mark.removeprefix(CLOSED) for mark in reached.marks.values() if mark.startswith(CLOSED)]
        return any(state.past.version_of(command) is None for command in closed)

    async def _append(self, entry: CommandRecorded) -> bool:
        """Append an entry, and return whether it was the next one. Raises ``TruncatedLogError`` if the entries that it
        follows are not there."""
        try:
            return await self.log.append_at(
                CONTROL, self._next(), encode("control", entry).data, marks=marks_of(self.reader)
            )
        except TruncatedLogError:
            self.reader = ControlReader()
            raise

    def _signer(self, state: State) -> Signer | None:
        """Return the signer with the id under which its key is trusted, whatever its file is called. So the key file of
        a service can be replaced under the same name, although an id can be trusted only once."""
        if self.signer is None or state.open:
            return self.signer
        known = (key_id for key_id, key in state.keys.items() if key.public_key == self.signer.public_key)
        return self.signer._replace(key_id=next(known, self.signer.key_id))

    async def _at(self, entry: CommandRecorded) -> State:
        """Return the configuration that an appended entry made, even if others have appended entries since."""
        before, after = self.reader.state, await self.state()
        return after if after.version == entry.version else fold(before, entry)

    def _next(self) -> str:
        entry = following(self.reader.last)
        if entry is None:
            raise RefusedError(
                f"entry {self.reader.last} has the greatest id there is, so no entry can follow; it was not written by "
                "a control writer: delete it (XDEL), and restore the stream's last id (XSETID)"
            )
        return entry

    async def since(self, version: int) -> Sequence[CommandRecorded]:
        """Return the folded entries after ``version``, oldest first; the stream is read from its end."""
        state = self.reader.state
        count = state.version - version
        if count <= 0:
            return ()
        entries = {}
        newest = await self.log.tail(CONTROL, count + len(self.reader.refused))
        for _, envelope in events_of(newest, reported_elsewhere):
            recorded = envelope.event
            if version < recorded.version <= state.version and head_of(recorded) == state.past[recorded.version].head:
                entries[recorded.version] = recorded
        return [entries[each] for each in sorted(entries)]

    async def refuse_another(self, version: int, command: Command, command_id: str) -> None:
        """Raise ``RefusedError`` if another command was recorded with this id: that is a mistake, not a retry."""
        recorded = (await self.since(version - 1))[0].command
        if recorded != command:
            raise RefusedError(
                f"command id {command_id!r} stands at version {version} for {_tag(recorded)}, not for this "
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
    """Append ``command`` as the next version.

    ``command_id`` makes a retry harmless: a command with the same id is appended once. ``expects``: the command is
    refused unless the configuration is at this version. ``dry_run`` decides without appending. ``signer`` signs the
    entry once a key is trusted.

    Raises ``RefusedError``, which names the commands that were appended meanwhile; ``ControlError``,
    ``TruncatedLogError``, ``UnavailableError``; ``FenceError`` if the command was appended, but the fence of a
    partition could not be set."""
    writer = ControlWriter(log, signer)
    return await writer.issue(
        command, actor=actor, reason=reason, command_id=command_id, expects=expects, dry_run=dry_run
    )


async def current(log: Log, version: int | None = None) -> State:
    """Return the configuration now, or at ``version``. Raises ``ControlError`` if the log cannot be trusted."""
    reader = ControlReader()
    while entries := await log.scan(CONTROL, after=reader.last):
        for entry in entries:
            if version is not None and reader.state.version >= version:
                return reader.state
            reader.take(entry.id, entry.data)
    return reader.state


async def history(log: Log) -> list[CommandRecorded]:
    """Return every entry that counts, oldest first, each checked against the chain."""
    return [envelope.event for envelope in await read_control(log, ControlReader())]


async def refused(log: Log) -> list[RefusedEntry]:
    """Return the entries of the control stream that do not count."""
    reader = ControlReader()
    await read_control(log, reader)
    return reader.refused


def meanwhile(entries: Sequence[CommandRecorded]) -> str:
    """Return the end of a refusal: which commands were appended since the version that the operator knew."""
    if not entries:
        return ""
    commands = [f"{entry.version} {_tag(entry.command)} by {entry.actor} ({entry.reason})" for entry in entries[-5:]]
    more = f"{len(entries) - 5} more, then " if len(entries) > 5 else ""
    return f". Meanwhile: {more}{'; '.join(commands)}"


def _left(closed: Sequence[int]) -> str:
    """Return the end of a refused halt's message: which fences it closed and could not open again."""
    if not closed:
        return ""
    return f". The fences of partitions {closed} stay closed: `conclave resume` opens them"


def _tag(command: Command) -> str:
    return str(type(command).__struct_config__.tag)
