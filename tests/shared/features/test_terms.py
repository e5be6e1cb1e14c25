"""Formulas of order flow and of volatility, against the same written with NumPy over whole windows."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from shared.features import BarArrays, compute, feature_set
from shared.features.flow import FLOW
from shared.features.volatility import VOLATILITY

Doubles = npt.NDArray[np.float64]
Windows = Callable[[Doubles, int], Doubles]


@pytest.fixture(name="bars", scope="module")
def bars_fixture(walk: Callable[..., BarArrays]) -> BarArrays:
    return walk(3_000, seed=13)


def of(name: str, bars: BarArrays) -> Doubles:
    """The last 200 values of a feature."""
    return compute(feature_set("one", name), bars)[-200:, 0].astype(np.float64)


def windows(x: Doubles, bars: int) -> Doubles:
    """The last ``bars`` values at each of the last 200 bars, ``[200, bars]``."""
    return np.lib.stride_tricks.sliding_window_view(x, bars)[-200:]


def garman_klass(bars: BarArrays) -> Doubles:
    span = np.log(bars.high / bars.low) ** 2 / 2
    return np.asarray(span - (2 * np.log(2) - 1) * np.log(bars.close / bars.open) ** 2)


def columns(bars: BarArrays) -> tuple[Doubles, Doubles, Doubles, Doubles]:
    """Trades, quote volume, flow, and log returns (0 for the first bar)."""
    assert bars.trades is not None
    assert bars.quote_volume is not None
    assert bars.taker_volume is not None
    returns = np.diff(np.log(bars.close), prepend=np.log(bars.close[0]))
    return bars.trades, bars.quote_volume, 2 * bars.taker_volume - bars.volume, returns


def test_order_flow_is_that_of_its_windows(bars: BarArrays) -> None:
    trades, quote, flow, returns = columns(bars)
    share = {span: windows(flow, span).sum(axis=1) / windows(bars.volume, span).sum(axis=1) for span in (1, 4, 16, 64)}
    products = windows(flow * returns, 64).mean(axis=1)
    scale = np.sqrt(windows(flow**2, 64).mean(axis=1) * windows(returns**2, 64).mean(axis=1))
    size = [windows(bars.volume, span).sum(axis=1) / windows(trades, span).sum(axis=1) for span in (4, 64)]
    known = np.sqrt(windows(np.roll(returns**2, 1), 256) @ (0.06 * 0.94 ** np.arange(256)[::-1]))
    price = windows(quote, 24).sum(axis=1) / windows(bars.volume, 24).sum(axis=1)
    expected = {
        **{f"taker_imbalance_{span}": values for span, values in share.items()},
        "taker_slope_4_16": share[4] - share[16],
        "taker_persistence_64": windows(flow * np.roll(flow, 1), 64).mean(axis=1) / windows(flow**2, 64).mean(axis=1),
        "taker_impact_64": products / scale,
        "log_trades_4_64": np.log(windows(trades, 4).mean(axis=1) / windows(trades, 64).mean(axis=1)),
        "log_trade_size_4_64": np.log(size[0] / size[1]),
        "z_vwap_24": np.log(bars.close[-200:] / price) / known,
    }
    assert expected.keys() == {feature.name for feature in FLOW}
    for name, values in expected.items():
        np.testing.assert_allclose(of(name, bars), values, rtol=1e-5, atol=1e-6, err_msg=name)


def test_range_volatility_is_that_of_its_windows(bars: BarArrays) -> None:
    variance = garman_klass(bars)
    for span in (4, 16, 64, 256):
        expected = np.log(np.sqrt(windows(variance, span).mean(axis=1)))
        np.testing.assert_allclose(of(f"log_gk_{span}", bars), expected, rtol=1e-5)
    up, down = np.log(bars.high / bars.close), np.log(bars.low / bars.close)
    satchell = up * np.log(bars.high / bars.open) + down * np.log(bars.low / bars.open)
    np.testing.assert_allclose(of("log_rs_16", bars), np.log(windows(satchell, 16).mean(axis=1)) / 2, rtol=1e-5)


@pytest.mark.parametrize(("period", "periods"), [(24, 16), (96, 16), (168, 8)])
def test_a_season_is_what_followed_the_same_place_before(period: int, periods: int, bars: BarArrays) -> None:
    spans = np.sqrt(np.lib.stride_tricks.sliding_window_view(garman_klass(bars), 12).mean(axis=1))
    last = len(spans) - 1
    every = spans[last - period * periods + 1 :].mean()
    followed = np.mean([spans[last - period * number + 12] for number in range(1, periods + 1)])
    same = np.mean([spans[last - period * number] for number in range(1, periods + 1)])
    assert of(f"log_season_{period}", bars)[-1] == pytest.approx(np.log(followed / every), rel=1e-5)
    if period != 168:
        assert of(f"log_surprise_{period}", bars)[-1] == pytest.approx(np.log(spans[last] / same), rel=1e-5)


def test_a_season_finds_the_hour_at_which_prices_move(walk: Callable[..., BarArrays]) -> None:
    """Of bars that move three times as much for a quarter of the day."""
    count, random = 2_000, np.random.default_rng(1)
    moves = random.normal(0.0, 1e-3, count) * np.where(np.arange(count) % 24 >= 18, 3.0, 1.0)
    close = 100.0 * np.exp(np.cumsum(moves))
    opened = np.concatenate([[100.0], close[:-1]])
    times = np.arange(count) * 3_600_000
    bars = BarArrays(
        times, opened, np.maximum(opened, close), np.minimum(opened, close), close, np.ones(count), 3_600_000
    )
    season = compute(feature_set("one", "log_season_24"), bars)[:, 0]
    ahead = np.array([np.abs(moves[at + 1 : at + 13]).mean() for at in range(count - len(season), count - 12)])
    assert np.corrcoef(season[:-12], ahead)[0, 1] > 0.6


def test_all_are_tested() -> None:
    named = {"log_season_24", "log_season_96", "log_season_168", "log_surprise_24", "log_surprise_96"}
    assert {feature.name for feature in VOLATILITY} == {
        *named, "log_gk_4", "log_gk_16", "log_gk_64", "log_gk_256", "log_rs_16"
    }  # fmt: skip
