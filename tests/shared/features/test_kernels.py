import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.features import kernels
from shared.features.kernels import Array

FINITE = st.floats(-1e9, 1e9, allow_subnormal=False)

KERNELS: dict[str, tuple[Callable[[Array], Array], int]] = {
    "decayed 64": (lambda x: kernels.decayed(x, 0.8, 64), 64),
    "decayed 1": (lambda x: kernels.decayed(x, 0.8, 1), 1),
    "sum 20": (lambda x: kernels.window_sum(x, 20), 20),
    "sum 7": (lambda x: kernels.window_sum(x, 7), 7),
    "max 14": (lambda x: kernels.window_max(x, 14), 14),
    "min 16": (lambda x: kernels.window_min(x, 16), 16),
    "variance 20": (lambda x: kernels.window_variance(x, 20), 20),
    "variance 16": (lambda x: kernels.window_variance(x, 16), 16),
    "log": (lambda x: kernels.log(np.abs(x) + 1e-3), 1),
}


@pytest.mark.parametrize("name", KERNELS)
@given(st.data())
def test_bits_do_not_depend_on_how_many_rows_or_symbols_are_computed(name: str, data: st.DataObject) -> None:
    kernel, bars = KERNELS[name]
    rows, symbols = data.draw(st.integers(1, 150)), data.draw(st.integers(1, 20))
    x = np.random.default_rng(data.draw(st.integers(0, 2**32))).lognormal(0.0, 3.0, (rows + bars - 1, symbols))
    whole = kernel(x)
    assert whole.shape == (rows, symbols)
    first = data.draw(st.integers(0, rows - 1))
    last = data.draw(st.integers(first + 1, rows))
    left = data.draw(st.integers(0, symbols - 1))
    right = data.draw(st.integers(left + 1, symbols))
    part = np.ascontiguousarray(x[first : last + bars - 1, left:right])
    assert kernel(part).tobytes() == np.ascontiguousarray(whole[first:last, left:right]).tobytes()


@given(st.lists(FINITE, min_size=64, max_size=80), st.floats(0.1, 0.95))
def test_a_decayed_sum_is_the_weighted_sum_of_its_window(values: list[float], keep: float) -> None:
    found = kernels.decayed(np.array(values)[:, None], keep, 64)[:, 0]
    for row, value in enumerate(found):
        terms = [keep**i * values[row + 63 - i] for i in range(64)]
        assert value == pytest.approx(math.fsum(terms), rel=1e-12, abs=1e-13 * math.fsum(map(abs, terms)))


@given(st.lists(FINITE, min_size=60, max_size=90), st.integers(1, 60))
def test_window_sums_and_extremes_are_those_of_the_window(values: list[float], bars: int) -> None:
    x = np.array(values)[:, None]
    windows = [values[i : i + bars] for i in range(len(values) - bars + 1)]
    scale = max(map(abs, values))
    assert kernels.window_sum(x, bars)[:, 0] == pytest.approx([math.fsum(w) for w in windows], abs=1e-13 * bars * scale)
    assert kernels.window_max(x, bars)[:, 0].tolist() == [max(w) for w in windows]
    assert kernels.window_min(x, bars)[:, 0].tolist() == [min(w) for w in windows]


@given(st.lists(st.floats(1.0, 2.0), min_size=48, max_size=60), st.sampled_from([2, 16, 20, 48]), st.floats(1.0, 1e6))
def test_variance_does_not_cancel_on_a_high_level(values: list[float], bars: int, level: float) -> None:
    x = np.array(values) + level
    found = kernels.window_variance(x[:, None], bars)[:, 0]
    expected = [float(np.var((x - level)[i : i + bars])) for i in range(len(x) - bars + 1)]
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-15 * level)
    assert (found >= 0.0).all()


@given(st.floats(1e-6, 1e12), st.sampled_from([16, 20, 48]))
def test_the_variance_of_a_flat_window_is_exactly_zero(value: float, bars: int) -> None:
    assert kernels.window_variance(np.full((bars, 3), value), bars).tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("bars", [0, 1, 7, 60])
def test_a_variance_window_with_inexact_divisions_is_refused(bars: int) -> None:
    with pytest.raises(ValueError, match=f"not {bars}"):
        kernels.window_variance(np.ones((90, 1)), bars)


@given(st.floats(1e-300, 1e300))
def test_log_is_the_logarithm(x: float) -> None:
    expected = math.log(x)
    assert abs(float(kernels.log(np.array([[x]]))[0, 0]) - expected) <= 4e-16 * max(1.0, abs(expected))


def test_log_is_not_finite_outside_its_domain() -> None:
    with np.errstate(all="ignore"):
        found = kernels.log(np.array([0.0, -1.0, np.nan, np.inf]))
    assert found[0] == -np.inf
    assert not np.isfinite(found).any()


@given(st.floats(0.1, 0.99))
def test_a_kernel_leaves_out_at_most_a_millionth(keep: float) -> None:
    bars = kernels.bars_for(keep)
    assert kernels.power(keep, bars) == pytest.approx(keep**bars, rel=1e-9)
    assert keep**bars <= 1e-6 < keep ** (bars / 2)


@pytest.mark.parametrize("keep", [0.0, 1.0, -0.5])
def test_a_kernel_that_never_or_at_once_forgets_is_refused(keep: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        kernels.bars_for(keep)


def test_a_kernel_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="power of two"):
        kernels.power(0.5, 12)
