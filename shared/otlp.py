"""Telemetry that is on: spans and metrics by the OpenTelemetry SDK, sent over OTLP/HTTP.

Loaded by ``shared.telemetry.start`` when an endpoint is configured. A span is made for each sampled
output, already finished, with the ids that its event has (``shared.spans``). Counts are sums kept in
plain dictionaries and read by the exporting thread, so that a batch costs a few additions.
"""

import logging
import math
import os
import socket
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from operator import itemgetter
from threading import Thread
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import CallbackOptions, NoOpMeterProvider, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from schemas.codec import SAMPLED, Sealed
from schemas.decisions import DecisionMade
from schemas.operations import DeadLetter
from shared.settings import Telemetry as TelemetrySettings
from shared.spans import STREAM, EncodedSpan, SpanSender, encode

REQUEST_S: Final = 2.0
STOP_S: Final = 3.0
SPANS_MS: Final = 2_000
QUIET_S: Final = 60.0
BOUNDS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
EXPORTER_LOGGERS: Final = (
    "shared.spans",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.sdk._shared_internal",
)
STREAM_OF: Final = itemgetter(0)
LOOKED_INSIDE: Final = frozenset(("decisions", "dead"))

_log = logging.getLogger(__name__)


class Durations:
    """A histogram of seconds. The SDK's own takes longer for one value than many a batch does."""

    def __init__(self, name: str, description: str) -> None:
        self._name, self._description = name, description
        self._since = time.time_ns()
        self._counts = [0] * (len(BOUNDS_S) + 1)
        self._sum, self._least, self._most = 0.0, math.inf, 0.0

    def record(self, nanoseconds: int) -> None:
        """One duration; a negative one, of a clock that was set back, counts as 0."""
        seconds = nanoseconds / 1e9 if nanoseconds > 0 else 0.0
        self._counts[bisect_left(BOUNDS_S, seconds)] += 1
        self._sum += seconds
        if seconds < self._least:  # noqa: PLR1730  # min() takes longer
            self._least = seconds
        if seconds > self._most:  # noqa: PLR1730  # max() takes longer
            self._most = seconds

    @property
    def any(self) -> bool:
        """Whether there is a duration at all."""
        return self._least < math.inf

    def metric(self) -> Metric:
        """As it stands, cumulative."""
        counts = list(self._counts)
        point = HistogramDataPoint(
            {}, self._since, time.time_ns(), sum(counts), self._sum, counts, BOUNDS_S, self._least, self._most
        )
        return Metric(self._name, self._description, "s", Histogram([point], AggregationTemporality.CUMULATIVE))


class Joined(MetricExporter):
    """Sends durations along with what the meters have."""

    def __init__(self, exporter: MetricExporter, durations: Sequence[Durations]) -> None:
        super().__init__(exporter._preferred_temporality, exporter._preferred_aggregation)
        self._exporter, self._durations = exporter, durations

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """See ``MetricExporter``."""
        measured = [each.metric() for each in self._durations if each.any]
        [resource] = metrics_data.resource_metrics
        [scope] = resource.scope_metrics
        joined = replace(resource, scope_metrics=[replace(scope, metrics=[*scope.metrics, *measured])])
        return self._exporter.export(MetricsData([joined]), timeout_millis=timeout_millis, **kwargs)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """See ``MetricExporter``."""
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """See ``MetricExporter``."""
        self._exporter.shutdown(timeout_millis, **kwargs)


class Exporting:
    """``shared.telemetry.Telemetry`` that keeps and sends, spans and metrics each by their exporter."""

    def __init__(
        self,
        service: str,
        *,
        resource: Resource,
        spans: SpanExporter,
        metrics: MetricExporter,
        export_ms: float,
    ) -> None:
        self._service = service
        self._spans = BatchSpanProcessor(spans, schedule_delay_millis=SPANS_MS, meter_provider=NoOpMeterProvider())
        self._batch = Durations("conclave.batch.duration", "Handling of a batch, without its commit.")
        self._commit = Durations("conclave.commit.duration", "Commit of a batch.")
        self._reader = PeriodicExportingMetricReader(
            Joined(metrics, (self._batch, self._commit)), export_ms, REQUEST_S * 1000
        )
        self._meters = MeterProvider([self._reader], resource, shutdown_on_exit=False)
        self._consumed: Counter[str] = Counter()
        self._produced: Counter[str] = Counter()
        self._dead: Counter[str] = Counter()
        self._decisions: Counter[tuple[str, str, str]] = Counter()
        self._lag: dict[str, int] = {}
        self._committed_ns = time.time_ns()
        self._stopped = False
        meter = self._meters.get_meter("conclave")
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
        streams = set(map(STREAM_OF, outputs))
        if len(streams) == 1:
            self._produced[outputs[0].stream] += len(outputs)
        else:
            self._produced.update(map(STREAM_OF, outputs))
        if not streams.isdisjoint(LOOKED_INSIDE):
            self._look_inside(outputs)
        if lag:
            self._lag.update(lag)
        self._committed_ns = committed_ns
        self._batch.record(handled_ns - started_ns)
        self._commit.record(committed_ns - handled_ns)
        for stream, envelope, _ in [sealed for sealed in outputs if sealed[1].flags & SAMPLED]:
            self._spans.on_end(EncodedSpan(encode(self._service, stream, envelope, started_ns, committed_ns)))

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
            return [Observation(value, {STREAM: stream}) for stream, value in found.items()]

        return observe

    def _dead_letters(self, _: CallbackOptions) -> Iterable[Observation]:
        found = dict(self._dead)
        return [Observation(count, {"conclave.reason": key}) for key, count in found.items()]

    def _decided(self, _: CallbackOptions) -> Iterable[Observation]:
        keys = ("conclave.status", "conclave.action", "conclave.intent")
        found = dict(self._decisions)
        return [Observation(count, dict(zip(keys, key, strict=True))) for key, count in found.items()]

    def _age(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(max(time.time_ns() - self._committed_ns, 0) / 1e9)]


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
    """Telemetry to the collector at ``settings.endpoint``. Headers for it, if any, come from
    ``$OTEL_EXPORTER_OTLP_HEADERS``."""
    for name in EXPORTER_LOGGERS:
        logging.getLogger(name).addFilter(SELDOM)
    resource = Resource.create(
        {
            "service.name": f"{settings.service_prefix}.{service}",
            "service.version": version("conclave"),
            "service.instance.id": f"{socket.gethostname()}/{os.getpid()}/{partition}",
            "conclave.partition": str(partition),
        }
    )
    base = settings.endpoint.rstrip("/")
    return Exporting(
        service,
        resource=resource,
        spans=SpanSender(f"{base}/v1/traces", resource.attributes, REQUEST_S),
        metrics=OTLPMetricExporter(endpoint=f"{base}/v1/metrics", timeout=REQUEST_S),
        export_ms=settings.export_ms,
    )
