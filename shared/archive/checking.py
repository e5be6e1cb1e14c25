"""Is the archive whole? The chain of each stream, every frame, every cut; and does it hold what Redis holds?"""

from collections.abc import Iterator
from typing import NamedTuple

from shared.archive import cuts
from shared.archive.files import Files
from shared.archive.sealed import NOTHING, CorruptError, SealedFile, open_frame
from shared.archive.store import SegmentStore
from shared.log import Entry, Log, StreamKey
from shared.log.leases import order


class ArchiveCheck(NamedTuple):
    """A stream that was found whole: its files, entries, bytes on disk, and bytes before compression."""

    place: StreamKey
    files: int
    entries: int
    size: int
    raw: int
    first: str
    last: str


def verified(store: SegmentStore, place: StreamKey) -> Iterator[SealedFile]:
    """Every file of a stream, its link to the one before and each of its frames checked. Raises
    ``CorruptError``, ``StoreError``."""
    files = Files(store, place)
    for found in files.chain():
        offset = found.offset
        for frame in found.header.frames:
            data = store.read(files.name(found.header.number), offset, frame.size)
            open_frame(frame, data, place, files.name(found.header.number))
            offset += frame.size
        if store.read(files.name(found.header.number), offset, 1):
            raise CorruptError(f"{store}/{files.name(found.header.number)}: there is more behind its last frame")
        yield found


def check(store: SegmentStore, place: StreamKey) -> ArchiveCheck:
    """A whole stream. Raises ``CorruptError``, ``StoreError``."""
    found = ArchiveCheck(place, 0, 0, 0, 0, "", "")
    for file in verified(store, place):
        header = file.header
        found = ArchiveCheck(
            place,
            found.files + 1,
            found.entries + header.entries,
            found.size + file.end,
            found.raw + sum(frame.raw for frame in header.frames),
            found.first or header.first,
            header.last,
        )
    return found


def check_cuts(store: SegmentStore) -> cuts.Cut | None:
    """The newest cut, after all of them were checked: their chain, and that the files which the newest one names
    are there. Raises ``CorruptError``, ``StoreError``."""
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
            raise CorruptError(f"{store}/{files.name(end.file)}: is not the file that the newest cut names")
    return former


async def compared(log: Log, store: SegmentStore, place: StreamKey, through: str) -> str | None:
    """The last entry up to ``through`` in the log, once every one of those there was found sealed to the byte;
    None where there is none. Raises ``CorruptError`` at the first that was not."""
    oldest = (await log.extent(place)).first
    sealed = Files(store, place).frames(until=through)
    held: dict[str, bytes] = {}
    last, after = None, "0-0"
    while page := await log.scan(place, after=after, until=through):
        for entry in page:
            while entry.id not in held and (part := next(sealed, None)) is not None:
                # Frames come in order: what lies before the oldest in the log is not needed.
                held = {one.id: one.data for one in _rest(held, entry, place)} | {
                    one.id: one.data for one in part if order(one.id) >= order(oldest)
                }
            if held.get(entry.id) != entry.data:
                raise CorruptError(f"{store}: entry {entry.id} of {place.key} is missing, or differs from Redis")
        last = after = page[-1].id
    return last


def _rest(held: dict[str, bytes], entry: Entry, place: StreamKey) -> Iterator[Entry]:
    for entry_id, data in held.items():
        if order(entry_id) >= order(entry.id):
            yield Entry(place, entry_id, data)
