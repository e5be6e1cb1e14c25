"""A log that was rewritten whole contradicts what was noted of it outside."""

from functools import reduce
from pathlib import Path

import pytest
from msgspec.structs import replace

from schemas.control import Command, CommandRecorded, Found, Halt, Resume
from shared.control import EMPTY, ControlError, State, fold, head_of, propose
from shared.control.checkpoint import Checkpoint, RewrittenError, accept, check, note, read

COMMANDS: tuple[Command, ...] = (Found(1, "log-of-a-test"), Halt(), Resume(), Halt())


def entries(log_id: str = "log-of-a-test", commands: tuple[Command, ...] = COMMANDS) -> list[CommandRecorded]:
    state, made = EMPTY, list[CommandRecorded]()
    for number, command in enumerate((Found(1, log_id), *commands[1:])):
        entry = propose(state, command, command_id=f"c{number}", actor="ada", reason="test", at=number)
        assert isinstance(entry, CommandRecorded)
        made.append(entry)
        state = fold(state, entry)
    return made


def folded(log: list[CommandRecorded]) -> State:
    return reduce(fold, log, EMPTY)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file in which three versions were noted, one at a time."""
    path = tmp_path / "checkpoints" / "control.jsonl"
    for end in (1, 2, 3):
        note(path, folded(entries()[:end]), at=end)
    return path


def test_a_log_that_went_on_is_the_one_that_was_noted(path: Path) -> None:
    check(path, folded(entries()[:3]))
    check(path, folded(entries()))
    assert [noted.version for noted in read(path)] == [1, 2, 3]


def test_nothing_is_noted_twice_nor_before_the_founding(path: Path) -> None:
    assert note(path, folded(entries()[:3]), at=9) is None
    assert note(path, EMPTY, at=9) is None
    assert len(read(path)) == 3


def test_a_log_rewritten_from_one_entry_on_is_found_at_that_entry(path: Path) -> None:
    log = entries()
    log[1] = replace(log[1], reason="as I like it")
    for place in (2, 3):
        log[place] = replace(log[place], previous=head_of(log[place - 1]))
    with pytest.raises(RewrittenError, match=r"expected head .* at version 2"):
        check(path, folded(log))


def test_a_log_cut_at_its_end_is_found(path: Path) -> None:
    with pytest.raises(RewrittenError, match="expected version 3, but it ends at version 2"):
        check(path, folded(entries()[:2]))


def test_another_log_and_an_empty_one_are_found(path: Path) -> None:
    with pytest.raises(RewrittenError, match=r"move .* away"):
        check(path, folded(entries("another-log")))
    with pytest.raises(RewrittenError, match="empty"):
        check(path, EMPTY)


def test_a_rewritten_log_is_a_control_error() -> None:
    assert issubclass(RewrittenError, ControlError)


def test_a_line_that_the_power_cut_off_is_left_out_and_written_over(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert [noted.version for noted in read(path)] == [1, 2]
    assert note(path, folded(entries()[:3]), at=3) is not None
    assert path.read_bytes() == whole


def test_a_line_that_is_no_checkpoint_is_named(path: Path) -> None:
    path.write_bytes(b"{}\n" + path.read_bytes())
    with pytest.raises(RewrittenError, match=r"control\.jsonl:1 is no checkpoint"):
        check(path, folded(entries()))


def test_without_a_file_there_is_nothing_to_contradict(tmp_path: Path) -> None:
    check(tmp_path / "none.jsonl", folded(entries()))


def test_what_went_further_than_an_accepted_cut_counts_no_more(path: Path) -> None:
    cut = folded(entries()[:2])
    accept(path, Checkpoint(cut.log_id, cut.version, cut.head, 9, "ada: disk gone", ("f" * 64,)))
    check(path, cut)
    log = entries(commands=(COMMANDS[0], COMMANDS[1], Resume(), Halt()))
    check(path, folded(log))
    log[1] = replace(log[1], reason="as I like it")
    for place in (2, 3):
        log[place] = replace(log[place], previous=head_of(log[place - 1]))
    with pytest.raises(RewrittenError, match=r"expected head .* at version 2"):
        check(path, folded(log))
