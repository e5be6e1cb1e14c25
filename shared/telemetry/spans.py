"""Spans of events, as the bytes that an OpenTelemetry collector reads.

A span here is known whole when it begins to exist: its ids are those of its event. So it is written
down at once in the encoding of OTLP (protobuf, ``opentelemetry/proto/trace/v1/trace.proto``) by hand,
in about a tenth of the time that the SDK's span, encoder and attribute checks take together.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from struct import Struct
from typing import Any, Final
from urllib.error import URLError
from urllib.request import Request, urlopen

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext, TraceFlags
from opentelemetry.util.re import parse_env_headers

from schemas.codec import ROOT, Envelope

HEADERS: Final = "OTEL_EXPORTER_OTLP_HEADERS"
STREAM: Final = "conclave.stream"
SYMBOL: Final = "conclave.symbol"
TIMES: Final = Struct("<BQBQ").pack
START, END = 7 << 3 | 1, 8 << 3 | 1
TRACE_ID, SPAN_ID, PARENT_ID = b"\x0a\x10", b"\x12\x08", b"\x22\x08"
TRACED: Final = SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))

_log = logging.getLogger(__name__)


class EncodedSpan(ReadableSpan):
    """A span in its encoding. What the SDK's batch processor asks of a span, and no more."""

    def __init__(self, encoded: bytes) -> None:
        self.encoded = encoded
        self._context = TRACED


def encode_span(service: str, stream: str, envelope: Envelope[Any], started_ns: int, ended_ns: int) -> bytes:
    """The span of an event: ``<service> <stream>``, ids of the event, its cause as parent."""
    root = envelope.causation == ROOT
    symbol = getattr(envelope.event, "symbol", None)
    return b"".join(
        (
            TRACE_ID,
            envelope.correlation,
            SPAN_ID,
            envelope.id[:8],
            b"" if root else PARENT_ID + envelope.causation[:8],
            _named(service, stream, root),
            b"" if symbol is None else _attribute(SYMBOL, symbol),
            TIMES(START, started_ns, END, ended_ns),
        )
    )


@lru_cache(maxsize=256)
def _named(service: str, stream: str, root: bool) -> bytes:
    kind = Span.SpanKind.SPAN_KIND_PRODUCER if root else Span.SpanKind.SPAN_KIND_CONSUMER
    encoded: bytes = Span(name=f"{service} {stream}", kind=kind).SerializeToString()
    return encoded + _attribute(STREAM, stream)


@lru_cache(maxsize=16_384)
def _attribute(key: str, value: str) -> bytes:
    encoded: bytes = Span(attributes=[KeyValue(key=key, value=AnyValue(string_value=value))]).SerializeToString()
    return encoded


class SpanSender(SpanExporter):
    """Posts encoded spans to ``url``, once: what a collector does not take within ``timeout_s`` is lost."""

    def __init__(self, url: str, resource: Mapping[str, Any], timeout_s: float) -> None:
        attributes = [KeyValue(key=key, value=AnyValue(string_value=str(value))) for key, value in resource.items()]
        self._head = ResourceSpans(resource=Resource(attributes=attributes)).SerializeToString()
        self._scope = ScopeSpans(scope=InstrumentationScope(name="conclave")).SerializeToString()
        self._url, self._timeout_s = url, timeout_s
        self._headers = {
            **parse_env_headers(os.environ.get(HEADERS, ""), liberal=True),
            "content-type": "application/x-protobuf",
        }

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See ``SpanExporter``."""
        body = self.request([span.encoded for span in spans if isinstance(span, EncodedSpan)])
        try:
            request = Request(self._url, body, self._headers)  # noqa: S310  # settings allow http(s)
            with urlopen(request, timeout=self._timeout_s):  # noqa: S310  # settings allow http(s)
                return SpanExportResult.SUCCESS
        except (URLError, OSError, ValueError) as error:
            _log.warning("telemetry: %d spans were not taken by %s: %s", len(spans), self._url, error)
            return SpanExportResult.FAILURE

    def request(self, spans: Sequence[bytes]) -> bytes:
        """The body of an export: one resource, one scope, its spans."""
        scope = self._scope + b"".join(_field(2, span) for span in spans)
        return _field(1, self._head + _field(2, scope))


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    length, left = bytearray(), len(content)
    while left > 0x7F:
        length.append(left & 0x7F | 0x80)
        left >>= 7
    length.append(left)
    return bytes((number << 3 | 2, *length)) + content
