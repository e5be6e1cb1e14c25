"""The layer of streams: check that every entry that was ever added is present.

A stream is read from end to end and counted. The count is compared with three records: the server counts the entries
ever added to a stream, a cut of the archive repeats that count for the moment at which it was written, and the headers
of sealed files give the number of entries before them. Entries that were sealed and then trimmed are found in the
files. A server numbers the entries of one millisecond, so where one of several is missing, its position is known.

Counting does not find entries that were removed by someone who may set a stream's counter (``XSETID``). The control
stream is not checked here: it is a hash chain by itself.
"""

from typing import Final

from shared.archive import LostError
from shared.audit.findings import Difference, Findings
from shared.audit.source import CountedSource, RecordedExtent, Recording
from shared.log import START, StreamKey
from shared.log.leases import id_order

NAMED: Final = 5
"""Number of holes that are named for each stream."""


def check_streams(source: Recording, places: list[StreamKey]) -> Findings:
    """Check every stream of ``places`` that has entries."""
    findings = Findings()
    for place in places:
        if place.stream != "control":
            _check(source, place, findings)
    return findings


def _check(source: Recording, place: StreamKey, findings: Findings) -> None:
    extent = source.extent(place) if isinstance(source, CountedSource) else None
    holes: list[tuple[str, str]] = []
    count, first, last = 0, START, START
    try:
        for entry in source.entries(place):
            if count and _hole(last, entry.id):
                holes.append((last, entry.id))
            first = first if count else entry.id
            last = entry.id
            count += 1
    except LostError as error:
        if extent is not None and id_order(extent.deleted) > (0, 0):
            _deleted(findings, place, extent)
        else:
            findings.skip(f"streams: {error}")
        return
    if not count and (extent is None or not extent.added):
        return
    before = findings.count
    if extent is not None:
        _counted(findings, place, extent, count, first, last)
    for after, until in holes[:NAMED]:
        _differ(
            findings,
            place,
            until,
            f"{_left_out(after, until)} missing between {after} and {until}: their ids are not used",
        )
    findings.see("streams", equal=findings.count == before)


def _counted(findings: Findings, place: StreamKey, extent: RecordedExtent, count: int, first: str, last: str) -> None:
    if id_order(extent.deleted) > (0, 0):
        _deleted(findings, place, extent)
        return
    if extent.before is None:
        gone = extent.added - count
        if gone > 0:
            findings.skip(
                f"streams: {place.key} begins at {first}: entries before it were trimmed, and no archive is named", gone
            )
        return
    gone = extent.added - extent.before - count
    if extent.before:
        findings.skip(f"streams: the archive of {place.key} begins after its first entries", extent.before)
    if gone > 0:
        _differ(
            findings,
            place,
            last,
            f"{gone:,} entries are missing: {extent.added:,} were ever added, {extent.before + count:,} are accounted "
            f"for, from {first} to {last}",
            missing=True,
        )


def _deleted(findings: Findings, place: StreamKey, extent: RecordedExtent) -> None:
    _differ(
        findings,
        place,
        extent.deleted,
        f"entry {extent.deleted} was removed from the log by command (XDEL), and perhaps others before it; "
        "Conclave never deletes single entries, it only trims the oldest",
        missing=True,
    )


def _differ(findings: Findings, place: StreamKey, entry: str, detail: str, *, missing: bool = False) -> None:
    findings.differ(Difference("stream", place.stream, place.partition, entry, "", detail, missing=missing))


def _left_out(before: str, entry: str) -> str:
    """Return how many entries are missing between two, as far as their ids show."""
    (moment, number), (later, following) = id_order(before), id_order(entry)
    least = following - number - 1 if later == moment else following
    return f"{'' if later == moment else 'at least '}{least:,} {'entry is' if least == 1 else 'entries are'}"


def _hole(before: str, entry: str) -> bool:
    """Return whether an id between two belongs to an entry that is missing.

    A server numbers the entries of one millisecond from 0 on."""
    (moment, number), (later, following) = id_order(before), id_order(entry)
    return following != (number + 1 if later == moment else 0)
