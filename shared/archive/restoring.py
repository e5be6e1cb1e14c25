"""Restore an archive into an empty server: every stream up to the newest cut, and every group as in that cut."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from shared.archive.checking import check, check_cuts
from shared.archive.cuts import Cut, SealedEnd
from shared.archive.history import SealedHistory
from shared.archive.sealed import CorruptError
from shared.archive.store import SegmentStore
from shared.log import Entry
from shared.log.admin import StreamEnd, Whole


class Restored(NamedTuple):
    """The result of a restore: the cut, the number of entries by stream key, and the number of groups."""

    cut: Cut
    entries: dict[str, int]
    groups: int


async def restore(
    store: SegmentStore,
    whole: Whole,
    progress: Callable[[str], None] = lambda _: None,
    advance: Callable[[int], None] = lambda _: None,
) -> Restored:
    """Restore an archive into an empty server. ``progress`` is called with what is done next, ``advance`` with the
    number of entries that were restored.

    Everything is checked against its digests before the first entry is written. The control stream is restored last:
    no service runs on a server without it, so none runs on one that was restored in part. Raises ``CorruptError``,
    ``StoreError``, ``NotEmptyError``.
    """
    cut = check_cuts(store)
    if cut is None:
        raise CorruptError(f"{store} has no cut: it is no archive, or nothing was sealed yet")
    await whole.refuse_unless_empty(cut.partitions)
    for end in cut.ends:
        progress(f"checking {end.place.key}")
        check(store, end.place)
    for group in cut.groups:
        await whole.restore_group(group.group, group.partition, group.fields)
    counts = {}
    for end in sorted(cut.ends, key=lambda end: end.stream == "control"):
        progress(f"restoring {end.place.key}")
        counts[end.place.key] = await whole.restore(
            end.place, _up_to(store, end, advance), StreamEnd(last=end.last, added=end.added)
        )
    return Restored(cut, counts, len(cut.groups))


def _up_to(store: SegmentStore, end: SealedEnd, advance: Callable[[int], None]) -> Iterator[Sequence[Entry]]:
    for entries in SealedHistory(store).read(end.place, until=end.last):
        yield entries
        advance(len(entries))
