import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import TimeSeriesSplit

from shared.training.splits import SplitError, split, walk_forward

BAR = 1000


@given(
    bars=st.integers(250, 400),
    symbols=st.integers(1, 3),
    horizon=st.integers(1, 8),
    embargo=st.integers(0, 8),
    seed=st.integers(0, 5),
)
def test_no_label_of_a_part_reaches_a_later_part(
    bars: int, symbols: int, horizon: int, embargo: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    time = np.sort(np.concatenate([np.flatnonzero(rng.random(bars) < 0.9) * BAR for _ in range(symbols)]))
    end = time + rng.integers(1, horizon + 1, len(time)) * BAR
    parts = split(time, end, embargo_ms=embargo * BAR)
    for earlier, later in itertools.combinations(parts, 2):
        assert end[earlier].max() < time[later].min()
        assert time[later].min() - end[earlier].max() > embargo * BAR
        assert not set(earlier) & set(later)


def test_symbols_are_cut_at_the_same_moments() -> None:
    one = np.arange(1000) * BAR
    time, end = np.concatenate([one, one]), np.concatenate([one, one]) + 3 * BAR
    parts = split(time, end, embargo_ms=3 * BAR)
    for rows in parts:
        first, second = (set(time[rows[(rows < 1000) == side]]) for side in (True, False))
        assert first == second


def test_only_rows_at_a_boundary_are_given_up() -> None:
    time = np.arange(1000) * BAR
    parts = split(time, time + 5 * BAR, embargo_ms=5 * BAR)
    assert [len(rows) for rows in parts] == [595, 90, 90, 195]


def test_a_part_without_rows_is_refused_by_name() -> None:
    time = np.arange(40) * BAR
    with pytest.raises(SplitError, match="the validation part is empty: 40 labelled rows over 40 bars"):
        split(time, time + 5 * BAR, embargo_ms=5 * BAR)


def test_no_rows_at_all_are_refused() -> None:
    none = np.array([], dtype=np.int64)
    with pytest.raises(SplitError, match="no labelled rows at all"):
        split(none, none, embargo_ms=0)


@given(bars=st.integers(600, 900), symbols=st.integers(1, 3), folds=st.integers(1, 4), embargo=st.integers(0, 6))
def test_folds_walk_forward_and_none_sees_its_own_test(bars: int, symbols: int, folds: int, embargo: int) -> None:
    time = np.sort(np.concatenate([np.arange(bars) * BAR for _ in range(symbols)]))
    end = time + 5 * BAR
    found = walk_forward(time, end, folds=folds, embargo_ms=embargo * BAR)
    assert len(found) == folds
    for parts in found:
        for earlier, later in itertools.combinations(parts, 2):
            assert time[later].min() - end[earlier].max() > embargo * BAR
    for before, after in itertools.pairwise(found):
        assert len(after.train) > len(before.train)  # all that came before
        assert time[after.test].min() > time[before.test].max()
    assert time[found[-1].test].max() == time.max()


def test_the_tests_of_all_folds_cover_the_second_half_but_for_embargoes() -> None:
    time = np.arange(1000) * BAR
    found = walk_forward(time, time + 5 * BAR, folds=4, embargo_ms=5 * BAR)
    assert [len(parts.test) for parts in found] == [120, 120, 120, 120]
    assert [len(parts.train) for parts in found] == [370, 464, 557, 651]


def test_the_gap_before_a_test_part_is_that_of_scikit_learn() -> None:
    bars, folds, horizon, embargo = 800, 4, 5, 7
    time = np.arange(bars) * BAR
    ours = walk_forward(time, time + horizon * BAR, folds=folds, embargo_ms=embargo * BAR)
    theirs = TimeSeriesSplit(folds, test_size=bars // (2 * folds), gap=horizon + embargo)
    for parts, (before, test) in zip(ours, theirs.split(np.arange(bars + embargo)), strict=True):
        assert (parts.calibration[-1], parts.test[0]) == (before[-1], test[0])
