"""A copy of the control log in the state folder, ``checkpoints/control.entries``: every command that a process of this
machine read or appended, byte for byte, so that a server that lost it can have it again.

A line is JSON: the entry's id, and its bytes as base64. The file is only ever added to. It is a copy for recovery, and
nothing is decided by it: what is taken from it has to fit the heads of the log.
"""

import os
from pathlib import Path

import msgspec
from msgspec import Struct

from schemas.codec import Envelope
from schemas.control import CommandRecorded
from shared.control import ControlReader
from shared.log import Entry, StreamKey

CONTROL = StreamKey("control")


class CopiedEntry(Struct, frozen=True):
    """An entry in the file."""

    id: str
    data: bytes


class Copy:
    """The file at ``path``. Several processes may add to it; one entry may then stand there twice."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: set[tuple[str, bytes]] = set()
        self._read = 0
        self._torn = False

    def add(self, entry: str, data: bytes, *, durable: bool = False) -> None:
        """Adds an entry that is not there yet; ``durable``: it is on disk before this returns. Raises ``OSError``."""
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
        """All entries, in the order of their ids as far as those are numbers."""
        self._catch_up()
        return [Entry(CONTROL, *each) for each in sorted(self._known, key=lambda one: (len(one[0]), one))]

    def _catch_up(self) -> None:
        """Takes in what others added. A line that is no entry is left out: the power failed while it was written."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._read)
                added = file.read()
        except FileNotFoundError:
            return
        whole, _, rest = added.rpartition(b"\n")
        self._torn = bool(rest)
        self._read += len(whole) + 1 if whole else 0
        for line in whole.split(b"\n"):
            try:
                found = msgspec.json.decode(line, type=CopiedEntry)
            except msgspec.DecodeError:
                continue
            self._known.add((found.id, found.data))


class CopyingReader(ControlReader):
    """A reader of the control log that copies what stands. A disk that takes nothing stops nobody."""

    def __init__(self, copy: Copy) -> None:
        super().__init__()
        self._copy: Copy | None = copy

    def take(self, entry: str, data: bytes) -> Envelope[CommandRecorded] | None:
        """See ``ControlReader.take``."""
        found = super().take(entry, data)
        if found is not None and self._copy is not None:
            try:
                self._copy.add(entry, data)
            except OSError:
                self._copy = None
        return found
