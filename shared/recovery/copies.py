"""Copy the control log to the state folder (``checkpoints/control.entries``), so that a server that lost commands can
get them back. The copy has every command that a process of this machine read or appended, byte for byte.

A line is JSON: the entry's id, and its bytes as base64. Lines are only appended. The copy decides nothing: a command is
restored from it only if it fits the heads of the log.
"""

import os
from pathlib import Path

import msgspec
from msgspec import Struct

from schemas.codec import UNDECODABLE, Envelope
from schemas.control import CommandRecorded
from shared.control import ControlReader
from shared.control.checkpoint import write_all
from shared.log import Entry, StreamKey
from shared.recovery.storage import Storage

CONTROL = StreamKey("control")


class CopiedEntry(Struct, frozen=True):
    """An entry in the file."""

    id: str
    data: bytes


class Copy:
    """The file at ``path``. Several processes may append to it, so it may have an entry twice."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: set[tuple[str, bytes]] = set()
        self._unwritten: dict[tuple[str, bytes], None] = {}
        self._read = 0
        self._torn = False

    def add(self, entry: str, data: bytes, *, durable: bool = False) -> None:
        """Append an entry, unless the file has it. ``durable``: it is on disk before this returns.

        Raises ``OSError``. The entry is then kept in memory, and appended by the next call that succeeds."""
        self._unwritten[entry, data] = None
        self.write(durable=durable)

    def hold(self, entry: str, data: bytes) -> None:
        """Keep an entry in memory until ``write`` appends it."""
        self._unwritten[entry, data] = None

    def write(self, *, durable: bool = False) -> None:
        """Append the entries that could not be appended before. Raises ``OSError``."""
        if not self._unwritten:
            return
        self._catch_up()
        missing = [entry for entry in self._unwritten if entry not in self._known]
        if not missing:
            self._unwritten.clear()
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        try:
            torn = b"\n" if self._torn else b""
            lines = b"".join(msgspec.json.encode(CopiedEntry(*entry)) + b"\n" for entry in missing)
            write_all(descriptor, torn + lines)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._known.update(missing)
        self._unwritten.clear()

    def entries(self) -> list[Entry]:
        """Return all entries, in the order of their ids, with those that could not be written yet. Raises
        ``OSError``."""
        self._catch_up()
        return self._sorted({*self._known, *self._unwritten})

    def known(self) -> list[Entry]:
        """Return the entries that this process has in memory."""
        return self._sorted({*self._known, *self._unwritten})

    def _sorted(self, entries: set[tuple[str, bytes]]) -> list[Entry]:
        return [Entry(CONTROL, *entry) for entry in sorted(entries, key=lambda entry: (len(entry[0]), entry))]

    def _catch_up(self) -> None:
        """Read what other processes appended. A line that is no entry is ignored: it was cut by a power failure."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._read)
                added = file.read()
        except FileNotFoundError:
            return  # no entry was copied yet
        complete, _, rest = added.rpartition(b"\n")
        self._torn = bool(rest)
        self._read += len(complete) + 1 if complete else 0
        for line in complete.split(b"\n"):
            try:
                entry = msgspec.json.decode(line, type=CopiedEntry)
            except UNDECODABLE:
                continue
            self._known.add((entry.id, entry.data))


class CopyingReader(ControlReader):
    """A reader of the control log that copies the entries that count. If the disk fails, it goes on reading, and keeps
    in memory what ``Copy.write`` is to append later."""

    def __init__(self, copy: Copy, storage: Storage | None = None) -> None:
        super().__init__()
        self._copy = copy
        self._storage = storage or Storage("control")

    def take(self, entry: str, data: bytes) -> Envelope[CommandRecorded] | None:
        """See ``ControlReader.take``."""
        envelope = super().take(entry, data)
        if envelope is not None:
            if str(self._copy.path) in self._storage.failing:
                self._copy.hold(entry, data)
            else:
                self._storage.attempt(self._copy.path, lambda: self._copy.add(entry, data))
        return envelope
