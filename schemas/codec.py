"""Events to bytes and back: one envelope, two encodings, ids derived from content.

An event's id is the 128-bit BLAKE2b of (stream, schema version, causation, correlation, payload).
The same input handled by the same code therefore has the same id on every machine and in every replay.
A retry is recognised by its id, and any reader can check an event against its id.

Traces need no random ids either. The W3C trace id is the correlation id: the id of the bar (or command) from
which the event descends. The span id is the first half of the event's own id.
"""

import re
from binascii import unhexlify
from collections.abc import Callable
from functools import cache
from hashlib import blake2b
from typing import Annotated, Any, Final, Generic, NamedTuple, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct, ValidationError

from schemas.catalogue import STREAMS, StreamSpec
from schemas.common import EventHex, EventId
from schemas.market import BarClosed
from schemas.scores import PredictionScored

E = TypeVar("E")
T = TypeVar("T")

ROOT: Final = bytes(16)
"""The causation of an event that no other event caused."""
SAMPLED: Final = 1


class Envelope(Struct, Generic[E], frozen=True, array_like=True):
    """Wrap an event with the fields that all events have.

    ``correlation`` is the id of the bar (or command) at the root of the chain. ``causation`` is the id of the event
    that led directly to this one.
    """

    schema: Annotated[int, Meta(ge=1)]
    flags: Annotated[int, Meta(ge=0, le=255)]
    id: EventId
    causation: EventId
    correlation: EventId
    event: E

    @property
    def sampled(self) -> bool:
        """Whether this event's trace is recorded."""
        return bool(self.flags & SAMPLED)

    @property
    def traceparent(self) -> str:
        """The W3C trace context of this event, to be passed to its effects."""
        return f"00-{self.correlation.hex()}-{self.id[:8].hex()}-{self.flags & SAMPLED:02x}"


class _JsonEnvelope(Struct, Generic[E], frozen=True):
    """The envelope on JSON streams, with ids in hexadecimal that a person can read and search for."""

    schema: Annotated[int, Meta(ge=1)]
    flags: Annotated[int, Meta(ge=0, le=255)]
    id: EventHex
    causation: EventHex
    correlation: EventHex
    event: E


class Encoded(NamedTuple):
    """An envelope ready to be written, with its stream and its exact bytes."""

    stream: str
    envelope: Envelope[Any]
    data: bytes


UNDECODABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not of the expected type: the second for text that is not UTF-8, the third for
lists within lists within lists. Catch all three where bytes come from outside this process."""


class UnreadableError(ValueError):
    """Bytes on a stream are not an event of that stream. The message names the stream and the fault."""


class UnwritableError(ValueError):
    """An event would be refused by readers. Raised in the producer, before anything is written."""


class _Codec(NamedTuple):
    spec: StreamSpec
    json: bool
    payload: Any
    envelope: Any
    encode: Any
    salt: bytes
    raw: Any


@cache
def _codec(stream: str) -> _Codec:
    spec = STREAMS.get(stream)
    if spec is None:
        raise KeyError(f"no stream {stream!r} in the catalogue; there are {', '.join(STREAMS)}")
    salt = f"{spec.name}/{spec.version}".encode()
    if spec.codec == "msgpack":
        return _Codec(
            spec,
            False,
            msgspec.msgpack.Decoder(spec.events),
            msgspec.msgpack.Decoder(
                Envelope[spec.events]  # type: ignore[name-defined]  # built at run time
            ),
            _pack if spec.name in {"market", "scores"} else msgspec.msgpack.Encoder().encode,
            salt,
            msgspec.msgpack.Decoder(Envelope[Raw]),
        )
    return _Codec(
        spec,
        True,
        msgspec.json.Decoder(spec.events),
        msgspec.json.Decoder(_JsonEnvelope[spec.events]),  # type: ignore[name-defined]  # built at run time
        msgspec.json.Encoder(order="deterministic").encode,
        salt,
        msgspec.json.Decoder(_JsonEnvelope[Raw]),
    )


_PACKED: Final = msgspec.msgpack.Encoder()


class _Extended(NamedTuple):
    """An array that got optional fields after its release: their names, and the header of one without them."""

    names: tuple[str, ...]
    header: bytes
    replaced: int


def _extended(kind: Any) -> _Extended:
    optional = len(kind.__struct_defaults__)
    items = 1 + len(kind.__struct_fields__)
    short = items - optional
    header = bytes((0x90 + short,)) if short < 16 else b"\xdc" + short.to_bytes(2, "big")
    return _Extended(kind.__struct_fields__[-optional:], header, 1 if items < 16 else 3)


_EXTENDED: Final = {kind: _extended(kind) for kind in (BarClosed, PredictionScored)}


def _pack(value: Any) -> bytes:
    """Return the bytes of an event or of an envelope. An event without the optional fields of its kind has the bytes
    that it had before there were any, so its id is the same."""
    data = _PACKED.encode(value)
    extended = _EXTENDED.get(type(value))
    if extended is None:
        return data
    for name in extended.names:
        if getattr(value, name) is not None:
            return data
    return extended.header + data[extended.replaced : -len(extended.names)]


def identify(stream: str, payload: bytes, causation: bytes, correlation: bytes) -> bytes:
    """Return the id of an event with these bytes. ``correlation`` is ``ROOT`` for an event at the root of its chain."""
    digest: bytes = blake2b(_codec(stream).salt + causation + correlation + payload, digest_size=16).digest()
    return digest


def encode(stream: str, event: Any, *, causation: bytes = ROOT, correlation: bytes = ROOT, flags: int = 0) -> Encoded:
    """Return ``event`` encoded for ``stream``.

    The result is decoded once as a check, so that a value that a reader would refuse fails here. Without
    ``correlation`` the event is the root of its chain, and its own id is the correlation id.

    Raises ``UnwritableError``. Pure: the same arguments give the same bytes.
    """
    codec = _codec(stream)
    try:
        decoded = codec.payload.decode(codec.encode(event))
    except (ValidationError, OverflowError, TypeError, UnicodeEncodeError) as error:
        raise UnwritableError(f"{type(event).__name__} for {stream!r}: {error}; event: {event!r:.500}") from None
    if codec.json and decoded != event:  # JSON writes NaN as null, which may be allowed
        raise UnwritableError(
            f"{type(event).__name__} for {stream!r}: a reader would have {decoded!r:.500}, not {event!r:.500}"
        )
    payload = codec.encode(decoded)  # a reader that encodes the event again gets the same bytes and the same id
    event_id = identify(stream, payload, causation, correlation)
    root = correlation if correlation != ROOT else event_id
    envelope = Envelope(codec.spec.version, flags, event_id, causation, root, decoded)
    wire: Any
    if not codec.json:
        wire = Envelope(codec.spec.version, flags, event_id, causation, root, Raw(payload))
    else:
        wire = _JsonEnvelope(codec.spec.version, flags, event_id.hex(), causation.hex(), root.hex(), Raw(payload))
    return Encoded(stream, envelope, codec.encode(wire))


def decode(stream: str, data: bytes) -> Envelope[Any]:
    """Return the envelope in ``data``.

    Unknown fields are skipped, since a newer release may have written them. Raises ``UnreadableError`` for an
    unknown event type, a missing field, a value out of range, or a schema version that this release does not know.
    """
    codec = _codec(stream)
    envelope = decoded_as(stream, data, codec.envelope.decode)
    if envelope.schema > codec.spec.version:
        raise UnreadableError(f"stream {stream!r}: {_unknown_version(codec, envelope.schema)}")
    if not codec.json:
        return envelope  # type: ignore[no-any-return]  # decoder is untyped
    return Envelope(
        envelope.schema,
        envelope.flags,
        bytes.fromhex(envelope.id),
        bytes.fromhex(envelope.causation),
        bytes.fromhex(envelope.correlation),
        envelope.event,
    )


def decoded_as(stream: str, data: bytes, decode_bytes: Callable[[bytes], T]) -> T:
    """Return ``decode_bytes(data)``. Raises ``UnreadableError`` for bytes that are malformed."""
    try:
        return decode_bytes(data)
    except UNDECODABLE as error:
        raise UnreadableError(f"stream {stream!r}: {error}") from None


def _unknown_version(codec: _Codec, schema: int) -> str:
    return f"its schema version is {schema}; this release reads 1 to {codec.spec.version}"


class Framed(NamedTuple):
    """An envelope whose event is not decoded.

    ``fault`` says what is wrong with the envelope. It is empty if the id matches the bytes that were written, the
    flags are valid, and this release can read the schema version.
    """

    schema: int
    flags: int
    id: bytes
    causation: bytes
    correlation: bytes
    payload: bytes
    fault: str


class Opened(NamedTuple):
    """A decoded envelope, and what is wrong with it (``Framed.fault``)."""

    envelope: Envelope[Any]
    fault: str


_FRAME: Final = re.compile(
    rb'\{"schema":(\d{1,9}),"flags":(\d{1,3}),"id":"([0-9a-f]{32})","causation":"([0-9a-f]{32})",'
    rb'"correlation":"([0-9a-f]{32})","event":'
)
"""The start of a JSON envelope as ``encode`` writes it. The event and a closing brace follow."""


def framed(stream: str, data: bytes) -> Framed:
    """Return the envelope in ``data`` without decoding its event, and check its id.

    The id is checked against the bytes that were written, not against those that this release would write. Events of
    an older or newer release are therefore valid, also when their type has gained a field since.

    Raises ``UnreadableError``.
    """
    codec = _codec(stream)
    match = _FRAME.match(data) if codec.json else None
    if match is not None and data.endswith(b"}"):
        digits, bits, own, cause, root = match.groups()
        schema, flags = int(digits), int(bits)
        event_id, causation, correlation = unhexlify(own), unhexlify(cause), unhexlify(root)
        payload = data[match.end() : -1]
    else:
        schema, flags, event_id, causation, correlation, payload = _unframed(codec, data)
    fault = _fault(codec, schema, flags, event_id, causation, correlation, payload)
    return Framed(schema, flags, event_id, causation, correlation, payload, fault)


def _unframed(codec: _Codec, data: bytes) -> tuple[int, int, bytes, bytes, bytes, bytes]:
    """Return the envelope in bytes that do not match ``_FRAME``: MessagePack, or JSON of another writer."""
    envelope = decoded_as(codec.spec.name, data, codec.raw.decode)
    ids = [envelope.id, envelope.causation, envelope.correlation]
    if codec.json:
        ids = [bytes.fromhex(each) for each in ids]
    return envelope.schema, envelope.flags, ids[0], ids[1], ids[2], bytes(envelope.event)


def _fault(
    codec: _Codec, schema: int, flags: int, event_id: bytes, causation: bytes, correlation: bytes, payload: bytes
) -> str:
    root = ROOT if correlation == event_id else correlation
    digest = blake2b(codec.salt + causation + root + payload, digest_size=16).digest()
    if digest != event_id:
        return f"its id {event_id.hex()[:12]} is not that of its content, {digest.hex()[:12]}"
    if flags not in (0, SAMPLED):
        return f"its flags are {flags}; expected 0 or {SAMPLED}"
    if not 1 <= schema <= codec.spec.version:
        return _unknown_version(codec, schema)
    return ""


def opened(stream: str, data: bytes) -> Opened:
    """Return the decoded envelope in ``data``, and what is wrong with it. Raises ``UnreadableError`` where ``decode``
    does."""
    frame = framed(stream, data)
    codec = _codec(stream)
    if frame.schema > codec.spec.version:
        raise UnreadableError(f"stream {stream!r}: {_unknown_version(codec, frame.schema)}")
    event = decoded_as(stream, frame.payload, codec.payload.decode)
    return Opened(Envelope(*frame[:5], event), frame.fault)


def payload_of(stream: str, event: Any) -> bytes:
    """Return the bytes of an event inside its envelope, as ``encode`` would write them."""
    payload: bytes = _codec(stream).encode(event)
    return payload
