"""Voting policies tried on recorded rounds: what is chosen where there is something to find, and where there is not."""

import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
from msgspec import structs

from schemas.common import Probabilities
from schemas.control import SetVotingPolicy
from shared.tuning import stacking
from shared.tuning.proposal import NothingToCompareError, propose
from shared.tuning.rounds import DecidedRound
from shared.voting.pool import Member, panel_with, vote

THIRDS = (1 / 3, 1 / 3, 1 / 3)
CENTRE = (math.log(1 / 3),) * 3
HOUR = 3_600_000
IN_FORCE = SetVotingPolicy(rule="mean", quorum_count=1, edge=0.3)


def softmax(*logits: float) -> Probabilities:
    powers = [math.exp(each) for each in logits]
    sell, hold, buy = (power / sum(powers) for power in powers)
    return sell, hold, buy


def rounds(
    count: int = 3000,
    *,
    sure: float = 1.0,
    informed: Sequence[float] = (1.0, 1.0),
    constant: bool = False,
    seed: int = 7,
) -> list[DecidedRound]:
    """Rounds of one symbol. Member i sees ``informed[i]`` of the true log odds, times ``sure``. A third member that
    never moves may vote too."""
    dice = random.Random(seed)
    names = ["a", "b", "c"][: 3 if constant else 2]
    panel = panel_with(
        [Member(name, name * 64, 1 / len(names), CENTRE, THIRDS) for name in names], frozenset(), IN_FORCE
    )
    made = []
    for number in range(count):
        seen = dice.gauss(0, 0.6)
        outcome = dice.choices(range(3), softmax(-seen, 0.0, seen))[0]
        ballots = {
            name: softmax(*[sure * share * each + dice.gauss(0, 0.05) for each in (-seen, 0.0, seen)])
            for name, share in zip(names, informed, strict=False)
        }
        if constant:
            ballots["c"] = THIRDS
        move = 0.004 * (outcome - 1) + dice.gauss(0, 0.001)
        made.append(DecidedRound("SYN", HOUR, number * HOUR, (number + 1) * HOUR, panel, ballots, outcome, move, 0.001))
    return made


def test_predictions_that_are_too_sure_get_a_higher_temperature_and_the_later_rounds_confirm_it() -> None:
    found = propose(rounds(sure=2.0), IN_FORCE)
    assert found.best is not None
    assert found.best.policy.temperature > 1.0
    assert found.best.later.low > 0.0
    assert found.scale > 0.0


def test_the_lead_from_which_it_acts_is_chosen_by_money() -> None:
    timid = structs.replace(IN_FORCE, edge=0.9)
    found = propose(rounds(), timid)
    assert found.best is not None
    assert found.best.by == "money"
    assert found.best.policy.edge <= 0.3
    assert found.best.later.money_low > 0.0
    assert found.best.later.acts > found.in_force.later.acts


def test_a_policy_with_a_cost_keeps_one() -> None:
    policy = SetVotingPolicy(rule="mean", quorum_count=1, cost=0.002)
    found = propose(rounds(1000), policy)
    assert all(each.policy.cost for each in found.tried if each.by == "money")


def test_the_choice_depends_on_the_earlier_rounds_alone() -> None:
    made = rounds(2000)
    other = [*made[:1300], *rounds(2000, informed=(-1.0, -1.0), seed=8)[1300:]]
    first, second = propose(made, IN_FORCE), propose(other, IN_FORCE)
    assert (first.best and first.best.policy, first.cut) == (second.best and second.best.policy, second.cut)
    assert first.best is not None
    assert second.best is not None
    assert second.best.later.money < first.best.later.money


def test_too_few_rounds_are_not_compared() -> None:
    with pytest.raises(NothingToCompareError, match="150 rounds have an outcome"):
        propose(rounds(150), IN_FORCE)
    with pytest.raises(NothingToCompareError, match="0 rounds"):
        propose([], IN_FORCE)


def test_a_stacker_learns_that_a_member_is_upside_down() -> None:
    made = rounds(informed=(1.0, -1.0))
    found = propose(made, IN_FORCE, stacker=True)
    [fitted] = [each for each in found.tried if each.policy.rule == "stacker" and each.by == "log score"]
    assert fitted.later.low > 0.05
    best = max(found.tried, key=lambda each: each.earlier.gain)
    assert best.policy.rule == "stacker"


def test_a_member_that_never_moves_gets_no_weight_in_a_stacker() -> None:
    policy = stacking.fitted_policy(rounds(2500, informed=(1.0, -1.0), constant=True), IN_FORCE)
    assert policy.stacker
    by_name = {member.model: member.rows for member in policy.stacker.members}
    assert np.abs(by_name["c"]).max() < 1e-9
    assert np.abs(by_name["a"]).max() > 1e-3


def test_where_there_is_nothing_to_find_a_stacker_is_rare() -> None:
    """Two standard errors leave a chance of one in forty for each penalty."""
    reasons = []
    for seed in range(1, 7):
        try:
            stacking.fitted_policy(rounds(1500, informed=(0.0, 0.0), seed=seed), IN_FORCE)
        except stacking.NoStackerError as why:
            reasons.append(str(why))
    assert len(reasons) >= 5
    assert all("over the pool on rounds after those of its fit" in each for each in reasons)
    found = propose(rounds(1500, informed=(0.0, 0.0), seed=1), IN_FORCE, stacker=True)
    assert "standard error" in found.no_stacker
    assert all(each.policy.rule != "stacker" for each in found.tried)


def test_a_penalty_shrinks_the_stacker_to_the_pool() -> None:
    made = rounds(1000, informed=(1.0, -1.0))
    evidence = np.array([[math.log(p) for name in ("a", "b") for p in each.ballots[name]] for each in made])
    offset, outcomes = np.zeros((1000, 3)), np.array([each.outcome for each in made])
    sizes = [float(np.abs(stacking.fit(offset, evidence, outcomes, penalty)).max()) for penalty in (0.01, 1.0, 1e6)]
    assert sizes[0] > sizes[1] > sizes[2]
    assert sizes[2] < 1e-5


def loss(scored: Sequence[DecidedRound], policy: SetVotingPolicy) -> float:
    """The mean log loss of a policy."""
    served = [vote(each.panel._replace(policy=policy), each.ballots).probabilities for each in scored]
    return -sum(math.log(p[each.outcome]) for p, each in zip(served, scored, strict=True)) / len(scored)


def test_the_fit_is_that_of_the_stacker_that_serves() -> None:
    """The loss that was minimised is that of the votes."""
    made = rounds(2000, informed=(1.0, -1.0))
    policy = stacking.fitted_policy(made, IN_FORCE)
    assert policy.stacker
    served = [vote(each.panel._replace(policy=policy), each.ballots) for each in made]
    assert {each.rule for each in served} == {"stacker"}
    pooled = [vote(each.panel._replace(policy=IN_FORCE), each.ballots).probabilities for each in made]
    weights = np.array([row for member in policy.stacker.members for row in np.array(member.rows).T]).T
    evidence = np.array(
        [[math.log(p) - math.log(1 / 3) for name in ("a", "b") for p in each.ballots[name]] for each in made]
    )
    fitted = stacking.log_losses(weights, np.log(pooled), evidence, np.array([each.outcome for each in made]))
    assert loss(made, policy) == pytest.approx(fitted.mean(), abs=1e-12)


def test_rounds_without_a_member_are_not_fitted_on() -> None:
    alone = [each._replace(ballots={"a": each.ballots["a"]}) for each in rounds(900)]
    with pytest.raises(stacking.NoStackerError, match="100 rounds have a ballot of every member"):
        stacking.fitted_policy([*alone, *rounds(100)], IN_FORCE)
