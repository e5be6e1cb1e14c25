"""Spans of sampled events, and of a sample of batches, for the exporter of the OpenTelemetry SDK.

The ids of an event (``schemas.codec``) are the ids of its span: the trace id is the id of its bar, the span id the
first half of its own id, the parent the first half of its cause's id. So one trace leads from a bar to its intent,
although no process knows the spans of another.

By the conventions for messaging (https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/) an event
written is a span of kind PRODUCER, and a batch read is one ``process`` span of kind CONSUMER in a trace of its own:
one parent cannot stand for many messages, so it has links to the traced events among them. Both are sampled by their
trace id, the event's where its bar entered (``flags_of``).

When a batch is committed, its spans are complete, so each is constructed as the SDK's ``ReadableSpan`` and handed to
a span processor. ``Tracer.start_span`` and an ``IdGenerator`` give the same span for 30 us instead of 1 us.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags

from schemas.codec import ROOT, Encoded, Envelope
from shared.telemetry.reporting import BatchReport, flags_of

SCOPE: Final = InstrumentationScope("conclave")
TRACED: Final = TraceFlags(TraceFlags.SAMPLED)


class Tracing:
    """The spans of one service. ``share`` of its batches are recorded, and all sampled events."""

    def __init__(self, service: str, share: float, resource: Resource, processor: SpanProcessor) -> None:
        self._service = service
        self._share = share
        self._resource = resource
        self._processor = processor
        self._random = RandomIdGenerator()

    def record(self, report: BatchReport) -> None:
        """Record all outputs of a batch, which are sampled, and the batch if it read an event and is sampled too."""
        for output in report.outputs:
            self._record_event(output, report)
        trace_id = self._random.generate_trace_id()
        if report.consumed and flags_of(trace_id.to_bytes(16), self._share):
            self._record_batch(trace_id, report)

    def stop(self) -> None:
        """Send the last spans. Blocks for as long as the processor does."""
        self._processor.shutdown()

    def _record_event(self, output: Encoded, report: BatchReport) -> None:
        stream, envelope, _ = output
        attributes = {"conclave.stream": stream}
        symbol = getattr(envelope.event, "symbol", None)
        if symbol is not None:
            attributes["conclave.symbol"] = symbol
        context = _context(int.from_bytes(envelope.correlation), int.from_bytes(envelope.id[:8]), remote=False)
        self._end(f"{self._service} {stream}", SpanKind.PRODUCER, context, attributes, report, parent=_cause(envelope))

    def _record_batch(self, trace_id: int, report: BatchReport) -> None:
        causes = {output.envelope.causation: _cause(output.envelope) for output in report.outputs}
        links = [Link(cause) for cause in causes.values() if cause is not None]
        name = "process"
        attributes: dict[str, str | int] = {
            "messaging.system": "redis",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.consumer.group.name": self._service,
            "messaging.batch.message_count": sum(report.consumed.values()),
        }
        if len(report.consumed) == 1:
            [stream] = report.consumed
            attributes["messaging.destination.name"] = stream
            name = f"process {stream}"
        context = _context(trace_id, self._random.generate_span_id(), remote=False)
        self._end(name, SpanKind.CONSUMER, context, attributes, report, links=links)

    def _end(
        self,
        name: str,
        kind: SpanKind,
        context: SpanContext,
        attributes: Mapping[str, str | int],
        report: BatchReport,
        *,
        parent: SpanContext | None = None,
        links: Sequence[Link] = (),
    ) -> None:
        span = ReadableSpan(
            name=name,
            context=context,
            parent=parent,
            resource=self._resource,
            attributes=attributes,
            links=links,
            kind=kind,
            start_time=report.started_ns,
            end_time=report.committed_ns,
            instrumentation_scope=SCOPE,
        )
        self._processor.on_end(span)


def _cause(envelope: Envelope[Any]) -> SpanContext | None:
    """Return the context of the event that led to this one."""
    if envelope.causation == ROOT:
        return None
    return _context(int.from_bytes(envelope.correlation), int.from_bytes(envelope.causation[:8]), remote=True)


def _context(trace_id: int, span_id: int, *, remote: bool) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote=remote, trace_flags=TRACED)
