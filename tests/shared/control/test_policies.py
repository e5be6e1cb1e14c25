"""Voting policies in shadow, under any sequence of commands about them."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from schemas.control import (
    Command,
    CommandRecorded,
    PromotePolicy,
    Rollback,
    SetVotingPolicy,
    StartPolicyShadow,
    StopPolicyShadow,
)
from shared.control import EMPTY, Rejected, State, fold, propose
from shared.control.apply.policies import MOST
from shared.control.policies import champion_of, in_shadow, policy_digest
from tests.shared.control.test_table import LABELLED

POLICIES = [SetVotingPolicy(edge=edge) for edge in (0.1, 0.01, 0.02, 0.03, 0.04, 0.05)]
POLICY = st.sampled_from(POLICIES)
DIGEST = POLICY.map(policy_digest)
COMMAND: st.SearchStrategy[Command] = st.one_of(
    POLICY.map(StartPolicyShadow),
    DIGEST.map(StopPolicyShadow),
    st.builds(PromotePolicy, DIGEST, st.none(), st.just(value=True)),
    POLICY,
    st.builds(Rollback, st.none() | st.integers(1, 12)),
)


def after(state: State, command: Command) -> State | Rejected:
    entry: Any = propose(state, command, command_id=str(state.version), actor="me", reason="test", at=1)
    return fold(state, entry) if isinstance(entry, CommandRecorded) else Rejected(entry.reason)


def begun() -> State:
    state = EMPTY
    for command in LABELLED:
        following = after(state, command)
        assert isinstance(following, State)
        state = following
    return state


BEGUN = begun()


@given(st.lists(COMMAND, max_size=25))
def test_the_policy_in_force_is_never_in_shadow_and_every_shadow_is_known(commands: list[Command]) -> None:
    state = BEGUN
    for command in commands:
        following = after(state, command)
        if isinstance(following, Rejected):
            assert following.reason
            continue
        shadows = following.policy_shadows
        assert policy_digest(following.policy) not in shadows
        assert len(set(shadows)) == len(shadows) <= MOST
        assert set(shadows) <= set(following.policies)
        assert all(policy_digest(each.policy) == digest for digest, each in following.policies.items())
        assert following.past[following.version].policy_shadows == shadows
        if isinstance(command, PromotePolicy):
            assert policy_digest(state.policy) in shadows
            assert following.before == state.version
        state = following


@given(POLICY.filter(lambda each: each != BEGUN.policy))
def test_a_rollback_restores_the_policy_before_a_promotion(policy: SetVotingPolicy) -> None:
    state: Any = BEGUN
    for command in (StartPolicyShadow(policy), PromotePolicy(policy_digest(policy), forced=True), Rollback()):
        state = after(state, command)
    assert state.policy == BEGUN.policy
    assert state.policy_shadows == (policy_digest(policy),)
    assert list(in_shadow(state)) == [("ensemble", policy_digest(policy))]
    assert champion_of(state, "ensemble") == policy_digest(BEGUN.policy)
