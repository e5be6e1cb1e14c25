"""Streams to seal, and sealed files of them."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from shared.archive.files import Files
from shared.archive.sealed import NOTHING, build
from shared.archive.store import FolderStore, SegmentStore
from shared.log import START, Entry, StreamKey
from tests.minute_bars import minute_bar

MARKET = StreamKey("market")


def market(count: int, first: int = 1) -> list[Entry]:
    """Bars under ids that share milliseconds, as a batch does."""
    return [
        Entry(MARKET, f"{1000 + number // 3}-{number % 3}", minute_bar(number).data)
        for number in range(first, first + count)
    ]


def put(store: SegmentStore, held: Sequence[Sequence[Entry]], place: StreamKey = MARKET) -> None:
    """Seals each range into a file of its own, chained."""
    previous, after, before = NOTHING, START, 0
    for number, entries in enumerate(held, 1):
        file, data = build(place, entries, number=number, previous=previous, after=after, before=before)
        store.put(Files(store, place).name(number), data)
        previous, after, before = file.digest, file.header.last, before + len(entries)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "archive")
