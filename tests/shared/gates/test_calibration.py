"""Reliability sums against scikit-learn and a direct fit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from shared.gates import calibration
from shared.gates.calibration import Reliability


def drawn(rows: int, seed: int, temperature: float = 1.0) -> tuple[Reliability, np.ndarray, np.ndarray]:
    """Probabilities, and outcomes drawn from them after sharpening by 1 / temperature."""
    random = np.random.default_rng(seed)
    logits = random.normal(0.0, 0.7, size=(rows, 3))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    said = np.exp(logits / temperature) / np.exp(logits / temperature).sum(axis=1, keepdims=True)
    outcomes = (random.random(rows)[:, None] > true.cumsum(axis=1)).sum(axis=1)
    state = Reliability()
    for p, y in zip(said.tolist(), outcomes.tolist(), strict=True):
        calibration.observe(state, tuple(p), y)
    return state, said, outcomes


def test_a_calibrated_model_has_no_error_beyond_chance() -> None:
    state, _, _ = drawn(20_000, 1)
    for class_ in range(3):
        error = calibration.calibration_error(state, class_)
        assert error.debiased <= 2 * error.error
        assert 0.9 < calibration.recalibration(state, class_).slope < 1.1


def test_an_overconfident_model_has_a_slope_below_one() -> None:
    state, _, _ = drawn(20_000, 2, temperature=0.5)
    slope = calibration.recalibration(state, 0)
    assert slope.slope + 3 * slope.error < 0.75
    assert calibration.calibration_error(state, 0).debiased > 0.05


def test_the_slope_is_that_of_logistic_regression() -> None:
    state, said, outcomes = drawn(5_000, 3, temperature=0.7)
    p = np.clip(said[:, 2], 1e-3, 1 - 1e-3)
    fitted = LogisticRegression(C=1e9, tol=1e-10).fit(np.log(p / (1 - p))[:, None], outcomes == 2)
    ours = calibration.recalibration(state, 2)
    assert ours.slope == pytest.approx(fitted.coef_[0, 0], abs=0.01)
    assert ours.intercept == pytest.approx(fitted.intercept_[0], abs=0.02)


def test_a_constant_model_has_no_slope() -> None:
    state = Reliability()
    for y in (0, 1, 2) * 50:
        calibration.observe(state, (0.2, 0.5, 0.3), y)
    assert calibration.recalibration(state, 1).error == float("inf")


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 9)), min_size=1, max_size=40))
def test_the_isotonic_fit_is_scikit_learns(points: list[tuple[float, float]]) -> None:
    values, weights = [y for y, _ in points], [w for _, w in points]
    wanted = IsotonicRegression().fit_transform(np.arange(len(points)), values, sample_weight=weights)
    assert calibration.isotonic(values, weights) == pytest.approx(wanted.tolist(), abs=1e-9)


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_the_parts_of_the_brier_score_sum_to_it(seed: int) -> None:
    state, said, outcomes = drawn(300, seed)
    parts = calibration.murphy(state, 1)
    assert parts.score == pytest.approx(parts.miscalibration - parts.discrimination + parts.uncertainty)
    assert parts.miscalibration >= -1e-12
    assert parts.discrimination >= -1e-12
    exact = float(((said[:, 1] - (outcomes == 1)) ** 2).mean())
    assert parts.score == pytest.approx(exact, abs=0.01)


def test_groups_hold_every_row_once() -> None:
    state, said, outcomes = drawn(1_000, 5)
    found = calibration.groups(state, 0)
    assert len(found) == 10
    assert sum(group.rows for group in found) == 1_000
    assert sum(group.rows * group.observed for group in found) == pytest.approx(float((outcomes == 0).sum()))
    assert sum(group.rows * group.predicted for group in found) == pytest.approx(float(said[:, 0].sum()))


def test_certainty_has_a_bin() -> None:
    state = calibration.observe(Reliability(), (1.0, 0.0, 0.0), 0)
    assert state.rows[0][99] == state.observed[0][99] == 1.0
