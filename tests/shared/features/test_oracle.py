"""Formulas against TA-Lib, which is not truncated: an exponential mean of ours may differ by what it leaves
out of its window, times how far the distant past lies from the present, and by TA-Lib's seed, long forgotten here."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from shared.features.bars import BarArrays
from shared.features.expressions import (
    Expression,
    close,
    deviation,
    ema,
    high,
    highest,
    lag,
    low,
    lowest,
    mean,
    volume,
    wilder,
)
from shared.features.feature import Feature
from shared.features.plan import ColumnPlan
from shared.features.sets import FeatureSet
from shared.features.table import FEATURES

talib = pytest.importorskip("talib")

Doubles = npt.NDArray[np.float64]
EXACT = 1e-9


def values(expression: Expression, bars: BarArrays) -> Doubles:
    """A expression over a history in float64, before any rounding to float32."""
    series = {name: array[:, None] for name, array in (*bars.fields().items(), ("open_time", bars.open_time))}
    kept: list[Doubles] = []

    def keep(x: Doubles) -> Doubles:
        kept.append(x)
        return x

    probe = Expression("probe", (expression,), apply=keep)
    plan = ColumnPlan([FeatureSet("one", (Feature("one", probe, ""),))])
    plan.evaluate(series, len(bars) - plan.lookback + 1)
    return kept[0][:, 0]


def agree(expression: Expression, expected: Doubles, bars: BarArrays, within: float) -> None:
    found = values(expression, bars)[-1000:]
    assert np.abs(found - expected[-1000:]).max() <= within


@pytest.fixture(name="bars")
def bars_fixture(walk: Callable[..., BarArrays]) -> BarArrays:
    return walk(3000, seed=11)


def reach(bars: BarArrays) -> float:
    return float(bars.close.max() - bars.close.min())


@pytest.mark.parametrize("span", [9, 10, 12, 20, 26, 50])
def test_ema(span: int, bars: BarArrays) -> None:
    expression = ema(close, span)
    agree(expression, talib.EMA(bars.close, span), bars, expression.missing * reach(bars) + EXACT)


def test_macd_its_signal_and_histogram(bars: BarArrays) -> None:
    for name, expected in zip(("macd", "macd_signal", "macd_hist"), talib.MACD(bars.close, 12, 26, 9), strict=True):
        expression = FEATURES[name].expression
        agree(expression, expected, bars, expression.missing * reach(bars) + EXACT)


def test_rsi(bars: BarArrays) -> None:
    expression = FEATURES["rsi_14"].expression
    agree(expression, talib.RSI(bars.close, 14), bars, 100 * expression.missing + EXACT)


def test_atr(bars: BarArrays) -> None:
    natr = FEATURES["log_natr_14"].expression
    agree(natr, np.log(talib.ATR(bars.high, bars.low, bars.close, 14) / bars.close), bars, 10 * natr.missing + EXACT)


def test_bollinger_bands(bars: BarArrays) -> None:
    upper, middle, lower = talib.BBANDS(bars.close, 20, 2.0, 2.0)
    agree(FEATURES["bb_position"].expression, (bars.close - lower) / (upper - lower), bars, EXACT * 100)
    agree(FEATURES["bb_width"].expression, (upper - lower) / middle, bars, EXACT)
    agree(deviation(close, 20), talib.STDDEV(bars.close, 20, 1.0), bars, EXACT * 10)


def test_sma_and_volume_ratio(bars: BarArrays) -> None:
    agree(mean(volume, 20), talib.SMA(bars.volume, 20), bars, EXACT)
    agree(FEATURES["volume_ratio"].expression, bars.volume / talib.SMA(bars.volume, 20), bars, EXACT)


@pytest.mark.parametrize(("name", "span"), [("momentum_10", 10), ("momentum_20", 20), ("price_change", 1)])
def test_rate_of_change_is_a_fraction(name: str, span: int, bars: BarArrays) -> None:
    agree(FEATURES[name].expression, talib.ROCP(bars.close, span), bars, EXACT)
    agree(close - lag(close, span), talib.MOM(bars.close, span), bars, EXACT)


def test_stochastic(bars: BarArrays) -> None:
    k, d = talib.STOCHF(bars.high, bars.low, bars.close, 14, 3)
    agree(FEATURES["stochastic_k_14"].expression, k, bars, EXACT)
    agree(FEATURES["stochastic_d_3"].expression, d, bars, EXACT)
    agree(highest(high, 14) - lowest(low, 14), talib.MAX(bars.high, 14) - talib.MIN(bars.low, 14), bars, EXACT)


def test_volatility_is_the_population_deviation_of_log_returns(bars: BarArrays) -> None:
    returns = np.diff(np.log(bars.close), prepend=np.log(bars.close[0]))
    agree(FEATURES["volatility_20"].expression, talib.STDDEV(returns, 20, 1.0), bars, EXACT * 10)


def test_wilders_mean_is_not_the_exponential_one(bars: BarArrays) -> None:
    assert np.abs(values(wilder(close, 14), bars)[-9:] - values(ema(close, 14), bars)[-9:]).max() > 1e-3
