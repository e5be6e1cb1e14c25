"""Outcomes bar by bar are those of the labels that models are trained on."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.common import ACTIONS
from shared.labels import batch
from shared.labels.stream import DECAY, WARM, BarHistory, LabelOutcome, Unlabelled, Volatility

MINUTE = 60_000


def test_the_constants_are_those_of_the_labels() -> None:
    assert (DECAY, WARM) == (batch.DECAY, batch.WARM)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.floats(0.0, 0.05))
def test_each_bar_has_the_class_that_training_would_give_it(seed: int, horizon: int, missing: float) -> None:
    dice = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(dice.normal(0, 1e-3, 400)))
    kept = dice.random(400) >= missing
    time, close = np.arange(400)[kept] * MINUTE, close[kept]
    expected = batch.moves(time, close, MINUTE, horizon)
    named = dict(zip(expected.open_time.tolist(), batch.classes(expected.z, 0.7).tolist(), strict=True))
    track = BarHistory(MINUTE, Volatility())
    for t, price in zip(time.tolist(), close.tolist(), strict=True):
        assert track.append(t, price, "1-0")
    for t in time.tolist():
        found = track.outcome(t, horizon, 0.7)
        if isinstance(found, LabelOutcome):
            assert found.action == ACTIONS[named[t]]
            assert abs(found.forward_return / found.scale - expected.z[list(named).index(t)]) < 1e-9
        elif isinstance(found, Unlabelled):
            assert t not in named
        else:
            assert t + max(horizon, 60) * MINUTE > time[-1]


def test_what_is_forgotten_changes_no_later_outcome() -> None:
    dice = np.random.default_rng(1)
    close = (100 * np.exp(np.cumsum(dice.normal(0, 1e-3, 400)))).tolist()
    whole, cut = BarHistory(MINUTE, Volatility()), BarHistory(MINUTE, Volatility())
    for number, price in enumerate(close):
        whole.append(number * MINUTE, price, "1-0")
        cut.append(number * MINUTE, price, "1-0")
        cut.drop_before((number - 80) * MINUTE)
    again = BarHistory(MINUTE, cut.base)
    for number, price in enumerate(close):
        again.append(number * MINUTE, price, "1-0")
    for track in (cut, again):
        assert track.outcome(330 * MINUTE, 12, 0.7) == whole.outcome(330 * MINUTE, 12, 0.7)
    assert isinstance(cut.outcome(100 * MINUTE, 12, 0.7), Unlabelled)


def test_a_bar_off_the_grid_or_out_of_order_changes_nothing() -> None:
    track = BarHistory(MINUTE, Volatility())
    assert track.append(2 * MINUTE, 100.0, "1-0")
    assert not track.append(2 * MINUTE, 101.0, "2-0")
    assert not track.append(MINUTE, 101.0, "3-0")
    assert not track.append(3 * MINUTE + 1, 101.0, "4-0")
    assert track.front.close == 100.0
