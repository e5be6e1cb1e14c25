"""Voting policies in shadow, under any sequence of commands about them."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from schemas.control import (
    Command,
    CommandRecorded,
    ConfirmPromotion,
    PromotePolicy,
    RevertProbation,
    Rollback,
    SetLadder,
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
    st.builds(PromotePolicy, DIGEST, st.none(), st.just(value=True), st.none() | st.integers(1, 3)),
    POLICY,
    st.builds(Rollback, st.none() | st.integers(1, 12)),
    st.builds(Rollback, st.none() | st.integers(1, 12), st.just("ensemble")),
    DIGEST.map(lambda digest: ConfirmPromotion("ensemble", digest)),
    DIGEST.map(lambda digest: RevertProbation("ensemble", digest, 3)),
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
            assert following.before == following.policy_before == state.version
        if "ensemble" in following.probations:
            assert following.probations["ensemble"].artifact == policy_digest(following.policy)
        if isinstance(command, RevertProbation) or getattr(command, "model", None) == "ensemble":
            assert following.models == state.models
            assert following.gate == state.gate
        state = following


@given(st.lists(COMMAND, max_size=25))
def test_rollbacks_of_the_voting_policy_go_further_back_until_the_first(commands: list[Command]) -> None:
    state = BEGUN
    for command in commands:
        following = after(state, command)
        state = state if isinstance(following, Rejected) else following
    targets = [state.version]
    while state.policy_before:
        targets.append(state.policy_before)
        expected = state.past[state.policy_before].policy
        following = after(state, Rollback(model="ensemble"))
        if isinstance(following, Rejected):
            assert not state.policies  # no policy was ever in shadow
            return
        assert following.policy == expected
        state = following
    assert targets == sorted(targets, reverse=True)
    assert state.policy == BEGUN.policy


def test_a_probation_of_a_policy_is_reverted_and_ends_with_any_other_policy() -> None:
    policy = POLICIES[1]
    promoted: Any = BEGUN
    for command in (StartPolicyShadow(policy), PromotePolicy(policy_digest(policy), forced=True, probation=3)):
        promoted = after(promoted, command)
    probation = promoted.probations["ensemble"]
    assert (probation.artifact, probation.version) == (policy_digest(policy), promoted.version)
    reverted: Any = after(promoted, RevertProbation("ensemble", policy_digest(policy), 3))
    assert (reverted.policy, reverted.policy_shadows) == (BEGUN.policy, (policy_digest(policy),))
    assert not reverted.probations
    confirmed: Any = after(promoted, ConfirmPromotion("ensemble", policy_digest(policy)))
    assert confirmed.policy == policy
    assert not confirmed.probations
    for other in (POLICIES[2], Rollback(), Rollback(model="ensemble"), Rollback(to=5)):
        ended: Any = after(promoted, other)
        assert ended.policy != policy
        assert not ended.probations


def test_a_rollback_after_a_rollback_of_the_policy_does_not_bring_the_policy_back() -> None:
    state: Any = BEGUN
    for command in (
        StartPolicyShadow(POLICIES[1]),
        PromotePolicy(policy_digest(POLICIES[1]), forced=True),
        SetLadder((0.1, 0.5)),
        Rollback(model="ensemble"),
    ):
        state = after(state, command)
    assert (state.policy, state.ladder) == (BEGUN.policy, SetLadder((0.1, 0.5)))
    again = after(state, Rollback())
    assert isinstance(again, Rejected) or again.policy == BEGUN.policy


@given(POLICY.filter(lambda each: each != BEGUN.policy))
def test_a_rollback_restores_the_policy_before_a_promotion(policy: SetVotingPolicy) -> None:
    state: Any = BEGUN
    for command in (StartPolicyShadow(policy), PromotePolicy(policy_digest(policy), forced=True), Rollback()):
        state = after(state, command)
    assert state.policy == BEGUN.policy
    assert state.policy_shadows == (policy_digest(policy),)
    assert list(in_shadow(state)) == [("ensemble", policy_digest(policy))]
    assert champion_of(state, "ensemble") == policy_digest(BEGUN.policy)
