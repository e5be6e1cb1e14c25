"""Where digests of what a group wrote were noted: the groups themselves, checkpoints, cuts of the archive."""

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


def gathered(
    partitions: int,
    *,
    url: str = "",
    store: SegmentStore | None = None,
    checkpoints: Path | None = None,
    log_id: str = "",
) -> list[KnownDigest]:
    """All notes there are: of the server at ``url``, of the archive, and of a folder of checkpoints (of the control log
    ``log_id``). Raises ``UnavailableError``, ``CorruptError``, ``StoreError``."""

    async def standing() -> list[KnownDigest]:
        log = RedisLog(url, name="conclave:audit")
        try:
            return await of_server(log, partitions)
        finally:
            await log.close()

    noted = of_checkpoints(checkpoints, partitions, log_id) if checkpoints else []
    others = of_archive(store) if store else []
    return settled(noted, [*others, *(asyncio.run(standing()) if url else ())])


async def of_server(log: Log, partitions: int) -> list[KnownDigest]:
    """What each group has written by now, as the server keeps it. Ask before the streams are read."""
    views = [view for partition in range(partitions) for view in await log.groups(partition)]
    return list(_of_groups(views))


def _of_groups(views: Sequence[GroupView]) -> Iterator[KnownDigest]:
    for view in views:
        for stream, written in view.written.items():
            yield KnownDigest(StreamKey(stream, view.partition), view.group, written, "the server")


def of_archive(store: SegmentStore) -> list[KnownDigest]:
    """What each group had written at each cut; nothing of cuts that an older release made. Raises ``CorruptError``,
    ``StoreError``."""
    found = []
    for number in cuts.numbers(store):
        cut, _ = cuts.read(store, number)
        for group in cut.groups:
            for stream, written in of_fields(group.fields).items():
                place = StreamKey(stream, group.partition)
                found.append(KnownDigest(place, group.group, written, f"{store}/{cuts.name_of(number)}", cut.at))
    return found


def of_checkpoints(folder: Path, partitions: int, log_id: str = "") -> list[KnownDigest]:
    """What was noted in a folder of checkpoints, or in a copy of it. With ``log_id``, of that control log alone."""
    found = []
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
                found.append(KnownDigest(place, line.group, written, f"{path.name}, note {number}", line.at))
    return found


def settled(checkpoints: Sequence[KnownDigest], others: Sequence[KnownDigest] = ()) -> list[KnownDigest]:
    """All notes, those withdrawn that a later checkpoint of the same digest falls short of: its group went on from
    fewer entries, as it does after the server lost its tail. Checkpoints come in the order of their file."""
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
