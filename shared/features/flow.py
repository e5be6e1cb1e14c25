"""Features of who traded: what a bar says beyond its prices and its volume.

They read the number of trades, the quote volume and the taker volume, which only some sources have. A bar without them
has no vector of a set with these features: nothing is filled in. A flow is the volume that takers bought less the
volume that takers sold, 2 taker volume - volume (Cont, Kukanov and Stoikov 2014 for the imbalance of orders; here of
trades). Spans are sums over bars, so that a bar without a trade within a span leaves its value defined.
"""

from typing import Final

from shared.features.expressions import (
    Expression,
    change,
    close,
    ewma,
    lag,
    log,
    mean,
    quote_volume,
    sqrt,
    square,
    taker_volume,
    total,
    trades,
    volume,
)
from shared.features.feature import Feature

_flow = taker_volume * 2.0 - volume
_log_return = change(log(close))
_known = lag(sqrt(ewma(square(_log_return), 0.94)), 1)


def imbalance(bars: int) -> Expression:
    """Return the flow over the volume of the last ``bars`` bars: -1 if takers only sold, 1 if they only bought."""
    return (total(_flow, bars) / total(volume, bars)) if bars > 1 else _flow / volume


def _trade_size(bars: int) -> Expression:
    return total(volume, bars) / total(trades, bars)


def _distance_from_vwap(bars: int) -> Expression:
    return (log(close) - log(total(quote_volume, bars) / total(volume, bars))) / _known


def _with_return(bars: int) -> Expression:
    return mean(_flow * _log_return, bars) / sqrt(mean(square(_flow), bars) * mean(square(_log_return), bars))


_SHARE = "flow over volume, -1 to 1; undefined without volume"

FLOW: Final = (
    Feature("taker_imbalance_1", imbalance(1), _SHARE),
    Feature("taker_imbalance_4", imbalance(4), _SHARE),
    Feature("taker_imbalance_16", imbalance(16), _SHARE),
    Feature("taker_imbalance_64", imbalance(64), _SHARE),
    Feature("taker_slope_4_16", imbalance(4) - imbalance(16), "taker_imbalance_4 less taker_imbalance_16"),
    Feature(
        "taker_persistence_64",
        mean(_flow * lag(_flow, 1), 64) / mean(square(_flow), 64),
        "autocorrelation of the flow at one bar, about zero, over 64 bars (Lillo and Farmer 2004: order flow persists)",
    ),
    Feature(
        "taker_impact_64",
        _with_return(64),
        "correlation of flow and log return about zero over 64 bars, -1 to 1 (Kyle 1985: prices move with the flow)",
    ),
    Feature("log_trades_4_64", log(mean(trades, 4) / mean(trades, 64)), "log of trades a bar, 4 bars over 64"),
    Feature(
        "log_trade_size_4_64",
        log(_trade_size(4) / _trade_size(64)),
        "log of the volume of a trade, of 4 bars over 64 (Easley and O'Hara 1987: the informed trade larger sizes)",
    ),
    Feature(
        "z_vwap_24",
        _distance_from_vwap(24),
        "log ratio of close and volume-weighted price of 24 bars over the volatility known one bar before",
    ),
)
