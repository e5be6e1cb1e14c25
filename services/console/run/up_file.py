"""The file ``up.json`` in the state folder, which identifies the ``conclave up`` that uses the folder.

    {"pid":4711,"born":123456,"namespace":"9f2c... pid:[4026531836]","since":1760000000.0,"ready":true}

The file may outlive its process. A process that has its pid by now is another one: it is neither waited for nor ended.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct, structs

from schemas.codec import UNDECODABLE
from shared.processes import ProcessIdentity, end, identity_of, runs
from shared.runtime.process import InstallationError

FILE: Final = "up.json"


class Up(Struct, frozen=True):
    """A ``conclave up``: its process, when it was started (s since the epoch), and whether its services are alive.

    An older release noted the pid alone. Such a process is never believed to run."""

    pid: int
    born: int = 0
    namespace: str = ""
    since: float = 0.0
    ready: bool = False

    @property
    def process(self) -> ProcessIdentity:
        """The process."""
        return ProcessIdentity(self.pid, self.born, self.namespace)


def running(state: Path) -> Up | None:
    """Return the ``conclave up`` that uses this state folder; None if none runs."""
    noted = _read(state)
    return noted if noted is not None and runs(noted.process) else None


def refuse_second(state: Path) -> None:
    """Raise ``InstallationError`` if a ``conclave up`` uses this state folder."""
    if (up := running(state)) is not None:
        raise InstallationError(f"already up, as pid {up.pid}; `conclave down` ends it")


class UpFile:
    """The file of this process."""

    def __init__(self, state: Path) -> None:
        self._path = state / FILE
        self._up = Up(*identity_of(os.getpid()), since=time.time())

    @contextmanager
    def written(self) -> Iterator["UpFile"]:
        """Write the file, and remove it after the body. Raises ``InstallationError`` if it cannot be written."""
        self._write()
        try:
            yield self
        finally:
            noted = _read(self._path.parent)
            if noted is not None and noted.process == self._up.process:
                with suppress(OSError):  # the process that it names has ended then
                    self._path.unlink()

    def ready(self) -> None:
        """Note that all services are alive."""
        self._up = structs.replace(self._up, ready=True)
        self._write()

    def _write(self) -> None:
        made = self._path.with_name(f"{FILE}.{self._up.pid}")
        try:
            made.write_bytes(msgspec.json.encode(self._up))
            made.replace(self._path)
        except OSError as error:
            raise InstallationError(
                f"{self._path} cannot be written: {error.strerror}; `conclave down` needs it"
            ) from None


def terminate(state: Path, limit_s: float) -> bool:
    """End the ``conclave up`` that uses this state folder, and wait until it has ended. Return false if none runs.

    Raises ``InstallationError`` if it belongs to another user, or has not ended after ``limit_s`` seconds."""
    up = running(state)
    if up is None:
        return False
    try:
        end(up.process)
    except PermissionError:
        raise InstallationError(f"pid {up.pid} belongs to another user; run this as that user") from None
    deadline = time.monotonic() + limit_s
    while runs(up.process):
        if time.monotonic() > deadline:
            raise InstallationError(f"pid {up.pid} did not end within {limit_s:.0f} s; see {state / 'log'}")
        time.sleep(0.05)
    return True


def unidentified(state: Path) -> int | None:
    """Return the pid in a file of an older release, which has nothing else that identifies the process; None if the
    file is of this release, or there is none."""
    noted = _read(state)
    return noted.pid if noted is not None and not noted.born and identity_of(os.getpid()).born else None


def _read(state: Path) -> Up | None:
    try:
        return msgspec.json.decode((state / FILE).read_bytes(), type=Up)
    except (OSError, *UNDECODABLE):
        return None
