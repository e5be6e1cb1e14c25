"""The format of a sealed file: a range of entries of one stream, with digests that show whether it is intact.

``docs/reference/archive-format.md`` specifies the format for readers in any language. In short: a line of JSON (the
header), a line with the SHA-256 of the header (the file's digest), then frames compressed by zlib. The header has the
digest of each frame and of the file before it, so the digest of the last file covers all files of a stream.

Pure: bytes in, bytes out. The same range after the same file gives the same bytes.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import pairwise
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from schemas.catalogue import STREAMS
from schemas.codec import UNDECODABLE
from schemas.common import DigestHex
from shared.log import START, Entry, StreamKey
from shared.log.leases import id_order

FORMAT: Final = "conclave-sealed-1"
NOTHING: Final = "0" * 64
"""The ``previous`` digest of the first file of a stream."""
FRAME_RAW: Final = 256 * 1024
"""The bytes of entries after which a frame is closed. A reader has one frame in memory."""
FILE_RAW: Final = 16 * 1024 * 1024
"""The bytes of entries after which a file is closed. The archiver has one file in memory."""
LEVEL: Final = 6
_HEAD: Final = struct.Struct(">QQI")
_DIGEST_LINE: Final = 65
_Count = Annotated[int, Meta(ge=0)]


class Frame(Struct, frozen=True):
    """One frame: its first and last entry, the number of entries, the bytes before (``raw``) and after compression
    (``size``), and the SHA-256 of the compressed bytes."""

    first: str
    last: str
    entries: Annotated[int, Meta(ge=1)]
    raw: _Count
    size: _Count
    sha256: DigestHex


class Header(Struct, frozen=True):
    """The header of a sealed file. ``after`` is the last entry before the file (``0-0``: none), ``before`` the number
    of entries ever added before its first, ``previous`` the digest of file ``number - 1``."""

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
        """The key of the stream."""
        return StreamKey(self.stream, self.partition)

    @property
    def size(self) -> int:
        """The bytes of all frames."""
        return sum(frame.size for frame in self.frames)


class SealedFile(Struct, frozen=True):
    """A header with its digest, and the offset of the first frame in the file."""

    header: Header
    digest: DigestHex
    offset: int

    @property
    def end(self) -> int:
        """The length that the file must have, in bytes."""
        return self.offset + self.header.size


class CorruptError(ValueError):
    """A sealed file does not match its digests. The message names the file, the entries, and the difference."""


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Header).decode


def build(
    place: StreamKey, entries: Sequence[Entry], *, number: int, previous: str, after: str, before: int
) -> tuple[SealedFile, bytes]:
    """Return the sealed file of ``entries``, which follow ``after`` in their stream, and its bytes. Raises
    ``ValueError`` for no entries, and for entries out of order."""
    frames, packed = [], []
    for part in _split(entries):
        raw = b"".join(_HEAD.pack(*id_order(entry.id), len(entry.data)) + entry.data for entry in part)
        data = zlib.compress(raw, LEVEL)
        digest = sha256(data).hexdigest()
        frames.append(Frame(part[0].id, part[-1].id, len(part), len(raw), len(data), digest))
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
    """Return the header at the beginning of a file's bytes; None if the header is longer than ``data``.

    ``name`` is the name of the file in errors. Raises ``CorruptError``.
    """
    end = data.find(b"\n") + 1
    if not end or len(data) < end + _DIGEST_LINE:
        return None
    digest = sha256(data[:end]).hexdigest()
    if data[end : end + _DIGEST_LINE] != digest.encode() + b"\n":
        raise CorruptError(f"{name}: its first line has the digest {digest[:12]}, its second line names another")
    try:
        header = _decode(data[:end])
    except UNDECODABLE as error:
        raise CorruptError(f"{name}: expected the header of a sealed file: {error}") from None
    if header.format != FORMAT:
        raise CorruptError(
            f"{name}: expected format {FORMAT}, found {header.format[:40]!r}: written by another release"
        )
    if header.stream not in STREAMS:
        raise CorruptError(f"{name}: is of stream {header.stream[:40]!r}, which this release does not know")
    return SealedFile(header, digest, end + _DIGEST_LINE)


def open_frame(frame: Frame, data: bytes, place: StreamKey, name: str) -> list[Entry]:
    """Return the entries of a frame. Raises ``CorruptError`` with the range of entries that is lost."""
    where = f"{name}: entries {frame.first} to {frame.last}"
    digest = sha256(data).hexdigest()
    if len(data) != frame.size or digest != frame.sha256:
        raise CorruptError(
            f"{where}: expected {frame.size} bytes with digest {frame.sha256[:12]}, got {len(data)} with {digest[:12]}"
        )
    try:
        entries = list(_unpack(zlib.decompress(data), place))
    except (zlib.error, struct.error) as error:
        raise CorruptError(f"{where}: {error}") from None
    if not entries or (entries[0].id, entries[-1].id, len(entries)) != (frame.first, frame.last, frame.entries):
        raise CorruptError(f"{where}: the frame has other entries than its header names")
    return entries


def check_follows(former: SealedFile | None, file: SealedFile, place: StreamKey, number: int, name: str) -> None:
    """Raise ``CorruptError`` unless ``file`` is file ``number`` of ``place`` and directly follows ``former``."""
    header = file.header
    if (header.place, header.number) != (place, number):
        raise CorruptError(f"{name}: is file {header.number} of {header.place.key}, expected {number} of {place.key}")
    previous = former.digest if former else NOTHING
    if header.previous != previous:
        raise CorruptError(f"{name}: names {header.previous[:12]} as the file before it, which is {previous[:12]}")
    if former and (header.after, header.before) != (
        former.header.last,
        former.header.before + former.header.entries,
    ):
        raise CorruptError(f"{name}: begins after {header.after}, but the file before it ends at {former.header.last}")


def _split(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    part: list[Entry] = []
    size = 0
    for entry in entries:
        part.append(entry)
        size += _HEAD.size + len(entry.data)
        if size >= FRAME_RAW:
            yield part
            part, size = [], 0
    if part:
        yield part


def _unpack(raw: bytes, place: StreamKey) -> Iterator[Entry]:
    at = 0
    while at < len(raw):
        milliseconds, sequence, length = _HEAD.unpack_from(raw, at)
        at += _HEAD.size
        data = raw[at : at + length]
        if len(data) != length:
            raise struct.error("its last entry is incomplete")
        yield Entry(place, f"{milliseconds}-{sequence}", data)
        at += length


def _in_order(ids: Sequence[str], place: StreamKey) -> None:
    orders = [id_order(entry_id) for entry_id in ids]
    if len(ids) < 2 or any(a >= b for a, b in pairwise(orders)):
        raise ValueError(
            f"cannot seal a range of {place.key}: expected one or more entries in order, all later than {ids[0]} "
            f"({START}: the start of the stream)"
        )
