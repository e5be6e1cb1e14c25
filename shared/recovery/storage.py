"""Files outside the log that a service goes on without.

A full disk, or one that became read-only, must not end a service that could go on deciding. Each file is tried again
whenever it is due. The first failure and the first success after it are events on ``alarms``.
"""

import logging
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock

from schemas.operations import AlarmEvent, StorageFailed, StorageRecovered

_log = logging.getLogger(__name__)


class Storage:
    """The files of one process of ``group``. ``failing``: why those cannot be written that failed the last time.

    Safe for several threads: a slow disk is written to from a thread of its own."""

    def __init__(self, group: str) -> None:
        self._group = group
        self._changes: list[tuple[str, str]] = []
        self._complete: set[str] = set()
        self._lock = Lock()
        self.failing: dict[str, str] = {}

    def attempt(self, file: Path, write: Callable[[], object], what: str = "") -> bool:
        """Call ``write``, and return whether it wrote ``file``. Any ``OSError`` is recorded, and not raised. ``what``:
        the content of the file, for the log line."""
        try:
            write()
        except OSError as error:
            self.failed(file, error, what)
            return False
        self.written(file)
        return True

    def failed(self, file: Path, error: OSError, what: str = "") -> None:
        """Record that a file could not be written."""
        with self._lock:
            if str(file) not in self.failing:
                _log.error("%s could not be written, and is tried again later: %s", what or file, error)
                self._changes.append((str(file), _reason(error)))
            self.failing[str(file)] = _reason(error)
            self._complete.discard(str(file))

    def written(self, file: Path) -> None:
        """Record that a file has all that was to be written."""
        with self._lock:
            self._complete.add(str(file))
            if self.failing.pop(str(file), None) is not None:
                _log.warning("%s is written again", file)
                self._changes.append((str(file), ""))

    def resume(self, failing: Mapping[str, str]) -> None:
        """Go on from what an earlier process reported: these files failed, and this was not over."""
        with self._lock:
            over = [file for file in failing if file in self._complete]
            self.failing = {**{file: why for file, why in failing.items() if file not in over}, **self.failing}
            self._changes = [change for change in self._changes if not (change[1] and change[0] in failing)]
            self._changes += [(file, "") for file in over]

    def due(self, at: int) -> list[AlarmEvent]:
        """Return the alarms that were not returned yet. ``at``: the server's time (ms)."""
        if not self._changes:
            return []
        with self._lock:
            changes, self._changes = self._changes, []
        host = socket.gethostname()
        return [
            StorageFailed(group=self._group, host=host, file=file[-2000:], detail=detail[:2000], at=at)
            if detail
            else StorageRecovered(self._group, host, file[-2000:], at)
            for file, detail in changes
        ]


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
