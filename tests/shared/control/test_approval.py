"""The rule of two persons: what it holds back, what it never holds back, and everything that an approval is refused
for."""

from itertools import count
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from schemas.control import (
    Approve,
    Command,
    CommandRecorded,
    Found,
    Halt,
    Promote,
    PromotePolicy,
    Proposable,
    Propose,
    Refuse,
    RegisterArtifact,
    Resume,
    Retire,
    RevokeKey,
    Rollback,
    SetApprovalRule,
    SetLadder,
    SetVotingPolicy,
    SetWeights,
    StartPolicyShadow,
    StartShadow,
    StepWeight,
    StopShadow,
    TrustKey,
)
from shared.control import EMPTY, ControlError, Rejected, State, fold, propose
from shared.control.policies import policy_digest
from shared.control.signing import Signer
from tests.shared.control.test_rollback import artifact as unlabelled

A1, A2, A3, B1 = "a1" * 32, "a2" * 32, "a3" * 32, "b1" * 32
HOUR = 3_600_000
RULE = SetApprovalRule(("promote", "set_weights"), ("ben", "cy"))
PROMOTION = Promote("a", A2, verdict="0c" * 16, ready=("0a" * 16,))
NUMBERS = count()
CALM, CALMER = SetVotingPolicy(edge=0.05), SetVotingPolicy(edge=0.02)
POLICY_RULE = SetApprovalRule(("promote_policy", "set_ladder"), ("ben", "cy"))
OF_POLICY = PromotePolicy(policy_digest(CALM), verdict="0c" * 16)


def artifact(model: str, digest: str) -> RegisterArtifact:
    return msgspec.structs.replace(unlabelled(model, digest), horizon=12, kappa=0.75)


BEGUN: tuple[Command, ...] = (
    Found(1, "log-of-a-test"),
    *(artifact("a", digest) for digest in (A1, A2, A3)),
    artifact("b", B1),
    Promote("a", A1, forced=True, weight=1.0),
    Promote("b", B1, forced=True, weight=0.4),
)


def signer(name: str) -> Signer:
    """The key ``name``, the same in each test."""
    return Signer(name, Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32, b"-")))


def answered(state: State, command: Command, by: str, at: int = 1, **options: Any) -> CommandRecorded | str:
    """The entry of a command, or why it is refused. Where keys are trusted, ``by`` signs with the key of that name."""
    entry = propose(
        state,
        command,
        command_id=f"c{next(NUMBERS)}",
        actor=options.pop("actor", by),
        reason=f"{by} has a reason",
        at=at,
        signer=signer(options.pop("key", by)),
        **options,
    )
    if isinstance(entry, Rejected):
        return entry.reason
    assert isinstance(entry, CommandRecorded)
    return entry


def after(state: State, command: Command, by: str = "ada", at: int = 1, **options: Any) -> State:
    entry = answered(state, command, by, at, **options)
    assert isinstance(entry, CommandRecorded), entry
    return fold(state, entry)


def refusal(state: State, command: Command, by: str, at: int = 1, **options: Any) -> str:
    entry = answered(state, command, by, at, **options)
    assert isinstance(entry, str), entry
    return entry


def given(*commands: Command) -> State:
    state = EMPTY
    for command in (*BEGUN, *commands):
        state = after(state, command)
    return state


def approve(state: State, number: int | None = None, verdict: str | None = "1c" * 16) -> Approve:
    """An approval with the evidence that a desk would collect."""
    number = number or max(state.proposals)
    command = state.proposals[number].command
    if isinstance(command, Promote):
        command = msgspec.structs.replace(command, ready=("1a" * 16,) if verdict else (), verdict=verdict)
    if isinstance(command, PromotePolicy):
        command = msgspec.structs.replace(command, verdict=verdict)
    return Approve(number, command)


@pytest.fixture
def proposed() -> State:
    """Ada has proposed to promote A2."""
    return given(RULE, Propose(PROMOTION, 24 * HOUR))


KEYS = (
    TrustKey("ada", signer("ada").public_key, "ada"),
    TrustKey("ben", signer("ben").public_key, "ben", ("approve", "refuse", "propose", "halt")),
    TrustKey("cy", signer("cy").public_key, "cy", ("approve",)),
    TrustKey("ada-phone", signer("ada-phone").public_key, "ada", ("approve", "halt")),
    TrustKey("dan", signer("dan").public_key, "dan"),
)


def signed(*commands: Command) -> State:
    return given(*KEYS, RULE, *commands)


def test_given_a_rule_a_promotion_by_one_person_is_refused_with_the_way_out() -> None:
    why = refusal(given(RULE), PROMOTION, "ben")
    assert "conclave propose promote" in why
    assert "ben or cy" in why


@pytest.mark.parametrize("command", [SetWeights({"a": 0.5, "b": 0.5}), StepWeight("b"), SetApprovalRule()])
def test_given_a_rule_weights_steps_up_and_the_rule_itself_need_a_second_person(command: Command) -> None:
    assert "needs a second person" in refusal(given(RULE), command, "ben")


def test_given_a_rule_for_promotions_weights_need_no_second_person() -> None:
    after(given(SetApprovalRule(("promote",), ("ben",))), SetWeights({"a": 0.5, "b": 0.5}))


def test_given_a_rule_nothing_that_leads_back_needs_a_second_person() -> None:
    state = given(SetLadder((0.1, 0.5)), Promote("a", A2, forced=True, probation=5), RULE)
    back = (StepWeight("b", up=False), Halt(), Rollback(model="a"), Resume(), StartShadow("a", A3), StopShadow("a", A3))
    for command in back:
        state = after(state, command)
    assert state.models["a"].champion == A1


def test_a_proposal_changes_nothing_until_it_is_approved_and_then_at_once(proposed: State) -> None:
    assert proposed.models["a"].champion == A1
    assert [(number, each.by.person) for number, each in proposed.proposals.items()] == [(proposed.version, "ada")]
    made = after(proposed, approve(proposed), "ben", at=HOUR)
    assert made.models["a"].champion == A2
    assert made.models["a"].shadows == (A1,)
    assert not made.proposals
    assert after(made, Rollback()).models["a"].champion == A1


def test_a_promotion_on_probation_is_on_probation_from_its_approval_on() -> None:
    state = given(RULE, Propose(msgspec.structs.replace(PROMOTION, probation=5)))
    made = after(state, approve(state), "cy", at=77)
    assert (made.probations["a"].version, made.probations["a"].at) == (made.version, 77)


def test_when_the_evidence_is_gone_by_then_the_approval_is_refused(proposed: State) -> None:
    why = refusal(proposed, approve(proposed, verdict=None), "ben")
    assert "no passing gate verdict" in why
    assert "ready in 0 of 1 partitions" in why


def test_nobody_approves_a_proposal_of_their_own() -> None:
    state = given(RULE, Propose(SetWeights({"a": 0.5, "b": 0.5})))
    assert "another person approves it" in refusal(state, approve(state), "ada")
    state = after(given(RULE), Propose(PROMOTION), "ben")
    assert "another person approves it" in refusal(state, approve(state), "ben")
    after(state, approve(state), "cy")


def test_only_approvers_approve(proposed: State) -> None:
    assert refusal(proposed, approve(proposed), "dan") == "dan is no approver; approvers are ben or cy"


def test_an_approval_is_refused_on_another_version_than_the_approver_saw(proposed: State) -> None:
    moved = after(proposed, Halt())
    assert "expected version" in refusal(moved, approve(proposed), "ben", expects=proposed.version)
    after(moved, approve(proposed), "ben", expects=moved.version)


def test_a_proposal_is_out_of_date_when_another_champion_votes(proposed: State) -> None:
    second = after(proposed, Propose(msgspec.structs.replace(PROMOTION, artifact=A3)))
    made = after(second, approve(second), "ben")
    assert made.models["a"].champion == A3
    assert "out of date" in refusal(made, approve(made, proposed.version), "ben")


def test_weights_are_out_of_date_when_they_were_changed() -> None:
    state = given(RULE, SetLadder((0.1, 0.5)), Propose(SetWeights({"a": 0.5, "b": 0.5})))
    stepped = after(state, StepWeight("b", up=False))
    assert "out of date" in refusal(stepped, approve(stepped), "ben")
    assert after(state, approve(state), "ben").models["b"].weight == 0.5


def test_a_proposal_expires_and_is_dropped_when_the_next_is_made(proposed: State) -> None:
    until = proposed.proposals[proposed.version].until
    assert "has expired" in refusal(proposed, approve(proposed), "ben", at=until)
    after(proposed, approve(proposed), "ben", at=until - 1)
    renewed = after(proposed, Propose(PROMOTION), at=until)
    assert list(renewed.proposals) == [renewed.version]


def test_an_artifact_that_was_retired_meanwhile_is_not_promoted(proposed: State) -> None:
    assert "was retired" in refusal(after(proposed, Retire("a", A2)), approve(proposed), "ben")


def test_a_proposal_is_approved_once(proposed: State) -> None:
    made = after(proposed, approve(proposed), "ben")
    assert f"no proposal {proposed.version} is open" in refusal(made, approve(proposed), "cy")
    assert f"no proposal {proposed.version} is open" in refusal(made, Refuse(proposed.version), "cy")


def test_an_approver_refuses_and_the_author_withdraws(proposed: State) -> None:
    for person in ("ben", "ada"):
        ended = after(proposed, Refuse(proposed.version), person)
        assert not ended.proposals
        assert ended.models == proposed.models
    assert "neither refuse nor withdraw" in refusal(proposed, Refuse(proposed.version), "dan")


def test_what_would_be_refused_cannot_be_proposed_nor_what_needs_nobody() -> None:
    assert "no passing gate verdict" in refusal(given(RULE), Propose(Promote("a", A2)), "ada")
    assert "needs no second person" in refusal(given(), Propose(PROMOTION), "ada")


def test_a_new_rule_ends_all_proposals_and_needs_a_second_person(proposed: State) -> None:
    state = after(proposed, Propose(SetApprovalRule(("promote",), ("ben", "dan"))))
    made = after(state, approve(state), "ben")
    assert made.approval.approvers == ("ben", "dan")
    assert not made.proposals
    state = after(made, Propose(SetApprovalRule()), "ben")
    free = after(state, approve(state), "dan")
    after(free, PROMOTION)


def test_a_rollback_touches_neither_the_rule_nor_the_proposals() -> None:
    state = given(SetVotingPolicy(quorum_count=1), RULE, Propose(PROMOTION))
    back = after(state, Rollback(), "dan")
    assert back.policy != state.policy
    assert (back.approval, back.proposals) == (state.approval, state.proposals)


def test_with_keys_a_person_is_the_holder_of_the_key() -> None:
    state = signed(Propose(PROMOTION))
    number = state.version
    assert "another person approves it" in refusal(state, approve(state), "ada-phone", actor="ben")
    assert "may not approve" not in refusal(state, approve(state), "dan", actor="ben")
    assert refusal(state, approve(state), "dan", actor="ben") == "dan is no approver; approvers are ben or cy"
    made = after(state, approve(state), "ben", actor="b. enright")
    assert made.models["a"].champion == A2
    assert state.proposals[number].by.person == "ada"


def test_two_holders_under_one_name_are_not_two_persons() -> None:
    state = signed(Propose(PROMOTION))
    assert "another person approves it" in refusal(state, approve(state), "ben", actor="ada")


def test_with_keys_an_approver_needs_a_key_that_may_approve() -> None:
    state = given(*KEYS)
    assert "'eve' holds no key that may approve" in refusal(state, SetApprovalRule(("promote",), ("eve",)), "ada")
    alone = given(KEYS[0])
    assert "no person but the approver" in refusal(alone, SetApprovalRule(("promote",), ("ada",)), "ada")
    state = after(signed(Propose(PROMOTION)), RevokeKey("ben"))
    assert "was revoked" in refusal(state, approve(state), "ben")
    after(state, approve(state), "cy")


def test_what_a_revoked_key_proposed_ends_unless_its_holder_has_another() -> None:
    state = after(signed(), Propose(PROMOTION), "dan")
    assert not after(state, RevokeKey("dan")).proposals
    state = signed(Propose(PROMOTION))
    state = after(state, TrustKey("ada-2", signer("ada-2").public_key, "ada"))
    assert after(state, RevokeKey("ada"), key="ada-2").proposals == state.proposals


def test_a_rule_for_weights_holds_a_promotion_that_sets_one() -> None:
    weighted = msgspec.structs.replace(PROMOTION, weight=0.9)
    state = given(SetApprovalRule(("set_weights",), ("ben", "cy")))
    after(state, PROMOTION)
    assert "a promotion with a weight needs a second person" in refusal(state, weighted, "ada")
    made = after(after(state, Propose(weighted)), Approve(state.version + 1, weighted), "ben")
    assert made.models["a"].weight == 0.9


def test_a_key_signs_only_what_it_may() -> None:
    state = signed(Propose(PROMOTION))
    assert "may not refuse" in refusal(state, Refuse(state.version), "cy")


def test_what_was_proposed_before_a_key_was_trusted_cannot_be_approved(proposed: State) -> None:
    state = proposed
    for key in KEYS:
        state = after(state, key)
    assert "before a key was trusted" in refusal(state, approve(state), "ben")


def test_only_what_was_proposed_is_approved(proposed: State) -> None:
    other = Approve(proposed.version, msgspec.structs.replace(PROMOTION, artifact=A3))
    assert "not what proposal" in refusal(proposed, other, "ben")
    probation = Approve(proposed.version, msgspec.structs.replace(PROMOTION, probation=9))
    assert "not what proposal" in refusal(proposed, probation, "ben")


def test_a_log_with_an_approval_of_ones_own_does_not_count(proposed: State) -> None:
    """Whoever writes past the control writer is found by every reader."""
    entry = answered(proposed, approve(proposed), "ben")
    assert isinstance(entry, CommandRecorded)
    with pytest.raises(ControlError, match="another person approves it"):
        fold(proposed, msgspec.structs.replace(entry, actor="ada"))


def test_the_rule_names_only_what_it_can_hold() -> None:
    assert "no rule of two persons for halt" in refusal(given(), SetApprovalRule(("halt",), ("ben",)), "ada")
    assert "names who approves" in refusal(given(), SetApprovalRule(("promote",)), "ada")


@pytest.mark.parametrize(
    ("command", "way"),
    [
        (OF_POLICY, "promote-policy"),
        (msgspec.structs.replace(OF_POLICY, verdict=None, forced=True), "promote-policy"),
        (CALM, "voting"),
        (SetLadder((0.001, 0.5)), "ladder"),
    ],
)
def test_given_a_rule_for_policies_each_way_to_change_the_vote_needs_a_second_person(command: Any, way: str) -> None:
    state = given(StartPolicyShadow(CALM), POLICY_RULE)
    assert f"conclave propose {way}" in refusal(state, command, "ben")
    proposed = after(state, Propose(command), "ada")
    assert (proposed.policy, proposed.ladder) == (state.policy, state.ladder)
    made = after(proposed, approve(proposed), "ben")
    assert (made.policy, made.ladder) != (state.policy, state.ladder)
    assert after(made, Rollback(), "dan").policy == state.policy


def test_a_rule_that_an_earlier_release_could_set_holds_no_more_than_it_did() -> None:
    state = given(StartPolicyShadow(CALM), RULE)
    for command in (OF_POLICY, SetVotingPolicy(), SetLadder((0.1, 0.5))):
        state = after(state, command)


def test_an_approval_of_a_policy_needs_a_verdict_of_that_moment() -> None:
    state = given(StartPolicyShadow(CALM), POLICY_RULE, Propose(OF_POLICY))
    assert "no passing gate verdict" in refusal(state, approve(state, verdict=None), "ben")
    other = Approve(state.version, PromotePolicy(policy_digest(CALMER), verdict="1c" * 16))
    assert "not what proposal" in refusal(state, other, "ben")


@pytest.mark.parametrize("command", [OF_POLICY, SetVotingPolicy(edge=0.03), SetLadder((0.1, 0.5))])
def test_a_proposed_policy_or_ladder_is_out_of_date_when_another_came_into_force(command: Any) -> None:
    state = given(StartPolicyShadow(CALM), POLICY_RULE, Propose(command))
    first = state.version
    rival = SetLadder((0.2, 0.4)) if isinstance(command, SetLadder) else CALMER
    state = after(state, Propose(rival), "dan")
    state = after(state, approve(state), "ben")
    assert "out of date" in refusal(state, approve(state, first), "ben")


def test_what_a_revoked_key_proposed_of_a_policy_ends() -> None:
    state = given(StartPolicyShadow(CALM), *KEYS, POLICY_RULE)
    state = after(state, Propose(OF_POLICY), "dan")
    assert not after(state, RevokeKey("dan")).proposals


PERSONS = st.sampled_from(["ada", "ben", "cy", "dan"])
PROPOSABLE: st.SearchStrategy[Any] = st.one_of(
    st.builds(Promote, st.just("a"), st.sampled_from([A1, A2, A3]), st.just(True)),
    st.sampled_from([0.2, 0.5]).map(lambda weight: SetWeights({"a": weight, "b": 1 - weight})),
    st.sampled_from([SetApprovalRule(("promote",), ("ben",)), SetApprovalRule(), RULE, POLICY_RULE]),
    st.sampled_from([CALM, CALMER, SetVotingPolicy(), SetLadder((0.1, 0.5)), SetLadder()]),
    st.sampled_from([CALM, CALMER]).map(lambda policy: PromotePolicy(policy_digest(policy), forced=True)),
)
ALONE: st.SearchStrategy[Any] = st.one_of(
    PROPOSABLE,
    st.sampled_from([Halt(), Resume(), Rollback(), StepWeight("b"), Retire("a", A3), StartShadow("a", A2)]),
    st.sampled_from([StartPolicyShadow(CALM), StartPolicyShadow(CALMER)]),
)


class TwoPersons(RuleBasedStateMachine):
    """Whatever four persons do, what the rule holds back takes effect by two of them."""

    state = EMPTY
    at = 0

    @initialize()
    def begin(self) -> None:
        self.state = given(
            StartPolicyShadow(CALM), SetApprovalRule((*RULE.commands, *POLICY_RULE.commands), ("ben", "cy"))
        )

    def issue(self, command: Command, by: str) -> bool:
        self.at += HOUR
        entry = answered(self.state, command, by, self.at)
        if isinstance(entry, str):
            return False
        before, self.state = self.state, fold(self.state, entry)
        self.check(before, command, by)
        return True

    @rule(command=ALONE, by=PERSONS)
    def alone(self, command: Command, by: str) -> None:
        self.issue(command, by)

    @rule(command=PROPOSABLE, by=PERSONS, hours=st.integers(1, 5))
    def propose(self, command: Proposable, by: str, hours: int) -> None:
        self.issue(Propose(command, hours * HOUR), by)

    @rule(by=PERSONS, data=st.data())
    def end(self, by: str, data: st.DataObject) -> None:
        if self.state.proposals:
            number = data.draw(st.sampled_from(sorted(self.state.proposals)))
            endings: list[Command] = [approve(self.state, number), Refuse(number)]
            self.issue(data.draw(st.sampled_from(endings)), by)

    def check(self, before: State, command: Command, by: str) -> None:
        rule, proposal = before.approval, before.proposals.get(getattr(command, "proposal", 0))
        if isinstance(command, Approve):
            assert proposal is not None
            assert proposal.by.person != by
            assert by in rule.approvers
            assert self.at < proposal.until
        elif not isinstance(command, Rollback):
            if "promote" in rule.commands:
                assert before.models["a"].champion == self.state.models["a"].champion
            if "promote_policy" in rule.commands:
                assert before.policy == self.state.policy
            if "set_ladder" in rule.commands:
                assert before.ladder == self.state.ladder
        if not isinstance(command, Approve) and rule.commands:
            assert self.state.approval == rule

    @invariant()
    def proposals_are_of_their_version(self) -> None:
        assert all(1 <= number <= self.state.version for number in self.state.proposals)
        assert self.state.approval.commands or not self.state.proposals


TestTwoPersons = TwoPersons.TestCase
TestTwoPersons.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
