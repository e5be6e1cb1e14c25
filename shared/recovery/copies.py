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
from shared.log import Entry, StreamKey

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
        self._read = 0
        self._torn = False

    def add(self, entry: str, data: bytes, *, durable: bool = False) -> None:
        """Append an entry, unless the file has it. ``durable``: it is on disk before this returns. Raises
        ``OSError``."""
        self._catch_up()
        if (entry, data) in self._known:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        try:
            torn = b"\n" if self._torn else b""
            os.write(descriptor, torn + msgspec.json.encode(CopiedEntry(entry, data)) + b"\n")
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._known.add((entry, data))

    def entries(self) -> list[Entry]:
        """Return all entries, in the order of their ids."""
        self._catch_up()
        return [Entry(CONTROL, *entry) for entry in sorted(self._known, key=lambda entry: (len(entry[0]), entry))]

    def _catch_up(self) -> None:
        """Read what other processes appended. A line that is no entry is ignored: it was cut by a power failure."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._read)
                added = file.read()
        except FileNotFoundError:
            return
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
    """A reader of the control log that copies the entries that count. It stops copying, not reading, if the disk
    fails."""

    def __init__(self, copy: Copy) -> None:
        super().__init__()
        self._copy: Copy | None = copy

    def take(self, entry: str, data: bytes) -> Envelope[CommandRecorded] | None:
        """See ``ControlReader.take``."""
        envelope = super().take(entry, data)
        if envelope is not None and self._copy is not None:
            try:
                self._copy.add(entry, data)
            except OSError:
                self._copy = None
        return envelope
