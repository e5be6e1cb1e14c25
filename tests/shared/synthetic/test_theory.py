"""The posterior is the truth about the generated labels: no forecaster can do better, and it does so well."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.synthetic import LAGS, Signal, SyntheticMarket, attainable, labels, posterior, threshold
from shared.synthetic import market as generator
from shared.synthetic.theory import _forecast, coefficients

HORIZON = 8
BARS = 120_000


@pytest.mark.parametrize(
    ("signal", "hold", "accuracy", "skill"),
    [
        (Signal(0.05, 0.03), 0.4, 0.401, 0.007),
        (Signal(0.12, 0.08), 0.4, 0.437, 0.041),
        (Signal(0.25, 0.15), 0.4, 0.5823, 0.22),
        (Signal(0.12, 0.08), 0.6, 0.601, 0.047),
        (Signal(0.25, 0.15), 0.6, 0.6719, 0.24),
        (Signal(0.12, 0.08), 0.82, 0.820, 0.056),
        (Signal(0.25, 0.15), 0.82, 0.834, 0.27),
    ],
)
def test_the_bound_agrees_with_figures_that_were_simulated(
    signal: Signal, hold: float, accuracy: float, skill: float
) -> None:
    """Figures of an earlier simulation of the same process, over 160,000 rows."""
    bound = attainable(signal, HORIZON, hold)
    assert bound.accuracy == pytest.approx(accuracy, abs=0.0015)
    assert bound.skill / bound.prior_loss == pytest.approx(skill, abs=0.005)


@pytest.mark.parametrize(
    ("scenario", "signal"),
    [("null", Signal()), ("medium", Signal(0.12)), ("sequence", Signal(0.25)), ("seen", Signal(0.12, 0.08))],
)
def test_the_oracle_does_as_well_as_computed(scenario: str, signal: Signal, monkeypatch: pytest.MonkeyPatch) -> None:
    """On labels that do not overlap, within four standard errors."""
    monkeypatch.setitem(generator.SCENARIOS, "seen", Signal(0.12, 0.08))
    truth = SyntheticMarket(scenario=scenario, seed=5).truth("BTCUSDT", BARS)
    kappa = threshold(signal, HORIZON, 0.5)
    chances = posterior(truth.z, signal, HORIZON, kappa, truth.u)[LAGS:-HORIZON:HORIZON]
    actual = labels(truth.z, HORIZON, kappa)[LAGS:-HORIZON:HORIZON]
    bound = attainable(signal, HORIZON, 0.5)
    picked = chances[np.arange(len(actual)), actual]
    close(chances.argmax(axis=1) == actual, bound.accuracy)
    close(-np.log(picked), bound.prior_loss - bound.skill)
    for action in range(3):
        close(actual == action, bound.prior[action])
        close((actual == action) - chances[:, action], 0.0)


def close(sample: np.ndarray[tuple[int, ...], np.dtype[np.generic]], expected: float) -> None:
    values = sample.astype(float)
    # A constant sample (the null's loss given its class) still has its rounding.
    error = values.std() / math.sqrt(len(values)) + 1e-9
    assert abs(values.mean() - expected) < 4 * error, (values.mean(), expected, error)


@pytest.mark.parametrize("hold", [0.4, 0.6, 0.82])
def test_nothing_can_be_known_about_the_null_market(hold: float) -> None:
    bound = attainable(Signal(), 12, hold)
    assert bound.skill == 0.0
    assert bound.accuracy == pytest.approx(bound.majority)
    z = SyntheticMarket(scenario="null").truth("SYN1", 200).z
    chances = posterior(z, Signal(), 12, threshold(Signal(), 12, hold))[LAGS - 1 :]
    np.testing.assert_allclose(chances, np.tile(bound.prior, (len(chances), 1)), atol=1e-12)


def test_a_stronger_signal_can_be_known_better() -> None:
    skills = [attainable(Signal(strength), 12, 0.5).skill for strength in (0.0, 0.05, 0.12, 0.25)]
    assert skills == sorted(skills)
    assert skills[-1] == pytest.approx(0.230, abs=0.001)


def test_the_newest_two_bars_show_nothing() -> None:
    a = coefficients(Signal(0.25))
    assert a[0] == a[1] == 0
    assert np.sqrt((a**2).sum()) == pytest.approx(0.25)


def test_a_signal_without_a_stationary_market_is_refused() -> None:
    with pytest.raises(ValueError, match="no stationary market"):
        attainable(Signal(0.35), 8, 0.5)


@given(
    st.lists(st.floats(-8, 8), min_size=LAGS, max_size=80),
    st.sampled_from([0.0, 0.12, 0.25]),
    st.integers(1, 30),
    st.floats(0.01, 20),
)
def test_a_posterior_is_a_distribution_where_the_past_is_known(
    returns: list[float], strength: float, horizon: int, kappa: float
) -> None:
    chances = posterior(np.array(returns), Signal(strength), horizon, kappa)
    assert np.isnan(chances[: LAGS - 1]).all()
    known = chances[LAGS - 1 :]
    assert (known >= -1e-12).all()
    np.testing.assert_allclose(known.sum(axis=1), 1.0, atol=1e-12)


@given(st.lists(st.floats(-3, 3), max_size=30), st.integers(1, 5), st.floats(0.1, 3))
def test_a_label_is_the_class_of_the_sum_ahead(returns: list[float], horizon: int, kappa: float) -> None:
    found = labels(np.array(returns, dtype=np.float64), horizon, kappa).tolist()
    for bar, label in enumerate(found):
        ahead = returns[bar + 1 : bar + 1 + horizon]
        total = float(np.sum(ahead)) if len(ahead) == horizon else None
        assert label == (-1 if total is None else 0 if total < -kappa else 2 if total > kappa else 1)


def test_a_row_signal_needs_what_it_is_about() -> None:
    with pytest.raises(ValueError, match="needs u"):
        posterior(np.zeros(60), Signal(0.1, 0.1), 4, 1.0)


@pytest.mark.parametrize("horizon", [1, 3, 12])
def test_the_forecast_is_the_recursion_run_by_hand(horizon: int) -> None:
    signal = Signal(0.2, 0.4)
    a = coefficients(signal).tolist()

    def run(z: list[float], u: float, shocks: list[float], fresh: list[float]) -> list[float]:
        """The next returns, one shock of each kind a bar."""
        z = list(z)
        for shock, new in zip(shocks, fresh, strict=True):
            z.append(sum(weight * z[-1 - lag] for lag, weight in enumerate(a)) + signal.row * u + shock)
            u = 0.9 * u + math.sqrt(0.19) * new
        return z[-len(shocks) :]

    def unit(length: int, at: int) -> list[float]:
        return [float(step == at) for step in range(length)]

    forecast = _forecast(signal, horizon)
    none, empty = [0.0] * horizon, [0.0] * LAGS
    by_lag = [sum(run(unit(LAGS, LAGS - 1 - lag), 0.0, none, none)) for lag in range(LAGS)]
    np.testing.assert_allclose(forecast.weights, by_lag, atol=1e-12)
    assert forecast.row == pytest.approx(sum(run(empty, 1.0, none, none)))
    future = past = 0.0
    for shocks, fresh in ((unit(700, 0), unit(700, 700)), (unit(700, 700), unit(700, 0))):
        path = run(empty, 0.0, shocks, fresh)
        future += sum(sum(path[:reach]) ** 2 for reach in range(1, horizon + 1))
        past += sum(sum(path[since : since + horizon]) ** 2 for since in range(1, 700))
    assert forecast.variance == pytest.approx(future)
    assert forecast.total == pytest.approx(future + past, rel=1e-5)
