"""The volatility over the horizon of a label, which networks learn as well as the class."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.labels.ahead import LEAST, volatility_ahead
from shared.labels.batch import moves, volatility

MINUTE = 60_000
HORIZON = 12
ROW = 100
"""The row of the label that begins at bar 200."""

Floats = NDArray[np.float64]


def walk(bars: int = 300) -> tuple[NDArray[np.int64], Floats, Floats, Floats]:
    random = np.random.default_rng(5)
    close = 100 * np.exp(np.cumsum(random.normal(0, 0.001, bars)))
    high = close * (1 + random.uniform(0, 0.002, bars))
    return np.arange(bars, dtype=np.int64) * MINUTE, close, high, close * (1 - random.uniform(0, 0.002, bars))


def ahead_of(open_time: NDArray[np.int64], close: Floats, high: Floats, low: Floats) -> Any:
    return volatility_ahead(open_time, close, high, low, moves(open_time, close, MINUTE, HORIZON))


def test_it_is_that_of_the_bars_of_the_label_over_the_volatility_known_before() -> None:
    open_time, close, high, low = walk()
    known = volatility(open_time, close, MINUTE)[200]
    returns = np.diff(np.log(close))[200:212]
    ranges = np.log(high / low)[201:213] ** 2 / (4 * math.log(2))
    expected = [math.log(math.sqrt((returns**2).mean()) / known), math.log(math.sqrt(ranges.mean()) / known)]
    assert ahead_of(open_time, close, high, low)[ROW] == pytest.approx(expected)


def test_bars_before_and_after_those_of_the_label_do_not_count() -> None:
    open_time, close, high, low = walk()
    before = ahead_of(open_time, close, high, low)[ROW]
    wide = high.copy()
    wide[200] = wide[213] = 200.0
    assert ahead_of(open_time, close, wide, low)[ROW].tolist() == before.tolist()
    wide[212] = 200.0
    assert ahead_of(open_time, close, wide, low)[ROW, 1] > before[1] + 1


def test_bars_that_do_not_move_have_a_finite_one() -> None:
    open_time, close, high, low = walk()
    for column in (close, high, low):
        column[200:] = close[200]
    assert ahead_of(open_time, close, high, low)[ROW] == pytest.approx([0.5 * math.log(LEAST)] * 2)
