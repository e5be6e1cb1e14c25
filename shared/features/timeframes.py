"""Formulas over longer bars: any formula, over bars that are made of several.

A longer bar is *trailing*: it ends with the current bar, and there is one at each bar. It is therefore always finished,
and its value is a function of the last bars alone. Longer bars that are anchored to a clock (every full four hours)
would either be unfinished for most of the time or be as old as themselves, and which of both a bar has would depend on
its place on the grid. The longer bars of a formula do not overlap: the one before the newest ends where that begins.
"""

from typing import Final

from shared.features.expressions import (
    FIELDS,
    Expression,
    close,
    high,
    highest,
    lag,
    log,
    low,
    lowest,
    mean,
    open_,
    total,
    volume,
)
from shared.features.feature import Feature
from shared.features.volatility import range_volatility

FACTORS: Final = (4, 16, 96)


def coarser(x: Expression, factor: int) -> Expression:
    """Return the formula ``x`` over trailing bars of ``factor`` bars each.

    A longer bar has the first open, the highest high, the lowest low, the last close and the sums of volumes and
    trades. Raises ``ValueError`` for a formula of the time, which longer bars do not have.
    """
    if factor < 2:
        raise ValueError(f"a longer bar must be made of at least 2 bars, not {factor}")
    return _coarser(x, factor, {})


def _coarser(x: Expression, factor: int, made: dict[str, Expression]) -> Expression:
    if x.text not in made:
        made[x.text] = _over_longer_bars(x, factor, made)
    return made[x.text]


def _over_longer_bars(x: Expression, factor: int, made: dict[str, Expression]) -> Expression:
    if x.lookback == 1 and x.fields == {"close"}:
        return x
    if x.inputs:
        inputs = tuple([_coarser(one, factor, made) for one in x.inputs])
        return Expression(f"x{factor}({x.text})", inputs, x.apply, x.scalar, x.delay * factor, x.missing)
    match x.text:
        case "open":
            return lag(x, factor - 1)
        case "high":
            return highest(x, factor)
        case "low":
            return lowest(x, factor)
        case "volume" | "trades" | "quote_volume" | "taker_volume":
            return total(x, factor)
        case _:
            raise ValueError(f"there are no longer bars of {x.text}; there are of {', '.join(FIELDS[:-1])}")


_scale = range_volatility(16)
_lowest = lowest(low, 14)
_TERMS: Final = {
    "z_return": ((log(close) - log(open_)) / _scale, "log return over the Garman-Klass volatility of 16"),
    "z_range": ((log(high) - log(low)) / _scale, "log range over the Garman-Klass volatility of 16"),
    "log_gk_16": (log(_scale), "log of the Garman-Klass volatility of 16"),
    "stochastic_14": ((close - _lowest) / (highest(high, 14) - _lowest), "Lane 1984, fast %K of 14, 0 to 1"),
    "volume_share_20": (volume / (volume + mean(volume, 20)), "volume over itself and the mean of 20, 0 to 1"),
}

TIMEFRAMES: Final = tuple(
    Feature(f"{name}_x{factor}", coarser(formula, factor), f"{about} trailing bars, each of {factor} bars")
    for factor in FACTORS
    for name, (formula, about) in _TERMS.items()
)
