"""The two voting rules: arithmetic checked by hand, and what must hold for any ballots."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.common import Probabilities
from schemas.control import SetVotingPolicy
from shared.voting.pool import Member, Panel, vote

UNIFORM = (math.log(1 / 3),) * 3
LOGPOOL = SetVotingPolicy(quorum_weight=0.0, quorum_count=1)
CONSENSUS = SetVotingPolicy(rule="consensus", quorum_weight=0.0, quorum_count=1)
BUY, SELL, HOLD = (0.1, 0.2, 0.7), (0.7, 0.2, 0.1), (0.1, 0.8, 0.1)


def panel(policy: SetVotingPolicy, **weights: float) -> Panel:
    members = tuple(Member(name, name * 32, weight, UNIFORM) for name, weight in sorted(weights.items()))
    return Panel(members, frozenset(), UNIFORM, policy)


def simplex() -> st.SearchStrategy[Probabilities]:
    def normal(draw: tuple[float, float, float]) -> Probabilities:
        total = sum(draw)
        return (draw[0] / total, draw[1] / total, draw[2] / total)

    return st.tuples(*[st.floats(1e-6, 1.0)] * 3).map(normal)


FOUR = {"a": 0.25, "b": 0.25, "c": 0.30, "d": 0.20}


def test_the_pool_of_one_member_with_full_weight_is_that_member() -> None:
    outcome = vote(panel(LOGPOOL, a=1.0), {"a": BUY})
    assert outcome.probabilities == pytest.approx(BUY)
    assert outcome.action == "BUY"
    assert outcome.confidence == pytest.approx(0.7)


def test_the_pool_is_the_weighted_geometric_mean() -> None:
    outcome = vote(panel(LOGPOOL, a=0.5, b=0.5), {"a": BUY, "b": SELL})
    raw = [math.sqrt(x * y) for x, y in zip(BUY, SELL, strict=True)]
    assert outcome.probabilities == pytest.approx([x / sum(raw) for x in raw])
    assert outcome.action == "HOLD"


@given(simplex(), simplex(), st.floats(0.01, 0.99))
def test_a_constant_member_contributes_nothing_whatever_its_weight(
    p: Probabilities, c: Probabilities, w: float
) -> None:
    """A1, C-rules: its evidence is centred by what it always says."""
    constant = Member("z", "z" * 32, w, (math.log(c[0]), math.log(c[1]), math.log(c[2])))
    alone = panel(LOGPOOL, a=1 - w)
    both = alone._replace(members=(*alone.members, constant))
    without, beside = vote(alone, {"a": p}), vote(both, {"a": p, "z": c})
    assert beside.probabilities == pytest.approx(without.probabilities, abs=1e-12)
    assert beside.effects["z"].effect == pytest.approx(0.0, abs=1e-12)


@given(st.lists(simplex(), min_size=4, max_size=4), st.sampled_from([LOGPOOL, CONSENSUS]))
def test_any_ballots_give_probabilities_and_a_confidence_between_zero_and_one(
    ps: list[Probabilities], policy: SetVotingPolicy
) -> None:
    outcome = vote(panel(policy, **FOUR), dict(zip("abcd", ps, strict=True)))
    assert sum(outcome.probabilities) == pytest.approx(1)
    assert 0 <= outcome.confidence <= 1
    assert outcome.consensus_count == sum(o.action == outcome.action for o in outcome.effects.values())


@given(st.lists(simplex(), min_size=4, max_size=4), st.permutations("abcd"), st.sampled_from([LOGPOOL, CONSENSUS]))
def test_the_order_of_ballots_changes_no_bit(
    ps: list[Probabilities], order: list[str], policy: SetVotingPolicy
) -> None:
    ballots = dict(zip("abcd", ps, strict=True))
    assert vote(panel(policy, **FOUR), {name: ballots[name] for name in order}) == vote(panel(policy, **FOUR), ballots)


def test_impossible_outcomes_do_not_break_the_pool() -> None:
    outcome = vote(panel(LOGPOOL, a=0.5, b=0.5), {"a": (0.0, 0.0, 1.0), "b": (1.0, 0.0, 0.0)})
    assert all(map(math.isfinite, outcome.probabilities))


def test_a_lead_under_the_edge_is_hold() -> None:
    thin = (0.30, 0.35, 0.35)
    assert vote(panel(LOGPOOL, a=1.0), {"a": thin}).action == "HOLD"
    keen = msgspec.structs.replace(LOGPOOL, edge=0.04)
    assert vote(panel(keen, a=1.0), {"a": thin}).action == "BUY"


def test_leave_one_out_finds_the_member_on_which_the_action_hangs() -> None:
    outcome = vote(panel(LOGPOOL, a=0.5, b=0.5), {"a": (0.01, 0.09, 0.90), "b": (1 / 3, 1 / 3, 1 / 3)})
    assert outcome.action == "BUY"
    assert outcome.effects["a"].pivotal
    assert not outcome.effects["b"].pivotal


def test_one_survivor_of_four_is_no_quorum() -> None:
    """C3."""
    outcome = vote(panel(SetVotingPolicy(), **FOUR), {"c": BUY})
    assert not outcome.quorum
    assert (outcome.action, outcome.confidence) == ("HOLD", 0.0)


@pytest.mark.parametrize(
    ("ballots", "action", "confidence", "agreeing"),
    [
        ((BUY, BUY, BUY, BUY), "BUY", 0.84, 4),
        ((BUY, BUY, BUY, HOLD), "BUY", 0.77, 3),
        ((BUY, BUY, HOLD, SELL), "HOLD", 0.56, 1),
        (((0.0, 0.1, 0.9),) * 2 + (HOLD, SELL), "BUY", 0.72, 2),
        (((0.0, 0.0, 1.0),) * 4, "BUY", 0.95, 4),
    ],
    ids=["four", "three", "two but weak", "two", "capped"],
)
def test_consensus_multiplies_by_agreement(
    ballots: tuple[Probabilities, ...], action: str, confidence: float, agreeing: int
) -> None:
    """U3: 1.2, 1.1, 0.8 (HOLD under 0.65), cap 0.95."""
    outcome = vote(panel(CONSENSUS, **FOUR), dict(zip("abcd", ballots, strict=True)))
    assert outcome.action == action
    assert outcome.confidence == pytest.approx(confidence)
    assert outcome.consensus_count == agreeing


def test_a_tie_by_weight_is_hold_and_no_dictionary_decides() -> None:
    """C7."""
    even = {"a": 0.25, "b": 0.25, "c": 0.25, "d": 0.25}
    outcome = vote(panel(CONSENSUS, **even), {"a": BUY, "b": SELL, "c": BUY, "d": SELL})
    assert outcome.action == "HOLD"
    assert outcome.consensus_count == 0
