"""Voting policies in shadow: what a decision records of them, and that nothing else of it changes."""

from collections.abc import Mapping

from msgspec import UNSET, structs

from schemas.common import Probabilities
from schemas.control import (
    Command,
    PromotePolicy,
    RegisterArtifact,
    SetVotingPolicy,
    StartPolicyShadow,
    StopPolicyShadow,
)
from schemas.decisions import DecisionMade, IntentIssued
from shared.control.policies import policy_digest
from tests.services.ensemble_voter.test_core import BEAR, BULL, FLAT, THREE, Table

LABELLED = tuple(
    structs.replace(each, horizon=12, kappa=0.75) if isinstance(each, RegisterArtifact) else each for each in THREE
)
STRICT = SetVotingPolicy(edge=0.9)
SHARP = SetVotingPolicy(rule="mean", temperature=0.5)
NOBODY = SetVotingPolicy(quorum_weight=1.0)
MIXED: Mapping[str, Probabilities | str] = {"a": BULL, "b": BULL, "c": FLAT}


def decided(
    *commands: Command, ballots: Mapping[str, Probabilities | str] = MIXED
) -> tuple[DecisionMade, list[IntentIssued]]:
    table = Table(*LABELLED, *commands)
    events = table.take(*[table.ballot(name, 1, p) for name, p in ballots.items()])
    [made] = [event for event in events if isinstance(event, DecisionMade)]
    return made, [event for event in events if isinstance(event, IntentIssued)]


def test_without_a_candidate_a_decision_has_no_such_field() -> None:
    made, _ = decided()
    assert made.candidates is UNSET
    stopped, _ = decided(StartPolicyShadow(STRICT), StopPolicyShadow(policy_digest(STRICT)))
    assert stopped.candidates is UNSET


def test_each_candidate_decides_the_same_ballots_and_no_intent_follows_from_it() -> None:
    alone, acted = decided()
    made, intents = decided(StartPolicyShadow(STRICT), StartPolicyShadow(SHARP), StartPolicyShadow(NOBODY))
    assert (made.action, made.probabilities, made.confidence) == (alone.action, alone.probabilities, alone.confidence)
    assert [intent.action for intent in intents] == [intent.action for intent in acted] == ["BUY"]
    assert made.candidates is not UNSET
    strict, sharp, nobody = made.candidates
    assert [each.policy for each in made.candidates] == list(map(policy_digest, (STRICT, SHARP, NOBODY)))
    assert (strict.action, strict.probabilities, strict.rule) == ("HOLD", made.probabilities, "logpool")
    assert (sharp.action, sharp.rule) == ("BUY", "mean")
    assert sharp.probabilities == decided(SHARP)[0].probabilities
    assert nobody.status == "decided"


def test_a_candidate_may_lack_its_quorum_where_the_policy_in_force_has_one() -> None:
    made, _ = decided(StartPolicyShadow(NOBODY), ballots={"a": BULL, "b": BULL, "c": "error"})
    assert made.candidates is not UNSET
    assert (made.status, made.candidates[0].status, made.candidates[0].action) == ("decided", "no_quorum", "HOLD")


def test_after_a_promotion_the_former_policy_is_the_candidate() -> None:
    made, intents = decided(StartPolicyShadow(STRICT), PromotePolicy(policy_digest(STRICT), forced=True))
    assert made.action == "HOLD"
    assert intents == []
    assert made.candidates is not UNSET
    assert [(each.policy, each.action) for each in made.candidates] == [(policy_digest(SetVotingPolicy()), "BUY")]


def test_a_digest_does_not_depend_on_how_a_number_was_written() -> None:
    assert policy_digest(SetVotingPolicy(edge=0)) == policy_digest(SetVotingPolicy(edge=0.0))
    assert policy_digest(SetVotingPolicy(edge=0.1)) == policy_digest(SetVotingPolicy())
    assert policy_digest(SetVotingPolicy(rule="mean")) != policy_digest(SetVotingPolicy())


def test_bear_and_bull_are_told_apart() -> None:
    made, _ = decided(StartPolicyShadow(SHARP), ballots={"a": BEAR, "b": BEAR, "c": BEAR})
    assert made.candidates is not UNSET
    assert made.candidates[0].action == "SELL"
