"""Telemetry that is on: spans and metrics by the OpenTelemetry SDK, sent over OTLP/HTTP.

Loaded by ``shared.telemetry.start`` when an endpoint is configured. A span is made for each sampled
output, already finished, with the ids that its event has. Counts are sums kept in plain dictionaries
and read by the exporting thread; a batch costs two histogram records and a few additions.
"""

import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from operator import attrgetter
from threading import Thread
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import CallbackOptions, NoOpMeterProvider, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

from schemas.codec import ROOT, SAMPLED, Envelope, Sealed
from schemas.decisions import DecisionMade
from schemas.operations import DeadLetter
from shared.settings import Telemetry as TelemetrySettings

REQUEST_S: Final = 2.0
STOP_S: Final = 3.0
SPANS_MS: Final = 2_000
QUIET_S: Final = 60.0
BOUNDS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
EXPORTER_LOGGERS: Final = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.sdk._shared_internal",
)
STREAM, PARTITION = "conclave.stream", "conclave.partition"
SCOPE: Final = InstrumentationScope("conclave")
TRACED: Final = TraceFlags(TraceFlags.SAMPLED)

_log = logging.getLogger(__name__)


class Exporting:
    """``shared.telemetry.Telemetry`` that keeps and sends. ``spans`` and ``reader`` decide where to."""

    def __init__(self, service: str, partition: int, resource: Resource, spans: SpanExporter, reader: MetricReader):
        self._service, self._partition, self._resource = service, partition, resource
        self._spans = BatchSpanProcessor(spans, schedule_delay_millis=SPANS_MS, meter_provider=NoOpMeterProvider())
        self._meters = MeterProvider([reader], resource, shutdown_on_exit=False)
        self._consumed: Counter[str] = Counter()
        self._produced: Counter[str] = Counter()
        self._dead: Counter[str] = Counter()
        self._decisions: Counter[tuple[str, str, str]] = Counter()
        self._lag: dict[str, int] = {}
        self._committed_ns = time.time_ns()
        self._attributes: Final[dict[str, Any]] = {PARTITION: partition}
        self._stopped = False
        meter = self._meters.get_meter("conclave")
        self._batch, self._commit = (
            meter.create_histogram(name, unit="s", description=what, explicit_bucket_boundaries_advisory=BOUNDS_S)
            for name, what in (
                ("conclave.batch.duration", "Handling of a batch, without its commit."),
                ("conclave.commit.duration", "Commit of a batch."),
            )
        )
        for name, what, sums in (
            ("conclave.events.consumed", "Events taken in and committed.", self._by_stream("_consumed")),
            ("conclave.events.produced", "Events written.", self._by_stream("_produced")),
            ("conclave.dead_letters", "Input refused, by reason.", self._dead_letters),
            ("conclave.decisions", "Decisions by status, action and intent.", self._decided),
        ):
            meter.create_observable_counter(name, [sums], unit="{event}", description=what)
        meter.create_observable_gauge(
            "conclave.lag", [self._by_stream("_lag")], unit="{event}", description="Events not yet committed."
        )
        meter.create_observable_gauge(
            "conclave.commit.age", [self._age], unit="s", description="Since the last commit, or the start."
        )

    def batch(
        self,
        *,
        consumed: Mapping[str, int],
        outputs: Sequence[Sealed],
        started_ns: int,
        handled_ns: int,
        committed_ns: int,
        lag: Mapping[str, int],
    ) -> None:
        """See ``Telemetry.batch``."""
        for stream, count in consumed.items():
            self._consumed[stream] += count
        written = Counter(map(attrgetter("stream"), outputs))
        for stream, count in written.items():
            self._produced[stream] += count
        if "decisions" in written or "dead" in written:
            self._look_inside(outputs)
        self._lag.update(lag)
        self._committed_ns = committed_ns
        self._batch.record(max(handled_ns - started_ns, 0) / 1e9, self._attributes)
        self._commit.record(max(committed_ns - handled_ns, 0) / 1e9, self._attributes)
        for sealed in outputs:
            if sealed.envelope.flags & SAMPLED:
                self._spans.on_end(self._span(sealed.stream, sealed.envelope, started_ns, committed_ns))

    def stop(self) -> None:
        """See ``Telemetry.stop``."""
        if self._stopped:
            return
        self._stopped = True
        deadline = time.monotonic() + STOP_S
        ending = [Thread(target=end, daemon=True) for end in (self._end_spans, self._end_metrics)]
        for thread in ending:
            thread.start()
        for thread in ending:
            thread.join(max(deadline - time.monotonic(), 0.0))
        if any(thread.is_alive() for thread in ending):
            _log.warning("telemetry: the collector did not take the last spans and metrics in %.0f s", STOP_S)

    def _end_spans(self) -> None:
        self._spans.shutdown()  # type: ignore[no-untyped-call]  # SDK leaves untyped

    def _end_metrics(self) -> None:
        try:
            self._meters.shutdown(STOP_S * 1000)
        except Exception as error:  # the SDK raises nothing narrower
            _log.warning("telemetry: the last metrics were not sent: %s", error)

    def _span(self, stream: str, envelope: Envelope[Any], started_ns: int, ended_ns: int) -> ReadableSpan:
        trace = int.from_bytes(envelope.correlation)
        root = envelope.causation == ROOT
        attributes: dict[str, str | int] = {
            STREAM: stream,
            PARTITION: self._partition,
            "conclave.event": envelope.id.hex(),
        }
        symbol = getattr(envelope.event, "symbol", None)
        if symbol is not None:
            attributes["conclave.symbol"] = symbol
        return ReadableSpan(
            name=f"{self._service} {stream}",
            context=SpanContext(trace, int.from_bytes(envelope.id[:8]), is_remote=False, trace_flags=TRACED),
            parent=None
            if root
            else SpanContext(trace, int.from_bytes(envelope.causation[:8]), is_remote=True, trace_flags=TRACED),
            resource=self._resource,
            attributes=attributes,
            kind=SpanKind.PRODUCER if root else SpanKind.CONSUMER,
            start_time=started_ns,
            end_time=ended_ns,
            instrumentation_scope=SCOPE,
        )

    def _look_inside(self, outputs: Sequence[Sealed]) -> None:
        for sealed in outputs:
            match sealed.envelope.event:
                case DecisionMade(status=status, action=action, intent=intent):
                    self._decisions[status, action, intent] += 1
                case DeadLetter(reason=reason):
                    self._dead[reason] += 1
                case _:
                    pass

    def _by_stream(self, name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            found: dict[str, int] = dict(getattr(self, name))
            return [Observation(value, {STREAM: stream, **self._attributes}) for stream, value in found.items()]

        return observe

    def _dead_letters(self, _: CallbackOptions) -> Iterable[Observation]:
        found = dict(self._dead)
        return [Observation(count, {"conclave.reason": key, **self._attributes}) for key, count in found.items()]

    def _decided(self, _: CallbackOptions) -> Iterable[Observation]:
        keys = ("conclave.status", "conclave.action", "conclave.intent")
        found = dict(self._decisions)
        return [
            Observation(count, {**dict(zip(keys, key, strict=True)), **self._attributes})
            for key, count in found.items()
        ]

    def _age(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(max(time.time_ns() - self._committed_ns, 0) / 1e9, self._attributes)]


class Seldom(logging.Filter):
    """Lets one record a minute pass, so that a collector that is down does not fill the log."""

    def __init__(self) -> None:
        super().__init__()
        self._passed: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this logger has been quiet for long enough."""
        now = time.monotonic()
        due = now - self._passed.get(record.name, -QUIET_S) >= QUIET_S
        if due:
            self._passed[record.name] = now
        return due


SELDOM: Final = Seldom()


def exporting(settings: TelemetrySettings, service: str, partition: int) -> Exporting:
    """Telemetry to the collector at ``settings.endpoint``. Headers for it, if any, are read by the
    exporter from ``$OTEL_EXPORTER_OTLP_HEADERS``."""
    for name in EXPORTER_LOGGERS:
        logging.getLogger(name).addFilter(SELDOM)
    resource = Resource.create(
        {
            "service.name": f"{settings.service_prefix}.{service}",
            "service.version": version("conclave"),
            "service.instance.id": f"{socket.gethostname()}/{os.getpid()}/{partition}",
        }
    )
    base = settings.endpoint.rstrip("/")
    spans = OTLPSpanExporter(endpoint=f"{base}/v1/traces", timeout=REQUEST_S)
    metrics = OTLPMetricExporter(endpoint=f"{base}/v1/metrics", timeout=REQUEST_S)
    reader = PeriodicExportingMetricReader(metrics, settings.export_ms, REQUEST_S * 1000)
    return Exporting(service, partition, resource, spans, reader)
