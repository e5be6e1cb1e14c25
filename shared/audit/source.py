"""Read recorded entries from a log, from sealed files, or from both as one.

Checks pull entries one after another, so memory does not grow with the range. Where services keep writing, a check
reads up to one cut (``Ends``): the ends of all streams, read downstream first. So every event in the cut has its causes
in it too.
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple, Protocol, runtime_checkable

from msgspec import Struct

from schemas.catalogue import STREAMS
from schemas.codec import Opened, UnreadableError, opened
from schemas.operations import DeadLetter
from shared.audit.findings import Difference, Findings, Layer
from shared.log import START, Entry, StreamKey
from shared.log.events import events_of, reported_elsewhere
from shared.log.leases import id_order

PAGE: Final = 1000
END: Final = "+"
DOWNSTREAM_FIRST: Final = (
    "gates",
    "scores",
    "trades",
    "orders",
    "decisions",
    "intents",
    "predictions",
    "readiness",
    "features",
)
"""The order in which the ends of a partition's streams are read: these first, then all others, control last.

Intents are written with their decisions. Their end is read after that of decisions, so some intents may belong to
decisions after the cut."""


class Recording(Protocol):
    """A source of recorded entries."""

    def entries(self, place: StreamKey, after: str = START, until: str = END) -> Iterator[Entry]:
        """Yield entries with after < id <= until, oldest first."""

    def whole(self, place: StreamKey) -> bool:
        """Return whether the stream is readable from its first entry on: whatever was trimmed is in an archive."""


class RecordedExtent(Struct, frozen=True):
    """The extent of a stream, apart from its entries.

    ``last`` is the newest entry. ``added`` is the number of entries ever added up to it. ``before`` is the number of
    entries before the first that can be read here, None where that is unknown. ``deleted`` is the highest id that was
    removed from the log by command (``0-0``: none)."""

    last: str = START
    added: int = 0
    before: int | None = 0
    deleted: str = START


@runtime_checkable
class CountedSource(Protocol):
    """A ``Recording`` that also reports how many entries there must be."""

    def extent(self, place: StreamKey) -> RecordedExtent:
        """Return the extent of a stream. All fields are of one moment."""


class Ends(Struct, frozen=True):
    """A cut: the extent of each stream that has entries.

    ``decisions`` maps a partition to the end of ``decisions``, read again after the end of ``intents``. Up to there
    every intent in the cut has its decision."""

    extents: Mapping[StreamKey, RecordedExtent]
    decisions: Mapping[int, str] = {}


def places_of(partitions: int) -> list[StreamKey]:
    """Return the streams of an installation in the order in which their ends are read: downstream first."""
    others = [spec.name for spec in STREAMS.values() if spec.partitioned and spec.name not in DOWNSTREAM_FIRST]
    places = [StreamKey(name, number) for number in range(partitions) for name in (*DOWNSTREAM_FIRST, *others)]
    shared = [spec.name for spec in STREAMS.values() if not spec.partitioned and spec.name != "control"]
    return [*places, *map(StreamKey, shared), StreamKey("control")]


class Bounded:
    """A source that ends at a cut."""

    def __init__(self, source: Recording, ends: Ends) -> None:
        self._source = source
        self._ends = ends

    def entries(self, place: StreamKey, after: str = START, until: str = END) -> Iterator[Entry]:
        """See ``Recording``."""
        last = self._ends.extents.get(place, RecordedExtent()).last
        if last == START:
            return iter(())
        return self._source.entries(place, after, last if until == END else min(until, last, key=id_order))

    def whole(self, place: StreamKey) -> bool:
        """See ``Recording``."""
        return self._source.whole(place)

    def extent(self, place: StreamKey) -> RecordedExtent:
        """Return the extent at the cut. See ``CountedSource``."""
        return self._ends.extents.get(place, RecordedExtent())

    def beyond(self, partition: int) -> Iterator[Entry]:
        """Yield the decisions after the cut; some of their intents may be in it."""
        place = StreamKey("decisions", partition)
        after, until = self._ends.extents.get(place, RecordedExtent()).last, self._ends.decisions.get(partition, START)
        return self._source.entries(place, after, until) if id_order(after) < id_order(until) else iter(())


def beyond(source: Recording, partition: int) -> Iterator[Entry]:
    """Yield the decisions after the cut of a ``Bounded`` source; nothing for any other source."""
    return source.beyond(partition) if isinstance(source, Bounded) else iter(())


class EntryRange(NamedTuple):
    """The range of entry ids to compare. Entries before it are read where a result depends on them."""

    after: str = START
    until: str = END

    def holds(self, entry: str) -> bool:
        """Return whether an entry lies in the range."""
        if self.after == END:
            return False
        return id_order(entry) > id_order(self.after) and (self.until == END or id_order(entry) <= id_order(self.until))


class ReadEvent(NamedTuple):
    """A readable event with its entry id and bytes."""

    entry: str
    data: bytes
    opened: Opened


class UnreadableEvents:
    """Report the events of a stream that cannot be read. One for which a service wrote a dead letter is noted: no
    service used it, so nothing that was recorded depends on it. Any other one is a difference."""

    def __init__(self, source: Recording, place: StreamKey, layer: Layer, findings: Findings) -> None:
        self._source = source
        self._place = place
        self._layer = layer
        self._findings = findings
        self._refused: frozenset[str] | None = None

    def add(self, entry: str, detail: str) -> None:
        """Report one of them."""
        if self._refused is None:
            letters = self._source.entries(StreamKey("dead", self._place.partition))
            events = (envelope.event for _, envelope in events_of(letters, reported_elsewhere))
            self._refused = frozenset(
                event.source for event in events if isinstance(event, DeadLetter) and event.reason == "unreadable"
            )
        place = self._place
        if f"{place.key}@{entry}" in self._refused:
            self._findings.note(f"{place.stream}: an entry that cannot be read, and for which there is a dead letter")
        else:
            difference = Difference(self._layer, place.stream, place.partition, entry, "", detail[:500])
            self._findings.differ(difference)


def readable(
    source: Recording, place: StreamKey, layer: Layer, findings: Findings, span: EntryRange
) -> Iterator[ReadEvent]:
    """Yield every readable event of a stream.

    An event that cannot be read is a difference of ``layer`` where it lies within ``span``, unless a service refused it
    too. So is one whose id is not the digest of its content; that one is yielded all the same."""
    unreadable = UnreadableEvents(source, place, layer, findings)
    for entry in source.entries(place, START, span.until):
        try:
            event = opened(place.stream, entry.data)
        except UnreadableError as error:
            if span.holds(entry.id):
                unreadable.add(entry.id, str(error))
            continue
        if event.fault and span.holds(entry.id):
            findings.differ(difference(layer, place, entry.id, event, event.fault))
        yield ReadEvent(entry.id, entry.data, event)


def difference(layer: Layer, place: StreamKey, entry: str, read: Opened, detail: str) -> Difference:
    """Return a difference in a recorded event."""
    event = read.envelope.event
    return Difference(
        layer,
        place.stream,
        place.partition,
        entry,
        read.envelope.id.hex(),
        detail[:1000],
        getattr(event, "symbol", ""),
        getattr(event, "open_time", None),
    )
