"""Follow the control stream on behalf of a host.

A host folds the stream from its beginning at every start, then reads on in each batch. An event is handled only after
all commands up to its stamp were (``shared.control.stamps``), so a host may have to read ahead of its batch.
"""

from collections.abc import Callable, Sequence

from schemas.codec import Envelope
from schemas.control import CommandRecorded
from shared.control import ControlReader, State
from shared.control.stamps import Stamp, TruncatedError, holds
from shared.control.stream import folded, marks_of, read_control
from shared.log import Entry, Log, ReadMark


class ControlFollower:
    """The control stream as this process read it.

    ``reader``: the reader of the current start. ``marks``: what identifies the log that was read. Every commit depends
    on it, so a commit upon another log is refused."""

    def __init__(self, log: Log, new_reader: Callable[[], ControlReader]) -> None:
        self._log = log
        self._new_reader = new_reader
        self.reader = new_reader()
        self._marks: tuple[object, tuple[ReadMark, ...]] = (None, ())

    @property
    def state(self) -> State:
        """The configuration after the last entry read."""
        return self.reader.state

    @property
    def marks(self) -> tuple[ReadMark, ...]:
        """The marks of the entries read. Every commit needs them, so they are kept until another entry is read."""
        if self._marks[0] is not self.reader.newest:
            self._marks = self.reader.newest, marks_of(self.reader)
        return self._marks[1]

    def restart(self) -> None:
        """Forget what was read: the next read begins at the beginning of the stream."""
        self.reader = self._new_reader()

    async def read(self) -> Sequence[Envelope[CommandRecorded]]:
        """Read to the end of the stream, and return the entries that count. Raises ``ControlError``, and
        ``TruncatedLogError`` if the log is not the one that was read before."""
        return await read_control(self._log, self.reader)

    def fold(self, entries: Sequence[Entry]) -> Sequence[Envelope[CommandRecorded]]:
        """Fold entries that were read already, and return those that count. Raises ``ControlError``."""
        return folded(self.reader, entries) if entries else ()

    async def commands_up_to(self, stamp: Stamp) -> Sequence[Envelope[CommandRecorded]]:
        """Read the commands up to ``stamp`` that were not read yet, and return them. The writer of a stamp had read
        them, so the log has them unless it lost its tail.

        Raises ``TruncatedError`` if the log does not hold the stamp."""
        version, head = stamp
        commands = await self.read() if version > self.state.version else ()
        if not holds(self.state, stamp):
            past = self.state.past
            known = past[version].head[:12] if version <= self.state.version else f"its end at {self.state.version}"
            raise TruncatedError(
                f"an event was written under version {version} {(head or '')[:12]} of control, which has {known}",
                stamp,
                self.reader.last,
            )
        return commands
