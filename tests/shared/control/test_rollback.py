"""Going back, on probation or by hand: what it brings back, what it never does, and that it does not swing."""

from functools import reduce
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.common import ACTIONS
from schemas.control import (
    Command,
    CommandRecorded,
    ConfirmPromotion,
    Found,
    Halt,
    Promote,
    RegisterArtifact,
    Resume,
    Retire,
    RevertProbation,
    Rollback,
    SetGatePolicy,
    SetLadder,
    SetVotingPolicy,
    SetWeights,
    StartShadow,
    StepWeight,
    StopShadow,
)
from shared.control import EMPTY, GENESIS, Rejected, State, decide, fold, propose

OWN = {"a": ["a1" * 32, "a2" * 32, "a3" * 32], "b": ["b1" * 32, "b2" * 32], "c": ["c1" * 32]}
A1, A2, A3 = OWN["a"]
B1, B2 = OWN["b"]
C1 = OWN["c"][0]


def artifact(model: str, digest: str) -> RegisterArtifact:
    return RegisterArtifact(
        model=model,
        artifact=digest,
        family="prior",
        feature_set="f" * 64,
        feature_set_name="core",
        interval_ms=60_000,
        classes=ACTIONS,
        centre=(-1.1,) * 3,
        prior=(0.3, 0.4, 0.3),
    )


BEGUN: tuple[Command, ...] = (
    Found(1, "log-of-a-test"),
    *(artifact(model, digest) for model, own in OWN.items() for digest in own),
    Promote("a", A1, forced=True, weight=1.0),
    Promote("b", B1, forced=True, weight=0.4),
)
NUMBERS = count()


def after(state: State, command: Command) -> State:
    entry = propose(state, command, command_id=f"c{next(NUMBERS)}", actor="ada", reason="test", at=1)
    assert isinstance(entry, CommandRecorded), entry
    return fold(state, entry)


def given_log(*commands: Command) -> State:
    return reduce(after, commands, reduce(after, BEGUN, EMPTY))


def votes(state: State) -> dict[str, Any]:
    return {name: (state.models[name].champion, state.models[name].weight) for name in state.voting}


def decides(state: State) -> tuple[object, ...]:
    return votes(state), state.policy, state.gate, state.ladder


def refusal(state: State, command: Command) -> str:
    answer = decide(state, command)
    assert isinstance(answer, Rejected)
    return answer.reason


def test_a_rollback_decides_as_the_version_before_did() -> None:
    before = given_log()
    after_all = given_log(Promote("a", A2, forced=True, weight=0.9), Rollback())
    assert decides(after_all) == decides(before)
    assert after_all.models["a"].shadows == (A2,)


def test_what_is_no_change_of_the_configuration_is_not_what_a_rollback_undoes() -> None:
    between = (StartShadow("a", A3), Halt(), artifact("c", "c2" * 32), SetGatePolicy("classic"), Rollback())
    state = given_log(Promote("a", A2, forced=True), *between)
    assert state.models["a"].champion == A2
    assert state.gate is None
    state = after(state, Rollback())
    assert state.models["a"].champion == A1


def test_a_second_rollback_goes_further_back_and_never_to_and_fro() -> None:
    steps = (Promote("a", A2, forced=True), Promote("a", A3, forced=True), SetWeights({"a": 0.5, "b": 0.5}))
    states = [given_log(*steps[:end]) for end in range(len(steps) + 1)]
    state = states[-1]
    for earlier in reversed(states[:-1]):
        state = after(state, Rollback())
        assert decides(state) == decides(earlier)


def test_a_change_after_a_rollback_is_what_the_next_one_undoes() -> None:
    state = given_log(Promote("a", A2, forced=True), Rollback(), Promote("b", B2, forced=True), Rollback())
    assert decides(state) == decides(given_log())


def test_a_rollback_of_a_rollback_is_asked_for_by_version() -> None:
    promoted = given_log(Promote("a", A2, forced=True))
    state = after(after(promoted, Rollback()), Rollback(to=promoted.version))
    assert decides(state) == decides(promoted)


def test_one_model_goes_back_alone_under_the_present_weights() -> None:
    state = given_log(Promote("a", A2, forced=True), Promote("b", B2, forced=True), SetWeights({"a": 0.2, "b": 0.8}))
    state = after(state, Rollback(model="a"))
    assert votes(state) == {"a": (A1, 0.2), "b": (B2, 0.8)}


def test_one_model_goes_further_back_each_time_until_its_first_champion() -> None:
    state = given_log(Promote("a", A2, forced=True), Promote("b", B2, forced=True), Promote("a", A3, forced=True))
    state = after(state, Rollback(model="a"))
    assert state.models["a"].champion == A2
    state = after(state, Rollback(model="a"))
    assert state.models["a"].champion == A1
    assert "first champion" in refusal(state, Rollback(model="a"))


def test_what_was_left_by_one_model_alone_does_not_come_back_by_a_plain_rollback() -> None:
    state = given_log(Promote("a", A2, forced=True), Promote("b", B2, forced=True), Rollback(model="a"))
    state = after(state, Rollback())
    assert votes(state) == votes(given_log())


def test_a_model_leaves_the_vote_where_it_did_not_vote_and_the_others_share_its_weight() -> None:
    before = given_log()
    state = after(before, Promote("c", C1, forced=True, weight=0.5))
    state = after(state, Rollback(to=before.version, model="c"))
    assert votes(state) == {"a": (A1, pytest.approx(0.6)), "b": (B1, pytest.approx(0.4))}
    assert state.models["c"].shadows == (C1,)
    joined = after(state, Rollback(to=state.version - 1, model="c"))
    assert votes(joined)["c"] == (C1, 0.5)
    assert sum(weight or 0 for _, weight in votes(joined).values()) == pytest.approx(1)


def test_a_rollback_touches_neither_halt_nor_shadows_and_brings_nothing_retired_back() -> None:
    state = given_log(Promote("a", A2, forced=True), StartShadow("b", B2), Halt())
    back = after(state, Rollback())
    assert back.halted
    assert back.models["b"].shadows == (B2,)
    retired = after(state, Retire("a", A1))
    assert "retired since" in refusal(retired, Rollback())
    assert "retired since" in refusal(retired, Rollback(model="a"))


def test_a_probation_ends_by_confirming_by_reverting_or_by_another_champion() -> None:
    state = given_log(Promote("a", A2, forced=True, probation=100))
    assert state.probations["a"].decisions == 100
    assert not after(state, ConfirmPromotion("a", A2)).probations
    assert votes(after(state, RevertProbation("a", A2, 100))) == votes(given_log())
    assert not after(state, Rollback()).probations
    assert not after(state, Promote("a", A3, forced=True)).probations
    assert after(state, Promote("b", B2, forced=True)).probations


def test_a_weight_that_came_with_a_promotion_on_probation_goes_with_it() -> None:
    state = given_log(Promote("a", A2, forced=True, weight=0.9, probation=5))
    assert votes(after(state, RevertProbation("a", A2, 5))) == {
        "a": (A1, pytest.approx(0.6)),
        "b": (B1, pytest.approx(0.4)),
    }
    weighed = after(state, SetWeights({"a": 0.3, "b": 0.7}))
    assert votes(after(weighed, RevertProbation("a", A2, 5))) == {"a": (A1, 0.3), "b": (B1, 0.7)}


def test_a_new_model_on_probation_leaves_again() -> None:
    state = given_log(Promote("c", C1, forced=True, weight=0.05, probation=5))
    state = after(state, RevertProbation("c", C1, 5))
    assert state.voting == ("a", "b")
    assert state.models["c"].shadows == (C1,)


def test_the_ladder_is_climbed_a_step_at_a_time_and_the_others_keep_their_proportions() -> None:
    state = given_log(Promote("c", C1, forced=True, weight=0.05))
    for weight in (0.10, 0.15, 0.20, 0.25):
        state = after(state, StepWeight("c"))
        assert votes(state)["c"][1] == weight
        assert votes(state)["a"][1] == pytest.approx(0.6 * (1 - weight))
    assert "top, 0.25" in refusal(state, StepWeight("c"))
    assert votes(after(state, StepWeight("c", up=False)))["c"][1] == 0.20
    foot = reduce(after, [StepWeight("c", up=False)] * 4, state)
    assert "foot, 0.05" in refusal(foot, StepWeight("c", up=False))
    assert votes(after(state, Rollback()))["c"][1] == 0.20


MODELS = st.sampled_from(sorted(OWN))
PAIRS = MODELS.flatmap(lambda model: st.tuples(st.just(model), st.sampled_from(OWN[model])))
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(
        lambda pair, weight, probation: Promote(pair[0], pair[1], True, weight, probation=probation),
        PAIRS,
        st.sampled_from([None, 0.0, 0.25, 1.0]),
        st.sampled_from([None, 1]),
    ),
    PAIRS.map(lambda pair: StartShadow(*pair)),
    PAIRS.map(lambda pair: StopShadow(*pair)),
    PAIRS.map(lambda pair: Retire(*pair)),
    PAIRS.map(lambda pair: RevertProbation(*pair, 1)),
    PAIRS.map(lambda pair: ConfirmPromotion(*pair)),
    st.builds(Rollback, st.none() | st.integers(1, 25), st.none() | MODELS),
    st.builds(StepWeight, MODELS, st.booleans()),
    st.sampled_from([Halt(), Resume(), SetLadder((0.1, 0.5)), SetVotingPolicy(quorum_count=1), SetGatePolicy("g")]),
    st.just(SetWeights({"a": 0.5, "b": 0.5})),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(COMMANDS, max_size=25))
def test_whatever_is_commanded_the_configuration_holds_together(commands: list[Command]) -> None:
    states = [EMPTY]
    for command in (*BEGUN, *commands):
        state = states[-1]
        if decide(state, command) is not None:
            continue
        made = after(state, command)
        states.append(made)
        weights = [made.models[name].weight for name in made.voting]
        assert all(weight is not None and 0 <= weight <= 1 for weight in weights)
        assert not weights or sum(weight or 0 for weight in weights) == pytest.approx(1)
        assert all(model.champion not in model.shadows for model in made.models.values())
        assert all(len(set(model.shadows)) == len(model.shadows) for model in made.models.values())
        assert not {made.models[name].champion for name in made.voting} & set(made.retired)
        assert all(made.models[name].champion == held.artifact for name, held in made.probations.items())
        if isinstance(command, Rollback):
            assert made.halted == state.halted
            assert (made.keys, made.retired, made.artifacts) == (state.keys, state.retired, state.artifacts)
            if command.model is None and command.to is not None:
                assert decides(made) == decides(states[command.to])
            if command.model is None:
                assert any(decides(made) == decides(earlier) for earlier in states[1:-1])
    for version, earlier in enumerate(states):
        assert earlier.version == version
        assert earlier.head == (GENESIS if version == 0 else states[-1].past[version].head)
