"""Keep a record of the control log on this machine: checkpoints, and copies of its entries, both in
``<state>/checkpoints``.

A disk that fails stops nothing. What could not be written is kept in memory and is compared with the log all the same,
so a process that lives knows what the log held. It is written as soon as the disk allows it. A process that starts
while the disk fails knows only what is on it: a command that was lost in between is not noticed then.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from shared.control import ControlReader, State, checkpoint
from shared.control.checkpoint import Checkpoint, RewrittenError
from shared.log import Entry, Lost, StreamKey
from shared.recovery.copies import Copy, CopyingReader
from shared.recovery.missing import Missing, copied_by_head, missing
from shared.recovery.storage import Storage

COPIED = "control.entries"


class ControlRecord:
    """The record of an installation, whose state folder is ``state``. ``storage``: where a failing disk is recorded."""

    def __init__(self, state: Path, storage: Storage | None = None) -> None:
        self.path = state / "checkpoints" / "control.jsonl"
        self.copy = Copy(self.path.with_name(COPIED))
        self.storage = storage or Storage("console")
        self._noted = ""
        self._unwritten: Checkpoint | None = None

    def reader(self) -> ControlReader:
        """Return a reader of the control log that copies what it reads."""
        return CopyingReader(self.copy, self.storage)

    def note(self, state: State, at: int) -> None:
        """Note the head of the log, unless it was noted last, and write what could not be written before."""
        self._copied(self.copy.write)
        if state.version == 0 or state.head == self._noted:
            return
        self._unwritten = Checkpoint(state.log_id, state.version, state.head, at)
        if self.storage.attempt(self.path, lambda: checkpoint.note(self.path, state, at)):
            self._noted, self._unwritten = state.head, None

    def keep(self, entries: Iterable[Entry], state: State, at: int) -> None:
        """Copy entries that were just appended, and note the head of the log; both are on disk before this returns.

        A failing disk is recorded in ``storage`` and not raised: the command is in the log already, and must not be
        reported as failed. Nor is a record that cannot be read."""
        for entry in entries:
            self._copied(lambda entry=entry: self.copy.add(entry.id, entry.data, durable=True))  # type: ignore[misc]
        with suppress(RewrittenError):
            self.note(state, at)

    def empty(self) -> bool:
        """Return whether there is nothing to compare the log with."""
        return not self._checkpoints() and not self._copies()

    def _copied(self, write: Callable[[], object]) -> None:
        self.storage.attempt(self.copy.path, write)

    def _checkpoints(self) -> list[Checkpoint]:
        """Return what was noted, on the disk as far as it can be read, and in memory."""
        try:
            noted = checkpoint.read(self.path)
        except OSError as error:
            self.storage.failed(self.path, error)
            noted = []
        return [*noted, self._unwritten] if self._unwritten is not None else noted

    def _copies(self) -> list[Entry]:
        try:
            return self.copy.entries()
        except OSError as error:
            self.storage.failed(self.copy.path, error)
            return self.copy.known()

    def missing(self, state: State, *copies: tuple[str, Iterable[Entry]]) -> Missing | None:
        """Return what the log lost; None if nothing is known to be lost. ``copies``: further copies, each with its
        name. Raises ``RewrittenError`` if it is not the log that was noted."""
        noted = self._checkpoints()
        if noted and noted[-1].log_id != state.log_id:
            checkpoint.check(self.path, state)
        return missing(state, noted, copied_by_head([(str(self.copy.path), self._copies()), *copies]))

    def lost(self, state: State) -> Lost | None:
        """Return what the log lost, for an alarm; None if nothing is known to be lost."""
        gone = self.missing(state)
        if gone is None:
            return None
        newest = gone.lost[-1]
        expected = newest.copied.entry.id if newest.copied is not None else f"{newest.version}-0"
        return Lost(StreamKey("control"), expected, f"{state.version}-0", str(gone))

    def why(self, state: State) -> str | None:
        """Return why nothing but a halt may be appended to the log; None if anything may."""
        try:
            gone = self.missing(state)
        except RewrittenError as error:
            return str(error)
        if gone is None:
            return None
        return (
            f"{gone}. A command that is appended now would make it impossible to restore them. Run `conclave recover`, "
            "which appends the lost commands again (--append) or gives them up (--accept). Until then only a halt is "
            "accepted"
        )

    def accepted(self, stamp: tuple[int, str | None]) -> bool:
        """Return whether an operator gave up the command of a stamp."""
        version, head = stamp
        return any(
            each.accepted is not None and each.version < version and (head is None or head in each.given_up)
            for each in self._checkpoints()
        )

    def give_up(self, gone: Missing, state: State, why: str, at: int) -> None:
        """Note that an operator accepted the loss of what is missing."""
        head = state.past[gone.common].head
        heads = tuple(lost.head for lost in gone.lost if lost.head)
        checkpoint.accept(self.path, Checkpoint(state.log_id, gone.common, head, at, why, heads))
        checkpoint.note(self.path, state, at)
