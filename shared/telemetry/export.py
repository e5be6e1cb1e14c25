"""Metrics and spans by the OpenTelemetry SDK, sent over OTLP/HTTP.

Loaded by ``shared.telemetry.start`` when an endpoint is configured. Counters and gauges are plain dictionaries that
the SDK's reader asks for, from its own thread: a batch costs a few additions and three histogram values, and a
span for each event that is sampled.
"""

import logging
import os
import socket
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Thread
from typing import Final, get_args

from msgspec.structs import replace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from schemas.catalogue import STREAMS, events_of
from schemas.codec import SAMPLED, Encoded
from schemas.decisions import BallotLate, DecisionMade
from schemas.operations import DeadLetter, Refusal
from schemas.orders import IntentRefused, Reason
from schemas.readiness import ArtifactReady
from schemas.venue import ClockMeasured, FeedInterrupted, VenueEvent
from shared.distribution import version
from shared.settings import TelemetrySettings
from shared.telemetry.logs import FloodFilter
from shared.telemetry.metrics import METRICS, MetricReading
from shared.telemetry.reporting import STREAM_OF, BatchReport, Telemetry
from shared.telemetry.tracing import Tracing

REQUEST_S: Final = 2.0
STOP_S: Final = 3.0
SPANS_MS: Final = 2_000
EXPORTER_LOGGERS: Final = (
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.sdk._shared_internal",
)
COUNTED_BY_CONTENT: Final = frozenset(("decisions", "dead", "alarms", "readiness", "orders", "venue"))
BATCHES_AT_ONCE: Final = 64
"""So many batches are handed to the SDK at a time, or those since the reader's last export: the SDK takes four times
as long for a single one, since the processor's caches then hold other code."""

_log = logging.getLogger(__name__)


class Exporting(Telemetry):
    """``Telemetry`` that also sends spans through ``spans`` and metrics through ``metrics``."""

    def __init__(
        self, service: str, *, sample: float, resource: Resource, spans: SpanProcessor, metrics: MetricReader
    ) -> None:
        super().__init__()
        self._tracing = Tracing(service, sample, resource, spans)
        self._meters = MeterProvider(
            [metrics], resource, shutdown_on_exit=False, exemplar_filter=AlwaysOffExemplarFilter()
        )
        self._sums: defaultdict[tuple[str, tuple[str, ...]], float] = defaultdict(
            float, dict.fromkeys(_zeros(service), 0)
        )
        self._levels: dict[tuple[str, tuple[str, ...]], float] = {}
        self._reports: deque[BatchReport] = deque()
        self._committed_ns = self.now_ns()
        self._stopped = False
        meter = self._meters.get_meter("conclave")
        self._histograms = {
            metric.name: meter.create_histogram(
                metric.name,
                unit=metric.unit,
                description=metric.meaning,
                explicit_bucket_boundaries_advisory=metric.bounds,
            )
            for metric in METRICS.values()
            if metric.kind == "histogram"
        }
        for metric in METRICS.values():
            if metric.kind != "histogram":
                create = meter.create_observable_counter if metric.kind == "counter" else meter.create_observable_gauge
                create(metric.name, [self._callback(metric.name)], unit=metric.unit, description=metric.meaning)

    def batch(self, report: BatchReport) -> None:
        """See ``Telemetry.batch``."""
        super().batch(report)
        if not COUNTED_BY_CONTENT.isdisjoint(map(STREAM_OF, report.outputs)):
            self._count_by_content(report.outputs, report.committed_ns)
        self._committed_ns = report.committed_ns
        sampled = [output for output in report.outputs if output.envelope.flags & SAMPLED]
        self._reports.append(replace(report, outputs=sampled))
        if len(self._reports) >= BATCHES_AT_ONCE:
            self._record_batches()

    def use_clock(self, now_ns: Callable[[], int]) -> None:
        """See ``Telemetry.use_clock``."""
        self._committed_ns += now_ns() - self.now_ns()
        super().use_clock(now_ns)

    def levels(self, readings: Sequence[MetricReading]) -> None:
        """See ``Telemetry.levels``."""
        self._levels = {(name, attributes): value for name, attributes, value in readings}

    def record(self, name: str, value: float) -> None:
        """See ``Telemetry.record``. A negative value, of a clock that was set back, counts as 0."""
        self._histograms[name].record(max(value, 0.0))

    def stop(self) -> None:
        """See ``Telemetry.stop``."""
        if self._stopped:
            return
        self._stopped = True
        super().stop()
        self._record_batches()
        deadline = time.monotonic() + STOP_S
        ending = [Thread(target=end, daemon=True) for end in (self._tracing.stop, self._stop_metrics)]
        for thread in ending:
            thread.start()
        for thread in ending:
            thread.join(max(deadline - time.monotonic(), 0.0))
        if any(thread.is_alive() for thread in ending):
            _log.warning("telemetry: the collector did not take the last spans and metrics in %.0f s", STOP_S)

    def _record_batches(self) -> None:
        """Hand the last batches to the SDK. The reader's thread may do so at the same time: each is taken once."""
        while True:
            try:
                report = self._reports.popleft()
            except IndexError:
                return
            self.record("conclave.batch.duration", (report.handled_ns - report.started_ns) / 1e9)
            self.record("conclave.commit.duration", (report.committed_ns - report.handled_ns) / 1e9)
            if report.oldest_ms is not None:
                self.record("conclave.hop.duration", report.committed_ns / 1e9 - report.oldest_ms / 1e3)
            self._tracing.record(report)

    def _stop_metrics(self) -> None:
        try:
            self._meters.shutdown(STOP_S * 1000)
        except Exception as error:  # the SDK raises nothing narrower
            _log.warning("telemetry: the last metrics were not sent: %s", error)

    def _count_by_content(self, outputs: Sequence[Encoded], committed_ns: int) -> None:
        for output in outputs:
            match output.envelope.event:
                case DecisionMade() as decision:
                    self._count_decision(decision, committed_ns)
                case BallotLate(model=model):
                    self._sums["conclave.ballots.late", (model,)] += 1
                case DeadLetter(reason=reason):
                    self._sums["conclave.dead_letters", (reason,)] += 1
                case IntentRefused(reason=reason):
                    self._sums["conclave.intents.refused", (reason,)] += 1
                case ArtifactReady(took_ms=took_ms):
                    self.record("conclave.artifact.load.duration", took_ms / 1e3)
                case event if output.stream == "venue":
                    self._count_exchange(event)
                case event if output.stream == "alarms":
                    self._sums["conclave.alarms", (event.__struct_config__.tag,)] += 1
                case _:
                    pass

    def _count_exchange(self, event: VenueEvent) -> None:
        self._sums["conclave.exchange.events", (event.exchange, str(event.__struct_config__.tag))] += 1
        if isinstance(event, FeedInterrupted):
            self._sums["conclave.exchange.interrupted", (event.exchange, event.cause)] += event.length_ms / 1e3
        elif isinstance(event, ClockMeasured):
            self._levels["conclave.exchange.clock_offset", (event.exchange,)] = event.offset_ms / 1e3

    def _count_decision(self, decision: DecisionMade, committed_ns: int) -> None:
        sums = self._sums
        sums["conclave.decisions", (decision.status, decision.action, decision.intent)] += 1
        alive_weight = 0.0
        for ballot in decision.counted:
            alive_weight += ballot.weight
            sums["conclave.ballots", (ballot.model, ballot.action)] += 1
        for member in decision.absent:
            sums["conclave.ballots", (member.model, "absent")] += 1
        self.record("conclave.vote.alive_weight", alive_weight)
        if decision.status == "decided":
            self.record("conclave.vote.confidence", decision.confidence)
        if decision.origin == "live":
            closed_ms = decision.open_time + decision.interval_ms
            self.record("conclave.decision.delay", committed_ns / 1e9 - closed_ms / 1e3)
        self._levels["conclave.decision.control_version", ()] = decision.control_version

    def _callback(self, name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        """Return what the reader's thread calls; the dictionaries may grow meanwhile."""
        keys = METRICS[name].attributes

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(value, dict(zip(keys, at, strict=True))) for at, value in self._values(name).items()]

        return observe

    def _values(self, name: str) -> Mapping[tuple[str, ...], float]:
        """Return the values of a counter or gauge by the values of its attributes."""
        match name:
            case "conclave.commit.age":
                self._record_batches()  # the reader asks for gauges before it reads the histograms
                return {(): max(self.now_ns() - self._committed_ns, 0) / 1e9}
            case "conclave.events.consumed":
                return {(stream,): count for stream, count in self.consumed.copy().items()}
            case "conclave.events.produced":
                return {(stream,): count for stream, count in self.produced.copy().items()}
            case _:
                values = {**self._sums, **self._levels}
                return {attributes: value for (metric, attributes), value in values.items() if metric == name}


def _zeros(service: str) -> list[tuple[str, tuple[str, ...]]]:
    """Return the series that are exported as 0 before anything happens: an alert rule sees the first event of a
    series only if the series existed before."""
    name = service.partition(".")[0]
    reasons = get_args(Refusal) if name in STREAMS["dead"].writers else ()
    alarms = events_of(STREAMS["alarms"]) if name in STREAMS["alarms"].writers else ()
    refusals = get_args(Reason) if name in STREAMS["orders"].writers else ()
    no_quorum = [("no_quorum", "HOLD", "no_quorum")] if name in STREAMS["decisions"].writers else []
    return [
        *(("conclave.dead_letters", (reason,)) for reason in reasons),
        *(("conclave.alarms", (alarm.__struct_config__.tag,)) for alarm in alarms),
        *(("conclave.intents.refused", (reason,)) for reason in refusals),
        *(("conclave.decisions", decision) for decision in no_quorum),
    ]


ONE_A_MINUTE: Final = FloodFilter(1, lambda record: (record.name,))
"""While a collector is down, each exporter logs one line a minute, with the count of those that were not logged."""


def exporting(settings: TelemetrySettings, service: str, partition: int) -> Exporting:
    """Return telemetry to the collector at ``settings.endpoint``. The exporters read headers for it from
    ``$OTEL_EXPORTER_OTLP_HEADERS``."""
    for name in EXPORTER_LOGGERS:
        logging.getLogger(name).addFilter(ONE_A_MINUTE)
    resource = Resource.create(
        {
            "service.name": f"{settings.service_prefix}.{service}",
            "service.version": version(),
            "service.instance.id": f"{socket.gethostname()}/{os.getpid()}/{partition}",
            "conclave.partition": str(partition),
        }
    )
    base = settings.endpoint.rstrip("/")
    spans = OTLPSpanExporter(f"{base}/v1/traces", timeout=REQUEST_S)
    metrics = OTLPMetricExporter(f"{base}/v1/metrics", timeout=REQUEST_S)
    return Exporting(
        service,
        sample=settings.sample,
        resource=resource,
        spans=BatchSpanProcessor(spans, schedule_delay_millis=SPANS_MS),
        metrics=PeriodicExportingMetricReader(metrics, settings.export_ms, REQUEST_S * 1000),
    )
