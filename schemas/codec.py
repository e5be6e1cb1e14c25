"""Events to bytes and back: one envelope, two encodings, ids derived from content.

An event's id is the 128-bit BLAKE2b of (stream, schema version, causation, correlation, payload).
So the same input handled by the same code gives the same id on every machine and in every replay,
a retry is recognised, and anybody can check that an event is the one its id names.

The trace of an event needs no random ids either: the W3C trace id is the correlation id (the id of
the bar that everything about it descends from), the span id the first half of the event's own id.
"""

import re
from binascii import unhexlify
from functools import cache
from hashlib import blake2b
from typing import Annotated, Any, Final, Generic, NamedTuple, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct, ValidationError

from schemas.catalogue import STREAMS, StreamSpec
from schemas.common import EventHex, EventId

E = TypeVar("E")

ROOT: Final = bytes(16)
"""The causation of an event that no other event caused."""
SAMPLED: Final = 1


class Envelope(Struct, Generic[E], frozen=True, array_like=True):
    """An event with what every event carries. ``correlation`` is the id of the bar (or command) at
    the root of the chain, ``causation`` the id of the event that led to this one."""

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
        """The W3C trace context of this event, to be handed to whatever it causes."""
        return f"00-{self.correlation.hex()}-{self.id[:8].hex()}-{self.flags & SAMPLED:02x}"


class _JsonEnvelope(Struct, Generic[E], frozen=True):
    """The same on JSON streams, with ids that a person can read and search for."""

    schema: Annotated[int, Meta(ge=1)]
    flags: Annotated[int, Meta(ge=0, le=255)]
    id: EventHex
    causation: EventHex
    correlation: EventHex
    event: E


class Encoded(NamedTuple):
    """An envelope ready to be written: the stream it is for, and its exact bytes."""

    stream: str
    envelope: Envelope[Any]
    data: bytes


class UnreadableError(ValueError):
    """Bytes on a stream that are not an event of that stream. Says which stream, and what is wrong."""


class UnwritableError(ValueError):
    """An event that readers would refuse. Raised at the producer, before anything is written."""


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
            msgspec.msgpack.Encoder().encode,
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


def identify(stream: str, payload: bytes, causation: bytes, correlation: bytes) -> bytes:
    """The id of an event with these bytes; ``correlation`` is ``ROOT`` where the event is a root."""
    digest: bytes = blake2b(_codec(stream).salt + causation + correlation + payload, digest_size=16).digest()
    return digest


def encode(stream: str, event: Any, *, causation: bytes = ROOT, correlation: bytes = ROOT, flags: int = 0) -> Encoded:
    """Encodes ``event`` for ``stream`` and decodes it again, so that a value which a reader would
    refuse fails here. Without ``correlation`` the event is a root: its own id correlates the rest.

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
    payload = codec.encode(decoded)  # what a reader would encode again: a float is a float, an id holds
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
    """The envelope in ``data``. Unknown fields are skipped (a newer writer); an unknown event type,
    a missing field or a value out of range raises ``UnreadableError``."""
    codec = _codec(stream)
    try:
        found = codec.envelope.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableError(f"stream {stream!r}: {error}") from None
    if not codec.json:
        return found  # type: ignore[no-any-return]  # decoder is untyped
    return Envelope(
        found.schema,
        found.flags,
        bytes.fromhex(found.id),
        bytes.fromhex(found.causation),
        bytes.fromhex(found.correlation),
        found.event,
    )


def authentic(stream: str, data: bytes) -> bool:
    """Whether the id in an envelope is that of the bytes beside it. The bytes that were written count, not
    those that this release would write, so an event stays authentic when its type gains a field. Raises
    ``UnreadableError``."""
    return not framed(stream, data).fault


class Framed(NamedTuple):
    """An envelope whose event is not decoded. ``fault`` is empty where its id is that of the very bytes
    that were written, its flags are ones there are, and its schema version is one this release knows."""

    schema: int
    flags: int
    id: bytes
    causation: bytes
    correlation: bytes
    payload: bytes
    fault: str


class Opened(NamedTuple):
    """An envelope as it was found, and what is wrong with it (``Framed.fault``)."""

    envelope: Envelope[Any]
    fault: str


_FRAME: Final = re.compile(
    rb'\{"schema":(\d{1,9}),"flags":(\d{1,3}),"id":"([0-9a-f]{32})","causation":"([0-9a-f]{32})",'
    rb'"correlation":"([0-9a-f]{32})","event":'
)
"""The envelope on JSON streams as ``encode`` writes it: what follows is the event, and a brace."""


def framed(stream: str, data: bytes) -> Framed:
    """The envelope in ``data``, and whether it is the one that was written. Unlike ``authentic`` it looks
    at the bytes and not at what this release would write, so an event of an older or newer one holds.
    Raises ``UnreadableError``."""
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
    """The envelope in bytes that are not laid out as ``seal`` lays JSON out: msgpack, or another writer's."""
    try:
        found = codec.raw.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableError(f"stream {codec.spec.name!r}: {error}") from None
    ids = [found.id, found.causation, found.correlation]
    if codec.json:
        ids = [bytes.fromhex(each) for each in ids]
    return found.schema, found.flags, ids[0], ids[1], ids[2], bytes(found.event)


def _fault(
    codec: _Codec, schema: int, flags: int, event_id: bytes, causation: bytes, correlation: bytes, payload: bytes
) -> str:
    root = ROOT if correlation == event_id else correlation
    digest = blake2b(codec.salt + causation + root + payload, digest_size=16).digest()
    if digest != event_id:
        return f"its id {event_id.hex()[:12]} is not that of its content, {digest.hex()[:12]}"
    if flags not in (0, SAMPLED):
        return f"its flags are {flags}; there are 0 and {SAMPLED}"
    if not 1 <= schema <= codec.spec.version:
        return f"its schema version is {schema}; this release knows {codec.spec.version}"
    return ""


def opened(stream: str, data: bytes) -> Opened:
    """The event in ``data`` decoded, with the fault of its frame. Raises ``UnreadableError``."""
    frame = framed(stream, data)
    try:
        event = _codec(stream).payload.decode(frame.payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableError(f"stream {stream!r}: {error}") from None
    return Opened(Envelope(*frame[:5], event), frame.fault)


def payload_of(stream: str, event: Any) -> bytes:
    """The bytes of an event inside its envelope, as ``encode`` would write them."""
    payload: bytes = _codec(stream).encode(event)
    return payload
