import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.labels.batch import DECAY, WARM, classes, kappa_for, moves, volatility

MINUTE = 60_000


def walk(bars: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    returns = np.random.default_rng(seed).normal(0, 0.001, bars)
    return np.arange(bars, dtype=np.int64) * MINUTE, 100 * np.exp(np.cumsum(returns))


def test_volatility_is_the_weighted_root_mean_square_of_the_returns_so_far() -> None:
    open_time, close = walk(300)
    returns = np.diff(np.log(close))
    t = 250
    weights = DECAY ** np.arange(t)[::-1]
    expected = math.sqrt(float((weights * returns[:t] ** 2).sum() / weights.sum()))
    assert volatility(open_time, close, MINUTE)[t] == pytest.approx(expected, rel=1e-12)


def test_a_label_is_the_return_over_the_horizon_in_units_of_volatility() -> None:
    open_time, close = walk(300)
    found = moves(open_time, close, MINUTE, 12)
    row = int(np.flatnonzero(found.open_time == 200 * MINUTE)[0])
    sigma = volatility(open_time, close, MINUTE)[200]
    assert found.z[row] == pytest.approx(math.log(close[212] / close[200]) / (sigma * math.sqrt(12)))
    assert found.end[row] == 212 * MINUTE


def test_the_first_and_the_last_bars_have_no_label() -> None:
    open_time, close = walk(300)
    found = moves(open_time, close, MINUTE, 12)
    assert found.open_time[0] == WARM * MINUTE
    assert found.open_time[-1] == (299 - 12) * MINUTE


@given(missing=st.integers(120, 280), horizon=st.integers(1, 20))
def test_no_label_crosses_a_gap(missing: int, horizon: int) -> None:
    open_time, close = walk(300)
    kept = np.arange(300) != missing
    found = moves(open_time[kept], close[kept], MINUTE, horizon)
    assert (found.end - found.open_time == horizon * MINUTE).all()
    crossing = (found.open_time < missing * MINUTE) & (found.end > missing * MINUTE)
    assert not crossing.any()
    assert len(found.z) > 0


def test_a_return_across_a_gap_does_not_enter_the_volatility() -> None:
    open_time, close = walk(300)
    jumped = close.copy()
    jumped[151:] *= 2  # the market doubled while bar 150 was missing
    kept = np.arange(300) != 150
    calm = volatility(open_time[kept], close[kept], MINUTE)
    assert volatility(open_time[kept], jumped[kept], MINUTE) == pytest.approx(calm, nan_ok=True)


@given(cut=st.integers(WARM + 1, 299))
def test_volatility_knows_nothing_of_later_bars(cut: int) -> None:
    open_time, close = walk(300)
    whole = volatility(open_time, close, MINUTE)
    assert volatility(open_time[:cut], close[:cut], MINUTE)[-1] == whole[cut - 1]


def test_a_market_that_does_not_move_has_no_labels() -> None:
    open_time, _ = walk(300)
    assert len(moves(open_time, np.full(300, 7.0), MINUTE, 12).z) == 0


def test_fewer_bars_than_the_horizon_have_no_labels() -> None:
    open_time, close = walk(5)
    assert len(moves(open_time, close, MINUTE, 12).z) == 0


@given(hold=st.floats(0.3, 0.9))
def test_kappa_leaves_the_stated_share_on_hold(hold: float) -> None:
    z = np.random.default_rng(0).standard_normal(4000)
    y = classes(z, kappa_for(z, hold))
    assert float((y == 1).mean()) == pytest.approx(hold, abs=0.002)


def test_classes_are_in_the_order_of_the_whole_system() -> None:
    assert classes(np.array([-1.0, -0.5, 0.0, 0.5, 1.0]), 0.5).tolist() == [0, 1, 1, 1, 2]
