"""Store artifacts in one directory; each is a directory named by the SHA-256 of its manifest."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import structs

from shared.artifacts.artifact import Artifact, ArtifactError, Pause, build
from shared.artifacts.manifest import MANIFEST, FileEntry, Manifest, ManifestError, canonical, digest_of, parse
from shared.artifacts.opening import Openings
from shared.families import UnknownFamilyError, WeightsError
from shared.families.libraries import LibraryMissingError
from shared.plugins import PluginError

HEX: Final = frozenset("0123456789abcdef")
HIDDEN: Final = ".making-"
PIECE: Final = 1 << 18
"""The number of bytes hashed between two pauses."""
UNLOADABLE: Final = (ArtifactError, ManifestError, WeightsError, UnknownFamilyError, LibraryMissingError, PluginError)


class ArtifactStore:
    """The artifacts below ``path``.

    Guaranteed: an artifact appears completely or not at all, also if the machine stops in between. ``load`` builds the
    artifact from the same bytes that it has verified. A digest identifies the same artifact for ever. An artifact is
    never selected by time or name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._openings = Openings(path)

    def save(self, manifest: Manifest, files: Mapping[str, bytes]) -> str:
        """Write the artifact and return its digest. An existing artifact does not change.

        ``files`` are the weights and the golden vectors; ``manifest.files`` is filled in here. The artifact is built
        and checked against its golden vectors before anything is written. Raises ``ArtifactError`` if it would not
        load.
        """
        entries = tuple(FileEntry(name, digest_of(files[name]), len(files[name])) for name in sorted(files))
        try:
            data = canonical(structs.replace(manifest, files=entries))
            digest = digest_of(data)
            build(digest, parse(data), files)
        except (ManifestError, WeightsError) as error:
            raise ArtifactError(f"not saved: {error}") from None
        if not (self.path / digest).exists():
            self._write(digest, {**files, MANIFEST: data})
        self._openings.add(digest, parse(data))
        return digest

    def require_writable(self) -> None:
        """Raise ``ArtifactError`` if nothing can be saved. Call it before hours of training."""
        try:
            nearest = next(each for each in (self.path.absolute(), *self.path.absolute().parents) if each.exists())
            with tempfile.TemporaryDirectory(prefix=HIDDEN, dir=nearest) as folder:
                (Path(folder) / MANIFEST).write_bytes(bytes(4096))
        except OSError as error:
            raise ArtifactError(
                f"no artifact can be saved in {self.path}: {error.strerror}. Change that first, or `state` in "
                f"[installation] of the settings"
            ) from None

    def _write(self, digest: str, files: Mapping[str, bytes]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix=HIDDEN, dir=self.path))
        try:
            for name, data in files.items():
                with (making / name).open("xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            making.chmod(0o755)
            _sync(making)
            try:
                making.rename(self.path / digest)
            except OSError:
                if not (self.path / digest).is_dir():
                    raise  # else: another process wrote the same bytes first
            _sync(self.path)
        finally:
            shutil.rmtree(making, ignore_errors=True)

    def load(self, digest: str, pause: Pause | None = None) -> Artifact:
        """Return the artifact, verified, built and warmed up. It is opened in a child process first, unless that was
        done before: what crashes a library, or takes too much time or memory, is refused here.

        ``pause`` is called between pieces of the work of some tenths of a millisecond each. Raises ``ArtifactError``
        with the name of the faulty file.
        """
        try:
            manifest, files = self._read(digest, pause)
            self._openings.require(digest, manifest, files)
            return build(digest, manifest, files, pause)
        except UNLOADABLE as error:
            raise ArtifactError(f"artifact {digest[:12]} in {self.path}: {error}") from error

    def opened(self, digest: str) -> Artifact:
        """Return the artifact, verified, built and warmed up in this process, as the child does in which ``load`` opens
        it first. Raises one of ``UNLOADABLE``."""
        manifest, files = self._read(digest)
        return build(digest, manifest, files)

    def content(self, digest: str) -> tuple[Manifest, dict[str, bytes]]:
        """Return the manifest and its files, verified. Raises ``ArtifactError``."""
        try:
            return self._read(digest)
        except (ArtifactError, ManifestError) as error:
            raise ArtifactError(f"artifact {digest[:12]} in {self.path}: {error}") from error

    def manifest(self, digest: str) -> Manifest:
        """Return the manifest alone, verified against the digest. The other files are not read."""
        try:
            return self._manifest(digest)
        except ManifestError as error:
            raise ArtifactError(f"artifact {digest[:12]} in {self.path}: {error}") from error

    def list(self) -> tuple[str, ...]:
        """Return the digests of all artifacts, in order. They are not verified."""
        if not self.path.is_dir():
            return ()
        return tuple(sorted(entry.name for entry in self.path.iterdir() if _is_digest(entry.name)))

    def find(self, prefix: str) -> str:
        """Return the only digest that begins with ``prefix``. Raises ``ArtifactError`` for none or several."""
        matches = [digest for digest in self.list() if digest.startswith(prefix)]
        if len(matches) != 1 or not prefix:
            raise ArtifactError(f"{len(matches)} artifacts in {self.path} begin with {prefix!r}; expected one")
        return matches[0]

    def _manifest(self, digest: str) -> Manifest:
        if not _is_digest(digest):
            raise ArtifactError("not a digest: expected 64 hexadecimal digits")
        folder = self.path / digest
        if not folder.is_dir():
            raise ArtifactError(f"not in the store, which has {len(self.list())} artifacts; copy it here, or train it")
        data = _content(folder / MANIFEST)
        if digest_of(data) != digest:
            raise ArtifactError(f"{MANIFEST}: its SHA-256 is {digest_of(data)[:12]}, not the directory's name; changed")
        return parse(data)

    def _read(self, digest: str, pause: Pause | None = None) -> tuple[Manifest, dict[str, bytes]]:
        manifest = self._manifest(digest)
        folder = self.path / digest
        named, present = {entry.name for entry in manifest.files}, {path.name for path in folder.iterdir()} - {MANIFEST}
        if present != named:
            wrong = [f"{name}: missing" for name in sorted(named - present)]
            wrong += [f"{name}: not in the manifest" for name in sorted(present - named)]
            raise ArtifactError("; ".join(wrong))
        files: dict[str, bytes] = {}
        for entry in manifest.files:
            data = _content(folder / entry.name)
            sha256 = _digest(data, pause)
            if len(data) != entry.size or sha256 != entry.sha256:
                raise ArtifactError(
                    f"{entry.name}: {len(data)} bytes with SHA-256 {sha256[:12]}, "
                    f"the manifest says {entry.size} with {entry.sha256[:12]}; changed since training"
                )
            files[entry.name] = data
        return manifest, files


def _content(path: Path) -> bytes:
    """Return the content of a regular file. Links are refused: their target could change between two reads."""
    if path.is_symlink() or not path.is_file():
        raise ArtifactError(f"{path.name}: missing or not a regular file")
    return path.read_bytes()


def _digest(data: bytes, pause: Pause | None) -> str:
    if pause is None:
        return digest_of(data)
    digest, view = hashlib.sha256(), memoryview(data)
    for at in range(0, len(data), PIECE):
        digest.update(view[at : at + PIECE])
        pause()
    return digest.hexdigest()


def _is_digest(name: str) -> bool:
    return len(name) == 64 and set(name) <= HEX


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
