from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.features import SETS, BarArrays, compute, feature_set, history
from shared.features.bars import PRICES_AND_VOLUME, fill
from shared.features.history import CHUNK

USER_8 = SETS["user-8"]
Walk = Callable[..., BarArrays]


def select(bars: BarArrays, rows: Any) -> BarArrays:
    arrays: dict[str, Any] = {name: column[rows].copy() for name, column in bars.fields().items()}
    return BarArrays(bars.open_time[rows].copy(), interval_ms=bars.interval_ms, **arrays, inputs=bars.inputs)


def test_the_first_vector_is_that_of_the_first_full_window(walk: Walk) -> None:
    bars = walk(USER_8.lookback + 2)
    assert compute(USER_8, bars).shape == (3, 8)
    assert compute(USER_8, bars).dtype == np.dtype("<f4")
    assert compute(USER_8, select(bars, slice(0, USER_8.lookback - 1))).shape == (0, 8)
    assert compute(USER_8, select(bars, slice(0, 0))).shape == (0, 8)


def test_raw_fields_are_the_bars_own(walk: Walk) -> None:
    bars = walk(300)
    found = compute(feature_set("raw", "close", "high", "low", "volume"), bars)
    expected = np.stack([bars.close, bars.high, bars.low, bars.volume], axis=1).astype("<f4")
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", SETS)
def test_a_vector_depends_on_its_lookback_and_on_nothing_before(name: str, walk: Walk) -> None:
    chosen = SETS[name]
    bars, references = walk(chosen.lookback + 300), {"BTCUSDT": walk(chosen.lookback + 300, seed=8)}
    whole = compute(chosen, bars, references)
    later = {symbol: select(one, slice(300, None)) for symbol, one in references.items()}
    assert compute(chosen, select(bars, slice(300, None)), later).tobytes() == whole[-1:].tobytes()
    for row, defined in ((299, True), (300, False)):
        lost = np.arange(len(bars)) == row
        changed: dict[str, Any] = {field: np.where(lost, np.nan, column) for field, column in bars.fields().items()}
        hurt = replace(bars, **changed)
        assert np.isfinite(compute(chosen, hurt, references)[-1]).all() == defined


def test_chunks_leave_no_seam(walk: Walk) -> None:
    bars = walk(CHUNK + USER_8.lookback + 50)
    whole = compute(USER_8, bars)
    tail = compute(USER_8, select(bars, slice(CHUNK - 100, None)))
    assert whole[-len(tail) :].tobytes() == tail.tobytes()


def test_missing_bars_are_refused_by_compute(walk: Walk) -> None:
    bars = walk(300)
    with pytest.raises(ValueError, match="missing before row 7"):
        compute(USER_8, select(bars, np.delete(np.arange(300), [7])))


def test_an_undefined_value_is_not_finite_and_its_bar_has_no_vector(walk: Walk) -> None:
    bars = walk(USER_8.lookback + 10)
    flat = np.full(len(bars), 100.0)
    still = replace(bars, open=flat, high=flat, low=flat, close=flat)
    assert np.isnan(compute(feature_set("one", "rsi"), still)).all()
    found = history(USER_8, still)
    assert len(found.vectors) == 0
    assert found.undefined == 11
    assert found.warming == USER_8.lookback - 1


def test_a_calendar_feature_is_the_hour_and_day_of_the_open(walk: Walk) -> None:
    start = 1_704_067_200_000  # Monday, 2024-01-01 00:00 UTC
    bars = walk(9, interval_ms=6 * 3_600_000)
    bars = replace(bars, open_time=start + np.arange(9, dtype=np.int64) * bars.interval_ms)
    names = ("minute_sin", "minute_cos", "weekday_sin", "weekday_cos")
    found = compute(feature_set("clock", *names), bars)
    assert found[:5, :2].tolist() == [[0, 1], [1, 0], [0, -1], [-1, 0], [0, 1]]
    assert found[:, 2:].tolist()[0] == [0, 1]
    assert found[4, 2] == pytest.approx(np.sin(2 * np.pi / 7), abs=1e-7)


@pytest.mark.parametrize("lost", [1, 3])
def test_a_short_gap_is_bridged_with_flat_bars(lost: int, walk: Walk) -> None:
    bars = walk(USER_8.lookback + 100)
    kept = np.delete(np.arange(len(bars)), np.arange(300, 300 + lost))
    found = history(USER_8, select(bars, kept))
    last = float(bars.close[299])
    filled = select(bars, slice(None))
    for name, array in filled.fields().items():
        array[300 : 300 + lost] = last if name in ("open", "high", "low", "close") else 0.0
    expected = compute(USER_8, filled)
    real = np.delete(np.arange(len(expected)), np.arange(300, 300 + lost) - USER_8.lookback + 1)
    assert found.vectors.tobytes() == expected[real].tobytes()
    assert found.open_times.tolist() == bars.open_time[kept][USER_8.lookback - 1 :].tolist()
    cold = 300 - (USER_8.lookback - 1)
    assert found.bridged.tolist() == [0] * cold + [lost] * (len(real) - cold)


def test_after_a_long_gap_the_window_starts_anew(walk: Walk) -> None:
    bars = walk(2 * USER_8.lookback + 20)
    cut = USER_8.lookback + 5
    rows = np.delete(np.arange(len(bars)), np.arange(cut, cut + 4))
    found = history(USER_8, select(bars, rows))
    second = compute(USER_8, select(bars, slice(cut + 4, None)))
    assert found.vectors[-len(second) :].tobytes() == second.tobytes()
    assert found.gap == found.warming == USER_8.lookback - 1
    assert not found.bridged.any()
    assert found.rows.tolist() == [int(np.searchsorted(bars.open_time[rows], time)) for time in found.open_times]


def test_a_longer_bridge_may_be_asked_for(walk: Walk) -> None:
    bars = walk(USER_8.lookback + 20)
    rows = np.delete(np.arange(len(bars)), np.arange(100, 104))
    assert len(history(USER_8, select(bars, rows)).vectors) == 0
    assert history(USER_8, select(bars, rows), bridge=4).bridged.tolist() == [4] * 21


@given(st.lists(st.integers(1, 4), max_size=30))
def test_filled_bars_repeat_the_last_close(steps: list[int]) -> None:
    places = np.cumsum([0, *steps])
    values = np.random.default_rng(1).random((len(places), 5))
    found = fill(places, values)
    assert found.values[found.real].tolist() == values.tolist()
    assert len(found.values) == places[-1] + 1
    for row in np.flatnonzero(~found.real):
        close = found.values[row - 1, 3]
        assert found.values[row].tolist() == [close, close, close, close, 0.0]


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("open_time", [0, 60_000, 60_000], "row 2, open_time 60000, does not come after"),
        ("open_time", [0, 60_000, 90_000], "row 2, open_time 90000, is off the grid"),
        ("close", [1.0, 2.0], "close must be float64 of shape"),
    ],
)
def test_bars_that_are_no_history_are_refused(name: str, values: list[float], message: str) -> None:
    columns: dict[str, Any] = dict.fromkeys(PRICES_AND_VOLUME, np.ones(3))
    times: dict[str, Any] = {"open_time": np.array([0, 60_000, 120_000])}
    with pytest.raises(ValueError, match=message):
        BarArrays(**{**times, **columns, name: np.array(values)}, interval_ms=60_000)
