"""Verify an archive (the chain of each stream, every frame, every cut), and compare it with Redis."""

from collections.abc import Iterator
from typing import NamedTuple

from shared.archive import cuts
from shared.archive.files import Files
from shared.archive.sealed import NOTHING, CorruptError, SealedFile, open_frame
from shared.archive.store import SegmentStore
from shared.log import Log, StreamKey
from shared.log.leases import id_order


class ArchiveCheck(NamedTuple):
    """A verified stream: the number of its files and entries, its bytes on disk (``size``) and before compression
    (``raw``), and its first and last entry."""

    place: StreamKey
    files: int
    entries: int
    size: int
    raw: int
    first: str
    last: str


def verified(store: SegmentStore, place: StreamKey) -> Iterator[SealedFile]:
    """Yield every file of a stream, after checking its link to the file before it and each of its frames. Raises
    ``CorruptError``, ``StoreError``."""
    files = Files(store, place)
    for file in files.chain():
        name, offset = files.name(file.header.number), file.offset
        for frame in file.header.frames:
            open_frame(frame, store.read(name, offset, frame.size), place, name)
            offset += frame.size
        if store.read(name, offset, 1):
            raise CorruptError(f"{store}/{name}: there are bytes after its last frame")
        yield file


def check(store: SegmentStore, place: StreamKey) -> ArchiveCheck:
    """Verify all files of a stream, and return their totals. Raises ``CorruptError``, ``StoreError``."""
    total = ArchiveCheck(place, 0, 0, 0, 0, "", "")
    for file in verified(store, place):
        header = file.header
        total = ArchiveCheck(
            place,
            total.files + 1,
            total.entries + header.entries,
            total.size + file.end,
            total.raw + sum(frame.raw for frame in header.frames),
            total.first or header.first,
            header.last,
        )
    return total


def check_cuts(store: SegmentStore) -> cuts.Cut | None:
    """Verify the chain of cuts and the files that the newest cut names, and return the newest cut.

    Returns None if there is no cut. Raises ``CorruptError``, ``StoreError``.
    """
    former, previous = None, NOTHING
    for number in cuts.numbers(store):
        cut, digest = cuts.read(store, number)
        if (cut.number, cut.previous) != (number, previous):
            raise CorruptError(f"{store}/{cuts.name_of(number)}: does not follow cut {number - 1}")
        former, previous = cut, digest
    if former is None:
        return None
    for end in former.ends:
        files = Files(store, end.place)
        if end.file not in files.numbers():
            raise CorruptError(f"{store}/{files.name(end.file)} is missing: cut {former.number} names it")
        if files.open(end.file).digest != end.digest:
            raise CorruptError(f"{store}/{files.name(end.file)}: its digest is not the one in cut {former.number}")
    return former


async def compared(log: Log, store: SegmentStore, place: StreamKey, through: str) -> str | None:
    """Compare every entry up to ``through`` in the log with the archive, and return the id of the last.

    Returns None if the log has none. Raises ``CorruptError`` at the first entry that is not in the archive with the
    same bytes.
    """
    oldest = (await log.extent(place)).first
    frames = Files(store, place).frames(until=through)
    sealed: dict[str, bytes] = {}
    last, after = None, "0-0"
    while page := await log.scan(place, after=after, until=through):
        for entry in page:
            while entry.id not in sealed and (frame := next(frames, None)) is not None:
                # Frames and log are in order: entries before this one, or before the oldest in the log, are dropped.
                sealed = {key: data for key, data in sealed.items() if id_order(key) >= id_order(entry.id)}
                sealed |= {later.id: later.data for later in frame if id_order(later.id) >= id_order(oldest)}
            if sealed.get(entry.id) != entry.data:
                raise CorruptError(f"{store}: entry {entry.id} of {place.key} is missing, or differs from Redis")
        last = after = page[-1].id
    return last
