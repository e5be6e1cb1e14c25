"""A value that depends on more than the bars of its lookback is found and named."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shared.features import SETS, BarArrays, FeatureSet, feature_set
from shared.features.context_formulas import ref
from shared.features.expressions import Expression, close
from shared.features.feature import Feature
from shared.features.leaks import LeakError, leaks
from shared.features.table import FEATURES

HOUR = 3_600_000
RANDOM = np.random.default_rng(3)
CLOSE = 100.0 * np.exp(np.cumsum(RANDOM.normal(0, 0.01, 900)))
BARS = BarArrays(
    HOUR * np.arange(480_000, 480_900),
    CLOSE * 0.999,
    CLOSE * 1.002,
    CLOSE * 0.997,
    CLOSE,
    RANDOM.uniform(1.0, 9.0, 900),
    HOUR,
)


def with_leak(apply: object, name: str = "leaking") -> FeatureSet:
    """A set of one honest feature and of one whose formula computes over the whole array of closes."""
    formula = Expression(f"{name}(close)", (close,), apply)  # type: ignore[arg-type]  # an operation
    return FeatureSet("mine-2", (FEATURES["z_return_1"], Feature(name, formula, "a test")))


@pytest.mark.parametrize("name", SETS)
def test_the_sets_of_this_release_do_not_leak(name: str, walk: Callable[..., BarArrays]) -> None:
    bars, other = (walk(SETS[name].lookback + 600, seed, interval_ms=HOUR) for seed in (0, 8))
    assert leaks(SETS[name], bars, range(20), references={"BTCUSDT": other}) == []


def test_a_formula_that_looks_at_the_next_bar_is_named() -> None:
    [leak] = leaks(with_leak(lambda x: np.roll(x, -1, axis=0)), BARS, range(30))
    assert leak.feature == "leaking"
    assert leak.moved == 30
    assert "later bars" in leak.depends_on


def test_a_formula_that_is_scaled_by_the_whole_series_is_named() -> None:
    [leak] = leaks(with_leak(lambda x: x / x.mean(axis=0)), BARS, range(30))
    assert leak.feature == "leaking"
    assert {"later bars", "bars before its lookback"} <= set(leak.depends_on)


def test_a_formula_with_more_bars_than_its_lookback_is_named() -> None:
    [leak] = leaks(with_leak(lambda x: x - np.roll(x, 1, axis=0)), BARS, range(30))
    assert leak.feature == "leaking"
    assert leak.depends_on != ()


def test_a_value_of_the_date_alone_is_no_leak() -> None:
    formula = Expression("day(open_time)", (Expression("open_time"),), lambda t: t / 86_400_000.0)
    date = Feature("day", formula, "a test")
    assert date.calendar
    assert leaks(FeatureSet("mine-2", (FEATURES["z_return_1"], date)), BARS, range(30)) == []


def test_bars_without_any_vector_are_an_error_that_names_the_number_needed() -> None:
    names = ("open_time", "open", "high", "low", "close", "volume")
    few = replace(BARS, **{name: getattr(BARS, name)[:5] for name in names})
    with pytest.raises(LeakError, match="bars without a gap, and there are 5"):
        leaks(SETS["core-28"], few, range(3))


def test_a_formula_that_looks_at_the_next_bar_of_a_reference_is_named(walk: Callable[..., BarArrays]) -> None:
    bars, other = (walk(900, seed, interval_ms=HOUR) for seed in (0, 8))
    formula = Expression("leaking(close)", (ref("REF", close),), lambda x: np.roll(x, -1, axis=0))
    chosen = FeatureSet("mine-2", (FEATURES["z_return_1"], Feature("leaking", formula, "a test")))
    [leak] = leaks(chosen, bars, range(30), references={"REF": other})
    assert (leak.feature, leak.moved) == ("leaking", 30)
    assert "later bars" in leak.depends_on


def test_missing_bars_of_a_reference_are_no_leak(walk: Callable[..., BarArrays]) -> None:
    bars, other = (walk(900, seed, interval_ms=HOUR) for seed in (0, 8))
    there = np.random.default_rng(1).random(900) > 0.05
    columns: dict[str, Any] = {name: column[there] for name, column in other.fields().items()}
    gaps = BarArrays(other.open_time[there], interval_ms=HOUR, **columns)
    chosen = feature_set("mine", "z_return_1", "momentum@REF", "volume_ma_ratio_less@REF")
    assert leaks(chosen, bars, range(300), references={"REF": gaps}) == []
