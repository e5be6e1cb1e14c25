"""Cuts: up to where every stream was sealed at one moment, and where every group stood then.

    cuts/00000001.json     a line of JSON, and a line with its SHA-256

What a cut says is sealed was sealed and read back before the cut was written. Restoring means: every stream
up to the newest cut, and the groups as it has them.
"""

import re
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import msgspec
from msgspec import Struct

from schemas.common import DigestHex, Milliseconds
from shared.archive.sealed import NOTHING, CorruptError
from shared.archive.store import SegmentStore
from shared.log import START, StreamKey

FORMAT: Final = "conclave-cut-1"
FOLDER: Final = "cuts"


class SealedEnd(Struct, frozen=True):
    """A stream at the cut: its last entry, how many were ever added, and the last sealed file that holds it."""

    stream: str
    partition: int
    last: str
    added: int
    file: int
    digest: DigestHex

    @property
    def place(self) -> StreamKey:
        """The stream."""
        return StreamKey(self.stream, self.partition)


class GroupThen(Struct, frozen=True):
    """A group at the cut: the fields of its hash, as ``shared.log.redis`` has them."""

    group: str
    partition: int
    fields: dict[str, bytes]


class Cut(Struct, frozen=True):
    """One moment of an installation, ``at`` by the archiver's clock. ``previous``: the digest of the cut before."""

    format: str
    number: int
    previous: DigestHex
    at: Milliseconds
    partitions: int
    ends: tuple[SealedEnd, ...]
    groups: tuple[GroupThen, ...]

    def last(self, place: StreamKey) -> str:
        """The last entry of a stream at the cut; ``0-0`` where it had none."""
        return next((end.last for end in self.ends if end.place == place), START)


def encode(cut: Cut) -> bytes:
    """The bytes of a cut's file."""
    line = msgspec.json.encode(cut) + b"\n"
    return line + sha256(line).hexdigest().encode() + b"\n"


def decode(data: bytes, name: str) -> tuple[Cut, str]:
    """A cut and its digest. Raises ``CorruptError``."""
    line = data[: data.find(b"\n") + 1]
    digest = sha256(line).hexdigest()
    if data[len(line) :] != digest.encode() + b"\n":
        raise CorruptError(f"{name}: its first line has the digest {digest[:12]}, its second line says another")
    try:
        cut = msgspec.json.decode(line, type=Cut)
    except msgspec.DecodeError as error:
        raise CorruptError(f"{name}: no cut: {error}") from None
    if cut.format != FORMAT:
        raise CorruptError(f"{name}: expected format {FORMAT}, found {cut.format[:40]!r}")
    return cut, digest


def name_of(number: int) -> str:
    """The name of a cut within the archive."""
    return f"{FOLDER}/{number:08d}.json"


def numbers(store: SegmentStore) -> Sequence[int]:
    """The cuts there are. Raises ``CorruptError`` where one is missing."""
    found = [int(name[:8]) for name in store.names(FOLDER) if re.fullmatch(r"\d{8}\.json", name)]
    for expected, number in enumerate(found, 1):
        if number != expected:
            raise CorruptError(f"{store}/{name_of(expected)} is missing, cut {number} is there")
    return found


def read(store: SegmentStore, number: int) -> tuple[Cut, str]:
    """A cut and its digest. Raises ``CorruptError``, ``StoreError``."""
    return decode(store.read(name_of(number)), f"{store}/{name_of(number)}")


def newest(store: SegmentStore) -> tuple[Cut | None, str]:
    """The newest cut and its digest; None in an archive without any."""
    found = numbers(store)
    return read(store, found[-1]) if found else (None, NOTHING)
