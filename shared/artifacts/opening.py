"""Open each artifact in a child process once, before it is opened here.

What was found is noted in the folder ``.opened`` of the store, by digest and by the libraries, so that a restart and a
promotion do not wait for a child. If a note cannot be written, the next process opens the artifact in a child again.
"""

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from schemas.codec import UNDECODABLE
from shared.artifacts.artifact import ArtifactError
from shared.artifacts.manifest import Manifest, processor
from shared.confined import MIB, ConfinedError, confined
from shared.distribution import version
from shared.families import family_named

FOLDER: Final = ".opened"
MODULE: Final = "shared.artifacts.child"
LEAST_MB: Final = 1024
"""Memory of a child (MiB), without what it gets for the size of the files."""
TIMES: Final = 16
"""Memory for each byte of the files."""


class Opened(Struct, frozen=True):
    """What a child found. ``refused``: why the artifact may not be opened, '' if it may."""

    refused: str = ""


class Openings:
    """The notes of the store at ``path``."""

    def __init__(self, path: Path) -> None:
        self._store = path
        self._known: set[Path] = set()

    def require(self, digest: str, manifest: Manifest, files: Mapping[str, bytes]) -> None:
        """Return if the artifact may be opened in this process. Raises ``ArtifactError`` if it may not."""
        note = self._note(digest, manifest)
        if note in self._known:
            return
        found = _read(note)
        if found is None:
            found = self._found(digest, files, note)
        if found.refused:
            raise ArtifactError(found.refused)
        self._known.add(note)

    def add(self, digest: str, manifest: Manifest) -> None:
        """Note that the artifact may be opened: this process has just made and opened it."""
        note = self._note(digest, manifest)
        self._known.add(note)
        if _read(note) is None:
            _write(note, Opened())

    def _found(self, digest: str, files: Mapping[str, bytes], note: Path) -> Opened:
        memory_mb = LEAST_MB + TIMES * sum(map(len, files.values())) // MIB
        try:
            reason = confined(MODULE, str(self._store.absolute()), digest, memory_mb=memory_mb).decode()
        except ConfinedError as error:
            if error.passing:
                raise ArtifactError(str(error)) from None
            reason = str(error)
            _write(note, Opened(f"{reason} (noted in {note}; delete that file to have it opened again)"))
            return Opened(reason)
        if not reason:
            _write(note, Opened())
        return Opened(reason)

    def _note(self, digest: str, manifest: Manifest) -> Path:
        """Return the path of the note about an artifact, opened by these libraries on this processor."""
        libraries = {**family_named(manifest.family).libraries(), "conclave": version(), "processor": processor()}
        key = hashlib.sha256(msgspec.json.encode(libraries, order="deterministic")).hexdigest()[:16]
        return self._store / FOLDER / f"{digest}.{key}"


def _read(note: Path) -> Opened | None:
    try:
        return msgspec.json.decode(note.read_bytes(), type=Opened)
    except (OSError, *UNDECODABLE):
        return None


def _write(note: Path, found: Opened) -> None:
    made = note.with_name(f".{os.getpid()}-{note.name}")
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        made.write_bytes(msgspec.json.encode(found))
        made.replace(note)
