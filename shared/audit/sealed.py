"""A source over sealed files alone: no server, no clock, nothing but the folder."""

from collections.abc import Iterator

from shared.archive import cuts
from shared.archive.files import Files
from shared.archive.history import SealedHistory
from shared.archive.store import SegmentStore
from shared.audit.source import END, Ends, RecordedExtent
from shared.log import START, Entry, StreamKey


class ArchivedRecording:
    """What was sealed. Reading raises ``CorruptError`` where a file is not what its digests say."""

    def __init__(self, store: SegmentStore) -> None:
        self._store = store
        self._history = SealedHistory(store)

    def entries(self, place: StreamKey, after: str = START, until: str = END) -> Iterator[Entry]:
        """See ``Recording``."""
        for found in self._history.read(place, after=after, until=until):
            yield from found

    def whole(self, place: StreamKey) -> bool:
        """See ``Recording``."""
        files = Files(self._store, place)
        numbers = files.numbers()
        return not numbers or files.open(numbers[0]).header.before == 0

    def extent(self, place: StreamKey) -> RecordedExtent:
        """See ``CountedSource``: what the headers of the files say."""
        files = Files(self._store, place)
        numbers, end = files.numbers(), files.end()
        if end is None:
            return RecordedExtent()
        return RecordedExtent(end.last, end.seen, files.open(numbers[0]).header.before)

    def ends(self) -> Ends | None:
        """The newest cut that was written when all streams had been sealed up to one moment; None where there is
        none. How many entries were ever added is what the server said then, not what was found to be sealed."""
        cut, _ = cuts.newest(self._store)
        if cut is None:
            return None
        extents = {}
        for end in cut.ends:
            held = self.extent(end.place)
            extents[end.place] = RecordedExtent(end.last, end.added, held.before)
        return Ends(extents)
