"""Read the sealed files of one stream and their frames, in order.

p0/market/00000001.sealed        file 1 of conclave:{p0}:market
global/control/00000001.sealed   file 1 of conclave:control
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from schemas.catalogue import STREAMS
from shared.archive.sealed import CorruptError, SealedFile, check_follows, open_frame, open_header
from shared.archive.store import SegmentStore
from shared.log import START, Entry, StreamKey
from shared.log.leases import id_order

ENDING: Final = ".sealed"
GLOBAL: Final = "global"
HEADER_GUESS: Final = 16 * 1024
"""The number of bytes of the first read of a file. Most headers are shorter."""


class SegmentEnd(NamedTuple):
    """The end of the sealed part of a stream: its last entry, the number of entries up to it, and its last file."""

    last: str
    seen: int
    file: SealedFile


def folder_of(place: StreamKey) -> str:
    """Return the folder of a stream's files in an archive."""
    return f"p{place.partition}/{place.stream}" if STREAMS[place.stream].partitioned else f"{GLOBAL}/{place.stream}"


class Files:
    """The files of the stream ``place`` in a store. Nothing is cached: any number of files takes the memory of one
    frame."""

    def __init__(self, store: SegmentStore, place: StreamKey) -> None:
        self.store = store
        self.place = place
        self.folder = folder_of(place)

    @staticmethod
    def places(store: SegmentStore) -> list[StreamKey]:
        """Return the streams for which a store has a folder, by partition, in the order of the catalogue."""
        places: list[StreamKey] = []
        for folder in store.folders():
            partition = re.fullmatch(r"p(\d+)", folder)
            if partition is None and folder != GLOBAL:
                continue
            names = set(store.folders(folder))
            number = int(partition[1]) if partition else 0
            places += [
                StreamKey(spec.name, number)
                for spec in STREAMS.values()
                if spec.name in names and spec.partitioned == bool(partition)
            ]
        return sorted(places, key=lambda place: place.partition)

    def name(self, number: int) -> str:
        """Return the name of file ``number`` in the archive."""
        return f"{self.folder}/{number:08d}{ENDING}"

    def numbers(self) -> Sequence[int]:
        """Return the numbers of all files, in order. Raises ``CorruptError`` if one between them is missing."""
        present = [
            int(name[: -len(ENDING)]) for name in self.store.names(self.folder) if re.fullmatch(r"\d{8}\.sealed", name)
        ]
        for expected, number in enumerate(present, present[0] if present else 1):
            if number != expected:
                raise CorruptError(f"{self.store}/{self.name(expected)} is missing, but file {number} exists")
        return present

    def open(self, number: int) -> SealedFile:
        """Return the header of a file. Raises ``CorruptError``, ``StoreError``."""
        name, size = self.name(number), HEADER_GUESS
        data = self.store.read(name, 0, size)
        while (file := open_header(data, name)) is None:
            if len(data) < size:
                raise CorruptError(f"{self.store}/{name}: it ends within its header ({len(data)} bytes)")
            size *= 4
            data = self.store.read(name, 0, size)
        return file

    def end(self) -> SegmentEnd | None:
        """Return the end of the sealed part; None if nothing is sealed."""
        numbers = self.numbers()
        if not numbers:
            return None
        file = self.open(numbers[-1])
        return SegmentEnd(file.header.last, file.header.before + file.header.entries, file)

    def chain(self) -> Iterator[SealedFile]:
        """Yield every file in order, after checking its link to the file before it. Raises ``CorruptError``."""
        former: SealedFile | None = None
        for expected, number in enumerate(self.numbers(), 1):
            if number != expected:
                raise CorruptError(f"{self.store}/{self.name(1)} is missing: the chain begins with file {number}")
            file = self.open(number)
            check_follows(former, file, self.place, number, self.name(number))
            yield file
            former = file

    def frames(self, *, after: str = START, until: str = "+") -> Iterator[list[Entry]]:
        """Yield the frames that contain entries with after < id <= until, oldest first.

        A frame is complete: it may also contain other entries. Each frame is checked against its digest, and each file
        against the file before it. Raises ``CorruptError``, ``StoreError``.
        """
        lower = id_order(after)
        numbers = self.numbers()
        at = self._first(numbers, lower)
        former = self.open(numbers[at - 1]) if at else None
        for number in numbers[at:]:
            file = self.open(number)
            if former is not None or number == 1:
                check_follows(former, file, self.place, number, self.name(number))
            elif lower < id_order(file.header.after):
                raise CorruptError(f"{self.store}/{self.name(number - 1)} is missing: the first file is {number}")
            offset = file.offset
            for frame in file.header.frames:
                if until != "+" and id_order(frame.first) > id_order(until):
                    return
                if id_order(frame.last) > lower:
                    yield open_frame(
                        frame, self.store.read(self.name(number), offset, frame.size), self.place, self.name(number)
                    )
                offset += frame.size
            former = file

    def _first(self, numbers: Sequence[int], lower: tuple[int, int]) -> int:
        """Return the index of the first file whose last entry is later than ``lower``."""
        low, high = 0, len(numbers)
        while low < high:
            middle = (low + high) // 2
            if id_order(self.open(numbers[middle]).header.last) > lower:
                high = middle
            else:
                low = middle + 1
        return low
