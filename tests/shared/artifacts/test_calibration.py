import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss

from shared.artifacts.calibration import VectorScaling, error, probabilities
from shared.training.scaling import best_temperature, best_vector, calibrate, independent


def drawn(rows: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose true temperature is ``temperature``."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (rows, 3))
    p = probabilities(logits, temperature)
    y = (p.cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
    return logits, y


class Given(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is skipped
    """A classifier whose logits are its input."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> "Given":
        self.classes_ = np.unique(y)
        return self

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x)

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x.argmax(axis=1))


@given(rows=st.integers(1, 90), start=st.integers(0, 900), temperature=st.floats(0.2, 5))
@settings(deadline=None)
def test_the_bits_of_a_row_do_not_depend_on_its_neighbours(rows: int, start: int, temperature: float) -> None:
    logits = np.random.default_rng(0).normal(0, 3, (1000, 3))
    whole = probabilities(logits, temperature)
    part = probabilities(logits[start : start + rows], temperature)
    assert part.tobytes() == whole[start : start + rows].tobytes()


@given(st.lists(st.tuples(*[st.floats(-600, 600)] * 3), min_size=1, max_size=20), st.floats(0.2, 5))
def test_probabilities_sum_to_one(rows: list[tuple[float, float, float]], temperature: float) -> None:
    p = probabilities(np.array(rows), temperature)
    assert np.abs(p.sum(axis=1) - 1).max() < 1e-12
    assert (p >= 0).all()


@pytest.mark.parametrize("true", [0.5, 1.0, 2.0])
def test_the_true_temperature_is_found(true: float) -> None:
    logits, y = drawn(20_000, true)
    assert best_temperature(logits, y) == pytest.approx(true, rel=0.06)


def test_no_other_temperature_does_better() -> None:
    logits, y = drawn(2000, 1.7)
    best = log_loss(y, softmax(logits / best_temperature(logits, y), axis=1))
    assert all(best <= log_loss(y, softmax(logits / other, axis=1)) + 1e-9 for other in np.linspace(0.25, 4.9, 60))


def test_the_temperature_is_scikit_learns() -> None:
    logits, y = drawn(3000, 1.7)
    wrapped = CalibratedClassifierCV(FrozenEstimator(Given().fit(logits, y)), method="temperature", cv=2)
    expected = wrapped.fit(logits, y).predict_proba(logits)
    assert np.abs(probabilities(logits, best_temperature(logits, y)) - expected).max() < 1e-4


def test_an_overconfident_model_is_cooled() -> None:
    logits, y = drawn(4000, 2.0)
    time = np.arange(4000)
    found = calibrate(logits, y, time, time + 3)
    assert found.temperature == found.fitted == pytest.approx(2.0, rel=0.15)
    assert found.loss_with < found.loss_without


def test_a_temperature_that_makes_the_held_out_rows_worse_is_refused() -> None:
    early, y_early = drawn(1000, 3.0)
    late, y_late = drawn(1000, 1.0, seed=1)
    time = np.arange(2000)
    found = calibrate(np.vstack([early, late]), np.concatenate([y_early, y_late]), time, time + 3)
    assert found.temperature == 1.0
    assert found.fitted > 2
    assert found.loss_with > found.loss_without


def test_the_fitting_half_holds_no_label_that_ends_in_the_other() -> None:
    logits, y = drawn(200, 1.0)
    time = np.arange(200)
    reaching = np.where(time < 100, 150, time + 1)  # every early label ends late: nothing to fit on
    assert calibrate(logits, y, time, reaching).temperature == 1.0


def test_few_rows_are_not_calibrated() -> None:
    logits, y = drawn(40, 3.0)
    time = np.arange(40)
    assert calibrate(logits, y, time, time + 1).temperature == 1.0


def skewed(rows: int, vector: VectorScaling, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose true calibration is ``vector``."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (rows, 3))
    p = probabilities(logits, 1.0, vector)
    return logits, (p.cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)


TRUE = VectorScaling((0.5, 1.0, 1.5), (0.6, -0.6, 0.0))


def test_the_true_vector_is_found() -> None:
    logits, y = skewed(60_000, TRUE)
    found = best_vector(logits, y)
    assert found is not None
    assert found.scale == pytest.approx(TRUE.scale, abs=0.05)
    assert np.array(found.bias) - np.mean(found.bias) == pytest.approx(np.array(TRUE.bias), abs=0.05)


def test_a_vector_is_where_the_gradient_vanishes() -> None:
    logits, y = skewed(4000, TRUE)
    found = best_vector(logits, y)
    assert found is not None
    p = probabilities(logits, 1.0, found)
    # The ridge towards the temperature is a ten-thousandth.
    assert p.mean(axis=0) == pytest.approx(np.bincount(y) / len(y), abs=2e-4)


def test_evidence_that_would_have_to_be_turned_round_gives_no_vector() -> None:
    logits, y = skewed(5000, VectorScaling((-1.0, 1.0, 1.0), (0.0, 0.0, 0.0)))
    assert best_vector(logits, y) is None


def test_a_vector_is_chosen_where_it_does_best_on_rows_it_has_not_seen() -> None:
    logits, y = skewed(8000, TRUE)
    time = np.arange(8000)
    found = calibrate(logits, y, time, time + 1)
    assert (found.method, found.temperature) == ("vector", 1.0)
    assert found.loss_with < found.loss_without


def test_a_vector_is_not_tried_on_few_independent_rows() -> None:
    logits, y = skewed(8000, TRUE)
    time = np.arange(8000)
    assert independent(time, time + 8) == pytest.approx(1000)
    assert calibrate(logits, y, time, time + 8).vector is None


def test_a_vector_that_makes_the_held_out_rows_worse_is_refused() -> None:
    early, y_early = skewed(4000, TRUE)
    late, y_late = drawn(4000, 1.0, seed=1)
    time = np.arange(8000)
    found = calibrate(np.vstack([early, late]), np.concatenate([y_early, y_late]), time, time + 1)
    assert found.vector is None


@given(rows=st.integers(1, 90), start=st.integers(0, 900))
@settings(deadline=None)
def test_the_bits_of_a_row_through_a_vector_are_its_own(rows: int, start: int) -> None:
    logits = np.random.default_rng(0).normal(0, 3, (1000, 3))
    whole = probabilities(logits, 1.0, TRUE)
    assert probabilities(logits[start : start + rows], 1.0, TRUE).tobytes() == whole[start : start + rows].tobytes()


def test_the_calibration_error_is_small_for_the_truth_and_large_for_the_overconfident() -> None:
    logits, y = drawn(20_000, 2.0)
    assert error(probabilities(logits, 2.0), y) < 0.02
    assert error(probabilities(logits, 1.0), y) > 0.08
    certain = np.eye(3)[y]
    assert error(certain, y) == 0
