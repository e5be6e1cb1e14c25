"""A source over sealed files alone: no server, no clock, nothing but the folder."""

from collections.abc import Iterator

from shared.archive.files import Files
from shared.archive.history import SealedHistory
from shared.archive.store import Store
from shared.audit.source import END
from shared.log import START, Entry, Place


class Sealed:
    """What was sealed. Reading raises ``CorruptError`` where a file is not what its digests say."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._history = SealedHistory(store)

    def entries(self, place: Place, after: str = START, until: str = END) -> Iterator[Entry]:
        """See ``Source``."""
        for found in self._history.read(place, after=after, until=until):
            yield from found

    def whole(self, place: Place) -> bool:
        """See ``Source``."""
        files = Files(self._store, place)
        numbers = files.numbers()
        return not numbers or files.open(numbers[0]).header.before == 0
