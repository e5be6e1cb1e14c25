"""Features of volatility from a bar's whole range, over several spans, and by the time of day and week.

- Garman and Klass 1980, "On the Estimation of Security Price Volatilities from Historical Data", estimator with open,
  high, low and close: log(high / low)^2 / 2 - (2 log 2 - 1) log(close / open)^2. It needs about a seventh of the bars
  that squared returns need for the same precision, where the price is a driftless diffusion.
- Rogers and Satchell 1991, "Estimating Variance from High, Low and Closing Prices": log(high / close) log(high / open)
  + log(low / close) log(low / open). It is right with a drift, too.
- Corsi 2009, "A Simple Approximate Long-Memory Model of Realized Volatility" (HAR): the volatility to come is regressed
  on the volatility of a short, a middle and a long span. Here these spans are features; the model finds the weights.
- Andersen and Bollerslev 1997, "Intraday Periodicity and Volatility Persistence in Financial Markets", for the pattern
  of the day. Here it is not a fit: ``log_season_P`` is the mean volatility of the 12 bars that followed the same place
  in earlier periods of P bars, over the mean of all bars of those periods. So it depends on the last bars only, as
  each feature does. A profile that expands over all of the past would depend on where the recording begins.

The period is a number of bars: a day is 24 bars of an hour and 96 of 15 minutes, a week of hours 168. With bars of
other lengths another feature of this kind is needed (``season``).
"""

from typing import Final

from shared.features.expressions import Expression, close, high, lag, log, low, mean, open_, sqrt, square
from shared.features.feature import Feature

_TWO_LOG_TWO_LESS_ONE: Final = 0.3862943611198906
AHEAD: Final = 12
"""The bars whose volatility a season predicts: as many as a label looks ahead by default."""

_log_open, _log_high, _log_low, _log_close = (log(x) for x in (open_, high, low, close))
garman_klass = square(_log_high - _log_low) * 0.5 - square(_log_close - _log_open) * _TWO_LOG_TWO_LESS_ONE
"""The variance of one bar."""
rogers_satchell = (_log_high - _log_close) * (_log_high - _log_open) + (_log_low - _log_close) * (_log_low - _log_open)


def range_volatility(bars: int) -> Expression:
    """Return the volatility of a bar, from the ranges of the last ``bars`` bars."""
    return sqrt(mean(garman_klass, bars))


def _repeated(x: Expression, period: int, times: int) -> Expression:
    """Return the mean of the values 0, 1, ... ``times`` - 1 periods ago. ``times`` is a power of two."""
    result, count = x, 1
    while count < times:
        result, count = result + lag(result, period * count), 2 * count
    return result / float(times)


def season(period: int, periods: int) -> Expression:
    """Return the log of the volatility that followed this place in earlier periods over the volatility of all of them.

    The first period is that which ends with the current bar; ``periods`` is a power of two.
    """
    span = range_volatility(AHEAD)
    return log(lag(_repeated(span, period, periods), period - AHEAD) / mean(span, period * periods))


def surprise(period: int, periods: int) -> Expression:
    """Return the log of the volatility of the last bars over that of the same place in earlier periods."""
    span = range_volatility(AHEAD)
    return log(span / lag(_repeated(span, period, periods), period))


_RANGE = "log of the Garman-Klass volatility of a bar (Garman and Klass 1980) over the last bars; spans: Corsi 2009"
_SEASON = "log of the volatility that followed the same place in {} periods of {} bars over that of all of their bars"
_SURPRISE = "log of the volatility of 12 bars over that of the same place in the {} periods of {} bars before"

VOLATILITY: Final = (
    Feature("log_gk_4", log(range_volatility(4)), _RANGE),
    Feature("log_gk_16", log(range_volatility(16)), _RANGE),
    Feature("log_gk_64", log(range_volatility(64)), _RANGE),
    Feature("log_gk_256", log(range_volatility(256)), _RANGE),
    Feature(
        "log_rs_16", log(mean(rogers_satchell, 16)) / 2.0, "log of the volatility by Rogers and Satchell 1991, 16 bars"
    ),
    Feature("log_season_24", season(24, 16), _SEASON.format(16, 24)),
    Feature("log_season_96", season(96, 16), _SEASON.format(16, 96)),
    Feature("log_season_168", season(168, 8), _SEASON.format(8, 168)),
    Feature("log_surprise_24", surprise(24, 16), _SURPRISE.format(16, 24)),
    Feature("log_surprise_96", surprise(96, 16), _SURPRISE.format(16, 96)),
)
