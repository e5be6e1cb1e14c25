"""The table of features: one formula for each name, the same in every feature set.

Those of order flow, of volatility, of longer bars and of inputs are in ``flow``, ``volatility``, ``timeframes`` and
``derivatives``.

The formula of a name never changes; a better formula gets a new name. Undefined values (0 / 0, x / 0, the logarithm
of 0) stay undefined and are never replaced.
"""

import math
from typing import Final

from shared.features.derivatives import BOOK, DERIVATIVES
from shared.features.expressions import (
    Expression,
    change,
    close,
    deviation,
    ema,
    ewma,
    greater,
    high,
    highest,
    lag,
    lesser,
    log,
    low,
    lowest,
    mean,
    minute_of_day,
    open_,
    positive,
    sqrt,
    square,
    volume,
    weekday,
    wilder,
)
from shared.features.feature import Feature
from shared.features.flow import FLOW
from shared.features.timeframes import TIMEFRAMES
from shared.features.volatility import VOLATILITY

_log_close = log(close)
_log_return = change(_log_close)

# Wilder's RSI, 100 - 100 / (1 + rise / fall), without the inner quotient, which is undefined if there is no fall.
_rise = wilder(positive(change(close)), 14)
_fall = wilder(positive(lag(close, 1) - close), 14)
_rsi = (_rise / (_rise + _fall)) * 100.0

_macd = ema(close, 12) - ema(close, 26)
_macd_signal = ema(_macd, 9)
_true_range = greater(high, lag(close, 1)) - lesser(low, lag(close, 1))
_atr = wilder(_true_range, 14)

_middle = mean(close, 20)
_band = deviation(close, 20) * 2.0
_lower = _middle - _band
_width = (_middle + _band) - _lower
_bb_position = (close - _lower) / _width

_volatility = deviation(_log_return, 20)
_mean_volume = mean(volume, 20)

# RiskMetrics volatility of log returns. A bar is scaled by the volatility known before it.
_squared = square(_log_return)
_sigma = sqrt(ewma(_squared, 0.94))
_known = lag(_sigma, 1)

_lowest = lowest(low, 14)
_stochastic = ((close - _lowest) / (highest(high, 14) - _lowest)) * 100.0


def _rate(x: Expression, bars: int) -> Expression:
    return x / lag(x, bars) - 1.0


def _z_return(bars: int) -> Expression:
    return change(_log_close, bars) / _known / math.sqrt(bars)


_BAR = "the bar's own"
_RATE = "rate of change as a fraction (TA-Lib ROCP)"
_RSI = "Wilder 1978, 0 to 100; undefined while the price does not change"
_MACD = "Appel 1979, EMA 12 less EMA 26, in units of price"
_VOLATILITY = "population standard deviation of one-bar log returns, per bar"
_STEP = "log return over the RiskMetrics volatility (0.94) known one bar before, per square root of bars"
_CANDLE = "log ratio over the RiskMetrics volatility (0.94) known one bar before"
_ATR = "over the ATR of 14 bars (Wilder 1978)"

FEATURES: Final[dict[str, Feature]] = {
    feature.name: feature
    for feature in (
        # The names in the specifications of user-8, user-18 and user-23.
        Feature("open", open_, _BAR),
        Feature("high", high, _BAR),
        Feature("low", low, _BAR),
        Feature("close", close, _BAR),
        Feature("volume", volume, _BAR),
        Feature("price_change", _rate(close, 1), _RATE),
        Feature("rsi", _rsi, _RSI + "; equals rsi_14"),
        Feature("rsi_14", _rsi, _RSI),
        Feature("macd", _macd, _MACD),
        Feature("macd_signal", _macd_signal, "Appel 1979, EMA 9 of macd"),
        Feature("macd_hist", _macd - _macd_signal, "Aspray 1986, macd less macd_signal"),
        Feature("momentum", _rate(close, 10), _RATE + "; equals momentum_10"),
        Feature("momentum_10", _rate(close, 10), _RATE),
        Feature("momentum_20", _rate(close, 20), _RATE),
        Feature("high_low_range", (high - low) / close, "the bar's range over its close"),
        Feature("volume_ratio", volume / _mean_volume, "volume over its mean of 20 bars, this one included"),
        Feature("volume_change", _rate(volume, 1), _RATE + "; undefined after a bar without volume"),
        Feature("volume_ma_ratio", mean(volume, 5) / _mean_volume, "mean volume of 5 bars over that of 20"),
        Feature("ema_10", ema(close, 10), "exponential mean, in units of price"),
        Feature("ema_20", ema(close, 20), "exponential mean, in units of price"),
        Feature("ema_50", ema(close, 50), "exponential mean, in units of price"),
        Feature("ema_10_20_cross", ema(close, 10) / ema(close, 20) - 1.0, "above zero while ema_10 is above ema_20"),
        Feature("ema_10_50_cross", ema(close, 10) / ema(close, 50) - 1.0, "above zero while ema_10 is above ema_50"),
        Feature("volatility", _volatility, _VOLATILITY + "; equals volatility_20"),
        Feature("volatility_20", _volatility, _VOLATILITY),
        Feature("bb_position", _bb_position, "Bollinger 2001, %b of 20 bars and 2 deviations; undefined when flat"),
        # Stationary inputs: free of price level, and as far as possible of the volatility regime.
        Feature("z_return_1", _z_return(1), _STEP),
        Feature("z_return_3", _z_return(3), _STEP),
        Feature("z_return_5", _z_return(5), _STEP),
        Feature("z_return_10", _z_return(10), _STEP),
        Feature("z_return_20", _z_return(20), _STEP),
        Feature("z_return_60", _z_return(60), _STEP),
        Feature("z_range", (log(high) - log(low)) / _known, _CANDLE),
        Feature("z_body", (_log_close - log(open_)) / _known, _CANDLE),
        Feature("z_upper_wick", (log(high) - greater(log(open_), _log_close)) / _known, _CANDLE),
        Feature("z_lower_wick", (lesser(log(open_), _log_close) - log(low)) / _known, _CANDLE),
        Feature("macd_atr", _macd / _atr, f"macd {_ATR}"),
        Feature("macd_hist_atr", (_macd - _macd_signal) / _atr, f"macd_hist {_ATR}"),
        Feature("ema_10_atr", (close - ema(close, 10)) / _atr, f"distance from ema_10 {_ATR}"),
        Feature("ema_20_atr", (close - ema(close, 20)) / _atr, f"distance from ema_20 {_ATR}"),
        Feature("log_natr_14", log(_atr / close), "Wilder 1978, log of the ATR of 14 bars over the close"),
        Feature("log_sigma", log(_sigma), "log of the RiskMetrics volatility (0.94) of one-bar log returns"),
        Feature(
            "sigma_ratio_10", sqrt(mean(_squared, 10)) / _known, "volatility of 10 bars over that known one bar before"
        ),
        Feature("bb_width", _width / _middle, "Bollinger 2001, width of the bands over their middle"),
        Feature("volume_share_20", volume / (volume + _mean_volume), "0 to 1; undefined after 20 bars without volume"),
        Feature("volume_z_48", (volume - mean(volume, 48)) / deviation(volume, 48), "standard score within 48 bars"),
        Feature("stochastic_k_14", _stochastic, "Lane 1984, fast %K, 0 to 100; undefined when flat"),
        Feature("stochastic_d_3", mean(_stochastic, 3), "Lane 1984, fast %D: mean of 3 %K"),
        Feature("minute_sin", minute_of_day("sin", math.sin), "time of day (UTC) as a point on a circle"),
        Feature("minute_cos", minute_of_day("cos", math.cos), "time of day (UTC) as a point on a circle"),
        Feature("weekday_sin", weekday("sin", math.sin), "day of the week (UTC) as a point on a circle"),
        Feature("weekday_cos", weekday("cos", math.cos), "day of the week (UTC) as a point on a circle"),
        *FLOW,
        *VOLATILITY,
        *TIMEFRAMES,
        *DERIVATIVES,
        *BOOK,
    )
}
