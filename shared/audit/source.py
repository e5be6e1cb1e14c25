"""Where recorded entries are read from: a log, sealed files, or both as one.

Checks pull entries one after another, so what they hold in memory does not grow with the range.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple, Protocol

from schemas.codec import Opened, UnreadableError, opened
from shared.audit.findings import Difference, Findings, Layer
from shared.log import START, Entry, Place

PAGE: Final = 1000
END: Final = "+"


class Source(Protocol):
    """Recorded entries."""

    def entries(self, place: Place, after: str = START, until: str = END) -> Iterator[Entry]:
        """Entries with after < id <= until, oldest first."""

    def whole(self, place: Place) -> bool:
        """Whether the stream is there from its first entry on: nothing was trimmed that cannot be read."""


class Span(NamedTuple):
    """A range of recorded time (entry ids): what is to be compared. What lies before is read where a
    result depends on it."""

    after: str = START
    until: str = END

    def holds(self, entry: str) -> bool:
        """Whether an entry lies in it."""
        if self.after == END:
            return False
        return order(entry) > order(self.after) and (self.until == END or order(entry) <= order(self.until))


def order(entry: str) -> tuple[int, int]:
    """An entry id as something that sorts."""
    milliseconds, _, sequence = entry.partition("-")
    return int(milliseconds), int(sequence or 0)


class Read(NamedTuple):
    """A readable event and where it stood."""

    entry: str
    data: bytes
    found: Opened


def readable(source: Source, place: Place, layer: Layer, findings: Findings, span: Span) -> Iterator[Read]:
    """Every event of a stream. One that cannot be read, or is not the one its id names, is a difference
    of ``layer`` (within ``span``); one that can be read is passed on all the same."""
    for entry in source.entries(place, START, span.until):
        try:
            found = opened(place.stream, entry.data)
        except UnreadableError as error:
            if span.holds(entry.id):
                findings.differ(Difference(layer, place.stream, place.partition, entry.id, "", str(error)[:500]))
            continue
        if found.fault and span.holds(entry.id):
            findings.differ(difference(layer, place, entry.id, found, found.fault))
        yield Read(entry.id, entry.data, found)


def difference(layer: Layer, place: Place, entry: str, found: Opened, detail: str) -> Difference:
    """A difference in a recorded event."""
    event = found.envelope.event
    return Difference(
        layer,
        place.stream,
        place.partition,
        entry,
        found.envelope.id.hex(),
        detail[:1000],
        getattr(event, "symbol", ""),
        getattr(event, "open_time", None),
    )
