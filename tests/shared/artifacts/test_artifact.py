from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.artifacts import Artifact, ArtifactStore


@pytest.fixture
def artifact(store: ArtifactStore, make: Callable[..., Any]) -> Artifact:
    return store.load(store.save(*make()))


def windows(rows: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((rows, 1, 2)).astype(np.float32)


def test_answers_are_scaled_logits_over_the_temperature(artifact: Artifact) -> None:
    asked = windows(5)
    z = (asked[:, 0, 0].astype(np.float64) - 0.5) / 2.0
    e = np.exp(np.stack([-z, np.full(5, 0.5), z], axis=1) / 1.25)
    assert artifact.predict(asked) == pytest.approx(e / e.sum(axis=1, keepdims=True), rel=1e-14)


@given(rows=st.integers(1, 100), start=st.integers(0, 400))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_bits_of_a_row_do_not_depend_on_its_neighbours(artifact: Artifact, rows: int, start: int) -> None:
    asked = windows(500)
    whole = artifact.predict(asked)
    assert artifact.predict(asked[start : start + rows]).tobytes() == whole[start : start + rows].tobytes()
    assert np.abs(whole.sum(axis=1) - 1).max() < 1e-12


def test_far_values_are_cut_at_the_scalers_limit(artifact: Artifact) -> None:
    far = np.array([[[1e9, 0.0]], [[1e6, 0.0]]], dtype=np.float32)
    first, second = artifact.predict(far)
    assert (first == second).all()


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((2, 1, 2)),
        np.zeros((2, 2), np.float32),
        np.zeros((2, 1, 3), np.float32),
        np.zeros((2, 2, 2), np.float32),
        np.zeros((2, 1, 1), np.float32),
    ],
)
def test_another_shape_or_type_is_refused_and_never_made_to_fit(artifact: Artifact, bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"takes float32 \[N, 1, 2\]; got"):
        artifact.predict(bad)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused(artifact: Artifact, value: float) -> None:
    asked = windows(3)
    asked[1, 0, 1] = value
    with pytest.raises(ValueError, match="not finite"):
        artifact.predict(asked)


def test_no_windows_get_no_answers(artifact: Artifact) -> None:
    assert artifact.predict(windows(0)).shape == (0, 3)
