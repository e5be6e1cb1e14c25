"""A gain in log score is the sum of what is gained about moves and about their direction."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from schemas.common import Probabilities
from shared.artifacts.scoring import log_losses, score, split_gains
from shared.labels.parts import gain_parts

FLOOR = 0.01


def simplex(smallest: float = 0.0) -> st.SearchStrategy[Probabilities]:
    def normal(draw: tuple[float, float, float]) -> Probabilities:
        total = sum(draw)
        return (draw[0] / total, draw[1] / total, draw[2] / total)

    return st.tuples(*[st.floats(smallest, 1.0)] * 3).filter(lambda draw: sum(draw) > 0).map(normal)


@given(simplex(), simplex(), st.integers(0, 2), st.sampled_from([1e-304, 1e-9, FLOOR]))
def test_the_parts_sum_to_the_gain_in_log_score_at_any_floor(
    p: Probabilities, base: Probabilities, outcome: int, floor: float
) -> None:
    parts = gain_parts(p, base, outcome, floor)
    assert parts.total == pytest.approx(math.log(max(p[outcome], floor)) - math.log(max(base[outcome], floor)))
    assert parts.moves + parts.direction == pytest.approx(parts.total, rel=1e-12, abs=1e-12)


@given(simplex(1e-3), simplex(1e-3), st.integers(0, 2))
def test_each_part_is_the_gain_of_a_prediction_of_two_classes(p: Probabilities, base: Probabilities, y: int) -> None:
    moved, other = (chances[0] + chances[2] for chances in (p, base))
    parts = gain_parts(p, base, y, 1e-9)
    if y == 1:
        assert parts.moves == pytest.approx(math.log((1 - moved) / (1 - other)), abs=1e-9)
        assert parts.direction == 0.0
    else:
        assert parts.moves == pytest.approx(math.log(moved / other), abs=1e-9)
        assert parts.direction == pytest.approx(math.log(p[y] / moved / (base[y] / other)), abs=1e-9)


@given(simplex(1e-3), st.floats(0.1, 0.9), st.integers(0, 2))
def test_another_probability_of_a_move_in_the_same_proportion_has_no_part_in_direction(
    base: Probabilities, hold: float, y: int
) -> None:
    share = (1 - hold) / (base[0] + base[2])
    assert gain_parts((base[0] * share, hold, base[2] * share), base, y, 1e-9).direction == pytest.approx(0, abs=1e-9)


def test_the_scores_of_an_artifact_hold_the_parts_of_their_skill() -> None:
    random = np.random.default_rng(1)
    p = random.dirichlet((2, 3, 2), 500)
    y = np.array([random.choice(3, p=row) for row in p])
    scores = score(p, y, np.arange(500) * 60_000, (0.3, 0.4, 0.3), horizon=2)
    assert scores.moves is not UNSET
    assert scores.direction is not UNSET
    assert scores.moves.value + scores.direction.value == pytest.approx(scores.skill.value)
    base = np.tile((0.3, 0.4, 0.3), (500, 1))
    moves, direction = split_gains(p, base, y)
    assert moves + direction == pytest.approx(log_losses(base, y) - log_losses(p, y))
    assert moves.mean() > 0
    assert direction.mean() > 0
