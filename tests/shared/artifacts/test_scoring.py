import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from shared.artifacts.scoring import block_interval, brier, distinct, log_losses, score

PRIOR = (0.25, 0.5, 0.25)


def drawn(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Forecasts that are true, classes drawn from them, moments."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([4, 8, 4], rows)
    y = np.array([rng.choice(3, p=row) for row in p])
    return p, y, np.arange(rows, dtype=np.int64)


def test_the_prior_has_no_skill() -> None:
    _, y, time = drawn(500, 0)
    scores = score(np.tile(PRIOR, (500, 1)), y, time, PRIOR, horizon=3)
    assert (scores.skill.value, scores.skill.low, scores.skill.high) == (0.0, 0.0, 0.0)
    assert scores.distinct == 1
    assert scores.accuracy == scores.majority or scores.majority == max(scores.classes)


def test_skill_is_the_gain_in_log_loss_in_thousandths_of_a_nat() -> None:
    p, y, time = drawn(800, 1)
    scores = score(p, y, time, PRIOR, horizon=1)
    assert scores.skill.value == pytest.approx(1000 * (scores.prior_log_loss - scores.log_loss))
    assert scores.skill.low < scores.skill.value < scores.skill.high
    assert scores.log_loss == pytest.approx(-np.log(p[np.arange(800), y]).mean())


def test_a_true_forecast_beats_the_prior_and_its_inverse_loses() -> None:
    p, y, time = drawn(3000, 2)
    assert score(p, y, time, PRIOR, horizon=3).skill.low > 0
    assert score(p[:, ::-1].copy(), y, time, PRIOR, horizon=3).skill.high < 0


def test_accuracy_stands_beside_the_majority_share() -> None:
    y = np.array([1] * 7 + [0] * 3)
    p = np.tile([0.2, 0.7, 0.1], (10, 1))
    scores = score(p, y, np.arange(10), PRIOR, horizon=1)
    assert (scores.accuracy, scores.majority, scores.actions) == (0.7, 0.7, (0.0, 1.0, 0.0))
    assert scores.classes == (0.3, 0.7, 0.0)


def test_a_confident_miss_costs_much_but_not_infinity() -> None:
    assert log_losses(np.array([[1.0, 0.0, 0.0]]), np.array([1]))[0] == pytest.approx(700, abs=1)


def test_brier_is_the_squared_distance_to_what_came() -> None:
    assert brier(np.array([[0.2, 0.5, 0.3]]), np.array([2])) == pytest.approx(0.04 + 0.25 + 0.49)


def test_float_noise_is_not_diversity() -> None:
    noise = np.random.default_rng(0).normal(0, 2e-5, (450, 3))
    assert distinct(np.array([0.1205, 0.6205, 0.2590]) + noise * [1, 0, -1]) <= 4


@given(seed=st.integers(0, 100), block=st.integers(1, 400))
@settings(max_examples=30, deadline=None)
def test_the_interval_of_a_constant_is_the_constant(seed: int, block: int) -> None:
    found = block_interval(np.full(300, 2.5), np.arange(300), block, seed)
    assert found.low == pytest.approx(2.5)
    assert found.high == pytest.approx(2.5)


def test_copies_of_a_symbol_are_no_further_evidence() -> None:
    gain = np.random.default_rng(1).normal(0.1, 1, 400)
    time = np.arange(400)
    alone = block_interval(gain, time, 10, 0)
    tenfold = block_interval(np.tile(gain, 10), np.tile(time, 10), 10, 0)
    assert tenfold.high - tenfold.low == pytest.approx(alone.high - alone.low)


def test_the_interval_has_the_width_of_the_mean_of_independent_moments() -> None:
    gain = np.random.default_rng(2).normal(0, 1, 4000)
    found = block_interval(gain, np.arange(4000), 1, 0)
    assert found.high - found.low == pytest.approx(2 * 1.96 / math.sqrt(4000), rel=0.1)


def test_overlap_widens_the_interval() -> None:
    steps = np.random.default_rng(3).normal(0, 1, 4012)
    overlapping = np.convolve(steps, np.ones(12) / math.sqrt(12), "valid")[:4000]
    naive = block_interval(overlapping, np.arange(4000), 1, 0)
    honest = block_interval(overlapping, np.arange(4000), 63, 0)
    assert honest.high - honest.low > 2 * (naive.high - naive.low)


def test_scores_are_scikit_learns() -> None:
    p, y, time = drawn(500, 4)
    scores = score(p, y, time, PRIOR, horizon=1)
    assert scores.log_loss == pytest.approx(metrics.log_loss(y, p, labels=[0, 1, 2]), rel=1e-12)
    assert scores.brier == pytest.approx(
        metrics.brier_score_loss(y, p, labels=[0, 1, 2], scale_by_half=False), rel=1e-12
    )
    assert scores.accuracy == metrics.accuracy_score(y, p.argmax(axis=1))
