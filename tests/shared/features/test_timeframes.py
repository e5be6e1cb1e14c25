"""A formula over longer bars is that formula over bars that are made of several, ending with the current one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.features import FEATURES, BarArrays, Feature, FeatureSet, compute
from shared.features.expressions import (
    Expression,
    change,
    close,
    deviation,
    ema,
    highest,
    log,
    minute_of_day,
    open_,
    taker_volume,
    trades,
    volume,
)
from shared.features.timeframes import coarser

TERMS: dict[str, Expression] = {
    "open": open_,
    "close": close,
    "return": log(close) - log(open_),
    "change": change(log(close), 3),
    "ema": ema(close, 5),
    "deviation": deviation(close, 20),
    "highest": highest(volume, 7),
    "trades": trades,
    "taker": taker_volume / volume,
    **{name: FEATURES[name].expression for name in ("stochastic_d_3", "bb_position", "volume_z_48", "log_gk_16")},
}


def one(expression: Expression) -> FeatureSet:
    return FeatureSet("one", (Feature("one", expression, ""),))


def longer(bars: BarArrays, factor: int, last: int) -> BarArrays:
    """Bars of ``factor`` bars each; the newest ends with the bar in row ``last``."""
    count = (last + 1) // factor
    parts = slice(last + 1 - count * factor, last + 1)
    how = {
        "open": lambda x: x[:, 0],
        "high": lambda x: x.max(1),
        "low": lambda x: x.min(1),
        "close": lambda x: x[:, -1],
    }
    columns: dict[str, Any] = {
        name: np.ascontiguousarray(how.get(name, lambda x: x.sum(axis=1))(column[parts].reshape(count, factor)))
        for name, column in bars.fields().items()
    }
    span = bars.interval_ms * factor
    return BarArrays(np.arange(count) * span, interval_ms=span, **columns)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(TERMS)), st.integers(2, 9), st.integers(0, 40))
def test_a_value_is_that_of_the_longer_bars_that_end_with_its_bar(
    walk: Callable[..., BarArrays], name: str, factor: int, before: int
) -> None:
    """Bit by bit: volumes are whole numbers here, so that their sums are exact."""
    expression = TERMS[name]
    drawn = walk(expression.lookback * factor + 60, seed=factor)
    counts = np.floor(1000.0 * drawn.volume)
    assert drawn.trades is not None
    whole = BarArrays(
        drawn.open_time, drawn.open, drawn.high, drawn.low, drawn.close, counts, drawn.interval_ms,
        drawn.trades, counts * 2.0, np.floor(counts / 3.0),
    )  # fmt: skip
    values = compute(one(coarser(expression, factor)), whole)
    last = len(whole) - 1 - before
    expected = compute(one(expression), longer(whole, factor, last))
    assert values[len(values) - 1 - before].tobytes() == expected[-1].tobytes()


def test_the_lookback_is_that_of_the_longer_bars() -> None:
    for expression in TERMS.values():
        longest = coarser(expression, 5).lookback
        assert expression.lookback * 5 - 4 <= longest <= expression.lookback * 5


def test_longer_bars_of_longer_bars_are_longer_ones(walk: Callable[..., BarArrays]) -> None:
    twice, once = (coarser(coarser(log(close) - log(open_), 2), 3), coarser(log(close) - log(open_), 6))
    bars = walk(40)
    assert compute(one(twice), bars).tobytes() == compute(one(once), bars).tobytes()


def test_the_time_of_longer_bars_is_refused() -> None:
    with pytest.raises(ValueError, match="no longer bars of open_time"):
        coarser(minute_of_day("sin", np.sin), 4)


def test_bars_are_made_of_several() -> None:
    with pytest.raises(ValueError, match="at least 2 bars, not 1"):
        coarser(close, 1)
