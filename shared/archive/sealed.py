"""A sealed file: a range of one stream as bytes that say of themselves whether they are whole.

``docs/reference/archive-format.md`` is the format for a reader in any language. In short: a line of JSON
(the header), a line with the header's SHA-256 (the file's digest), then frames of zlib. The header names
the digest of each frame and of the file before, so that the digest of the last file vouches for all.

Pure: bytes in, bytes out. The same range behind the same file gives the same bytes.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import pairwise
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from schemas.common import DigestHex
from shared.log import START, Entry, StreamKey
from shared.log.leases import order

FORMAT: Final = "conclave-sealed-1"
NOTHING: Final = "0" * 64
"""The digest before the first file of a stream."""
FRAME_RAW: Final = 256 * 1024
"""Bytes of entries from which on a frame is closed: what a reader holds at once."""
FILE_RAW: Final = 16 * 1024 * 1024
"""Bytes of entries from which on a file is closed: what the archiver holds at once."""
LEVEL: Final = 6
_HEAD: Final = struct.Struct(">QQI")
_DIGEST_LINE: Final = 65
_Count = Annotated[int, Meta(ge=0)]


class Frame(Struct, frozen=True):
    """One frame: its first and last entry, how many there are, its bytes before and after compression,
    and the SHA-256 of the latter."""

    first: str
    last: str
    entries: Annotated[int, Meta(ge=1)]
    raw: _Count
    size: _Count
    sha256: DigestHex


class Header(Struct, frozen=True):
    """What a sealed file says of itself. ``after`` is the last entry before it (``0-0``: none),
    ``before`` how many entries were ever added before its first, ``previous`` the digest of file
    ``number - 1``."""

    format: str
    stream: str
    partition: int
    number: Annotated[int, Meta(ge=1)]
    previous: DigestHex
    after: str
    first: str
    last: str
    before: _Count
    entries: Annotated[int, Meta(ge=1)]
    frames: tuple[Frame, ...]

    @property
    def place(self) -> StreamKey:
        """The stream that it holds a range of."""
        return StreamKey(self.stream, self.partition)

    @property
    def size(self) -> int:
        """Bytes of all frames."""
        return sum(frame.size for frame in self.frames)


class SealedFile(Struct, frozen=True):
    """A header as it was read or made: its digest, and where the first frame begins."""

    header: Header
    digest: DigestHex
    offset: int

    @property
    def end(self) -> int:
        """The length that the file must have."""
        return self.offset + self.header.size


class CorruptError(ValueError):
    """A sealed file that is not what its digests say. Says which file, which entries, and what differs."""


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Header).decode


def build(
    place: StreamKey, entries: Sequence[Entry], *, number: int, previous: str, after: str, before: int
) -> tuple[SealedFile, bytes]:
    """The file of ``entries``, which follow ``after`` in their stream, and its bytes. Raises ``ValueError``
    for none, and for entries out of order."""
    frames, packed = [], []
    for held in _cut(entries):
        raw = b"".join(_HEAD.pack(*order(entry.id), len(entry.data)) + entry.data for entry in held)
        data = zlib.compress(raw, LEVEL)
        digest = sha256(data).hexdigest()
        frames.append(Frame(held[0].id, held[-1].id, len(held), len(raw), len(data), digest))
        packed.append(data)
    _in_order([after, *(entry.id for entry in entries)], place)
    header = Header(
        FORMAT, place.stream, place.partition, number, previous, after, entries[0].id, entries[-1].id,
        before, len(entries), tuple(frames),
    )  # fmt: skip
    line = _encode(header) + b"\n"
    digest = sha256(line).hexdigest()
    head = line + digest.encode() + b"\n"
    return SealedFile(header, digest, len(head)), b"".join([head, *packed])


def open_header(data: bytes, name: str) -> SealedFile | None:
    """The header at the beginning of a file's bytes; None where it goes on beyond them. ``name`` is for
    the person who reads the error. Raises ``CorruptError``."""
    end = data.find(b"\n") + 1
    if not end or len(data) < end + _DIGEST_LINE:
        return None
    digest = sha256(data[:end]).hexdigest()
    if data[end : end + _DIGEST_LINE] != digest.encode() + b"\n":
        raise CorruptError(f"{name}: its first line has the digest {digest[:12]}, its second line says another")
    try:
        header = _decode(data[:end])
    except msgspec.DecodeError as error:
        raise CorruptError(f"{name}: no header of a sealed file: {error}") from None
    if header.format != FORMAT:
        raise CorruptError(
            f"{name}: expected format {FORMAT}, found {header.format[:40]!r}: written by another release"
        )
    return SealedFile(header, digest, end + _DIGEST_LINE)


def open_frame(frame: Frame, data: bytes, place: StreamKey, name: str) -> list[Entry]:
    """The entries of a frame. Raises ``CorruptError`` with the range that is lost with it."""
    where = f"{name}: entries {frame.first} to {frame.last}"
    found = sha256(data).hexdigest()
    if len(data) != frame.size or found != frame.sha256:
        raise CorruptError(
            f"{where}: expected {frame.size} bytes with digest {frame.sha256[:12]}, found {len(data)} with {found[:12]}"
        )
    try:
        entries = list(_unpack(zlib.decompress(data), place))
    except (zlib.error, struct.error) as error:
        raise CorruptError(f"{where}: {error}") from None
    if not entries or (entries[0].id, entries[-1].id, len(entries)) != (frame.first, frame.last, frame.entries):
        raise CorruptError(f"{where}: the frame holds other entries than the header says")
    return entries


def follows(former: SealedFile | None, found: SealedFile, place: StreamKey, number: int, name: str) -> None:
    """Raises ``CorruptError`` unless ``found`` is file ``number`` of ``place``, behind ``former``."""
    header = found.header
    if (header.place, header.number) != (place, number):
        raise CorruptError(f"{name}: is file {header.number} of {header.place.key}, expected {number} of {place.key}")
    previous = former.digest if former else NOTHING
    if header.previous != previous:
        raise CorruptError(f"{name}: names {header.previous[:12]} as the file before it, which is {previous[:12]}")
    if former and (header.after, header.before) != (
        former.header.last,
        former.header.before + former.header.entries,
    ):
        raise CorruptError(f"{name}: begins behind {header.after}, the file before it ends with {former.header.last}")


def _cut(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    held: list[Entry] = []
    size = 0
    for entry in entries:
        held.append(entry)
        size += _HEAD.size + len(entry.data)
        if size >= FRAME_RAW:
            yield held
            held, size = [], 0
    if held:
        yield held


def _unpack(raw: bytes, place: StreamKey) -> Iterator[Entry]:
    at = 0
    while at < len(raw):
        milliseconds, sequence, length = _HEAD.unpack_from(raw, at)
        at += _HEAD.size
        data = raw[at : at + length]
        if len(data) != length:
            raise struct.error("its last entry is cut")
        yield Entry(place, f"{milliseconds}-{sequence}", data)
        at += length


def _in_order(ids: Sequence[str], place: StreamKey) -> None:
    orders = [order(entry_id) for entry_id in ids]
    if len(ids) < 2 or any(a >= b for a, b in pairwise(orders)):
        raise ValueError(f"a range of {place.key} to seal must hold entries in order, behind {ids[0]} (first: {START})")
