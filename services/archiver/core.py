"""Decide which entries may be trimmed, and why the others are kept. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from schemas.catalogue import STREAMS
from shared.archive.cuts import ArchivedGroup, Cut, SealedEnd
from shared.log import START, StreamKey
from shared.log.admin import PartitionCut, StreamEnd
from shared.log.leases import id_order

GROUP: Final = "archiver"


class Trim(NamedTuple):
    """How much of a stream may be trimmed: every entry up to and including ``through`` (``0-0``: none). ``held_by`` is
    the reason why the next entry is kept: ``retention``, ``archive`` or the name of a consumer group."""

    place: StreamKey
    through: str
    held_by: str


def read_through(group: ArchivedGroup) -> Mapping[str, str]:
    """Return for each stream of a group the last entry that the group will not read again. That is its position, or
    the entry from which it rebuilds its state, whichever is older."""
    replay_from = msgspec.json.decode(group.fields.get("since") or b"{}", type=dict[str, str])
    entries = {}
    for field, value in group.fields.items():
        if field.startswith("pos:"):
            stream, position = field[4:], value.decode().partition(" ")[0]
            entries[stream] = min(position, replay_from.get(stream, position), key=id_order)
    return entries


def trim(place: StreamKey, cut: Cut, now: int) -> Trim:
    """Return how much of a stream may be trimmed at ``now`` (ms). ``cut`` is the newest cut that was verified."""
    retention = STREAMS[place.stream].retention_ms
    if retention is None:
        return Trim(place, START, "retention")
    bounds = [(f"{max(now - retention, 0)}-0", "retention"), (cut.last(place), "archive")]
    bounds += [
        (entry, group.group)
        for group in cut.groups
        if group.partition == place.partition and (entry := read_through(group).get(place.stream)) is not None
    ]
    through, held_by = min(bounds, key=lambda bound: id_order(bound[0]))
    return Trim(place, through, held_by)


def lost_tail(place: StreamKey, sealed: str, end: StreamEnd) -> str | None:
    """Return why a stream that ends at ``end`` cannot be the one that was sealed up to ``sealed``; None if it can."""
    if id_order(end.last) >= id_order(sealed):
        return None
    return (
        f"{place.key} ends with {end.last}, but {sealed} was sealed: this server lost entries, or is another one. "
        "Restore it from the archive, or give this installation an archive of its own"
    )


def groups_of(partition: int, cut: PartitionCut) -> list[ArchivedGroup]:
    """Return the consumer groups of a partition as a cut records them, without the archiver's own."""
    return [ArchivedGroup(group, partition, dict(fields)) for group, fields in cut.groups.items() if group != GROUP]


def unchanged(former: Cut | None, ends: Sequence[SealedEnd], groups: Sequence[ArchivedGroup]) -> bool:
    """Return whether a new cut would equal the last one. Leases are not compared, since they are renewed by groups
    that only wait."""
    if former is None or former.ends != tuple(ends):
        return False
    return _without_leases(former.groups) == _without_leases(groups)


def _without_leases(groups: Iterable[ArchivedGroup]) -> list[tuple[str, int, Mapping[str, bytes]]]:
    return [(group.group, group.partition, {**group.fields, "lease": b""}) for group in groups]
