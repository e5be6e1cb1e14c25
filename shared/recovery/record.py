"""What this machine noted of the control log: checkpoints and copies of its entries, beside each other in
``<state>/checkpoints``."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from shared.control import ControlReader, State, checkpoint
from shared.control.checkpoint import Checkpoint, RewrittenError
from shared.log import Entry, Lost, StreamKey
from shared.recovery.copies import Copy, CopyingReader
from shared.recovery.missing import Missing, held_by_head, missing

COPIED = "control.entries"


class ControlRecord:
    """The record in a folder; ``state`` is that of the installation."""

    def __init__(self, state: Path) -> None:
        self.path = state / "checkpoints" / "control.jsonl"
        self.copy = Copy(self.path.with_name(COPIED))
        self._noted = ""

    def reader(self) -> ControlReader:
        """A reader that copies what it reads."""
        return CopyingReader(self.copy)

    def note(self, state: State, at: int) -> None:
        """Notes where the log stands, unless that is known."""
        if state.head != self._noted:
            checkpoint.note(self.path, state, at)
            self._noted = state.head

    def keep(self, entries: Iterable[Entry], state: State, at: int) -> None:
        """Copies what was just appended, and notes where the log stands; on disk before this returns. A disk that
        takes nothing is no reason for a command to fail that stands already."""
        with suppress(OSError):
            for entry in entries:
                self.copy.add(entry.id, entry.data, durable=True)
            checkpoint.note(self.path, state, at)

    def empty(self) -> bool:
        """Whether there is nothing to compare with."""
        return not checkpoint.read(self.path) and not self.copy.entries()

    def missing(self, state: State, *copies: tuple[str, Iterable[Entry]]) -> Missing | None:
        """What the log lost; ``copies`` are further ones, by name. Raises ``RewrittenError`` where the log is another
        one than was noted."""
        noted = checkpoint.read(self.path)
        if noted and noted[-1].log_id != state.log_id:
            checkpoint.check(self.path, state)
        held = held_by_head([(str(self.copy.path), self.copy.entries()), *copies])
        return missing(state, noted, held)

    def lost(self, state: State) -> Lost | None:
        """What the log lost, for an alarm."""
        found = self.missing(state)
        if found is None:
            return None
        newest = found.lost[-1]
        expected = newest.held.entry.id if newest.held is not None else f"{newest.version}-0"
        return Lost(StreamKey("control"), expected, f"{state.version}-0", str(found))

    def why(self, state: State) -> str | None:
        """Why nothing but a halt may be appended to the log, in words; None where it may."""
        try:
            found = self.missing(state)
        except RewrittenError as error:
            return str(error)
        if found is None:
            return None
        return (
            f"{found}. What is appended now stands in the way of the lost commands: look at `conclave recover`, which "
            "brings them back (--append) or gives them up (--accept); a halt is taken meanwhile"
        )

    def accepted(self, stamp: tuple[int, str | None]) -> bool:
        """Whether an operator gave up the version of a stamp."""
        version, head = stamp
        return any(
            each.accepted is not None and each.version < version and (head is None or head in each.given_up)
            for each in checkpoint.read(self.path)
        )

    def give_up(self, found: Missing, state: State, why: str, at: int) -> None:
        """Notes that what is missing is lost."""
        head = state.past[found.common].head
        gone = tuple(lost.head for lost in found.lost if lost.head)
        checkpoint.accept(self.path, Checkpoint(state.log_id, found.common, head, at, why, gone))
        checkpoint.note(self.path, state, at)
