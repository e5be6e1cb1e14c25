"""What a history guarantees, stated once for every implementation."""

from pathlib import Path

import pytest

from schemas.codec import decode
from shared.archive import ArchivedHistory, CorruptError, LostError, SealedHistory, WholeHistory, entries, records
from shared.archive.store import FolderStore, UrlStore
from shared.log import START, Entry, StreamKey
from shared.log.memory import MemoryLog
from tests.shared.archive.conftest import MARKET, market, put

pytestmark = pytest.mark.anyio
KINDS = ("files", "elsewhere", "log", "across", "across and trimmed", "overlapping")
COUNT = 60


async def made(kind: str, held: list[Entry], folder: Path) -> ArchivedHistory:
    """A history of ``held`` of each kind."""
    half, later = len(held) // 2, len(held) * 3 // 4
    store = UrlStore(f"memory://{folder.name}") if kind == "elsewhere" else FolderStore(folder)
    if kind in {"files", "elsewhere"}:
        put(store, [held[:half], held[half:later], held[later:]])
        return SealedHistory(store)
    log = MemoryLog()
    for entry in held:
        assert await log.append_at(entry.place, entry.id, entry.data)
    if kind == "log":
        return WholeHistory(log, slice_entries=7)
    if kind == "overlapping":
        put(store, [held[:half], held[half:later]])
        return WholeHistory(log, store, slice_entries=7)
    put(store, [held[:half]])
    if kind == "across and trimmed":
        log.trim(MARKET, held[half].id)
    return WholeHistory(log, store, slice_entries=7)


async def ids(history: ArchivedHistory, after: str = START, until: str = "+") -> list[str]:
    return [entry.id async for entry in entries(history, MARKET, after=after, until=until)]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_history_gives_every_entry_once_in_order_with_its_bytes(kind: str, tmp_path: Path) -> None:
    held = market(COUNT)
    history = await made(kind, held, tmp_path)
    assert [entry async for entry in entries(history, MARKET)] == held
    assert [record.entry async for record in records(history, MARKET)] == held
    assert [record.envelope async for record in records(history, MARKET)] == [decode("market", e.data) for e in held]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_history_begins_behind_any_id_and_ends_at_any_id(kind: str, tmp_path: Path) -> None:
    held = market(COUNT)
    history = await made(kind, held, tmp_path)
    for start in (0, 1, COUNT // 2 - 1, COUNT // 2, COUNT - 2):
        for end in (start + 1, COUNT // 2, COUNT - 1):
            expected = [entry.id for entry in held[start + 1 : end + 1]]
            assert await ids(history, held[start].id, held[end].id) == expected
    assert await ids(history, held[-1].id) == []
    assert await ids(history, "1004-77", "1006-0") == [e.id for e in held if "1005-0" <= e.id <= "1006-0"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_history_says_where_it_begins_and_ends(kind: str, tmp_path: Path) -> None:
    held = market(COUNT)
    history = await made(kind, held, tmp_path)
    assert await history.reach(MARKET) == (held[0].id, held[-1].id)
    assert await history.reach(StreamKey("intents")) == (START, START)
    assert [one async for one in history.slices(StreamKey("intents"))] == []


@pytest.mark.parametrize("kind", KINDS)
async def test_slices_are_never_empty(kind: str, tmp_path: Path) -> None:
    history = await made(kind, market(COUNT), tmp_path)
    assert all([len(found) > 0 async for found in history.slices(MARKET, after="1004-77", until="1004-99")])


async def test_what_is_trimmed_while_it_is_read_is_found_in_the_files(tmp_path: Path) -> None:
    held = market(COUNT)
    store, log = FolderStore(tmp_path), MemoryLog()
    for entry in held:
        await log.append_at(entry.place, entry.id, entry.data)
    put(store, [held[:20]])
    found: list[Entry] = []
    async for part in WholeHistory(log, store, slice_entries=5).slices(MARKET):
        found += part
        if len(found) == 30:
            put(store, [held[:20], held[20:50]])
            log.trim(MARKET, held[50].id)
    assert found == held


async def test_entries_that_are_neither_sealed_nor_in_the_log_are_an_error_and_no_gap(tmp_path: Path) -> None:
    held = market(COUNT)
    store, log = FolderStore(tmp_path), MemoryLog()
    for entry in held:
        await log.append_at(entry.place, entry.id, entry.data)
    put(store, [held[:20]])
    log.trim(MARKET, held[30].id)
    with pytest.raises(LostError, match=f"between {held[19].id} and {held[30].id}"):
        await ids(WholeHistory(log, store))
    with pytest.raises(LostError):
        await ids(WholeHistory(log))
    assert await ids(WholeHistory(log, store), held[40].id) == [entry.id for entry in held[41:]]
    log.trim(MARKET, "9999-0")
    with pytest.raises(LostError, match="the end"):
        await ids(WholeHistory(log, store))


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_a_missing_file_is_an_error_and_no_gap(number: int, tmp_path: Path) -> None:
    held = market(COUNT)
    store = FolderStore(tmp_path)
    put(store, [held[:20], held[20:40], held[40:]])
    (tmp_path / f"p0/market/{number:08d}.sealed").unlink()
    if number == 3:  # nothing says that there was one more: the cut does (`verify`)
        assert await ids(SealedHistory(store)) == [entry.id for entry in held[:40]]
        return
    with pytest.raises(CorruptError, match=f"{number:08d}.sealed is missing"):
        await ids(SealedHistory(store))
