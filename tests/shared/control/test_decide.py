"""The control fold: which command may stand, what it does, and that the chain cannot be edited."""

from functools import reduce
from itertools import count

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.common import ACTIONS
from schemas.control import (
    Command,
    CommandRecorded,
    Found,
    Halt,
    Promote,
    RegisterArtifact,
    Resume,
    Retire,
    SetVotingPolicy,
    SetWeights,
    StartShadow,
    StopShadow,
)
from shared.control import EMPTY, GENESIS, ControlError, Rejected, Repeated, State, fold, head_of, propose

A1, A2, B1 = "a1" * 32, "a2" * 32, "b1" * 32
FOUNDED = Found(1, "log-of-a-test")


def artifact(model: str, digest: str, **changes: object) -> RegisterArtifact:
    """An artifact as ``train`` would register it."""
    command = RegisterArtifact(
        model=model,
        artifact=digest,
        family="prior",
        feature_set="f" * 64,
        feature_set_name="user-8",
        interval_ms=60_000,
        classes=ACTIONS,
        centre=(-1.1,) * 3,
        prior=(0.3, 0.4, 0.3),
    )
    return msgspec.structs.replace(command, **changes)


def given_log(*commands: Command) -> State:
    """The state after these commands, all of which must be accepted."""
    state, ids = EMPTY, count()
    for command in commands:
        entry = propose(state, command, command_id=f"c{next(ids)}", actor="me", reason="test", at=1)
        assert isinstance(entry, CommandRecorded), entry
        state = fold(state, entry)
    return state


def refusal(state: State, command: Command) -> str:
    answer = propose(state, command, command_id="new", actor="me", reason="test", at=1)
    assert isinstance(answer, Rejected), answer
    return answer.reason


TWO_MODELS = (
    FOUNDED,
    artifact("a", A1),
    artifact("a", A2),
    artifact("b", B1),
    Promote("a", A1, forced=True, weight=1.0),
    Promote("b", B1, forced=True, weight=0.4),
)


def test_the_first_command_has_the_voting_policy_that_an_installation_begins_with() -> None:
    """A log of an earlier release has none there, and keeps the default that it always had, byte for byte."""
    begun = SetVotingPolicy(rule="mean", cost=0.0016)
    assert given_log(Found(1, "log-of-a-test", begun)).policy == begun
    assert given_log(FOUNDED).policy == SetVotingPolicy() == SetVotingPolicy(rule="logpool", edge=0.10)
    assert msgspec.json.encode(FOUNDED) == b'{"type":"found","partitions":1,"log_id":"log-of-a-test"}'
    assert b"cost" not in msgspec.json.encode(SetVotingPolicy())


def test_the_first_champion_has_all_the_weight_and_later_ones_shrink_it_in_proportion() -> None:
    state = given_log(*TWO_MODELS)
    assert state.voting == ("a", "b")
    assert state.models["a"].weight == pytest.approx(0.6)
    assert state.models["b"].weight == 0.4


def test_a_replaced_champion_stays_in_shadow_and_keeps_no_vote() -> None:
    state = given_log(*TWO_MODELS, StartShadow("a", A2), Promote("a", A2, forced=True))
    assert state.models["a"].champion == A2
    assert state.models["a"].shadows == (A1,)
    assert state.models["a"].weight == pytest.approx(0.6)


def test_stopping_a_shadow_never_makes_it_vote() -> None:
    state = given_log(*TWO_MODELS, StartShadow("a", A2), StopShadow("a", A2))
    assert state.models["a"].champion == A1
    assert state.models["a"].shadows == ()


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (FOUNDED, "founded once"),
        (artifact("a", A1), "registered already"),
        (artifact("a", "c" * 64, classes=("BUY", "HOLD", "SELL")), "class order"),
        (artifact("a", "c" * 64, centre=(0.5, -1.0, -1.0)), "log probabilities"),
        (artifact("a", "c" * 64, prior=(0.5, 0.5, 0.5)), "sum to one"),
        (StartShadow("a", A1), "votes and needs no shadow"),
        (StartShadow("a", B1), "registered for 'b'"),
        (StartShadow("a", "d" * 64), "not registered"),
        (StopShadow("a", A2), "not in shadow"),
        (Promote("a", A2), "no passing gate verdict"),
        (Promote("a", A1, forced=True), "already"),
        (Promote("b", B1, forced=True, weight=1.0), "already"),
        (Promote("a", A2, forced=True, weight=1.0), "leave nothing"),
        (SetWeights({"a": 1.0}), "without a weight: b"),
        (SetWeights({"a": 0.5, "b": 0.3, "c": 0.2}), "without a member: c"),
        (SetWeights({"a": 1.0, "b": 1.0}), "sum to 2"),
        (SetVotingPolicy(quorum_count=3), "cannot be reached"),
        (Resume(), "not halted"),
        (Retire("a", A1), "promote another one first"),
    ],
)
def test_a_command_that_may_not_stand_is_refused_with_the_way_out(command: Command, says: str) -> None:
    assert says in refusal(given_log(*TWO_MODELS), command)


def test_nothing_is_accepted_before_the_installation_is_founded() -> None:
    assert "found" in refusal(EMPTY, Halt())


def test_a_model_without_weight_cannot_be_promoted_without_one() -> None:
    state = given_log(*TWO_MODELS, artifact("c", "c" * 64))
    assert "--weight" in refusal(state, Promote("c", "c" * 64, forced=True))


def test_a_retired_artifact_never_comes_back() -> None:
    state = given_log(*TWO_MODELS, StartShadow("a", A2), Retire("a", A2))
    assert state.models["a"].shadows == ()
    assert "retired" in refusal(state, StartShadow("a", A2))
    assert "retired" in refusal(state, Promote("a", A2, forced=True))


def test_halt_and_resume_alternate() -> None:
    halted = given_log(*TWO_MODELS, Halt())
    assert halted.halted
    assert "already" in refusal(halted, Halt())
    assert not given_log(*TWO_MODELS, Halt(), Resume()).halted


def test_issuing_a_command_twice_does_nothing() -> None:
    state = given_log(FOUNDED)
    entry = propose(state, Halt(), command_id="once", actor="me", reason="test", at=1)
    assert isinstance(entry, CommandRecorded)
    state = fold(state, entry)
    assert propose(state, Halt(), command_id="once", actor="me", reason="test", at=9) == Repeated(2)


def test_an_operator_who_expects_another_version_is_told() -> None:
    answer = propose(given_log(*TWO_MODELS), Halt(), command_id="x", actor="me", reason="test", at=1, expects=2)
    assert isinstance(answer, Rejected)
    assert "expected version 2" in answer.reason


def entries(*commands: Command) -> list[CommandRecorded]:
    state, log = EMPTY, []
    for number, command in enumerate(commands):
        entry = propose(state, command, command_id=f"c{number}", actor="me", reason="test", at=number)
        assert isinstance(entry, CommandRecorded)
        log.append(entry)
        state = fold(state, entry)
    return log


@given(st.integers(0, 4), st.sampled_from(["reason", "actor", "at", "previous", "drop", "swap"]))
def test_an_edited_log_does_not_fold(where: int, how: str) -> None:
    log = entries(*TWO_MODELS)
    if how == "drop":
        del log[where]
    elif how == "swap":
        log[where], log[where + 1] = log[where + 1], log[where]
    else:
        change = {"reason": "another", "actor": "you", "at": 99, "previous": "e" * 64}[how]
        log[where] = msgspec.structs.replace(log[where], **{how: change})
    with pytest.raises(ControlError):
        reduce(fold, log, EMPTY)


def test_a_recorded_command_that_may_not_stand_stops_the_fold() -> None:
    state = given_log(FOUNDED)
    forged = CommandRecorded(
        version=2, previous=state.head, command_id="x", at=1, actor="me", reason="test", command=Resume()
    )
    with pytest.raises(ControlError, match="may not stand"):
        fold(state, forged)


def test_a_recorded_history_folds_to_the_same_head_for_ever() -> None:
    """A change of the fold or of the canonical bytes may not rewrite the past."""
    state = given_log(*TWO_MODELS, Halt(), Resume())
    assert state.version == 8
    assert state.head == "4098afd704884534ed8b81fd0ece6e4ccdc91580906d3a5e6e1576682734a0ad"


def test_the_first_entry_follows_the_genesis_head() -> None:
    first = entries(FOUNDED)[0]
    assert first.previous == GENESIS
    assert fold(EMPTY, first).head == head_of(first)
