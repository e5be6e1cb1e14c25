import math

import numpy as np
import pytest
from msgspec import structs

from bench import collapsed
from shared.families import Epoch
from shared.training.collapse import EpochReading, Watcher, judge, read
from shared.training.fitting import fit

PRIOR = (0.25, 0.5, 0.25)
Y = np.array([0, 1, 1, 2] * 50)
BASE = 1.0397207708399179


def reading(number: int = 1, skill: float = 0.0, **changed: float) -> EpochReading:
    usual = {"train_loss": 1.0, "held_loss": BASE * (1 - skill), "fit_skill": 0.0, "spread": 0.1, "width": 0.2}
    usual |= {"entropy": 1.0, "top": 0.9, **changed}
    return EpochReading(number=number, of=9, skill=skill, distinct=50, **usual)


def reason(*readings: EpochReading) -> str | None:
    found = judge(readings, BASE)
    return None if found is None else found.reason


def test_a_fit_that_gains_is_let_go_on_however_little_it_spreads() -> None:
    assert reason(*(reading(number, 0.002, spread=0.001) for number in range(1, 9))) is None


def test_nothing_gained_in_three_epochs_without_spread_has_no_information() -> None:
    flat = [reading(number, 0.0001, spread=0.001) for number in (1, 2, 3)]
    assert reason(*flat[:2]) is None
    assert reason(*flat) == "no_information"


def test_nothing_gained_in_five_epochs_has_none_whatever_it_spreads() -> None:
    noisy = [reading(number, -0.01 - 0.001 * (number % 2)) for number in range(1, 6)]
    assert reason(*noisy[:4]) is None
    assert reason(*noisy) == "no_information"


def test_a_learning_rate_may_warm_up_first() -> None:
    slow = [structs.replace(reading(number, 0.0, spread=0.001), of=40) for number in range(1, 9)]
    assert reason(*slow[:7]) is None
    assert reason(*slow) == "no_information"


def test_one_answer_for_everything_is_constant_at_the_second_look() -> None:
    blind = [reading(number, 0.0013, width=2e-7, spread=1e-7) for number in (1, 2)]
    assert reason(blind[0]) is None
    assert reason(*blind) == "constant"


def test_learning_by_heart_is_told_from_learning() -> None:
    heart = [reading(number, -0.01 * number, fit_skill=0.1 * number) for number in (1, 2, 3)]
    assert reason(*heart) == "memorising"
    gained = [reading(1, 0.02, fit_skill=0.05), *heart[1:]]
    assert reason(*gained) is None  # early stopping keeps the first epoch


@pytest.mark.parametrize("loss", [math.nan, math.inf, 1.51 * BASE])
def test_a_loss_that_is_no_number_or_half_as_bad_again_has_diverged(loss: float) -> None:
    assert reason(reading(held_loss=loss)) == "diverged"


def test_answers_equal_to_the_prior_have_no_skill_whatever_their_float_noise() -> None:
    noise = 1e-6 * np.random.default_rng(0).standard_normal((len(Y), 3))
    answers = np.log(np.array(PRIOR)) + noise
    assert len(np.unique(answers, axis=0)) == len(Y)
    found = read(Epoch(1, 9, 1.0, BASE, answers), Y, PRIOR)
    assert abs(found.skill) < 1e-5
    assert (found.distinct, found.top) == (1, 1.0)
    assert found.spread < 1e-5


def test_logits_that_are_not_finite_are_read_as_diverged() -> None:
    watcher = Watcher(Y, PRIOR)
    assert watcher(Epoch(1, 9, 1.0, math.nan, np.full((len(Y), 3), np.nan)))
    assert watcher.collapse is not None
    assert watcher.collapse.reason == "diverged"


@pytest.mark.long
@pytest.mark.parametrize(
    ("past", "why", "within"), [(collapsed.P04, "no_information", 5), (collapsed.P06, "constant", 2)]
)
def test_the_collapsed_runs_of_the_past_end_within_a_few_epochs_each_for_its_own_reason(
    past: collapsed.Past, why: str, within: int
) -> None:
    prepared = collapsed.prepared(past)
    told: list[EpochReading] = []
    watcher = Watcher(prepared.y[prepared.parts.validation], prepared.prior, told.append)
    fitted = fit(prepared, watcher)
    assert watcher.collapse is not None
    assert watcher.collapse.reason == why
    assert len(told) <= within < past.recipe.params["epochs"]
    assert fitted.model is not None  # kept for people to look at
