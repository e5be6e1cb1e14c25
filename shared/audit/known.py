"""Collect the recorded digests of each group's output: from the groups on the server, checkpoints, and cuts of the
archive."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

from shared.archive import cuts
from shared.archive.store import SegmentStore
from shared.audit.written import KnownDigest
from shared.control.checkpoint import file_of, read_digests
from shared.log import GroupView, Log, StreamKey
from shared.log.redis import RedisLog
from shared.log.written import of_fields, of_text


def collect(
    partitions: int,
    *,
    url: str = "",
    store: SegmentStore | None = None,
    checkpoints: Path | None = None,
    log_id: str = "",
) -> list[KnownDigest]:
    """Return all known digests: of the server at ``url``, the archive, and a folder of checkpoints.

    With ``log_id``, only checkpoints of that control log count. Raises ``UnavailableError``, ``CorruptError``,
    ``StoreError``."""

    async def current() -> list[KnownDigest]:
        log = RedisLog(url, name="conclave:audit")
        try:
            return await of_server(log, partitions)
        finally:
            await log.close()

    noted = of_checkpoints(checkpoints, partitions, log_id) if checkpoints else []
    others = of_archive(store) if store else []
    return mark_withdrawn(noted, [*others, *(asyncio.run(current()) if url else ())])


async def of_server(log: Log, partitions: int) -> list[KnownDigest]:
    """Return the digest of each group's output so far, as the server keeps it.

    Call this before the streams are read."""
    views = [view for partition in range(partitions) for view in await log.groups(partition)]
    return list(_of_groups(views))


def _of_groups(views: Sequence[GroupView]) -> Iterator[KnownDigest]:
    for view in views:
        for stream, written in view.written.items():
            yield KnownDigest(StreamKey(stream, view.partition), view.group, written, "the server")


def of_archive(store: SegmentStore) -> list[KnownDigest]:
    """Return the digest of each group's output at each cut; cuts of older releases have none.

    Raises ``CorruptError``, ``StoreError``."""
    known = []
    for number in cuts.numbers(store):
        cut, _ = cuts.read(store, number)
        for group in cut.groups:
            for stream, written in of_fields(group.fields).items():
                place = StreamKey(stream, group.partition)
                known.append(KnownDigest(place, group.group, written, f"{store}/{cuts.name_of(number)}", cut.at))
    return known


def of_checkpoints(folder: Path, partitions: int, log_id: str = "") -> list[KnownDigest]:
    """Return the digests in a folder of checkpoints, or in a copy of it; with ``log_id``, only those of that control
    log."""
    known = []
    for partition in range(partitions):
        path = file_of(folder, partition)
        lines, _ = read_digests(path)
        for number, line in enumerate(lines, start=1):
            if log_id and line.log_id != log_id:
                continue
            for stream, text in line.wrote.items():
                try:
                    written = of_text(text)
                except ValueError:
                    continue
                place = StreamKey(stream, partition)
                known.append(KnownDigest(place, line.group, written, f"{path.name}, note {number}", line.at))
    return known


def mark_withdrawn(checkpoints: Sequence[KnownDigest], others: Sequence[KnownDigest] = ()) -> list[KnownDigest]:
    """Return all known digests. ``withdrawn`` is set on those for which a later checkpoint has fewer entries: the group
    continued from fewer entries, because the server had lost its tail. ``checkpoints`` are in the order of their
    file."""
    most: dict[tuple[StreamKey, str, str], int] = {}
    shortened: dict[tuple[StreamKey, str, str], list[tuple[int, int]]] = {}
    for each in checkpoints:
        entries = each.written.entries
        if entries < most.get(_chain(each), 0):
            shortened.setdefault(_chain(each), []).append((each.at or 0, entries))
        most[_chain(each)] = entries
    return [
        each._replace(
            withdrawn=each.at is not None
            and any(at >= each.at and fewer < each.written.entries for at, fewer in shortened.get(_chain(each), ()))
        )
        for each in (*checkpoints, *others)
    ]


def _chain(known: KnownDigest) -> tuple[StreamKey, str, str]:
    return known.place, known.group, known.written.since
