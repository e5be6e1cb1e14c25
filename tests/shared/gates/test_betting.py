"""The bets of ``pbe1``, its confidence sequence, the e-CUSUM: golden values, and what they promise."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.gates import betting, confidence, ecusum
from shared.gates.betting import Bets

UNIT = st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=60)


def folded(gains: list[float], margin: float = 0.0) -> Bets:
    bets = Bets(1.0, margin)
    for gain in gains:
        betting.observe(bets, gain)
    return bets


@pytest.mark.parametrize(
    ("gains", "log_e"), [([0.3] * 20, 3.196752), ([0.4, -0.2] * 20, 1.300848), ([-0.1] * 50, -1.003382)]
)
def test_golden_values_of_pbe1(gains: list[float], log_e: float) -> None:
    assert betting.log_e(folded(gains)) == pytest.approx(log_e, abs=1e-6)


def test_a_steady_gain_of_three_tenths_first_reaches_twenty_at_block_twenty() -> None:
    assert betting.log_e(folded([0.3] * 19)) < math.log(20) <= betting.log_e(folded([0.3] * 20))


@given(UNIT)
def test_the_fold_equals_the_product(gains: list[float]) -> None:
    product = np.mean([np.prod([1 + stake * x for x in gains]) for stake in betting.STAKES])
    assert betting.log_e(folded(gains)) == pytest.approx(math.log(product), abs=1e-9)


@given(st.lists(st.sampled_from([-1.0, 1.0]), min_size=1, max_size=9))
def test_a_fair_coin_leaves_the_wealth_where_it_was_on_average(past: list[float]) -> None:
    before = math.exp(betting.log_e(folded(past)))
    after = [math.exp(betting.log_e(folded([*past, x]))) for x in (-1.0, 1.0)]
    assert sum(after) / 2 == pytest.approx(before, rel=1e-12)


@given(UNIT)
def test_the_weak_null_process_equals_its_formula(gains: list[float]) -> None:
    total, spread, mean = 0.0, 0.0, 0.0
    for count, x in enumerate(gains, start=1):
        spread += (x - mean) ** 2
        total += x
        mean = total / count
    costs = [(-math.log(1 - 2 * stake) - 2 * stake) / 4 for stake in betting.EB_STAKES]
    values = [math.exp(s * total - c * spread) for s, c in zip(betting.EB_STAKES, costs, strict=True)]
    assert betting.log_e_weak(folded(gains)) == pytest.approx(math.log(np.mean(values)), abs=1e-9)


@given(UNIT)
def test_mean_and_deviation_are_those_of_the_gains(gains: list[float]) -> None:
    bets = folded(gains)
    assert bets.mean == pytest.approx(np.mean(gains), abs=1e-9)
    assert bets.deviation == pytest.approx(np.std(gains), abs=1e-7)


@given(UNIT)
def test_evidence_against_is_evidence_for_of_the_opposite(gains: list[float]) -> None:
    assert folded(gains).below == pytest.approx(folded([-gain for gain in gains]).above)


def test_a_margin_is_added_and_the_mean_left_alone() -> None:
    bets = folded([-0.1] * 30, margin=0.1)
    assert betting.log_e(bets) == 0.0
    assert bets.mean == pytest.approx(-0.1)


def test_gains_beyond_the_scale_are_cut() -> None:
    assert betting.log_e(folded([50.0])) == betting.log_e(folded([1.0]))


@pytest.mark.parametrize("gain", [math.nan, math.inf])
def test_a_gain_that_is_no_number_is_refused(gain: float) -> None:
    with pytest.raises(ValueError, match="block 1"):
        betting.observe(Bets(1.0), gain)


def test_golden_half_widths_of_the_confidence_sequence() -> None:
    widths = [confidence.half_width(count, 1.0, 0.05) for count in (20, 60, 120, 360)]
    assert widths == pytest.approx([0.643, 0.359, 0.257, 0.155], abs=5e-4)
    assert confidence.rho_squared(0.05) == pytest.approx(0.132269, abs=1e-6)


def test_no_interval_before_twenty_blocks() -> None:
    assert betting.interval(folded([0.1] * 19), 0.05) == (-math.inf, math.inf)
    low, high = betting.interval(folded([0.1, 0.2] * 10), 0.05)
    assert low < 0.15 < high


@given(UNIT)
def test_the_cusum_equals_its_formula(harms: list[float]) -> None:
    wealth = np.ones(len(ecusum.STAKES))
    watch = ecusum.Cusum()
    for harm in harms:
        ecusum.observe(watch, harm)
        wealth = np.maximum(wealth, 1.0) * (1 + np.array(ecusum.STAKES) * harm)
    assert watch.value == pytest.approx(wealth.mean(), rel=1e-12)


def test_the_cusum_forgets_good_times() -> None:
    watch = ecusum.Cusum()
    for harm in [-1.0] * 500 + [0.5] * 20:
        ecusum.observe(watch, harm)
    fresh = ecusum.Cusum()
    for harm in [0.5] * 20:
        ecusum.observe(fresh, harm)
    assert watch.value == fresh.value > 20


def test_the_cusum_of_endless_harm_stays_a_number() -> None:
    watch = ecusum.Cusum()
    for _ in range(5000):
        ecusum.observe(watch, 1.0)
    assert math.isfinite(watch.value)


def test_equal_models_seldom_raise_the_cusum_to_a_hundred_in_a_month() -> None:
    random = np.random.default_rng(0)
    crossed = 0
    for _ in range(300):
        watch = ecusum.Cusum()
        for harm in (random.normal(size=360) / 3).tolist():
            ecusum.observe(watch, harm)
        crossed += watch.peak >= 100
    assert crossed <= 15
