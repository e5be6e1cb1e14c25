import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.features.expressions import FIELDS, Expression, close, decayed, highest, log, lowest, total, variance
from shared.features.feature import Feature
from shared.features.plan import ColumnPlan
from shared.features.sets import FeatureSet

Array = npt.NDArray[np.float64]
FINITE = st.floats(-1e9, 1e9, allow_subnormal=False)

WINDOWS: dict[str, Expression] = {
    "decayed 64": decayed(close, 0.8, 64),
    "decayed 1": decayed(close, 0.8, 1),
    "total 20": total(close, 20),
    "total 7": total(close, 7),
    "highest 14": highest(close, 14),
    "lowest 16": lowest(close, 16),
    "variance 20": variance(close, 20),
    "variance 16": variance(close, 16),
    "log": log(close),
}


def over(expression: Expression, x: Array) -> Array:
    """A expression over closes, in float64, before any rounding to float32."""
    kept: list[Array] = []

    def keep(x: Array) -> Array:
        kept.append(x)
        return x

    probe = Feature("one", Expression("probe", (expression,), apply=keep), "")
    ColumnPlan([FeatureSet("one", (probe,))]).evaluate(dict.fromkeys(FIELDS, x), len(x) - expression.lookback + 1)
    return kept[0]


@pytest.mark.parametrize("name", WINDOWS)
@given(st.data())
def test_bits_do_not_depend_on_how_many_rows_or_symbols_are_computed(name: str, data: st.DataObject) -> None:
    expression, bars = WINDOWS[name], WINDOWS[name].lookback
    rows, symbols = data.draw(st.integers(1, 150)), data.draw(st.integers(1, 20))
    x = np.random.default_rng(data.draw(st.integers(0, 2**32))).lognormal(0.0, 3.0, (rows + bars - 1, symbols))
    whole = over(expression, x)
    assert whole.shape == (rows, symbols)
    first = data.draw(st.integers(0, rows - 1))
    last = data.draw(st.integers(first + 1, rows))
    left = data.draw(st.integers(0, symbols - 1))
    right = data.draw(st.integers(left + 1, symbols))
    part = np.ascontiguousarray(x[first : last + bars - 1, left:right])
    assert over(expression, part).tobytes() == np.ascontiguousarray(whole[first:last, left:right]).tobytes()


@given(st.lists(FINITE, min_size=64, max_size=80), st.floats(0.1, 0.95))
def test_a_decayed_sum_is_the_weighted_sum_of_its_window(values: list[float], keep: float) -> None:
    found = over(decayed(close, keep, 64), np.array(values)[:, None])[:, 0]
    for row, value in enumerate(found):
        terms = [keep**i * values[row + 63 - i] for i in range(64)]
        assert value == pytest.approx(math.fsum(terms), rel=1e-12, abs=1e-13 * math.fsum(map(abs, terms)))


@given(st.lists(FINITE, min_size=60, max_size=90), st.integers(1, 60))
def test_window_sums_and_extremes_are_those_of_the_window(values: list[float], bars: int) -> None:
    x = np.array(values)[:, None]
    windows = [values[i : i + bars] for i in range(len(values) - bars + 1)]
    scale = max(map(abs, values))
    assert over(total(close, bars), x)[:, 0] == pytest.approx([math.fsum(w) for w in windows], abs=1e-13 * bars * scale)
    assert over(highest(close, bars), x)[:, 0].tolist() == [max(w) for w in windows]
    assert over(lowest(close, bars), x)[:, 0].tolist() == [min(w) for w in windows]


@given(
    st.lists(st.floats(1.0, 2.0), min_size=48, max_size=60), st.sampled_from([2, 3, 16, 20, 48]), st.floats(1.0, 1e6)
)
def test_variance_does_not_cancel_on_a_high_level(values: list[float], bars: int, level: float) -> None:
    x = np.array(values) + level
    found = over(variance(close, bars), x[:, None])[:, 0]
    expected = [float(np.var((x - level)[i : i + bars])) for i in range(len(x) - bars + 1)]
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-15 * level)
    assert (found >= 0.0).all()


@given(st.floats(1e-6, 1e12), st.sampled_from([16, 20, 48]))
def test_the_variance_of_a_flat_window_is_exactly_zero(value: float, bars: int) -> None:
    assert over(variance(close, bars), np.full((bars, 3), value)).tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("bars", [0, 1, 7, 60])
def test_a_variance_window_with_inexact_divisions_is_refused(bars: int) -> None:
    with pytest.raises(ValueError, match=f"not {bars}"):
        variance(close, bars)


def test_a_window_is_a_tree_of_a_few_delays() -> None:
    """Else a new bar would cost as many operations as the window has bars."""
    depth, expression = 0, decayed(close, 0.9, 256)
    while expression.inputs:
        depth, expression = depth + 1, expression.inputs[0]
    assert depth == 8
    assert WINDOWS["variance 20"].lookback == 20
