"""What each member is worth to the ensemble."""

import itertools
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.control import SetVotingPolicy
from shared.gates import contribution, rounds
from shared.gates.contribution import ContributionPanel, Contributions
from shared.gates.rounds import MemberScore, RoundAssembly
from shared.gates.rows import UNIFORM, Triple
from shared.voting.pool import Member, Panel, PoolRule, vote

LOG_PRIOR = (math.log(0.3), math.log(0.4), math.log(0.3))


def panel(*weights: float) -> ContributionPanel:
    count = len(weights)
    return ContributionPanel(tuple("abcdef"[:count]), weights, (LOG_PRIOR,) * count, LOG_PRIOR)


def said(count: int, members: int, seed: int = 0, copy: bool = False, constant: bool = False) -> list[MemberScore]:
    """Members that know a common signal, each through noise of its own."""
    random = np.random.default_rng(seed)
    out: list[MemberScore] = []
    for bar in range(count):
        outcome = int(random.choice(3, p=[0.3, 0.4, 0.3]))
        for member in range(members):
            logits = np.array(LOG_PRIOR) + random.normal(0, 0.3, 3)
            logits[outcome] += 0.4
            p = np.exp(logits) / np.exp(logits).sum()
            if copy and member == 1:
                p = np.array(out[-1].probabilities)
            if constant and member == 1:
                p = np.exp(np.array(LOG_PRIOR))
            out.append(MemberScore("abcdef"[member], "S", bar, (float(p[0]), float(p[1]), float(p[2])), outcome))
    return out


def triple(values: list[float]) -> Triple:
    sell, hold, buy = values
    return sell, hold, buy


def worths(answers: list[MemberScore], of: ContributionPanel) -> dict[str, tuple[float, float]]:
    state = contribution.initial(of)
    for one in answers:
        contribution.evolve(state, one)
    return {worth.model: (worth.shapley, worth.leave_one_out) for worth in contribution.member_contributions(state)}


@given(st.lists(st.floats(-5, 5), min_size=8, max_size=8))
def test_shapley_values_are_the_mean_over_all_orders(values: list[float]) -> None:
    values[0] = 0.0
    wanted = [0.0] * 3
    for order in itertools.permutations(range(3)):
        inside = 0
        for member in order:
            wanted[member] += (values[inside | 1 << member] - values[inside]) / 6
            inside |= 1 << member
    found = contribution.shapley(values, 3)
    assert found == pytest.approx(wanted, abs=1e-9)
    assert sum(found) == pytest.approx(values[7], abs=1e-9)


def test_members_share_the_gain_of_the_whole() -> None:
    state = contribution.initial(panel(0.4, 0.3, 0.3))
    for one in said(512, 3):
        contribution.evolve(state, one)
    total = sum(worth.shapley for worth in contribution.member_contributions(state))
    assert total == pytest.approx(state.gains[7] / state.valued)
    assert total > 0


@pytest.mark.parametrize("rule", ["logpool", "mean", "logmean"])
def test_a_constant_member_is_worth_exactly_nothing(rule: PoolRule) -> None:
    found = worths(
        said(256, 3, constant=True), msgspec.structs.replace(panel(0.3, 0.4, 0.3), rule=rule, moving=(1.0, 0.0, 1.0))
    )
    assert found["b"] == pytest.approx((0.0, 0.0), abs=1e-12)


def test_a_copy_shares_the_value_of_what_it_copies() -> None:
    found = worths(said(512, 3, copy=True), panel(1 / 3, 1 / 3, 1 / 3))
    assert found["a"] == pytest.approx(found["b"])
    assert found["c"][1] > found["a"][1]


def test_rounds_are_valued_as_the_vote_would_be() -> None:
    answers = said(256, 2)
    state = contribution.initial(panel(0.5, 0.5))
    for one in answers:
        contribution.evolve(state, one)
    total = 0.0
    for first, second in zip(answers[::2], answers[1::2], strict=True):
        logits = [
            LOG_PRIOR[k]
            + 0.5 * (math.log(first.probabilities[k]) - LOG_PRIOR[k])
            + 0.5 * (math.log(second.probabilities[k]) - LOG_PRIOR[k])
            for k in range(3)
        ]
        total += logits[first.outcome] - math.log(sum(map(math.exp, logits))) - LOG_PRIOR[first.outcome]
    assert state.gains[3] == pytest.approx(total)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 1000),
    st.sampled_from(["logpool", "mean", "logmean"]),
    st.sampled_from([0.7, 1.0, 1.6]),
    st.lists(st.floats(0.05, 1.0), min_size=3, max_size=3),
)
def test_the_pool_of_each_coalition_is_the_vote_of_its_members(
    seed: int, rule: PoolRule, temperature: float, shares: list[float]
) -> None:
    random = np.random.default_rng(seed)
    weights = [share / sum(shares) for share in shares]
    centres = [triple(np.log(row).tolist()) for row in random.dirichlet((3, 4, 3), 3)]
    policy = SetVotingPolicy(rule=rule, quorum_weight=0.0, quorum_count=1, temperature=temperature)
    moving = (1.0, 0.0, 0.5) if seed % 2 else (1.0, 1.0, 1.0)
    members = zip("abc", weights, centres, moving, strict=True)
    voting = Panel(
        tuple(Member(name, name, weight, centre, UNIFORM, share) for name, weight, centre, share in members),
        frozenset(),
        LOG_PRIOR,
        policy,
    )
    valued = ContributionPanel(("a", "b", "c"), tuple(weights), tuple(centres), LOG_PRIOR, temperature, rule, moving)
    ballots = random.dirichlet((2, 3, 2), (4, 3))
    for coalition, pooled in enumerate(contribution.coalition_pools(valued, ballots)):
        for round_, p in zip(ballots.tolist(), pooled.tolist(), strict=True):
            cast = {name: triple(round_[n]) for n, name in enumerate("abc") if coalition >> n & 1}
            if cast:
                assert p == pytest.approx(vote(voting, cast).probabilities, abs=1e-12)


@given(st.integers(0, 1200))
def test_a_restart_changes_no_bit(cut: int) -> None:
    answers = ANSWERS
    half = contribution.initial(panel(0.6, 0.4))
    for number, one in enumerate(answers):
        if number == cut:
            half = msgspec.msgpack.decode(msgspec.msgpack.encode(half), type=Contributions)
        contribution.evolve(half, one)
    assert half.gains == WHOLE.gains


ANSWERS = said(600, 2)
WHOLE = contribution.initial(panel(0.6, 0.4))
for _one in ANSWERS:
    contribution.evolve(WHOLE, _one)


def test_too_many_members_are_refused() -> None:
    members = tuple(f"m{n:02}" for n in range(11))
    with pytest.raises(ValueError, match="2048 pools"):
        contribution.initial(ContributionPanel(members, (0.1,) * 11, (LOG_PRIOR,) * 11, LOG_PRIOR))


def test_a_round_waits_for_all_its_members_and_takes_strangers_for_nobody() -> None:
    state = RoundAssembly(("a", "b"))
    p = (0.2, 0.5, 0.3)
    assert rounds.join(state, MemberScore("a", "S", 1, p, 0)) is None
    assert rounds.join(state, MemberScore("x", "S", 1, p, 0)) is None
    assert rounds.join(state, MemberScore("a", "S", 1, (1.0, 0.0, 0.0), 0)) is None
    complete = rounds.join(state, MemberScore("b", "S", 1, p, 0))
    assert complete is not None
    assert complete.probabilities == (p, p)
    assert state.open == {}


def test_a_round_with_two_outcomes_is_dropped_and_counted() -> None:
    state = RoundAssembly(("a", "b"))
    rounds.join(state, MemberScore("a", "S", 1, (0.2, 0.5, 0.3), 0))
    assert rounds.join(state, MemberScore("b", "S", 1, (0.2, 0.5, 0.3), 2)) is None
    assert (state.open, state.split) == ({}, 1)


def test_rounds_that_never_fill_are_dropped_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "MOST_OPEN", 3)
    state = RoundAssembly(("a", "b"))
    for bar in range(5):
        rounds.join(state, MemberScore("a", "S", bar, (0.2, 0.5, 0.3), 0))
    assert list(state.open) == ["2 S", "3 S", "4 S"]
    assert state.dropped == 2
