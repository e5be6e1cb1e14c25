"""Where recorded entries are read from: a log, sealed files, or both as one.

Checks pull entries one after another, so what they hold in memory does not grow with the range. What is
read beside services that go on is read up to one cut (``Ends``): the ends of all streams, taken downstream
first, so that whatever an event in it rests on is in it too.
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple, Protocol, runtime_checkable

from msgspec import Struct

from schemas.catalogue import STREAMS
from schemas.codec import Opened, UnreadableError, opened
from shared.audit.findings import Difference, Findings, Layer
from shared.log import START, Entry, StreamKey, leases

order: Final = leases.order
"""An entry id as something that sorts."""
PAGE: Final = 1000
END: Final = "+"
DOWNSTREAM_FIRST: Final = ("gates", "scores", "trades", "decisions", "intents", "predictions", "readiness", "features")
"""In this order the ends of a partition's streams are read; all others after these, control last. Intents are
written with their decisions; their end is read after that of decisions, so some may belong to later ones."""


class Recording(Protocol):
    """Recorded entries."""

    def entries(self, place: StreamKey, after: str = START, until: str = END) -> Iterator[Entry]:
        """Entries with after < id <= until, oldest first."""

    def whole(self, place: StreamKey) -> bool:
        """Whether the stream is there from its first entry on: nothing was trimmed that cannot be read."""


class RecordedExtent(Struct, frozen=True):
    """What is known about a stream besides its entries. ``last``: its newest entry. ``added``: how many entries were
    ever added up to it. ``before``: how many of these came before the first that can be read here, where that is
    known. ``deleted``: the highest id that was removed from the log by command (``0-0``: none)."""

    last: str = START
    added: int = 0
    before: int | None = 0
    deleted: str = START


@runtime_checkable
class CountedSource(Protocol):
    """A source that knows how many entries there must be, beside being a ``Recording``."""

    def extent(self, place: StreamKey) -> RecordedExtent:
        """What is known about a stream. All fields are of one moment."""


class Ends(Struct, frozen=True):
    """A cut: the extent of each stream that has entries. ``decisions``: by partition, the end of ``decisions`` read
    again after that of ``intents``, so that each intent in the cut has its decision up to there."""

    extents: Mapping[StreamKey, RecordedExtent]
    decisions: Mapping[int, str] = {}


def places_of(partitions: int) -> list[StreamKey]:
    """The streams of an installation in the order in which their ends are read: downstream first."""
    others = [spec.name for spec in STREAMS.values() if spec.partitioned and spec.name not in DOWNSTREAM_FIRST]
    found = [StreamKey(name, number) for number in range(partitions) for name in (*DOWNSTREAM_FIRST, *others)]
    return [*found, StreamKey("training"), StreamKey("control")]


class Bounded:
    """A source up to a cut."""

    def __init__(self, source: Recording, ends: Ends) -> None:
        self._source = source
        self._ends = ends

    def entries(self, place: StreamKey, after: str = START, until: str = END) -> Iterator[Entry]:
        """See ``Recording``."""
        last = self._ends.extents.get(place, RecordedExtent()).last
        if last == START:
            return iter(())
        return self._source.entries(place, after, last if until == END else min(until, last, key=order))

    def whole(self, place: StreamKey) -> bool:
        """See ``Recording``."""
        return self._source.whole(place)

    def extent(self, place: StreamKey) -> RecordedExtent:
        """See ``CountedSource``; as it was at the cut."""
        return self._ends.extents.get(place, RecordedExtent())

    def beyond(self, partition: int) -> Iterator[Entry]:
        """Decisions after the cut, some of whose intents may be in it."""
        place = StreamKey("decisions", partition)
        after, until = self._ends.extents.get(place, RecordedExtent()).last, self._ends.decisions.get(partition, START)
        return self._source.entries(place, after, until) if order(after) < order(until) else iter(())


def beyond(source: Recording, partition: int) -> Iterator[Entry]:
    """See ``Bounded.beyond``; nothing where a source does not grow."""
    return source.beyond(partition) if isinstance(source, Bounded) else iter(())


class EntryRange(NamedTuple):
    """A range of recorded time (entry ids): what is to be compared. What lies before is read where a
    result depends on it."""

    after: str = START
    until: str = END

    def holds(self, entry: str) -> bool:
        """Whether an entry lies in it."""
        if self.after == END:
            return False
        return order(entry) > order(self.after) and (self.until == END or order(entry) <= order(self.until))


class ReadEvent(NamedTuple):
    """A readable event and where it stood."""

    entry: str
    data: bytes
    found: Opened


def readable(
    source: Recording, place: StreamKey, layer: Layer, findings: Findings, span: EntryRange
) -> Iterator[ReadEvent]:
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
        yield ReadEvent(entry.id, entry.data, found)


def difference(layer: Layer, place: StreamKey, entry: str, found: Opened, detail: str) -> Difference:
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
