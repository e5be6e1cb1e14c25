"""Whether outputs move, and the drift of what moved."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from shared.gates import degeneracy, drift
from shared.gates.degeneracy import OutputDistribution


def told(answers: list[tuple[str, int, float]]) -> OutputDistribution:
    state = OutputDistribution()
    for symbol, bar, p in answers:
        degeneracy.observe(state, symbol, bar, (1 - p, 0.0, p))
    return state


def test_four_hundred_and_fifty_values_within_a_ten_thousandth_are_two_at_most() -> None:
    state = told([("A", bar, 0.6206 + 0.0001 * bar / 449) for bar in range(450)])
    assert degeneracy.distinct(state) <= 2
    assert degeneracy.spread(state)[0] < 0.002


def test_a_run_is_counted_by_symbol() -> None:
    state = told([(symbol, bar, p) for bar in range(60) for symbol, p in (("A", 0.97), ("B", 0.904))])
    assert state.longest_run == 60
    assert degeneracy.same_everywhere(state) == 0.0


def test_one_answer_for_all_symbols_is_seen_though_it_moves() -> None:
    state = told([(symbol, bar, bar / 100) for bar in range(100) for symbol in "ABC"])
    assert degeneracy.same_everywhere(state) == 1.0
    assert state.shared_bars == 99


def test_bars_of_one_symbol_say_nothing_about_sameness() -> None:
    state = told([("A", bar, 0.5) for bar in range(100)])
    assert state.shared_bars == 0
    assert degeneracy.same_everywhere(state) == 0.0


@given(st.lists(st.integers(0, 20), min_size=1, max_size=200))
def test_entropy_is_that_of_the_rounded_answers(values: list[int]) -> None:
    state = told([("A", bar, value / 20) for bar, value in enumerate(values)])
    _, counts = np.unique(values, return_counts=True)
    assert degeneracy.entropy(state) == pytest.approx(stats.entropy(counts), abs=1e-9)


def test_more_answers_than_are_kept_do_not_lower_the_entropy() -> None:
    random = np.random.default_rng(0)
    state = OutputDistribution()
    for bar, (a, b, c) in enumerate(random.dirichlet((1, 1, 1), size=9_000).tolist()):
        degeneracy.observe(state, "A", bar, (a, b, c))
    assert len(state.codes) == degeneracy.MOST_DISTINCT
    assert degeneracy.entropy(state) > 8.0


@given(st.lists(st.integers(0, 1000), min_size=100, max_size=100))
def test_spread_is_that_of_the_rounded_answers(values: list[int]) -> None:
    state = told([("A", bar, value / 1000) for bar, value in enumerate(values)])
    deviation, width = degeneracy.spread(state)
    assert deviation == pytest.approx(np.std(values) / 1000, abs=1e-9)
    both = [np.quantile(one, [0.1, 0.9], method="inverted_cdf") for one in (values, [1000 - v for v in values])]
    assert width == pytest.approx(max(high - low for low, high in both) / 1000)


@pytest.mark.parametrize(("freedom", "within"), [(2, 0.03), (4, 0.015), (9, 0.01), (19, 0.01)])
def test_the_chi_square_bound_is_near_scipys(freedom: int, within: float) -> None:
    assert drift.chi_square(freedom) == pytest.approx(stats.chi2.ppf(drift.LEVEL, freedom), rel=within)


def test_the_normal_quantile_is_that_of_the_standard_library() -> None:
    assert NormalDist().inv_cdf(drift.LEVEL) == pytest.approx(drift.QUANTILE, abs=1e-13)


@given(*[st.lists(st.integers(0, 1000), min_size=10, max_size=10)] * 2)
def test_psi_is_the_sum_of_scipys_relative_entropies_both_ways(now: list[int], reference: list[int]) -> None:
    q, r = (np.array(counts) + 0.5 for counts in (now, reference))
    assert drift.psi(now, reference) == pytest.approx(stats.entropy(q, r) + stats.entropy(r, q), abs=1e-12)


def test_psi_alarms_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    base = random.multinomial(20_000, [0.1] * 10)
    over = [
        drift.psi(random.multinomial(2_000, [0.1] * 10).tolist(), base.tolist())
        > drift.chi_square(9) * (1 / 2_000 + 1 / 20_000)
        for _ in range(4_000)
    ]
    assert sum(over) <= 12


def test_the_threshold_counts_effective_rows_on_both_sides() -> None:
    found = drift.judge([40.0] * 10, [50.0] * 10, effect=8.0, reference_effect=5.0)
    assert found.threshold == pytest.approx(stats.chi2.ppf(0.999, 9) * (8 / 400 + 5 / 500), rel=0.01)
    assert drift.judge([40_000.0] * 10, [50_000.0] * 10).threshold == drift.RULE_OF_THUMB


def test_a_real_shift_alarms_and_small_samples_do_not() -> None:
    base = [100.0] * 10
    assert drift.judge([400.0, 300.0, 50.0, 50.0, 50.0, 50.0, 50.0, 25.0, 15.0, 10.0], base).alarm
    assert not drift.judge([4.0, 3.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0], base).alarm


@given(st.lists(st.integers(0, 50), min_size=5, max_size=100))
def test_groups_of_equal_mass_hold_all_counts(counts: list[int]) -> None:
    edges = drift.equal_mass([float(count) for count in counts])
    assert edges[-1] == len(counts) - 1
    assert sum(drift.grouped(counts, edges)) == sum(counts)
    assert len(edges) <= 10


def test_psi_of_equal_counts_is_nothing() -> None:
    assert math.isclose(drift.psi([5.0, 7.0, 9.0], [5.0, 7.0, 9.0]), 0.0, abs_tol=1e-15)
