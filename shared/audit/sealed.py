"""Read recorded entries from sealed files alone, without server or clock."""

from collections.abc import Iterator

from shared.archive import cuts
from shared.archive.files import Files
from shared.archive.history import SealedHistory
from shared.archive.store import SegmentStore
from shared.audit.source import END, Ends, RecordedExtent
from shared.log import START, Entry, StreamKey


class ArchivedRecording:
    """The sealed entries. Reading raises ``CorruptError`` where a file does not match its digests."""

    def __init__(self, store: SegmentStore) -> None:
        self._store = store
        self._history = SealedHistory(store)

    def entries(self, place: StreamKey, after: str = START, until: str = END) -> Iterator[Entry]:
        """See ``Recording``."""
        for slice_ in self._history.read(place, after=after, until=until):
            yield from slice_

    def whole(self, place: StreamKey) -> bool:
        """See ``Recording``."""
        files = Files(self._store, place)
        numbers = files.numbers()
        return not numbers or files.open(numbers[0]).header.before == 0

    def extent(self, place: StreamKey) -> RecordedExtent:
        """Return the extent of a stream from the headers of its files. See ``CountedSource``."""
        files = Files(self._store, place)
        numbers, end = files.numbers(), files.end()
        if end is None:
            return RecordedExtent()
        return RecordedExtent(end.last, end.seen, files.open(numbers[0]).header.before)

    def ends(self) -> Ends | None:
        """Return the newest cut that was written when all streams had been sealed up to one moment; None where there is
        none.

        The number of entries ever added is the one the server reported then, not the number that is sealed."""
        cut, _ = cuts.newest(self._store)
        if cut is None:
            return None
        extents = {}
        for end in cut.ends:
            extent = self.extent(end.place)
            extents[end.place] = RecordedExtent(end.last, end.added, extent.before)
        return Ends(extents)
