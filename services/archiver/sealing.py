"""Run one round of the archiver: cut, seal, copy, trim."""

import errno
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

from schemas.catalogue import STREAMS
from schemas.operations import ArchiveFailed
from services.archiver.core import Trim, groups_of, lost_tail, trim, unchanged
from shared.archive.checking import compared, verified
from shared.archive.cuts import FORMAT, ArchivedGroup, Cut, SealedEnd, encode, name_of, newest, numbers, read
from shared.archive.files import Files
from shared.archive.sealed import FILE_RAW, NOTHING, CorruptError, build
from shared.archive.store import SegmentStore, StoreError
from shared.log import START, Entry, Log, Position, ReadMark, StreamKey, TruncatedLogError, preceding
from shared.log.admin import StreamEnd, Whole
from shared.log.identity import digest_of
from shared.log.leases import id_order

GLOBAL: Final = tuple(StreamKey(spec.name) for spec in STREAMS.values() if not spec.partitioned)
READ_AT_ONCE: Final = 500
"""Entries that are read from the log at a time."""
Renew = Callable[[], Awaitable[None]]
"""Renews the claims of this process. Raises ``SupersededError`` if another process has taken over."""


class Round(NamedTuple):
    """The result of a round: entries sealed, files written, entries trimmed, and how much of each stream was free to
    be trimmed."""

    sealed: int
    files: int
    trimmed: int
    kept: Sequence[Trim]


class ArchiveError(RuntimeError):
    """A fault of the archive. Nothing is trimmed while it lasts. ``reason`` is that of ``ArchiveFailed``."""

    def __init__(self, reason: Any, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason

    def alarm(self, at: int) -> ArchiveFailed:
        """Return the event for ``alarms``."""
        return ArchiveFailed(self.reason, str(self)[:2000], at)


async def run_round(
    log: Log,
    server: Whole,
    store: SegmentStore,
    *,
    partitions: int,
    now: int,
    copy: SegmentStore | None = None,
    renew: Renew,
) -> Round:
    """Seal every stream up to now, then trim. ``renew`` is called before each write and each removal.

    Raises ``ArchiveError``; files that were sealed before the error are kept."""
    try:
        sealed, files = await _seal(log, server, store, partitions, now, renew)
        if copy is not None:
            await _copy(store, copy, renew)
        cut, _ = newest(store)
        kept = [trim(end.place, cut, now) for end in cut.ends] if cut else []
        trimmed = 0
        for free in kept:
            trimmed += await _trim(log, server, store, free, renew)
    except StoreError as error:
        raise ArchiveError("disk_full" if _full(error) else "unreachable", str(error)) from error
    except CorruptError as error:
        raise ArchiveError("lost" if "missing" in str(error) else "corrupt", str(error)) from error
    return Round(sealed, files, trimmed, kept)


async def _seal(
    log: Log, server: Whole, store: SegmentStore, partitions: int, now: int, renew: Renew
) -> tuple[int, int]:
    """Seal every stream up to a cut, write the cut, and return the numbers of entries and files. The global streams are
    read after the partitions, so that no decision in the cut has a control version that the cut does not hold."""
    places: dict[StreamKey, StreamEnd] = {}
    groups: list[ArchivedGroup] = []
    for partition in range(partitions):
        taken = await server.cut(partition)
        places |= {StreamKey(stream, partition): end for stream, end in taken.ends.items()}
        groups += groups_of(partition, taken)
    for place in GLOBAL:
        if (end := await server.end(place)).added:
            places[place] = end
    for place in Files.places(store):
        places.setdefault(place, StreamEnd())
    count, files, ends = 0, 0, []
    for place, end in places.items():
        sealed = Files(store, place).end()
        if sealed is not None:
            if (reason := lost_tail(place, sealed.last, end)) is not None:
                raise ArchiveError("behind", reason)
            await _refuse_another(log, store, place, Position(sealed.last, sealed.seen))
        async for entries in _unsealed(log, place, sealed.last if sealed else START, end.last):
            await renew()
            _seal_file(store, place, entries, end)
            count, files = count + len(entries), files + 1
        sealed = Files(store, place).end()
        if sealed is not None:
            number = sealed.file.header.number
            ends.append(SealedEnd(place.stream, place.partition, end.last, end.added, number, sealed.file.digest))
    former, digest = newest(store)
    if not unchanged(former, ends, groups):
        number = former.number + 1 if former else 1
        cut = Cut(FORMAT, number, digest, now, partitions, tuple(ends), tuple(groups))
        store.put(name_of(number), encode(cut))
        if read(store, number)[0] != cut:
            raise CorruptError(f"{store}/{name_of(number)}: read back, it differs from what was written")
    return count, files


async def _refuse_another(log: Log, store: SegmentStore, place: StreamKey, sealed: Position) -> None:
    """Raise ``ArchiveError`` if the server has another entry in place of the one that was sealed last. An entry that
    was trimmed is not compared."""
    frames = Files(store, place).frames(after=preceding(sealed.id), until=sealed.id)
    digests = [digest_of(entry.data) for frame in frames for entry in frame if entry.id == sealed.id]
    try:
        await log.check([ReadMark(place, sealed._replace(digest=digest)) for digest in digests])
    except TruncatedLogError as error:
        raise ArchiveError(
            "behind",
            f"{place.key} was sealed up to {sealed.id}, but {error.lost.detail}: this server lost entries, and wrote "
            "others since. Restore it from the archive, or give this installation an archive of its own",
        ) from None


async def _unsealed(log: Log, place: StreamKey, after: str, until: str) -> AsyncIterator[list[Entry]]:
    """Yield the entries of one file after another, from the entry after ``after`` up to ``until``. At most one file is
    held in memory."""
    entries: list[Entry] = []
    size = 0
    while page := await log.scan(place, after=after, until=until, count=READ_AT_ONCE):
        after = page[-1].id
        for entry in page:
            entries.append(entry)
            size += len(entry.data)
            if size >= FILE_RAW:
                yield entries
                entries, size = [], 0
    if entries:
        yield entries


def _seal_file(store: SegmentStore, place: StreamKey, entries: Sequence[Entry], end: StreamEnd) -> None:
    """Write the next file of a stream, read it back, and compare its header and each entry with what was written."""
    files = Files(store, place)
    sealed = files.end()
    number, previous, after, before = 1, NOTHING, START, 0
    if sealed is not None:
        number, previous, after, before = sealed.file.header.number + 1, sealed.file.digest, sealed.last, sealed.seen
    file, data = build(place, entries, number=number, previous=previous, after=after, before=before)
    store.put(files.name(number), data)
    written = files.open(number)
    read_back = [entry for frame in files.frames(after=after, until=end.last) for entry in frame]
    if written != file or read_back != list(entries):
        raise CorruptError(f"{store}/{files.name(number)}: read back, it differs from what was written")


async def _copy(store: SegmentStore, copy: SegmentStore, renew: Renew) -> None:
    """Copy what the copy lacks: sealed files first, cuts last. Each is read back."""
    names = []
    for place in Files.places(store):
        files = Files(store, place)
        copied = set(Files(copy, place).numbers())
        names += [files.name(number) for number in files.numbers() if number not in copied]
    copied = set(numbers(copy))
    names += [name_of(number) for number in numbers(store) if number not in copied]
    for name in names:
        await renew()
        data = store.read(name)
        copy.put(name, data)
        if copy.read(name) != data:
            raise CorruptError(f"{copy}/{name}: read back, it differs from {store}/{name}")


async def _trim(log: Log, server: Whole, store: SegmentStore, free: Trim, renew: Renew) -> int:
    """Trim what may be trimmed of one stream, after every file of it was verified and the range was compared with the
    log byte by byte. Return the number of entries removed."""
    oldest = (await log.extent(free.place)).first
    if oldest == START or id_order(oldest) > id_order(free.through):
        return 0
    for _ in verified(store, free.place):
        await renew()
    last = await compared(log, store, free.place, free.through)
    if last is None:
        return 0
    await renew()
    milliseconds, sequence = id_order(last)
    return await server.trim(free.place, f"{milliseconds}-{sequence + 1}")


def _full(error: StoreError) -> bool:
    return error.errno in {errno.ENOSPC, errno.EDQUOT}
