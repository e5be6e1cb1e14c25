"""The format: what goes in comes out, and no changed byte goes unnoticed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.archive.files import Files
from shared.archive.sealed import FRAME_RAW, NOTHING, CorruptError, build, open_frame, open_header
from shared.archive.store import FolderStore
from shared.log import START, Entry
from shared.log.leases import id_order
from tests.shared.archive.conftest import MARKET, market, put

IDS = st.lists(
    st.tuples(st.integers(0, 2**63), st.integers(0, 2**63)).filter(any), min_size=1, max_size=40, unique=True
)


@given(IDS, st.data())
def test_what_is_sealed_is_read_back_to_the_byte(ids: list[tuple[int, int]], data: st.DataObject) -> None:
    held = [Entry(MARKET, f"{a}-{b}", data.draw(st.binary(max_size=80))) for a, b in sorted(ids)]
    file, sealed = build(MARKET, held, number=1, previous=NOTHING, after=START, before=0)
    opened = open_header(sealed, "a file")
    assert opened == file
    assert file.end == len(sealed)
    offset, found = file.offset, []
    for frame in file.header.frames:
        found += open_frame(frame, sealed[offset : offset + frame.size], MARKET, "a file")
        offset += frame.size
    assert found == held


def test_a_large_range_is_cut_into_frames_that_a_reader_can_hold() -> None:
    held = [Entry(MARKET, f"1-{number}", bytes(10_000)) for number in range(200)]
    file, _ = build(MARKET, held, number=1, previous=NOTHING, after=START, before=0)
    assert len(file.header.frames) == 8
    assert all(frame.raw < FRAME_RAW + 10_100 for frame in file.header.frames)


def test_every_changed_byte_of_every_file_is_found(store: FolderStore) -> None:
    held = market(12)
    put(store, [held[:6], held[6:]])
    files = Files(store, MARKET)
    for number in files.numbers():
        path = store.root / files.name(number)
        whole = path.read_bytes()
        for at in range(len(whole)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(CorruptError, match=f"{number:08d}"):
                list(files.frames())
        for at in range(len(whole)):
            path.write_bytes(whole[:at])
            with pytest.raises(CorruptError, match=f"{number:08d}"):
                list(files.frames())
        path.write_bytes(whole)
    assert [entry for frame in files.frames() for entry in frame] == held


def test_a_file_that_was_rewritten_whole_does_not_fit_its_chain(store: FolderStore) -> None:
    held = market(30)
    put(store, [held[:10], held[10:20], held[20:]])
    other, data = build(MARKET, market(9), number=1, previous=NOTHING, after=START, before=0)
    store.put(Files(store, MARKET).name(1), data)
    with pytest.raises(CorruptError, match="00000002"):
        list(Files(store, MARKET).chain())
    assert other.digest


def test_entries_out_of_order_are_not_sealed() -> None:
    held = market(3)
    for wrong in ([], held[::-1], [held[0], held[0]]):
        with pytest.raises((ValueError, IndexError)):
            build(MARKET, wrong, number=1, previous=NOTHING, after=START, before=0)
    with pytest.raises(ValueError, match="in order"):
        build(MARKET, held, number=2, previous=NOTHING, after=held[1].id, before=0)
    assert id_order(held[0].id) < id_order(held[1].id)
