"""Streams to seal, and sealed files of them."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from schemas.codec import encode
from schemas.market import BarClosed
from shared.archive.files import Files
from shared.archive.sealed import NOTHING, build
from shared.archive.store import FolderStore, SegmentStore
from shared.log import START, Entry, StreamKey

MARKET = StreamKey("market")


def bar(number: int) -> bytes:
    return encode(
        "market",
        BarClosed(
            symbol="BTC",
            interval_ms=60_000,
            open_time=number * 60_000,
            open=1.0,
            high=2.0,
            low=0.5,
            close=1.5,
            volume=10.0,
            origin="synthetic",
        ),
    ).data


def market(count: int, first: int = 1) -> list[Entry]:
    """Bars under ids that share milliseconds, as a batch does."""
    return [Entry(MARKET, f"{1000 + number // 3}-{number % 3}", bar(number)) for number in range(first, first + count)]


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
