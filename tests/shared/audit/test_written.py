"""Entries that were removed, reordered, replaced or added contradict a digest that was noted before."""

from collections.abc import Callable, Iterator, Sequence

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import Encoded, encode
from schemas.predictions import PredictionFailed
from shared.audit.findings import Findings
from shared.audit.source import END, EntryRange
from shared.audit.written import KnownDigest, check_written
from shared.log import START, Commit, Entry, Owner, StreamKey
from shared.log.leases import id_order
from shared.log.memory import MemoryLog

PREDICTIONS = StreamKey("predictions")
GROUPS = ("model-worker.one", "model-worker.two")
ME = Owner("here", 4_000_001, "me")


class Entries:
    """A source of one stream. ``cut``: its beginning was trimmed."""

    def __init__(self, entries: Sequence[Entry], cut: bool = False) -> None:
        self.held, self.cut = entries, cut

    def entries(self, place: StreamKey, after: str = START, until: str = END) -> Iterator[Entry]:
        for entry in self.held:
            if entry.place == place and id_order(entry.id) > id_order(after):
                if until != END and id_order(entry.id) > id_order(until):
                    return
                yield entry

    def whole(self, place: StreamKey) -> bool:
        return not self.cut


def failed(model: str, number: int) -> Encoded:
    event = PredictionFailed(
        symbol="BTC",
        interval_ms=60_000,
        open_time=60_000 * number,
        origin="synthetic",
        model=model,
        artifact=bytes(32),
        reason="error",
        detail="",
        vector=bytes(16),
        control_version=1,
    )
    return encode("predictions", event)


def recorded(sizes: Sequence[int]) -> tuple[list[Entry], list[KnownDigest]]:
    """Two workers write batches of these sizes in turn; a note of both after each batch."""
    ticks = iter(range(1, 10**6))

    async def run() -> tuple[list[Entry], list[KnownDigest]]:
        log = MemoryLog(now=lambda: next(ticks))
        claims = [await log.claim(group, [], 0, ME) for group in GROUPS]
        known: list[KnownDigest] = []
        number = 0
        for turn, size in enumerate(sizes):
            claim = claims[turn % 2]
            model = claim.group.partition(".")[2]
            outputs = [failed(model, number + n) for n in range(size)]
            number += size
            await log.commit(claim, Commit(outputs, {}, {}, b"%d" % turn))
            for view in await log.groups(0):
                for stream, written in view.written.items():
                    known.append(KnownDigest(StreamKey(stream), view.group, written, f"note {turn}", turn))
        return await log.scan(PREDICTIONS), known

    return anyio.run(run)


def removed(entries: list[Entry], at: int) -> list[Entry]:
    return entries[:at] + entries[at + 1 :]


def reordered(entries: list[Entry], at: int) -> list[Entry]:
    """Two entries of one group with their contents exchanged: ids in order, as a forger would leave them."""
    one, two = entries[at], entries[at + 1]
    changed = list(entries)
    changed[at], changed[at + 1] = one._replace(data=two.data), two._replace(data=one.data)
    return changed


def replaced(entries: list[Entry], at: int) -> list[Entry]:
    changed = list(entries)
    changed[at] = entries[at]._replace(data=failed("one", 9_999).data)
    return changed


def doubled(entries: list[Entry], at: int) -> list[Entry]:
    again = entries[at]._replace(id=f"{id_order(entries[at].id)[0]}-7")
    return [*entries[: at + 1], again, *entries[at + 1 :]]


def cut_and_grown(entries: list[Entry], at: int) -> list[Entry]:
    return entries[:at] + [entry._replace(data=failed("one", 5_000 + n).data) for n, entry in enumerate(entries[at:])]


def test_an_honest_record_has_no_difference_and_counts_its_entries() -> None:
    entries, known = recorded([3, 2, 1, 4])
    found = check_written(Entries(entries), known, 0)
    assert (found.count, found.unchecked) == (0, {})
    assert found.checked == found.equal == {"written": 10}


@pytest.mark.parametrize("change", [removed, reordered, replaced, doubled, cut_and_grown])
def test_a_change_is_found_between_the_notes_that_enclose_it(
    change: Callable[[list[Entry], int], list[Entry]],
) -> None:
    entries, known = recorded([3, 2, 4, 2, 3, 2])  # entries 5 to 8 are the second batch of the first worker
    found = check_written(Entries(change(entries, 5)), known, 0)
    assert found.code == 1
    first = found.first
    assert first is not None
    assert (first.layer, first.stream, first.entry) == ("written", "predictions", entries[2].id)
    assert "model-worker.one" in first.detail
    assert f"up to {entries[8].id}" in first.detail


def test_each_stretch_is_recomputed_by_itself() -> None:
    entries, known = recorded([3, 2, 4, 2, 3, 2])
    found = check_written(Entries(removed(removed(entries, 12), 5)), known, 0)
    assert found.count == 2
    assert {each.entry for each in found.differences} == {entries[2].id, entries[8].id}


def test_the_count_of_what_is_missing_is_named() -> None:
    entries, known = recorded([3, 2, 4])
    found = check_written(Entries(removed(entries, 5)), known, 0)
    assert found.first is not None
    assert "3 entries were read, 4 were written" in found.first.detail


def test_one_earlier_note_is_enough_though_the_digest_was_computed_anew() -> None:
    """Whoever holds the server writes a group's digest as they like; not the note that somebody else kept."""
    entries, known = recorded([5, 1])
    copied = [each for each in known if each.group == GROUPS[0]][:1]
    forged, forgery = recorded([4, 1])
    assert check_written(Entries(forged), forgery, 0).count == 0
    assert check_written(Entries(forged), [*forgery, *copied], 0).count == 1
    assert check_written(Entries(entries), copied, 0).count == 0


def test_what_came_after_the_last_note_is_not_covered() -> None:
    entries, known = recorded([3, 2, 4])
    early = [each for each in known if each.at == 0]
    found = check_written(Entries(removed(entries, 6)), early, 0)
    assert (found.count, found.checked) == (0, {"written": 3})


def test_without_any_note_nothing_is_checked() -> None:
    entries, _ = recorded([3])
    assert check_written(Entries(entries), [], 0) == Findings()


def test_a_tail_that_the_server_lost_is_named_and_is_no_difference() -> None:
    entries, known = recorded([3, 1, 4])
    again, rest = recorded([3, 1, 2])
    lost = [each._replace(withdrawn=True) for each in known if each.at == 2 and each.group == GROUPS[0]]
    found = check_written(Entries(again), [*rest, *lost], 0)
    assert (found.count, found.code) == (0, 3)
    assert "continued from fewer" in next(iter(found.unchecked))
    assert check_written(Entries(entries), known, 0).code == 0


def test_a_digest_that_began_anew_leaves_what_lies_between_unchecked() -> None:
    entries, known = recorded([3, 1, 4, 1])
    [first] = [each for each in known if each.at == 0]
    own = [entry for entry in entries if _model(entry) == "one"]
    later, notes = recorded([2])
    moved = [entry._replace(id=f"{1_000 + n}-0") for n, entry in enumerate(later)]
    anew = notes[0]._replace(written=notes[0].written._replace(since=moved[0].id, last=moved[-1].id))
    found = check_written(Entries([*own, *moved]), [first, anew], 0)
    assert found.count == 0
    assert found.checked == {"written": 5}
    assert list(found.unchecked.values()) == [4]


def test_entries_that_were_trimmed_are_no_difference() -> None:
    entries, known = recorded([3, 2, 4, 2, 3, 2])
    found = check_written(Entries(entries[4:], cut=True), known, 0)
    assert (found.count, found.code) == (0, 3)
    assert found.checked["written"] == 3 + 2 + 2  # the last batch of one worker, the last two of the other
    assert check_written(Entries(removed(entries, 12)[4:], cut=True), known, 0).count == 1


def test_a_span_is_checked_from_the_note_before_it() -> None:
    entries, known = recorded([3, 2, 4, 2, 3, 2])
    span = EntryRange(after=entries[8].id, until=entries[13].id)
    assert check_written(Entries(removed(entries, 5)), known, 0, span).code == 0
    assert check_written(Entries(removed(entries, 12)), known, 0, span).count == 1
    assert check_written(Entries(removed(entries, 14)), known, 0, span).code == 0


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_honest_records_are_never_accused_and_every_removal_before_a_note_is_found(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=10))
    entries, known = recorded(sizes)
    kept = [each for each in known if data.draw(st.booleans())]
    assert check_written(Entries(entries), kept, 0).count == 0
    if not entries:
        return
    at = data.draw(st.integers(0, len(entries) - 1))
    (group,) = [each for each in GROUPS if each.endswith(_model(entries[at]))]
    covered = any(each.group == group and id_order(each.written.last) >= id_order(entries[at].id) for each in kept)
    assert bool(check_written(Entries(removed(entries, at)), kept, 0).count) == covered


def _model(entry: Entry) -> str:
    return "one" if b"one" in entry.data else "two"
