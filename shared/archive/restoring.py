"""An archive into an empty server: every stream up to the newest cut, every group as it stood there."""

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
    """What was written: the cut it is as of, entries by stream key, and how many groups."""

    cut: Cut
    entries: dict[str, int]
    groups: int


async def restore(store: SegmentStore, whole: Whole, tell: Callable[[str], None] = lambda _: None) -> Restored:
    """Restores an archive, control last: a server that was restored in part is one that no service runs on.

    Everything is checked against its digests before the first entry is written. Raises ``CorruptError``,
    ``StoreError``, ``NotEmptyError``."""
    cut = check_cuts(store)
    if cut is None:
        raise CorruptError(f"{store} holds no cut: it is no archive, or nothing was sealed yet")
    await whole.refuse_unless_empty(cut.partitions)
    for end in cut.ends:
        tell(f"checking {end.place.key}")
        check(store, end.place)
    for one in cut.groups:
        await whole.restore_group(one.group, one.partition, one.fields)
    counts = {}
    for end in sorted(cut.ends, key=lambda end: end.stream == "control"):
        tell(f"restoring {end.place.key}")
        counts[end.place.key] = await whole.restore(
            end.place, _up_to(store, end), StreamEnd(last=end.last, added=end.added)
        )
    return Restored(cut, counts, len(cut.groups))


def _up_to(store: SegmentStore, end: SealedEnd) -> Iterator[Sequence[Entry]]:
    return SealedHistory(store).read(end.place, until=end.last)
