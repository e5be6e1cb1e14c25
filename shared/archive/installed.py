"""The archive of an installation, and how far each stream is sealed in it."""

from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from shared.archive.files import Files
from shared.archive.store import SegmentStore, open_store
from shared.log import START, StreamKey
from shared.settings import Settings


class SealedStream(Struct, frozen=True):
    """A stream in an archive: its files, their entries, and the last sealed entry."""

    place: StreamKey
    files: int
    entries: int
    last: str


def store_of(settings: Settings) -> SegmentStore:
    """Return the archive of this installation."""
    return open_store(settings.archive.path or Path(settings.installation.state) / "archive")


def sealed_streams(store: SegmentStore) -> Iterator[SealedStream]:
    """Yield each stream of an archive. Only headers are read. Raises ``CorruptError``, ``StoreError``."""
    for place in Files.places(store):
        files = Files(store, place)
        numbers, end = files.numbers(), files.end()
        entries = end.seen - files.open(numbers[0]).header.before if end else 0
        yield SealedStream(place, len(numbers), entries, end.last if end else START)
