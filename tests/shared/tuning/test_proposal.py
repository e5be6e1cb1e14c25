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
from shared.tuning.proposal import NothingToCompareError, fitted_stacker, propose
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


def test_the_stacker_of_a_job_is_the_one_that_is_proposed() -> None:
    made = rounds(informed=(1.0, -1.0))
    job = fitted_stacker(made, IN_FORCE, IN_FORCE)
    [proposed] = [each for each in propose(made, IN_FORCE, stacker=True).tried if each.policy.stacker][:1]
    assert (job.fitted.policy, job.later) == (proposed.policy, proposed.later)
    assert [each.penalty for each in job.fitted.tried] == list(stacking.PENALTIES)
    assert job.fitted.penalty in stacking.PENALTIES
    assert job.scale > 0.0
    other = fitted_stacker(made, IN_FORCE, structs.replace(IN_FORCE, rule="logmean"))
    assert other.fitted.policy.stacker
    assert other.fitted.policy.stacker.base == "logmean"


def test_a_member_that_never_moves_gets_no_weight_in_a_stacker() -> None:
    policy = stacking.fitted_policy(rounds(2500, informed=(1.0, -1.0), constant=True), IN_FORCE).policy
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
    terms = stacking.terms_of(np.array([[np.log(each.ballots[name]) for name in ("a", "b")] for each in made]))
    fitting = stacking.Fitting(np.zeros((1000, 3)), terms, outcomes_of(made), np.zeros(1000, dtype=np.int64))
    sizes = [float(np.abs(stacking.fit(fitting, penalty)).max()) for penalty in (0.01, 1.0, 1e6)]
    assert sizes[0] > sizes[1] > sizes[2]
    assert sizes[2] < 1e-5


def outcomes_of(scored: Sequence[DecidedRound]) -> stacking.Ints:
    """The class of each round."""
    return np.array([each.outcome for each in scored])


def loss(scored: Sequence[DecidedRound], policy: SetVotingPolicy) -> float:
    """The mean log loss of a policy."""
    served = [vote(each.panel._replace(policy=policy), each.ballots).probabilities for each in scored]
    return -sum(math.log(p[each.outcome]) for p, each in zip(served, scored, strict=True)) / len(scored)


def test_the_fit_is_that_of_the_stacker_that_serves() -> None:
    """The loss that was minimised is that of the votes."""
    made = rounds(2000, informed=(1.0, -1.0))
    policy = stacking.fitted_policy(made, IN_FORCE).policy
    assert policy.stacker
    served = [vote(each.panel._replace(policy=policy), each.ballots) for each in made]
    assert {each.rule for each in served} == {"stacker"}
    pooled = [vote(each.panel._replace(policy=IN_FORCE), each.ballots).probabilities for each in made]
    evidence = np.array([[np.subtract(np.log(each.ballots[name]), CENTRE) for name in ("a", "b")] for each in made])
    symbol = np.zeros(len(made), dtype=np.int64)
    fitting = stacking.Fitting(np.log(pooled), stacking.terms_of(evidence), outcomes_of(made), symbol)
    fitted = stacking.log_losses(stacking.chosen_fit(fitting).numbers, fitting)
    assert loss(made, policy) == pytest.approx(fitted.mean(), abs=1e-12)
    assert loss(made, policy) < loss(made, IN_FORCE) - 0.02


def test_the_penalty_is_the_one_whose_gain_is_certain_not_the_one_whose_gain_is_largest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries = [stacking.TriedPenalty(1.0, 0.001, 0.0001, 0.0), stacking.TriedPenalty(0.1, 0.01, 0.006, 0.0)]
    assert chosen_of(tries, monkeypatch) == 1.0


def test_a_penalty_under_which_a_symbol_loses_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    losing = stacking.TriedPenalty(0.1, 0.01, 0.001, -0.0001)
    assert chosen_of([losing, stacking.TriedPenalty(3.0, 0.001, 0.0001, 0.0)], monkeypatch) == 3.0
    with pytest.raises(stacking.NoStackerError, match=r"-0.10 for the symbol that gains least; expected more than 2"):
        chosen_of([losing], monkeypatch)


def chosen_of(tries: list[stacking.TriedPenalty], monkeypatch: pytest.MonkeyPatch) -> float:
    """The penalty that is used after such tries."""
    monkeypatch.setattr(stacking, "tried_penalties", lambda _: tries)
    monkeypatch.setattr(stacking, "fit", lambda _, penalty: np.array([penalty]))
    none = np.zeros(1, dtype=np.int64)
    return float(stacking.chosen_fit(stacking.Fitting(np.zeros((1, 3)), np.zeros((1, 1, 3)), none, none)).numbers[0])


def test_a_symbol_that_loses_by_it_ends_a_stacker() -> None:
    """One member is right about one symbol and upside down about the other."""
    right = rounds(1500, informed=(1.0, 0.0))
    wrong = [each._replace(symbol="OTHER") for each in rounds(150, informed=(-1.0, 0.0), seed=9)]
    mixed = [each for number, one in enumerate(wrong) for each in (one, *right[10 * number : 10 * number + 10])]
    assert stacking.fitted_policy(right, IN_FORCE).policy.rule == "stacker"
    with pytest.raises(stacking.NoStackerError, match="for the symbol that gains least"):
        stacking.fitted_policy(mixed, IN_FORCE)


def test_rounds_without_a_member_are_not_fitted_on() -> None:
    alone = [each._replace(ballots={"a": each.ballots["a"]}) for each in rounds(900)]
    with pytest.raises(stacking.NoStackerError, match="100 rounds have a ballot of every member"):
        stacking.fitted_policy([*alone, *rounds(100)], IN_FORCE)


def test_rounds_of_former_artifacts_belong_to_the_fit_and_each_ballot_is_centred_as_its_artifact_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    former, now = rounds(600), rounds(1, seed=8)
    members = [member._replace(artifact="e" * 64, centre=(-2.0, -0.5, -2.5)) for member in now[0].panel.members]
    made = [*former, now[0]._replace(panel=panel_with(members, frozenset(), IN_FORCE))]
    fitted_on: list[stacking.Fitting] = []

    def chosen(fitting: stacking.Fitting) -> stacking.ChosenFit:
        fitted_on.append(fitting)
        return stacking.ChosenFit(np.ones(len(fitting.terms)), 1.0, ())

    monkeypatch.setattr(stacking, "chosen_fit", chosen)
    policy = stacking.fitted_policy(made, IN_FORCE).policy
    assert policy.stacker
    assert {member.artifact for member in policy.stacker.members} == {"e" * 64}
    evidence = [
        [np.subtract(np.log(each.ballots[member.model]), member.centre) for member in each.panel.members]
        for each in made
    ]
    assert np.allclose(fitted_on[0].terms, stacking.terms_of(np.array(evidence)))


def test_a_stacker_is_proposed_for_the_artifacts_that_vote_now_and_shown_on_the_rounds_of_former_ones() -> None:
    made = rounds(informed=(1.0, -1.0))
    members = [member._replace(artifact="e" * 64) for member in made[0].panel.members]
    panel = panel_with(members, frozenset(), IN_FORCE)
    promoted = [*made[:2400], *(each._replace(panel=panel) for each in made[2400:])]
    before, after = (propose(each, IN_FORCE, stacker=True) for each in (made, promoted))
    one, other = (next(each for each in found.tried if each.policy.stacker) for found in (before, after))
    assert other.policy.stacker
    assert {member.artifact for member in other.policy.stacker.members} == {"e" * 64}
    assert other.later == one.later
    assert other.earlier == one.earlier


def test_rounds_of_other_models_do_not() -> None:
    other = [each._replace(panel=each.panel._replace(members=each.panel.members[:1])) for each in rounds(900)]
    with pytest.raises(stacking.NoStackerError, match="100 rounds have a ballot of every member"):
        stacking.fitted_policy([*other, *rounds(100)], IN_FORCE)
