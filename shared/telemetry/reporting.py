"""What a process reports after each batch.

Without an endpoint this is one line of log a minute, and no library is imported. With an endpoint,
``shared.telemetry.export`` also sends spans and metrics over OTLP/HTTP, from threads of its own: a collector that is
slow, down or faulty can lose telemetry, but never delays a batch. Telemetry is not part of an event's id, and no
service reads it.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Final

from msgspec import Struct

from schemas.codec import SAMPLED, Encoded
from shared.telemetry.logs import MINUTE_S
from shared.telemetry.metrics import MetricReading

STREAM_OF: Final = itemgetter(0)

_log = logging.getLogger("work")


class BatchReport(Struct, frozen=True, kw_only=True):
    """One committed batch.

    ``consumed`` counts the events read of each stream, ``outputs`` are the events written. The batch was started,
    handled and committed at these moments (nanoseconds since 1970, by the server's clock: ``shared.runtime.clock``).
    ``oldest_ms``: when the oldest event read was written, by the same clock; None where none was read."""

    consumed: Mapping[str, int]
    outputs: Sequence[Encoded]
    started_ns: int
    handled_ns: int
    committed_ns: int
    oldest_ms: int | None = None


class Telemetry:
    """Logs a minute's batches as one line. Spans and metrics are dropped here and sent by ``Exporting``.

    Not safe for several threads: one thread reports, and others may read ``consumed`` and ``produced``."""

    def __init__(self) -> None:
        self.now_ns: Callable[[], int] = time.time_ns
        self.consumed: dict[str, int] = {}
        self.produced: dict[str, int] = {}
        self._logged_at = -MINUTE_S
        self._batches, self._handling_ns, self._committing_ns, self._slowest_ns = 0, 0, 0, 0
        self._start_line()

    def use_clock(self, now_ns: Callable[[], int]) -> None:
        """Use the clock (ns since 1970) by which batches are reported from now on."""
        self.now_ns = now_ns

    def batch(self, report: BatchReport) -> None:
        """Report one committed batch. Never raises on account of the collector, never waits."""
        # Dictionaries, since a Counter is written in Python: this runs at every bar.
        for stream, count in report.consumed.items():
            self.consumed[stream] = self.consumed.get(stream, 0) + count
        streams = list(map(STREAM_OF, report.outputs))
        for stream in set(streams):
            self.produced[stream] = self.produced.get(stream, 0) + streams.count(stream)
        self._batches += 1
        self._handling_ns += report.handled_ns - report.started_ns
        self._committing_ns += report.committed_ns - report.handled_ns
        self._slowest_ns = max(self._slowest_ns, report.committed_ns - report.started_ns)
        if time.monotonic() - self._logged_at >= MINUTE_S:
            self._log_work()

    def levels(self, readings: Sequence[MetricReading]) -> None:
        """Set all gauges of ``shared.telemetry.metrics``; a gauge without a reading is no longer exported."""

    def record(self, name: str, value: float) -> None:
        """Add one value to a histogram of ``shared.telemetry.metrics``, in its unit."""

    def stop(self) -> None:
        """Log the last batches, send the last spans and metrics, and end. Blocks for three seconds at most,
        whatever the collector does; what could not be sent by then is lost. A second call does nothing."""
        if self._batches:
            self._log_work()

    def _start_line(self) -> None:
        self._batches, self._handling_ns, self._committing_ns, self._slowest_ns = 0, 0, 0, 0
        self._consumed_before, self._produced_before = self.consumed.copy(), self.produced.copy()

    def _log_work(self) -> None:
        fields = {
            "batches": self._batches,
            "consumed": _increase(self.consumed, self._consumed_before),
            "produced": _increase(self.produced, self._produced_before),
            "handling_s": round(self._handling_ns / 1e9, 6),
            "committing_s": round(self._committing_ns / 1e9, 6),
            "slowest_s": round(self._slowest_ns / 1e9, 6),
        }
        _log.info("worked", extra={"fields": fields})
        self._logged_at = time.monotonic()
        self._start_line()


def _increase(counts: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return {stream: count - before.get(stream, 0) for stream, count in counts.items() if count > before.get(stream, 0)}


def flags_of(trace_id: bytes, share: float) -> int:
    """Return the envelope flags of a bar: sampled for ``share`` of all trace ids, by the rule of OpenTelemetry's
    ``TraceIdRatioBased``. A feed that starts again flags the same bars, and writes the same bytes."""
    return SAMPLED if int.from_bytes(trace_id[8:]) < round(share * 2**64) else 0
