"""Log lines of services: JSON, one for each minute of work and one for what a person must act on, never one an event.

A service writes to stderr, where journald or the container's engine keeps it. Lines are alike if they have the same
logger, level and text before its values are filled in. Ten lines that are alike pass in a minute; the others are
counted in ``more`` of the next line that passes, or of a line at the minute's end. So a flood fills no disk, and a
sum over lines is still the number of things that happened.
"""

import json
import logging
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

MINUTE_S: Final = 60.0
LINES_A_MINUTE: Final = 10
Key = tuple[str, ...]


class JsonFormatter(logging.Formatter):
    """A record as one line: ``at`` (UTC), ``level``, ``service``, ``logger``, ``message``, and the entries of
    ``extra={"fields": ...}``."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``."""
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if more := getattr(record, "more", 0):
            line["more"] = more
        if record.exc_info:
            line["exception"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(line, default=str)


class FloodFilter(logging.Filter):
    """Passes ``limit`` records that are alike in a minute, and counts the others. ``key`` is equal for records that
    are alike."""

    def __init__(self, limit: int = LINES_A_MINUTE, key: Callable[[logging.LogRecord], Key] | None = None) -> None:
        super().__init__()
        self._limit = limit
        self._key = key or (lambda record: (record.name, record.levelname, str(record.msg)))
        self._minute_began: dict[Key, float] = {}
        self._passed: Counter[Key] = Counter()
        self._suppressed: Counter[Key] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether ``record`` passes. Its ``more`` is then the number of records like it that did not."""
        key, now = self._key(record), time.monotonic()
        if now - self._minute_began.setdefault(key, now) >= MINUTE_S:
            self._minute_began[key] = now
            del self._passed[key]
        self._passed[key] += 1
        if self._passed[key] > self._limit:
            self._suppressed[key] += 1
            return False
        if more := self._suppressed.pop(key, 0):
            record.more = more
        return True

    def take_suppressed(self, *, all_of_them: bool = False) -> list[tuple[Key, int]]:
        """Return and reset the counts that no later record carries, of minutes that are over."""
        now = time.monotonic()
        keys = [key for key, began in self._minute_began.items() if all_of_them or now - began >= MINUTE_S]
        counts = [(key, self._suppressed.pop(key)) for key in keys if self._suppressed[key]]
        for key in keys:
            del self._minute_began[key], self._passed[key]
        return counts


class LogHandler(logging.StreamHandler[Any]):
    """Writes records to a stream through a ``FloodFilter``, and once a minute the counts of those that did not pass."""

    def __init__(self, service: str, stream: Any = None) -> None:
        super().__init__(stream)
        if not self.stream.isatty():
            self.setFormatter(JsonFormatter(service))
        self._flood = FloodFilter()
        self.addFilter(self._flood)
        self._counts_written_at = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        """See ``logging.Handler``."""
        super().emit(record)
        if time.monotonic() - self._counts_written_at >= MINUTE_S:
            self._write_counts()

    def close(self) -> None:
        """Write the last counts, and close."""
        self._write_counts(all_of_them=True)
        super().close()

    def _write_counts(self, *, all_of_them: bool = False) -> None:
        self._counts_written_at = time.monotonic()
        for (name, level, text), more in self._flood.take_suppressed(all_of_them=all_of_them):
            number = logging.getLevelNamesMapping().get(level, logging.WARNING)
            record = logging.LogRecord(name, number, "", 0, text.replace("%", "%%"), (), None)
            record.more = more
            super().emit(record)


def configure(service: str) -> None:
    """Make this process log as a service does."""
    root = logging.getLogger()
    root.handlers[:] = [LogHandler(service, sys.stderr)]
    root.setLevel(logging.INFO)
