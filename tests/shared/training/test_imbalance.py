import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.training import Imbalance
from shared.families import FAMILIES, Sample, complete
from shared.families.base import shifted
from shared.training.imbalance import fitting_offset, offset, weights

PRIOR = (0.1, 0.8, 0.1)
SMALL: dict[str, dict[str, int | float]] = {
    "xgboost": {"rounds": 60},
    "lightgbm": {"rounds": 60, "min_data_in_leaf": 20},
    "nhits": {"window": 2, "epochs": 4, "batch": 64, "hidden": 16, "rate": 0.005},
    "patchtst": {"window": 2, "patch": 1, "stride": 1, "epochs": 3, "batch": 64, "rate": 0.005, "mixed": 1},
}


def data(rows: int, window: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Four fifths HOLD; the first feature tells SELL from BUY."""
    random = np.random.default_rng(seed)
    y = random.choice(3, rows, p=PRIOR)
    x = random.standard_normal((rows, window, 4)).astype(np.float32)
    x[:, -1, 0] += 1.5 * (y - 1)
    return x, y


def mean_answer(family: str, policy: Imbalance) -> np.ndarray:
    kind = FAMILIES[family]
    params = complete(kind, SMALL.get(family, {}))
    window = kind.window(params)
    (x, y), (held, came) = data(1500, window, 1), data(500, window, 2)
    train = Sample(x, y, weights(policy, y, PRIOR), fitting_offset(policy, PRIOR))
    fitted = kind.fit(train, Sample(held, came, np.ones(len(came)), offset(policy, PRIOR)), 1, params)
    unseen, _ = data(2000, window, 3)
    logits = shifted(fitted.model.logits(unseen), offset(policy, PRIOR))
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray((p / p.sum(axis=1, keepdims=True)).mean(axis=0))


@pytest.mark.parametrize("policy", ["none", "logit_adjustment", "weights"])
@pytest.mark.parametrize("family", FAMILIES)
def test_whatever_is_done_the_natural_prior_is_served(family: str, policy: Imbalance) -> None:
    assert mean_answer(family, policy) == pytest.approx(PRIOR, abs=0.06)


def test_weights_alone_would_serve_a_world_of_equal_classes() -> None:
    (x, y), (held, came) = data(1500, 1, 1), data(500, 1, 2)
    kind = FAMILIES["logistic"]
    fitted = kind.fit(
        Sample(x, y, weights("weights", y, PRIOR)), Sample(held, came, np.ones(500)), 1, complete(kind, {})
    )
    z = fitted.model.logits(data(2000, 1, 3)[0])
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    assert p.mean(axis=0)[1] < 0.6


@given(st.lists(st.integers(0, 2), min_size=30, max_size=90))
def test_weighted_classes_count_alike_and_the_mean_weight_is_one(classes: list[int]) -> None:
    y = np.array([0, 1, 2, *classes])
    counts = np.bincount(y, minlength=3)
    sell, hold, buy = (counts / len(y)).tolist()
    found = weights("weights", y, (sell, hold, buy))
    assert found.mean() == pytest.approx(1.0)
    assert np.bincount(y, weights=found) == pytest.approx([len(y) / 3] * 3)


def test_nothing_is_done_by_default() -> None:
    assert weights("none", np.array([0, 1, 1]), PRIOR).tolist() == [1, 1, 1]
    assert offset("none", PRIOR) is None
    assert fitting_offset("weights", PRIOR) is None
