"""Logs: one line of JSON a unit of work or a thing that a person must act on, never a line an event.

A service writes to stderr, where journald or the container's engine keeps it. Of lines that are alike (same
logger, same text before its values are filled in) ten a minute pass; the rest are counted, and the next of them
that passes says how many there were (``more``), or a line at the minute's end does. So a flood fills no disk, and
a sum over lines is still the number of things that happened.
"""

import json
import logging
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, Final

from schemas.codec import Encoded
from shared.telemetry.metrics import MetricReading
from shared.telemetry.reporting import Telemetry

ALIKE: Final = 10
MINUTE_S: Final = 60.0
STREAM_OF: Final = itemgetter(0)
Key = tuple[str, ...]


class JsonLines(logging.Formatter):
    """A record as one line: ``at`` (UTC), ``level``, ``service``, ``logger``, ``message``, and what was given as
    ``extra={"fields": ...}``."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``."""
        said: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if more := getattr(record, "more", 0):
            said["more"] = more
        if record.exc_info:
            said["exception"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(said, default=str)


class Counted(logging.Filter):
    """Lets ``most`` records that are alike pass within a minute, and counts the others."""

    def __init__(self, most: int = ALIKE, alike: Callable[[logging.LogRecord], Key] | None = None) -> None:
        super().__init__()
        self._most = most
        self._alike = alike or (lambda record: (record.name, record.levelname, str(record.msg)))
        self._begun: dict[Key, float] = {}
        self._passed: Counter[Key] = Counter()
        self._more: Counter[Key] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it passes; it then carries as ``more`` how many like it did not."""
        key, now = self._alike(record), time.monotonic()
        if now - self._begun.setdefault(key, now) >= MINUTE_S:
            self._begun[key] = now
            del self._passed[key]
        self._passed[key] += 1
        if self._passed[key] > self._most:
            self._more[key] += 1
            return False
        if more := self._more.pop(key, 0):
            record.more = more
        return True

    def over(self, *, all_of_them: bool = False) -> list[tuple[Key, int]]:
        """What was counted in minutes that are over and told by no record since; then forgotten."""
        now = time.monotonic()
        keys = [key for key, begun in self._begun.items() if all_of_them or now - begun >= MINUTE_S]
        found = [(key, self._more.pop(key)) for key in keys if self._more[key]]
        for key in keys:
            del self._begun[key], self._passed[key]
        return found


class Lines(logging.StreamHandler[Any]):
    """Writes to a stream what passes, and once a minute what was counted."""

    def __init__(self, service: str, stream: Any = None) -> None:
        super().__init__(stream)
        if not self.stream.isatty():
            self.setFormatter(JsonLines(service))
        self._counted = Counted()
        self.addFilter(self._counted)
        self._told = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        """See ``logging.Handler``."""
        super().emit(record)
        if time.monotonic() - self._told >= MINUTE_S:
            self._tell()

    def close(self) -> None:
        """Writes what is still only counted."""
        self._tell(all_of_them=True)
        super().close()

    def _tell(self, *, all_of_them: bool = False) -> None:
        self._told = time.monotonic()
        for (name, level, text), more in self._counted.over(all_of_them=all_of_them):
            number = logging.getLevelNamesMapping().get(level, logging.WARNING)
            record = logging.LogRecord(name, number, "", 0, text.replace("%", "%%"), (), None)
            record.more = more
            super().emit(record)


def begin(service: str) -> None:
    """From here on, this process logs as a service does."""
    root = logging.getLogger()
    root.handlers[:] = [Lines(service, sys.stderr)]
    root.setLevel(logging.INFO)


class Worked:
    """A ``Telemetry`` that also leaves one line a minute of work in the log, and one for the last of it."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._told = -MINUTE_S
        self._begin()

    def _begin(self) -> None:
        self._batches, self._handling_ns, self._committing_ns, self._slowest_ns = 0, 0, 0, 0
        self._consumed: dict[str, int] = {}
        self._produced: dict[str, int] = {}

    def batch(
        self,
        *,
        consumed: Mapping[str, int],
        outputs: Sequence[Encoded],
        started_ns: int,
        handled_ns: int,
        committed_ns: int,
        oldest_ms: int | None,
    ) -> None:
        """See ``Telemetry.batch``."""
        self._telemetry.batch(
            consumed=consumed,
            outputs=outputs,
            started_ns=started_ns,
            handled_ns=handled_ns,
            committed_ns=committed_ns,
            oldest_ms=oldest_ms,
        )
        self._batches += 1
        self._handling_ns += handled_ns - started_ns
        self._committing_ns += committed_ns - handled_ns
        self._slowest_ns = max(self._slowest_ns, committed_ns - started_ns)
        # Dictionaries, since a Counter is written in Python: this runs at every bar.
        for stream, count in consumed.items():
            self._consumed[stream] = self._consumed.get(stream, 0) + count
        for sealed in outputs:
            self._produced[sealed.stream] = self._produced.get(sealed.stream, 0) + 1
        if time.monotonic() - self._told >= MINUTE_S:
            self._tell()

    def levels(self, readings: Sequence[MetricReading]) -> None:
        """See ``Telemetry.levels``."""
        self._telemetry.levels(readings)

    def record(self, name: str, value: float) -> None:
        """See ``Telemetry.record``."""
        self._telemetry.record(name, value)

    def stop(self) -> None:
        """See ``Telemetry.stop``."""
        if self._batches:
            self._tell()
        self._telemetry.stop()

    def _tell(self) -> None:
        fields = {
            "batches": self._batches,
            "consumed": self._consumed,
            "produced": self._produced,
            "handling_s": round(self._handling_ns / 1e9, 6),
            "committing_s": round(self._committing_ns / 1e9, 6),
            "slowest_s": round(self._slowest_ns / 1e9, 6),
        }
        logging.getLogger("work").info("worked", extra={"fields": fields})
        self._told = time.monotonic()
        self._begin()
