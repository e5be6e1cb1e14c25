"""Which decisions count for a probation, and when it is over."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from schemas.codec import Envelope, encode
from schemas.control import RevertProbation
from schemas.decisions import FenceClosed
from services.guard.core import CLOCKS_WITHIN_MS, Counted, apply, handle, replay_from
from shared.control import Probation
from tests.services.guard.world import FORMER, ON_PROBATION, decision

PROBATION = Probation(ON_PROBATION, version=5, decisions=3, at=10**12)


def counted(events: Sequence[Envelope[Any]]) -> Counted:
    return apply(Counted(), "a", PROBATION, events)


def test_a_probation_is_over_with_the_last_decision_that_it_asks_for() -> None:
    events = [decision(number).envelope for number in range(5)]
    assert handle(counted(events[:2]), "a", PROBATION) is None
    last = events[2].id.hex()
    assert handle(counted(events), "a", PROBATION) == RevertProbation("a", ON_PROBATION, 3, last)


@pytest.mark.parametrize(
    "other",
    [
        decision(1, version=4).envelope,
        decision(1, artifact=FORMER).envelope,
        decision(1, model="b").envelope,
        encode("decisions", FenceClosed("c", "ada", "outage", 1)).envelope,
    ],
    ids=["of an earlier version", "of the former champion", "of another model", "no decision"],
)
def test_only_decisions_with_a_ballot_of_the_artifact_under_the_promotion_count(other: Envelope[Any]) -> None:
    assert counted([other]) == Counted()


@given(st.lists(st.tuples(st.integers(4, 6), st.sampled_from([FORMER, ON_PROBATION])), max_size=12), st.data())
def test_the_count_does_not_depend_on_how_the_events_are_cut_into_batches(
    kinds: list[tuple[int, str]], data: st.DataObject
) -> None:
    events = [decision(at, version=version, artifact=artifact).envelope for at, (version, artifact) in enumerate(kinds)]
    cut = data.draw(st.integers(0, len(events)))
    assert apply(counted(events[:cut]), "a", PROBATION, events[cut:]) == counted(events)


def test_decisions_are_sought_from_before_the_promotion_as_far_as_clocks_may_differ() -> None:
    assert replay_from(PROBATION) == f"{10**12 - CLOCKS_WITHIN_MS}-0"


@pytest.mark.parametrize(("version", "status", "counts"), [(5, "decided", 1), (4, "decided", 0), (5, "no_quorum", 0)])
def test_for_a_voting_policy_on_probation_each_decision_since_its_promotion_counts(
    version: int, status: Any, counts: int
) -> None:
    made = decision(1, version=version, artifact=FORMER).envelope
    event = encode("decisions", structs.replace(made.event, status=status)).envelope
    assert apply(Counted(), "ensemble", PROBATION, [event]).decisions == counts
