"""Store sealed files in a folder, or at a URL that fsspec supports (``s3://bucket/prefix``, ``memory://x``).

Names are relative, with ``/``. A file is written completely or not at all, and never changed.
"""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from shared.distribution import install_command

PARTIAL: Final = ".partial"
"""The ending of the name of a file during writing."""


class StoreError(OSError):
    """The archive cannot be read or written. The message names the file and the failure."""


class SegmentStore(Protocol):
    """A store of sealed files."""

    def names(self, folder: str) -> Sequence[str]:
        """Return the names of the complete files in a folder, in order; none if there is no such folder."""

    def folders(self, folder: str = "") -> Sequence[str]:
        """Return the names of the folders in a folder, in order."""

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        """Return the bytes of a file from ``start``, at most ``size``. Raises ``StoreError``."""

    def put(self, name: str, data: bytes) -> None:
        """Write a file. After a return it is complete and durable; after a failure it may be absent, and is never
        incomplete. Raises ``StoreError``."""


class Disk:
    """The four steps of writing a file to a disk. Tests let each of them fail."""

    def write(self, path: Path, data: bytes) -> None:
        """Write a new file. It is not durable yet."""
        path.write_bytes(data)

    def sync(self, path: Path) -> None:
        """Make the bytes of a file, or the names in a folder, durable."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Rename a file, atomically."""
        source.replace(target)

    def make(self, folder: Path) -> None:
        """Create a folder and its parents."""
        folder.mkdir(parents=True, exist_ok=True)


class FolderStore:
    """A store in a local folder. A file is written under another name, synced and renamed, and the folder is synced."""

    def __init__(self, root: Path, disk: Disk | None = None) -> None:
        self.root = root
        self._disk = disk or Disk()

    def __str__(self) -> str:
        return str(self.root)

    def names(self, folder: str) -> Sequence[str]:
        """See ``SegmentStore.names``."""
        return self._list(folder, files=True)

    def folders(self, folder: str = "") -> Sequence[str]:
        """See ``SegmentStore.folders``."""
        return self._list(folder, files=False)

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        """See ``SegmentStore.read``."""
        try:
            with (self.root / name).open("rb") as file:
                file.seek(start)
                return file.read(-1 if size is None else size)
        except OSError as error:
            raise StoreError(f"cannot read {self.root / name}: {error.strerror}") from error

    def put(self, name: str, data: bytes) -> None:
        """See ``SegmentStore.put``."""
        target = self.root / name
        partial = target.with_name(target.name + PARTIAL)
        try:
            missing = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
            self._disk.make(target.parent)
            for folder in missing:
                self._disk.sync(folder.parent)
            self._disk.write(partial, data)
            self._disk.sync(partial)
            self._disk.rename(partial, target)
            self._disk.sync(target.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise StoreError(error.errno, f"cannot write {target}: {error.strerror}") from error

    def _list(self, folder: str, *, files: bool) -> Sequence[str]:
        try:
            with os.scandir(self.root / folder) as entries:
                return sorted(
                    each.name for each in entries if each.is_file() == files and not each.name.endswith(PARTIAL)
                )
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"cannot list {self.root / folder}: {error.strerror}") from error


class UrlStore:
    """A store at a URL that fsspec supports. A file is as durable as the back end makes it once it has replied."""

    def __init__(self, url: str) -> None:
        try:
            import fsspec  # noqa: PLC0415  # imported where needed
        except ImportError:
            raise StoreError(f"{url}: an archive at a URL needs fsspec ({install_command('archive')})") from None
        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise StoreError(f"{url}: {error}") from None
        self._url = url

    def __str__(self) -> str:
        return self._url

    def names(self, folder: str) -> Sequence[str]:
        """See ``SegmentStore.names``."""
        return self._list(folder, "file")

    def folders(self, folder: str = "") -> Sequence[str]:
        """See ``SegmentStore.folders``."""
        return self._list(folder, "directory")

    def read(self, name: str, start: int = 0, size: int | None = None) -> bytes:
        """See ``SegmentStore.read``."""
        end = None if size is None else start + size
        data: bytes = self._do("read", name, lambda path: self._files.cat_file(path, start=start, end=end))
        return data

    def put(self, name: str, data: bytes) -> None:
        """See ``SegmentStore.put``."""
        self._do("write", name, lambda path: self._write(path, data))

    def _write(self, path: str, data: bytes) -> None:
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        self._files.pipe_file(path, data)

    def _list(self, folder: str, kind: str) -> Sequence[str]:
        self._files.invalidate_cache()
        try:
            listed = self._do("list", folder, lambda path: self._files.ls(path, detail=True))
        except StoreError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return []
            raise
        return sorted(each["name"].rstrip("/").rpartition("/")[2] for each in listed if each["type"] == kind)

    def _do(self, verb: str, name: str, act: Any) -> Any:
        path = f"{self._root.rstrip('/')}/{name}".rstrip("/")
        try:
            return act(path)
        except Exception as error:  # each back end has its own errors
            raise StoreError(f"cannot {verb} {self._url.rstrip('/')}/{name}: {error}") from error


def open_store(location: str | Path) -> SegmentStore:
    """Return the store in a folder, or at a URL with a scheme."""
    text = str(location)
    return UrlStore(text) if "://" in text else FolderStore(Path(text))
