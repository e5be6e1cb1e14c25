"""Which entries may go, and why the others stay. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from schemas.catalogue import STREAMS
from shared.archive.cuts import ArchivedGroup, Cut, SealedEnd
from shared.log import START, StreamKey
from shared.log.admin import PartitionCut, StreamEnd
from shared.log.leases import order

GROUP: Final = "archiver"


class Trim(NamedTuple):
    """What of a stream may go: everything up to and with ``through`` (``0-0``: nothing), and what keeps the rest:
    ``retention``, ``archive`` or a group's name."""

    place: StreamKey
    through: str
    held_by: str


def needs(group: ArchivedGroup) -> Mapping[str, str]:
    """For each stream of a group, the entry before the oldest that it may still read: its position, or from where
    it rebuilds its state, whichever is older."""
    since = msgspec.json.decode(group.fields.get("since") or b"{}", type=dict[str, str])
    found = {}
    for field, value in group.fields.items():
        if field.startswith("pos:"):
            stream, position = field[4:], value.decode().partition(" ")[0]
            found[stream] = min(position, since.get(stream, position), key=order)
    return found


def trim(place: StreamKey, cut: Cut, now: int) -> Trim:
    """What of a stream may go at ``now`` (ms), under the newest cut that was verified."""
    retention = STREAMS[place.stream].retention_ms
    if retention is None:
        return Trim(place, START, "retention")
    bounds = [(f"{max(now - retention, 0)}-0", "retention"), (cut.last(place), "archive")]
    bounds += [
        (needs(group)[place.stream], group.group)
        for group in cut.groups
        if group.partition == place.partition and place.stream in needs(group)
    ]
    through, held_by = min(bounds, key=lambda bound: order(bound[0]))
    return Trim(place, through, held_by)


def behind(place: StreamKey, sealed: str, end: StreamEnd) -> str | None:
    """Why a stream cannot be the one that was sealed up to ``sealed``; None where it can."""
    if order(end.last) >= order(sealed):
        return None
    return (
        f"{place.key} ends with {end.last}, but {sealed} was sealed: this server lost entries, or is another one. "
        "Restore it from the archive, or give this installation an archive of its own"
    )


def groups_of(partition: int, cut: PartitionCut) -> Iterable[ArchivedGroup]:
    """The groups of a partition as a cut keeps them."""
    for group, fields in cut.groups.items():
        if group != GROUP:
            yield ArchivedGroup(group, partition, dict(fields))


def same(former: Cut | None, ends: Sequence[SealedEnd], groups: Sequence[ArchivedGroup]) -> bool:
    """Whether nothing moved since the last cut, so that another would say the same."""
    return former is not None and former.ends == tuple(ends) and _standing(former.groups) == _standing(groups)


def _standing(groups: Iterable[ArchivedGroup]) -> list[tuple[str, int, Mapping[str, bytes]]]:
    """Groups without what changes while they only wait: their lease."""
    return [(one.group, one.partition, {**one.fields, "lease": b""}) for one in groups]
