"""The voting rules: arithmetic checked by hand, and what must hold for any ballots."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.common import ACTIONS, Probabilities
from schemas.control import Backtest, RegisterArtifact, SetVotingPolicy
from shared.voting.changes import changed_policy
from shared.voting.pool import Member, Panel, edge_of, member_of, moving_of, own_action, panel_with, vote

UNIFORM = (math.log(1 / 3),) * 3
LOGPOOL = SetVotingPolicy(quorum_weight=0.0, quorum_count=1)
MEAN = SetVotingPolicy(rule="mean", quorum_weight=0.0, quorum_count=1)
LOGMEAN = SetVotingPolicy(rule="logmean", quorum_weight=0.0, quorum_count=1)
POOLS = (LOGPOOL, MEAN, LOGMEAN)
CONSENSUS = SetVotingPolicy(rule="consensus", quorum_weight=0.0, quorum_count=1)
THIRDS = (1 / 3, 1 / 3, 1 / 3)
BUY, SELL, HOLD = (0.1, 0.2, 0.7), (0.7, 0.2, 0.1), (0.1, 0.8, 0.1)


def panel(policy: SetVotingPolicy, **weights: float) -> Panel:
    members = tuple(Member(name, name * 32, weight, UNIFORM, THIRDS) for name, weight in sorted(weights.items()))
    return Panel(members, frozenset(), UNIFORM, policy)


def simplex(smallest: float = 1e-6) -> st.SearchStrategy[Probabilities]:
    def normal(draw: tuple[float, float, float]) -> Probabilities:
        total = sum(draw)
        return (draw[0] / total, draw[1] / total, draw[2] / total)

    return st.tuples(*[st.floats(smallest, 1.0)] * 3).filter(lambda draw: sum(draw) > 0.01).map(normal)


def registered(**fields: Any) -> RegisterArtifact:
    default = RegisterArtifact(
        model="a",
        artifact="a" * 64,
        family="logistic",
        feature_set="f" * 64,
        feature_set_name="core-28",
        interval_ms=60_000,
        classes=ACTIONS,
        centre=(math.log(0.2), math.log(0.4), math.log(0.3)),
        prior=(0.2, 0.6, 0.2),
    )
    return msgspec.structs.replace(default, **fields)


FOUR = {"a": 0.25, "b": 0.25, "c": 0.30, "d": 0.20}


@pytest.mark.parametrize("policy", POOLS)
def test_the_pool_of_one_member_with_full_weight_is_that_member(policy: SetVotingPolicy) -> None:
    outcome = vote(panel(policy, a=1.0), {"a": BUY})
    assert outcome.probabilities == pytest.approx(BUY)
    assert outcome.action == "BUY"
    assert outcome.confidence == pytest.approx(0.7)


def test_the_pool_is_the_weighted_geometric_mean() -> None:
    outcome = vote(panel(LOGPOOL, a=0.5, b=0.5), {"a": BUY, "b": SELL})
    raw = [math.sqrt(x * y) for x, y in zip(BUY, SELL, strict=True)]
    assert outcome.probabilities == pytest.approx([x / sum(raw) for x in raw])
    assert outcome.action == "HOLD"


def test_the_linear_pool_is_the_weighted_mean() -> None:
    outcome = vote(panel(MEAN, a=0.25, b=0.75), {"a": BUY, "b": SELL})
    assert outcome.probabilities == pytest.approx([0.25 * x + 0.75 * y for x, y in zip(BUY, SELL, strict=True)])
    assert outcome.action == "SELL"


@given(simplex(), simplex(), st.floats(0.01, 0.99), st.sampled_from(POOLS), st.sampled_from([0.7, 1.0, 2.0]))
def test_a_constant_member_contributes_nothing_whatever_its_weight(
    p: Probabilities, c: Probabilities, w: float, rule: SetVotingPolicy, temperature: float
) -> None:
    """A1, C-rules: its evidence is centred by what it always says."""
    policy = msgspec.structs.replace(rule, temperature=temperature)
    constant = Member("z", "z" * 32, w, (math.log(c[0]), math.log(c[1]), math.log(c[2])), THIRDS, moving=0.0)
    alone = panel(policy, a=1 - w)
    both = alone._replace(members=(*alone.members, constant))
    without, beside = vote(alone, {"a": p}), vote(both, {"a": p, "z": c})
    assert beside.probabilities == pytest.approx(without.probabilities, abs=1e-12)
    assert beside.effects["z"].effect == pytest.approx(0.0, abs=1e-12)


@given(st.lists(simplex(0.0), min_size=4, max_size=4), st.sampled_from([*POOLS, CONSENSUS]))
def test_any_ballots_give_probabilities_and_a_confidence_between_zero_and_one(
    ps: list[Probabilities], policy: SetVotingPolicy
) -> None:
    outcome = vote(panel(policy, **FOUR), dict(zip("abcd", ps, strict=True)))
    assert sum(outcome.probabilities) == pytest.approx(1)
    assert all(0 <= probability <= 1 for probability in outcome.probabilities)
    assert 0 <= outcome.confidence <= 1
    assert outcome.consensus_count == sum(o.action == outcome.action for o in outcome.effects.values())


@given(st.lists(simplex(), min_size=4, max_size=4), st.permutations("abcd"), st.sampled_from([*POOLS, CONSENSUS]))
def test_the_order_of_ballots_changes_no_bit(
    ps: list[Probabilities], order: list[str], policy: SetVotingPolicy
) -> None:
    ballots = dict(zip("abcd", ps, strict=True))
    assert vote(panel(policy, **FOUR), {name: ballots[name] for name in order}) == vote(panel(policy, **FOUR), ballots)


@given(simplex(), st.sampled_from([MEAN, LOGMEAN]))
def test_a_member_is_itself_when_it_votes_alone_in_a_mean_whatever_its_weight(
    p: Probabilities, policy: SetVotingPolicy
) -> None:
    """In ``logpool`` its average is replaced by the prior."""
    member = member_of(registered(spread=0.02), "a", 0.25)
    assert vote(panel_with([member], frozenset(), policy), {"a": p}).probabilities == pytest.approx(p, abs=1e-9)


@given(simplex(), simplex(), st.floats(0.01, 0.99), st.sampled_from([MEAN, LOGMEAN]))
def test_a_constant_takes_no_weight_from_the_others_in_a_mean(
    p: Probabilities, c: Probabilities, w: float, policy: SetVotingPolicy
) -> None:
    """In ``logpool`` it does: what the others know counts by their weights."""
    members = [member_of(registered(spread=0.02), "a", 1 - w), member_of(registered(spread=0.0), "z", w)]
    both = vote(panel_with(members, frozenset(), policy), {"a": p, "z": c})
    assert both.probabilities == pytest.approx(p, abs=1e-9)
    assert both.effects["z"].effect == 0.0
    assert not both.effects["z"].pivotal


@pytest.mark.parametrize("policy", POOLS)
def test_constants_alone_say_what_the_prior_says(policy: SetVotingPolicy) -> None:
    constant = registered(spread=0.0, centre=tuple(map(math.log, SELL)))
    outcome = vote(panel_with([member_of(constant, "a", 1.0)], frozenset(), policy), {"a": SELL})
    assert outcome.probabilities == pytest.approx(constant.prior)
    assert outcome.effects["a"].effect == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("fields", "moving"),
    [
        ({"spread": 0.0}, 0.0),
        ({"spread": 1e-10}, pytest.approx(1e-6)),
        ({"spread": 0.02}, 1.0),
        ({"backtest": Backtest(1.0, 0.0, (), (), 1.0)}, 0.0),
        ({"backtest": Backtest(1.0, 0.1, (), (), 1.0)}, 1.0),
        ({}, 1.0),
    ],
    ids=["constant", "noise", "a model", "of an earlier release, constant", "of an earlier release", "imported before"],
)
def test_how_far_a_member_counts_in_a_mean_follows_from_its_registration(fields: Any, moving: Any) -> None:
    assert moving_of(registered(**fields)) == moving


@pytest.mark.parametrize("policy", POOLS)
def test_impossible_outcomes_do_not_break_the_pool(policy: SetVotingPolicy) -> None:
    outcome = vote(panel(policy, a=0.5, b=0.5), {"a": (0.0, 0.0, 1.0), "b": (1.0, 0.0, 0.0)})
    assert all(map(math.isfinite, outcome.probabilities))


def test_a_lead_under_the_edge_is_hold() -> None:
    thin = (0.30, 0.35, 0.35)
    assert vote(panel(LOGPOOL, a=1.0), {"a": thin}).action == "HOLD"
    keen = msgspec.structs.replace(LOGPOOL, edge=0.04)
    assert vote(panel(keen, a=1.0), {"a": thin}).action == "BUY"


def test_a_cost_takes_the_place_of_the_edge_as_a_share_of_the_return_of_a_move() -> None:
    """3 % for a move, and 0.15 % for entry and exit: a lead of 0.05 is worth its cost."""
    policy = msgspec.structs.replace(MEAN, cost=0.0015)
    members = [member_of(registered(reach=0.02), "a", 0.5), member_of(registered(reach=0.04), "b", 0.5)]
    assert edge_of(members, policy) == pytest.approx(0.05)
    worth = panel_with(members, frozenset(), policy)
    assert vote(worth, dict.fromkeys("ab", (0.30, 0.344, 0.356))).action == "BUY"
    assert vote(worth, dict.fromkeys("ab", (0.356, 0.344, 0.30))).action == "SELL"
    assert vote(worth, dict.fromkeys("ab", (0.30, 0.356, 0.344))).action == "HOLD"
    assert own_action(worth.policy, (0.30, 0.344, 0.356)) == "BUY"


def test_a_cost_that_no_move_pays_for_holds_always_and_one_without_a_known_move_is_not_used() -> None:
    policy = msgspec.structs.replace(MEAN, cost=0.03)
    assert edge_of([member_of(registered(reach=0.02), "a", 1.0)], policy) == 1.0
    assert edge_of([member_of(registered(), "a", 1.0)], policy) == policy.edge


def test_a_new_edge_removes_the_cost_that_would_take_its_place() -> None:
    policy = msgspec.structs.replace(MEAN, cost=0.0015)
    assert changed_policy(policy, {"edge": "0.2"}) == msgspec.structs.replace(MEAN, edge=0.2)
    assert changed_policy(policy, {"quorum_count": "3"}).cost == 0.0015
    assert changed_policy(MEAN, {"cost": "0.002"}).cost == 0.002


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
