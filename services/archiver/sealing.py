"""One round of the archiver: cut, seal, copy, trim."""

import errno
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

from schemas.catalogue import STREAMS
from schemas.operations import ArchiveFailed
from services.archiver.core import Trim, behind, groups_of, same, trim
from shared.archive.checking import compared, verified
from shared.archive.cuts import FORMAT, ArchivedGroup, Cut, SealedEnd, encode, name_of, newest, numbers, read
from shared.archive.files import Files
from shared.archive.sealed import FILE_RAW, NOTHING, CorruptError, build
from shared.archive.store import SegmentStore, StoreError
from shared.log import START, Entry, Log, Mark, Position, StreamKey, TruncatedLogError, preceding
from shared.log.admin import StreamEnd, Whole
from shared.log.identity import digest_of
from shared.log.leases import order

GLOBAL: Final = tuple(StreamKey(spec.name) for spec in STREAMS.values() if not spec.partitioned)
READ_AT_ONCE: Final = 500


class Round(NamedTuple):
    """What a round did: entries sealed, files written, entries trimmed, and what keeps each stream."""

    sealed: int
    files: int
    trimmed: int
    kept: Sequence[Trim]


class ArchiveError(RuntimeError):
    """Something is wrong with the archive; nothing is trimmed. ``reason`` as in ``ArchiveFailed``."""

    def __init__(self, reason: Any, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason

    def alarm(self, at: int) -> ArchiveFailed:
        """The event that says so."""
        return ArchiveFailed(self.reason, str(self)[:2000], at)


async def round_of(
    log: Log,
    whole: Whole,
    store: SegmentStore,
    *,
    partitions: int,
    now: int,
    copy: SegmentStore | None = None,
    renew: Callable[[], Awaitable[None]],
) -> Round:
    """Seals up to now, then trims. ``renew`` proves before each step that this process still owns the archive.
    Raises ``ArchiveError``; what was sealed until then stays."""
    try:
        sealed, files = await _seal(log, whole, store, partitions, now, renew)
        if copy is not None:
            await _copy(store, copy, renew)
        cut, _ = newest(store)
        kept, trimmed = [], 0
        for found in [trim(end.place, cut, now) for end in cut.ends] if cut else []:
            kept.append(found)
            trimmed += await _trim(log, whole, store, found, renew)
    except StoreError as error:
        raise ArchiveError("disk_full" if _full(error) else "unreachable", str(error)) from error
    except CorruptError as error:
        raise ArchiveError("lost" if "missing" in str(error) else "corrupt", str(error)) from error
    return Round(sealed, files, trimmed, kept)


async def _seal(
    log: Log, whole: Whole, store: SegmentStore, partitions: int, now: int, renew: Callable[[], Awaitable[None]]
) -> tuple[int, int]:
    """Up to a cut through every partition, and the global streams after those: a decision's version is never ahead
    of control."""
    places: dict[StreamKey, StreamEnd] = {}
    groups: list[ArchivedGroup] = []
    for partition in range(partitions):
        found = await whole.cut(partition)
        places |= {StreamKey(stream, partition): end for stream, end in found.ends.items()}
        groups += groups_of(partition, found)
    for place in GLOBAL:
        if (end := await whole.end(place)).added:
            places[place] = end
    for place in Files.places(store):
        places.setdefault(place, StreamEnd())
    count, files, ends = 0, 0, []
    for place, end in places.items():
        held = Files(store, place).end()
        if held is not None and (reason := behind(place, held.last, end)) is not None:
            raise ArchiveError("behind", reason)
        if held is not None:
            await _refuse_another(log, store, place, Position(held.last, held.seen))
        async for entries in _unsealed(log, place, held.last if held else START, end.last):
            await renew()
            _seal_file(store, place, entries, end)
            count, files = count + len(entries), files + 1
        stands = Files(store, place).end()
        if stands is not None:
            last = stands.file.header
            ends.append(SealedEnd(place.stream, place.partition, end.last, end.added, last.number, stands.file.digest))
    former, digest = newest(store)
    if not same(former, ends, groups):
        number = former.number + 1 if former else 1
        made = Cut(FORMAT, number, digest, now, partitions, tuple(ends), tuple(groups))
        store.put(name_of(number), encode(made))
        if read(store, number)[0] != made:
            raise CorruptError(f"{store}/{name_of(number)}: read back, it differs from what was written")
    return count, files


async def _refuse_another(log: Log, store: SegmentStore, place: StreamKey, sealed: Position) -> None:
    """Whether the entry that was sealed last is the one on the server, unless it was trimmed."""
    frames = Files(store, place).frames(after=preceding(sealed.id), until=sealed.id)
    digests = [digest_of(entry.data) for frame in frames for entry in frame if entry.id == sealed.id]
    try:
        await log.check([Mark(place, sealed._replace(digest=digest)) for digest in digests])
    except TruncatedLogError as error:
        raise ArchiveError(
            "behind",
            f"{place.key} was sealed up to {sealed.id}, but {error.lost.detail}: this server lost entries, and wrote "
            "others since. Restore it from the archive, or give this installation an archive of its own",
        ) from None


async def _unsealed(log: Log, place: StreamKey, after: str, until: str) -> AsyncIterator[list[Entry]]:
    """Files' worth of entries; never more than one file in memory."""
    held: list[Entry] = []
    size = 0
    while page := await log.scan(place, after=after, until=until, count=READ_AT_ONCE):
        after = page[-1].id
        for entry in page:
            held.append(entry)
            size += len(entry.data)
            if size >= FILE_RAW:
                yield held
                held, size = [], 0
    if held:
        yield held


def _seal_file(store: SegmentStore, place: StreamKey, entries: Sequence[Entry], end: StreamEnd) -> None:
    """Writes a file and reads it back: its digests, its entries, and each of them decoded."""
    files = Files(store, place)
    held = files.end()
    number, previous, after, before = 1, NOTHING, START, 0
    if held is not None:
        number, previous, after, before = held.file.header.number + 1, held.file.digest, held.last, held.seen
    file, data = build(place, entries, number=number, previous=previous, after=after, before=before)
    store.put(files.name(number), data)
    found = files.open(number)
    read_back = [entry for part in files.frames(after=after, until=end.last) for entry in part]
    if found != file or read_back != list(entries):
        raise CorruptError(f"{store}/{files.name(number)}: read back, it differs from what was written")


async def _copy(store: SegmentStore, copy: SegmentStore, renew: Callable[[], Awaitable[None]]) -> None:
    """Brings the copy up: sealed files first, cuts last, each read back."""
    names = []
    for place in Files.places(store):
        files = Files(store, place)
        there = set(Files(copy, place).numbers())
        names += [files.name(number) for number in files.numbers() if number not in there]
    known = set(numbers(copy))
    names += [name_of(number) for number in numbers(store) if number not in known]
    for name in names:
        await renew()
        data = store.read(name)
        copy.put(name, data)
        if copy.read(name) != data:
            raise CorruptError(f"{copy}/{name}: read back, it differs from {store}/{name}")


async def _trim(log: Log, whole: Whole, store: SegmentStore, found: Trim, renew: Callable[[], Awaitable[None]]) -> int:
    """Trims what may go, once the archive was found to hold it, byte by byte."""
    oldest = (await log.extent(found.place)).first
    if oldest == START or order(oldest) > order(found.through):
        return 0
    for _ in verified(store, found.place):
        await renew()
    last = await compared(log, store, found.place, found.through)
    if last is None:
        return 0
    await renew()
    milliseconds, sequence = order(last)
    return await whole.trim(found.place, f"{milliseconds}-{sequence + 1}")


def _full(error: StoreError) -> bool:
    return error.errno in {errno.ENOSPC, errno.EDQUOT}
