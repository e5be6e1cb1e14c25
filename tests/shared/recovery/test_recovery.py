"""What of the control log is missing, by what was noted and copied of it, and what an operator gave up."""

from functools import reduce
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import encode
from schemas.control import Command, CommandRecorded, Found, Halt, Resume, SetVotingPolicy
from shared.control import EMPTY, State, fold, propose
from shared.control.checkpoint import Checkpoint, RewrittenError
from shared.control.stream import CONTROL
from shared.log import Entry
from shared.recovery.copies import Copy, CopyingReader
from shared.recovery.missing import copied_by_head, missing
from shared.recovery.record import ControlRecord

FOUNDED = Found(1, "log-of-a-test")


def log_of(*commands: Command, log_id: str = "log-of-a-test") -> list[CommandRecorded]:
    state, entries = EMPTY, list[CommandRecorded]()
    for number, command in enumerate((Found(1, log_id), *commands)):
        entry = propose(state, command, command_id=f"{number}-{command}"[:60], actor="ada", reason="test", at=number)
        assert isinstance(entry, CommandRecorded), entry
        entries.append(entry)
        state = fold(state, entry)
    return entries


def state_of(log: list[CommandRecorded]) -> State:
    return reduce(fold, log, EMPTY)


def entry_of(recorded: CommandRecorded) -> Entry:
    return Entry(CONTROL, f"{recorded.version}-0", encode("control", recorded).data)


def policies(*counts: int) -> list[Command]:
    return [SetVotingPolicy(quorum_count=count) for count in counts]


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 4), st.booleans(), st.data())
def test_what_is_missing_is_what_was_held_and_is_not_there(
    kept: int, lost: int, since: int, copied: bool, data: st.DataObject
) -> None:
    """A log of ``kept`` commands that lost ``lost`` more, and went on with ``since`` others."""
    before = log_of(*policies(*range(1, kept + lost + 1)))
    now = log_of(*policies(*range(1, kept + 1)), *policies(*range(101, 101 + since)))
    state, whole = state_of(now), state_of(before)
    noted = [len(before)] if lost else []
    if not copied:
        noted += data.draw(st.lists(st.integers(1, len(before))))
    lines = [Checkpoint("log-of-a-test", at, whole.past[at].head, at) for at in noted]
    copies = [("copy", [entry_of(each) for each in before])] if copied else []
    found = missing(state, lines, copied_by_head(copies))
    if not lost:
        assert found is None
        return
    assert found is not None
    assert found.version == state.version
    if copied:
        assert found.common == kept + 1
        assert [each.copied.recorded for each in found.lost if each.copied] == before[kept + 1 :]
        assert found.complete
        assert found.replaced == (since > 0)
    else:
        assert not found.complete
        assert found.common <= kept + 1 + (since > 0) * since
    assert found.lost[-1].head == whole.head


def recorded(tmp_path: Path, log: list[CommandRecorded]) -> ControlRecord:
    record = ControlRecord(tmp_path)
    state = state_of(log)
    record.keep([entry_of(each) for each in log], state, 1)
    return ControlRecord(tmp_path)


def test_nothing_is_missing_from_a_log_that_went_on(tmp_path: Path) -> None:
    record = recorded(tmp_path, log_of(Halt()))
    for log in (log_of(Halt()), log_of(Halt(), Resume())):
        state = state_of(log)
        assert (record.missing(state), record.lost(state), record.why(state)) == (None, None, None)


def test_a_cut_log_is_told_with_the_way_out(tmp_path: Path) -> None:
    record = recorded(tmp_path, log_of(Halt(), Resume()))
    state = state_of(log_of(Halt()))
    lost = record.lost(state)
    assert lost is not None
    assert (lost.expected, lost.last) == ("3-0", "2-0")
    why = record.why(state)
    assert why is not None
    assert "lost version 3" in why
    assert "conclave recover" in why


def test_another_log_is_no_log_that_lost_its_tail(tmp_path: Path) -> None:
    record = recorded(tmp_path, log_of(Halt()))
    with pytest.raises(RewrittenError, match="another-log"):
        record.lost(state_of(log_of(log_id="another-log")))
    assert "another-log" in (record.why(state_of(log_of(log_id="another-log"))) or "")


def test_what_was_given_up_is_missing_no_more_and_its_stamps_are_known(tmp_path: Path) -> None:
    before = log_of(Halt(), Resume())
    record = recorded(tmp_path, before)
    state = state_of(log_of(*policies(7)))
    found = record.missing(state)
    assert found is not None
    heads = [each.head for each in found.lost]
    assert not record.accepted((2, heads[0]))
    record.give_up(found, state, "ada: the disk is gone", 9)
    assert record.missing(state) is None
    assert [record.accepted((version, head)) for version, head in zip((2, 3), heads, strict=True)] == [True, True]
    assert not record.accepted((2, state.head))
    again = record.missing(state_of(log_of()))
    assert again is not None  # a second loss, of what came after the first
    assert [each.head for each in again.lost] == [state.head]


def test_a_record_of_nothing_is_empty(tmp_path: Path) -> None:
    assert ControlRecord(tmp_path).empty()
    assert not recorded(tmp_path, log_of()).empty()


def test_a_copy_holds_each_entry_once_whoever_adds_it(tmp_path: Path) -> None:
    mine, yours = Copy(tmp_path / "control.entries"), Copy(tmp_path / "control.entries")
    for copy in (mine, yours, mine):
        for entry in map(entry_of, log_of(Halt())):
            copy.add(entry.id, entry.data)
    assert len((tmp_path / "control.entries").read_bytes().splitlines()) == 2
    assert mine.entries() == yours.entries() == [entry_of(each) for each in log_of(Halt())]


def test_a_line_that_the_power_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "control.entries"
    copy = Copy(path)
    for entry in map(entry_of, log_of(Halt())):
        copy.add(entry.id, entry.data)
    path.write_bytes(path.read_bytes()[:-9])
    [first, second] = map(entry_of, log_of(Halt()))
    again = Copy(path)
    assert again.entries() == [first]
    again.add(second.id, second.data)
    assert Copy(path).entries() == [first, second]


def test_a_reader_copies_what_stands_and_a_disk_that_takes_nothing_stops_it_not(tmp_path: Path) -> None:
    path = tmp_path / "control.entries"
    reader = CopyingReader(Copy(path))
    [first, second] = map(entry_of, log_of(Halt()))
    reader.take(first.id, first.data)
    reader.take("2-0", b"{}")
    assert Copy(path).entries() == [first]
    blocked = tmp_path / "file"
    blocked.write_text("")
    reader = CopyingReader(Copy(blocked / "control.entries"))
    reader.take(first.id, first.data)
    reader.take(second.id, second.data)
    assert reader.state.halted
