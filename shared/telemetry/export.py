"""Telemetry that is on: spans and metrics by the OpenTelemetry SDK, sent over OTLP/HTTP.

Loaded by ``shared.telemetry.start`` when an endpoint is configured. A span is made for each sampled
output, already finished, with the ids that its event has (``shared.telemetry.spans``). Counts are sums kept in
plain dictionaries and read by the exporting thread, so that a batch costs a few additions.
"""

import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from threading import Thread
from typing import Final, get_args

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import CallbackOptions, NoOpMeterProvider, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from schemas.catalogue import STREAMS
from schemas.codec import SAMPLED, Encoded
from schemas.decisions import BallotLate, DecisionMade
from schemas.documentation.streams import events_of
from schemas.operations import DeadLetter, Refusal
from schemas.readiness import ArtifactReady
from shared.distribution import version
from shared.settings import TelemetrySettings
from shared.telemetry.distributions import Distribution, Joined
from shared.telemetry.logs import Counted
from shared.telemetry.metrics import METRICS, MetricReading
from shared.telemetry.spans import EncodedSpan, SpanSender, encode_span

REQUEST_S: Final = 2.0
STOP_S: Final = 3.0
SPANS_MS: Final = 2_000
EXPORTER_LOGGERS: Final = (
    "shared.telemetry.spans",
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.sdk._shared_internal",
)
STREAM_OF: Final = itemgetter(0)
LOOKED_INSIDE: Final = frozenset(("decisions", "dead", "alarms", "readiness"))

_log = logging.getLogger(__name__)


class Exporting:
    """``shared.telemetry.reporting.Telemetry`` that keeps and sends, spans and metrics each by their exporter."""

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
        self._distributions = {each.name: Distribution(each) for each in METRICS.values() if each.kind == "histogram"}
        self._batch = self._distributions["conclave.batch.duration"].record
        self._commit = self._distributions["conclave.commit.duration"].record
        self._hop = self._distributions["conclave.hop.duration"].record
        self._reader = PeriodicExportingMetricReader(Joined(metrics, self._distributions), export_ms, REQUEST_S * 1000)
        self._meters = MeterProvider([self._reader], resource, shutdown_on_exit=False)
        self._consumed: Counter[str] = Counter()
        self._produced: Counter[str] = Counter()
        self._sums: Counter[tuple[str, tuple[str, ...]]] = Counter(dict.fromkeys(_from_zero(service), 0))
        self._levels: dict[tuple[str, tuple[str, ...]], float] = {}
        self._committed_ns = time.time_ns()
        self._stopped = False
        meter = self._meters.get_meter("conclave")
        for metric in METRICS.values():
            if metric.kind != "histogram":
                create = meter.create_observable_counter if metric.kind == "counter" else meter.create_observable_gauge
                create(metric.name, [self._observed(metric.name)], unit=metric.unit, description=metric.meaning)

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
        for stream, count in consumed.items():
            self._consumed[stream] += count
        streams = set(map(STREAM_OF, outputs))
        if len(streams) == 1:
            self._produced[outputs[0].stream] += len(outputs)
        else:
            self._produced.update(map(STREAM_OF, outputs))
        if not streams.isdisjoint(LOOKED_INSIDE):
            self._look_inside(outputs, committed_ns)
        self._committed_ns = committed_ns
        self._batch((handled_ns - started_ns) / 1e9)
        self._commit((committed_ns - handled_ns) / 1e9)
        if oldest_ms is not None:
            self._hop(committed_ns / 1e9 - oldest_ms / 1e3)
        for stream, envelope, _ in [sealed for sealed in outputs if sealed[1].flags & SAMPLED]:
            self._spans.on_end(EncodedSpan(encode_span(self._service, stream, envelope, started_ns, committed_ns)))

    def levels(self, readings: Sequence[MetricReading]) -> None:
        """See ``Telemetry.levels``."""
        self._levels = {(name, attributes): value for name, attributes, value in readings}

    def record(self, name: str, value: float) -> None:
        """See ``Telemetry.record``."""
        self._distributions[name].record(value)

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

    def _look_inside(self, outputs: Sequence[Encoded], committed_ns: int) -> None:
        for sealed in outputs:
            match sealed.envelope.event:
                case DecisionMade() as decision:
                    self._decided(decision, committed_ns)
                case BallotLate(model=model):
                    self._sums["conclave.ballots.late", (model,)] += 1
                case DeadLetter(reason=reason):
                    self._sums["conclave.dead_letters", (reason,)] += 1
                case ArtifactReady(took_ms=took_ms):
                    self.record("conclave.artifact.load.duration", took_ms / 1e3)
                case event if sealed.stream == "alarms":
                    self._sums["conclave.alarms", (event.__struct_config__.tag,)] += 1
                case _:
                    pass

    def _decided(self, decision: DecisionMade, committed_ns: int) -> None:
        sums = self._sums
        sums["conclave.decisions", (decision.status, decision.action, decision.intent)] += 1
        alive = 0.0
        for ballot in decision.counted:
            alive += ballot.weight
            sums["conclave.ballots", (ballot.model, ballot.action)] += 1
        for member in decision.absent:
            sums["conclave.ballots", (member.model, "absent")] += 1
        self.record("conclave.vote.alive_weight", alive)
        if decision.status == "decided":
            self.record("conclave.vote.confidence", decision.confidence)
        if decision.origin == "live":
            closed_ms = decision.open_time + decision.interval_ms
            self.record("conclave.decision.delay", committed_ns / 1e9 - closed_ms / 1e3)
        self._levels["conclave.decision.control_version", ()] = decision.control_version

    def _observed(self, name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        """What the exporting thread asks for; the sums may grow meanwhile."""
        keys = METRICS[name].attributes

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(value, dict(zip(keys, at, strict=True))) for at, value in self._found(name).items()]

        return observe

    def _found(self, name: str) -> Mapping[tuple[str, ...], float]:
        """Where an instrument stands, by the values of its attributes."""
        match name:
            case "conclave.commit.age":
                return {(): max(time.time_ns() - self._committed_ns, 0) / 1e9}
            case "conclave.events.consumed":
                return {(stream,): count for stream, count in self._consumed.copy().items()}
            case "conclave.events.produced":
                return {(stream,): count for stream, count in self._produced.copy().items()}
            case _:
                kept = {**self._sums, **self._levels}
                return {at: value for (kind, at), value in kept.items() if kind == name}


def _from_zero(service: str) -> list[tuple[str, tuple[str, ...]]]:
    """What is told before it happens: a rule sees the first of a kind only where it saw none before."""
    name = service.partition(".")[0]
    reasons = get_args(Refusal) if name in STREAMS["dead"].writers else ()
    alarms = events_of(STREAMS["alarms"]) if name in STREAMS["alarms"].writers else ()
    silent = [("no_quorum", "HOLD", "no_quorum")] if name in STREAMS["decisions"].writers else []
    return [
        *(("conclave.dead_letters", (reason,)) for reason in reasons),
        *(("conclave.alarms", (alarm.__struct_config__.tag,)) for alarm in alarms),
        *(("conclave.decisions", decision) for decision in silent),
    ]


SELDOM: Final = Counted(1, lambda record: (record.name,))
"""A collector that is down is one line a minute of each exporter, with how often it was."""


def exporting(settings: TelemetrySettings, service: str, partition: int) -> Exporting:
    """Telemetry to the collector at ``settings.endpoint``. Headers for it, if any, come from
    ``$OTEL_EXPORTER_OTLP_HEADERS``."""
    for name in EXPORTER_LOGGERS:
        logging.getLogger(name).addFilter(SELDOM)
    resource = Resource.create(
        {
            "service.name": f"{settings.service_prefix}.{service}",
            "service.version": version(),
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
