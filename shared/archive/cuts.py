"""Cuts: snapshots of an installation, with the last sealed entry of every stream and the state of every group.

    cuts/00000001.json     a line of JSON, and a line with its SHA-256

A cut is written after all its entries were sealed and read again. A restore has every stream up to the newest cut,
and every group with the state in that cut.
"""

import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import msgspec
from msgspec import Struct

from schemas.catalogue import STREAMS
from schemas.codec import UNDECODABLE
from schemas.common import DigestHex, Milliseconds
from shared.archive.sealed import NOTHING, CorruptError
from shared.archive.store import SegmentStore
from shared.log import START, StreamKey

FORMAT: Final = "conclave-cut-1"
FOLDER: Final = "cuts"


class SealedEnd(Struct, frozen=True):
    """A stream at a cut: its last entry, the number of entries ever added, and its last file with its digest."""

    stream: str
    partition: int
    last: str
    added: int
    file: int
    digest: DigestHex

    @property
    def place(self) -> StreamKey:
        """The key of the stream."""
        return StreamKey(self.stream, self.partition)


class ArchivedGroup(Struct, frozen=True):
    """A group at a cut: the fields of its Redis hash, as ``shared.log.redis`` writes them."""

    group: str
    partition: int
    fields: dict[str, bytes]


class Cut(Struct, frozen=True):
    """A snapshot of an installation, ``at`` by the archiver's clock. ``previous``: the digest of the cut before."""

    format: str
    number: int
    previous: DigestHex
    at: Milliseconds
    partitions: int
    ends: tuple[SealedEnd, ...]
    groups: tuple[ArchivedGroup, ...]

    def last(self, place: StreamKey) -> str:
        """Return the last entry of a stream at the cut; ``0-0`` if it had none."""
        return next((end.last for end in self.ends if end.place == place), START)


def encode(cut: Cut) -> bytes:
    """Return the bytes of a cut's file."""
    line = msgspec.json.encode(cut) + b"\n"
    return line + sha256(line).hexdigest().encode() + b"\n"


def decode(data: bytes, name: str) -> tuple[Cut, str]:
    """Return the cut in ``data`` and its digest. Raises ``CorruptError``, with ``name`` as the name of the file."""
    line = data[: data.find(b"\n") + 1]
    digest = sha256(line).hexdigest()
    if data[len(line) :] != digest.encode() + b"\n":
        raise CorruptError(f"{name}: its first line has the digest {digest[:12]}, its second line names another")
    try:
        cut = msgspec.json.decode(line, type=Cut)
    except UNDECODABLE as error:
        raise CorruptError(f"{name}: expected a cut: {error}") from None
    if cut.format != FORMAT:
        raise CorruptError(f"{name}: expected format {FORMAT}, found {cut.format[:40]!r}")
    unknown = {end.stream for end in cut.ends} - STREAMS.keys()
    if unknown:
        raise CorruptError(f"{name}: names stream {min(unknown)[:40]!r}, which this release does not know")
    return cut, digest


def name_of(number: int) -> str:
    """Return the name of a cut's file in the archive."""
    return f"{FOLDER}/{number:08d}.json"


def numbers(store: SegmentStore) -> Sequence[int]:
    """Return the numbers of all cuts, in order. Raises ``CorruptError`` if one is missing."""
    present = [int(name[:8]) for name in store.names(FOLDER) if re.fullmatch(r"\d{8}\.json", name)]
    for expected, number in enumerate(present, 1):
        if number != expected:
            raise CorruptError(f"{store}/{name_of(expected)} is missing, but cut {number} exists")
    return present


def read(store: SegmentStore, number: int) -> tuple[Cut, str]:
    """Return a cut and its digest. Raises ``CorruptError``, ``StoreError``."""
    return decode(store.read(name_of(number)), f"{store}/{name_of(number)}")


def newest(store: SegmentStore) -> tuple[Cut | None, str]:
    """Return the newest cut and its digest; None and ``NOTHING`` if there is no cut."""
    present = numbers(store)
    return read(store, present[-1]) if present else (None, NOTHING)
