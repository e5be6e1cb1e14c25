"""Show what a command would change, and issue it: signed by a key of this process, or by its person elsewhere.

    desk = CommandDesk(log, names)
    shown = await desk.preview(command, "ada")                # nothing is appended
    done = await desk.issue(command, actor="ada", reason="better in shadow", expects=shown.version)

Where a key is trusted, an entry must be signed. ``signer`` is this process's own key; without one, ``draft`` returns
the entry for the person's key, and ``submit`` appends it with the signature.
"""

from collections.abc import Collection
from typing import NamedTuple

import anyio
from msgspec import structs

from schemas.control import Approve, Command, CommandRecorded, Halt, Promote, Propose, RegisterArtifact, StartShadow
from shared.control import Issuer, Rejected, State
from shared.control.apply import apply
from shared.control.changes import Change, changes
from shared.control.drafting import draft, submit
from shared.control.issuing import ControlWriter, Issued, RefusedError, current
from shared.control.readiness import require_worker, with_readiness
from shared.control.signing import Signer
from shared.control.stream import CONTROL, now_ms
from shared.gates.passing import with_verdict
from shared.log import Entry, Log
from shared.recovery.record import ControlRecord
from shared.voting.quorum import why_undecidable


class ReadyCommand(NamedTuple):
    """A command with its evidence. ``missing``: one sentence for each piece of evidence that there is not."""

    command: Command
    missing: tuple[str, ...]


class Preview(NamedTuple):
    """What a command would change, if it were issued now.

    ``before``: the version on which it would be issued. ``warning``: what to mind although it is accepted; '' if
    nothing. ``signed``: whether it must be signed."""

    command: Command
    before: int
    changes: tuple[Change, ...]
    warning: str
    signed: bool


class Done(NamedTuple):
    """A command that is in the log: the version that it made, and what it changed.

    ``repeated``: it was in the log before, or in force already. ``repaired``: the partitions whose fence was set.
    ``warning``: what to mind; '' if nothing."""

    version: int
    changes: tuple[Change, ...]
    repeated: bool
    repaired: tuple[int, ...]
    warning: str


async def prepared(log: Log, state: State, command: Command, names: Collection[str]) -> ReadyCommand:
    """Return a command with the evidence that there is. ``names``: the models for which this machine starts workers.
    Raises ``RefusedError`` for a model that nothing serves."""
    if isinstance(command, Propose | Approve):
        inner = await prepared(log, state, command.command, names)
        return ReadyCommand(structs.replace(command, command=inner.command), inner.missing)
    if isinstance(command, RegisterArtifact | StartShadow | Promote):
        await require_worker(log, state, names, command.model)
    ready, unready = await with_readiness(log, state, command)
    judged, unjudged = await with_verdict(log, state, ready)
    return ReadyCommand(judged, (*unready, *unjudged))


def keep(writer: ControlWriter, issued: Issued, record: ControlRecord | None) -> None:
    """Copy the entry that was just appended to ``record``, from which `conclave recover` appends it again if the server
    loses it."""
    newest = writer.reader.newest_folded
    if record is not None and newest is not None and not issued.repeated:
        record.keep([Entry(CONTROL, newest.entry, newest.data)], issued.state, now_ms())


class CommandDesk:
    """Issues commands for the people of one installation. It reads the control log once, then only new entries.
    ``record`` keeps copies of what it appends; ``names``: the models for which this machine starts workers.

    Halts have a writer of their own, so that they never wait for another command."""

    def __init__(
        self,
        log: Log,
        names: Collection[str] = (),
        *,
        signer: Signer | None = None,
        record: ControlRecord | None = None,
    ) -> None:
        self.log = log
        self.names = names
        self.record = record
        self._writers = [_Turns(ControlWriter(log, signer, record.why if record is not None else None)) for _ in "12"]

    async def begin(self) -> None:
        """Read the control log, so that the first command does not wait for it."""
        for turns in self._writers:
            async with turns.lock:
                await turns.writer.state()

    async def state(self) -> State:
        """Return the configuration now. Raises as ``ControlWriter.state`` does."""
        async with (turns := self._turns(None)).lock:
            return await turns.writer.state()

    async def state_for(self, command: Command) -> State:
        """Return the configuration now; for a halt it is read by the writer of halts, so it waits for nothing else."""
        async with (turns := self._turns(command)).lock:
            return await turns.writer.state()

    async def preview(self, command: Command, actor: str) -> Preview:
        """Return what a command of ``actor`` would change. Nothing is appended, and nothing signed. Raises
        ``RefusedError`` with all that is missing."""
        state = await self.state()
        ready = await prepared(self.log, state, command, self.names)
        after = apply(state, ready.command, await self.log.time(), Issuer(actor))
        if isinstance(after, Rejected):
            raise _with_missing(RefusedError(after.reason), ready)
        return Preview(
            command=ready.command,
            before=state.version,
            changes=tuple(changes(state, after)),
            warning=why_undecidable(after),
            signed=not state.open,
        )

    async def issue(
        self,
        command: Command,
        *,
        actor: str,
        reason: str,
        command_id: str | None = None,
        expects: int | None = None,
    ) -> Done:
        """Issue a command, signed by the key of this process if there is one. Raises as
        ``shared.control.issuing.issue`` does."""
        ready = await self._prepared(command)
        async with (turns := self._turns(command)).lock:
            before = await turns.writer.state()
            try:
                issued = await turns.writer.issue(
                    ready.command, actor=actor, reason=reason, command_id=command_id, expects=expects
                )
            except RefusedError as error:
                raise _with_missing(error, ready) from None
            return await self._done(turns.writer, before, issued)

    async def draft(
        self,
        command: Command,
        *,
        actor: str,
        reason: str,
        public_key: str,
        command_id: str | None = None,
        expects: int | None = None,
    ) -> CommandRecorded | Done:
        """Return the entry that the holder of ``public_key`` is to sign; ``Done`` where nothing is to be signed.
        Raises as ``shared.control.drafting.draft`` does."""
        ready = await self._prepared(command)
        async with (turns := self._turns(command)).lock:
            before = await turns.writer.state()
            try:
                entry = await draft(
                    turns.writer,
                    ready.command,
                    actor=actor,
                    reason=reason,
                    public_key=public_key,
                    command_id=command_id,
                    expects=expects,
                )
            except RefusedError as error:
                raise _with_missing(error, ready) from None
            return await self._done(turns.writer, before, entry) if isinstance(entry, Issued) else entry

    async def submit(self, entry: CommandRecorded, signature: str) -> Done:
        """Append an entry with the signature of its person. Raises ``OvertakenError`` if another one came first."""
        async with (turns := self._turns(entry.command)).lock:
            before = await turns.writer.state()
            issued = await submit(turns.writer, structs.replace(entry, signature=signature))
            return await self._done(turns.writer, before, issued)

    def _turns(self, command: Command | None) -> "_Turns":
        return self._writers[isinstance(command, Halt)]

    async def _prepared(self, command: Command) -> ReadyCommand:
        if isinstance(command, Halt):
            return ReadyCommand(command, ())
        return await prepared(self.log, await self.state(), command, self.names)

    async def _done(self, writer: ControlWriter, before: State, issued: Issued) -> Done:
        keep(writer, issued, self.record)
        warning = why_undecidable(issued.state)
        if issued.repeated:
            return Done(issued.version, (), repeated=True, repaired=issued.repaired, warning=warning)
        if before.version != issued.version - 1:
            before = await current(self.log, issued.version - 1)
        return Done(issued.version, tuple(changes(before, issued.state)), repeated=False, repaired=(), warning=warning)


class _Turns:
    """A writer, and the lock under which it is used: it reads the log in several steps."""

    def __init__(self, writer: ControlWriter) -> None:
        self.writer = writer
        self.lock = anyio.Lock()


def _with_missing(error: RefusedError, ready: ReadyCommand) -> RefusedError:
    """Return the same error, whose message also names the evidence that is missing."""
    return type(error)("\n  ".join([str(error), *ready.missing]))
