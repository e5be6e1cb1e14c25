"""The sealed files of one stream: which there are, and their frames in order.

p0/market/00000001.sealed        file 1 of conclave:{p0}:market
global/control/00000001.sealed   file 1 of conclave:control
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from schemas.catalogue import STREAMS
from shared.archive.sealed import CorruptError, SealedFile, follows, open_frame, open_header
from shared.archive.store import SegmentStore
from shared.log import START, Entry, StreamKey
from shared.log.leases import order

ENDING: Final = ".sealed"
GLOBAL: Final = "global"
HEADER_GUESS: Final = 16 * 1024
"""Bytes read at first in the hope that they hold the header."""


class SegmentEnd(NamedTuple):
    """Where the sealed part of a stream ends: its last entry, and how many were ever added up to it."""

    last: str
    seen: int
    file: SealedFile


def folder_of(place: StreamKey) -> str:
    """Where the files of a stream lie within an archive."""
    return f"p{place.partition}/{place.stream}" if STREAMS[place.stream].partitioned else f"{GLOBAL}/{place.stream}"


class Files:
    """The files of ``place`` in a store. Nothing is kept: a year of files is read in the memory of one frame."""

    def __init__(self, store: SegmentStore, place: StreamKey) -> None:
        self.store = store
        self.place = place
        self.folder = folder_of(place)

    @staticmethod
    def places(store: SegmentStore) -> list[StreamKey]:
        """The streams of the catalogue that a store has a folder for, by partition in catalogue order."""
        found = []
        for folder in store.folders():
            partition = re.fullmatch(r"p(\d+)", folder)
            if partition is None and folder != GLOBAL:
                continue
            held = set(store.folders(folder))
            number = int(partition[1]) if partition else 0
            found += [
                StreamKey(spec.name, number)
                for spec in STREAMS.values()
                if spec.name in held and spec.partitioned == bool(partition)
            ]
        return sorted(found, key=lambda place: place.partition)

    def name(self, number: int) -> str:
        """The name of file ``number`` within the archive."""
        return f"{self.folder}/{number:08d}{ENDING}"

    def numbers(self) -> Sequence[int]:
        """The files there are. Raises ``CorruptError`` where one between them is missing."""
        found = [
            int(name[: -len(ENDING)]) for name in self.store.names(self.folder) if re.fullmatch(r"\d{8}\.sealed", name)
        ]
        for expected, number in enumerate(found, found[0] if found else 1):
            if number != expected:
                raise CorruptError(f"{self.store}/{self.name(expected)} is missing, file {number} is there")
        return found

    def open(self, number: int) -> SealedFile:
        """The header of a file. Raises ``CorruptError``, ``StoreError``."""
        name, size = self.name(number), HEADER_GUESS
        data = self.store.read(name, 0, size)
        while (found := open_header(data, name)) is None:
            if len(data) < size:
                raise CorruptError(f"{self.store}/{name}: it ends within its header ({len(data)} bytes)")
            size *= 4
            data = self.store.read(name, 0, size)
        return found

    def end(self) -> SegmentEnd | None:
        """Where the sealed part ends; None where nothing is sealed."""
        numbers = self.numbers()
        if not numbers:
            return None
        found = self.open(numbers[-1])
        return SegmentEnd(found.header.last, found.header.before + found.header.entries, found)

    def chain(self) -> Iterator[SealedFile]:
        """Every file in order, each checked to follow the one before. Raises ``CorruptError``."""
        former: SealedFile | None = None
        for expected, number in enumerate(self.numbers(), 1):
            if number != expected:
                raise CorruptError(f"{self.store}/{self.name(1)} is missing: the chain begins with file {number}")
            found = self.open(number)
            follows(former, found, self.place, number, self.name(number))
            yield found
            former = found

    def frames(self, *, after: str = START, until: str = "+") -> Iterator[list[Entry]]:
        """The frames that hold entries with after < id <= until, whole, oldest first, each checked against
        its digest and each file against the one before. Raises ``CorruptError``, ``StoreError``."""
        lower = order(after)
        numbers = self.numbers()
        at = self._first(numbers, lower)
        former = self.open(numbers[at - 1]) if at else None
        for number in numbers[at:]:
            found = self.open(number)
            if former is not None or number == 1:
                follows(former, found, self.place, number, self.name(number))
            elif lower < order(found.header.after):
                raise CorruptError(
                    f"{self.store}/{self.name(number - 1)} is missing: file {number} is the first there is"
                )
            offset = found.offset
            for frame in found.header.frames:
                if until != "+" and order(frame.first) > order(until):
                    return
                if order(frame.last) > lower:
                    yield open_frame(
                        frame, self.store.read(self.name(number), offset, frame.size), self.place, self.name(number)
                    )
                offset += frame.size
            former = found

    def _first(self, numbers: Sequence[int], lower: tuple[int, int]) -> int:
        """The index of the first file that ends behind ``lower``."""
        low, high = 0, len(numbers)
        while low < high:
            middle = (low + high) // 2
            if order(self.open(numbers[middle]).header.last) > lower:
                high = middle
            else:
                low = middle + 1
        return low
