"""The guard after a promotion."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.gates import guard
from shared.gates.guard import ChampionWatch, GuardPolicy
from shared.gates.rows import Row, Triple

BAR = 300_000
BASE: Triple = (0.3, 0.4, 0.3)


def leaning(outcome: int, lead: float, jitter: float) -> Triple:
    raw = [0.3 + jitter, 0.4, 0.3 - jitter]
    raw[outcome] = max(0.02, raw[outcome] + lead)
    total = sum(raw)
    return raw[0] / total, raw[1] / total, raw[2] / total


def served(bars: int, lead: float, ghost: float | None = 0.1, seed: int = 0, symbols: int = 4) -> list[Row]:
    random = np.random.default_rng(seed)
    out = []
    for bar in range(bars):
        for symbol in range(symbols):
            outcome = int(random.choice(3, p=BASE))
            mine, other = (float(x) for x in random.uniform(-0.1, 0.1, 2))
            theirs = None if ghost is None else leaning(outcome, ghost, other)
            p = leaning(outcome, lead, mine)
            out.append(Row(f"S{symbol}", bar * BAR, p, outcome, BASE, int(random.integers(3)), theirs))
    return out


def begun(policy: GuardPolicy = guard.DEFAULT_GUARD) -> ChampionWatch:
    return guard.initial(horizon=1, interval_ms=BAR, scale=0.3, policy=policy)


def told(rows: list[Row], policy: GuardPolicy = guard.DEFAULT_GUARD) -> ChampionWatch:
    state = begun(policy)
    for row in rows:
        guard.evolve(state, row)
    return state


def stages(
    state: ChampionWatch, policy: GuardPolicy = guard.DEFAULT_GUARD, lag_ms: int | None = None
) -> dict[str, str]:
    return {one.guard: one.stage for one in guard.findings(state, policy, lag_ms) if one.stage != "continue"}


def test_an_equal_champion_stays() -> None:
    state = told(served(24 * 100, 0.1))
    assert stages(state) == {}
    assert guard.verdict(guard.findings(state)) == "continue"


def test_a_worse_champion_is_demoted_and_then_rolled_back() -> None:
    state = begun()
    seen = []
    for row in served(24 * 60, -0.02):
        guard.evolve(state, row)
        stage = guard.verdict(guard.findings(state))
        if stage not in seen:
            seen.append(stage)
    assert seen == ["continue", "demote", "rollback"]


def test_a_rollback_stands_though_the_evidence_falls_again() -> None:
    rows = served(24 * 60, -0.1)
    later = [row._replace(open_time=row.open_time + 24 * 60 * BAR) for row in served(24 * 60, 0.3)]
    assert stages(told([*rows, *later]))["harm"] == "rollback"


def test_a_catastrophe_needs_no_ghost_and_three_blocks() -> None:
    awful = served(24 * 4 + 1, -0.25, ghost=None)
    assert "catastrophe" not in stages(told(awful[: 24 * 4 * 3]))
    assert stages(told(awful))["catastrophe"] == "rollback"


def test_a_good_block_between_ends_a_catastrophe() -> None:
    parts = [served(24, lead, ghost=None, seed=n) for n, lead in enumerate((-0.25, -0.25, 0.1, -0.25, -0.25, 0.1))]
    rows = [row._replace(open_time=row.open_time + n * 24 * BAR) for n, part in enumerate(parts) for row in part]
    assert "catastrophe" not in stages(told(rows))


@pytest.mark.parametrize("p", [(math.nan, 0.5, 0.5), (0.9, 0.9, 0.9)])
def test_one_unreadable_answer_is_enough(p: Triple) -> None:
    state = told(served(1, 0.1))
    guard.evolve(state, served(1, 0.1)[0]._replace(probabilities=p))
    assert stages(state) == {"unreadable": "rollback"}


def test_a_constant_champion_is_rolled_back_at_two_hundred_answers() -> None:
    rows = [row._replace(probabilities=BASE, action=1) for row in served(60, 0.1)]
    assert stages(told(rows[:199])) == {}
    assert {"constant", "distinct", "range"} <= set(stages(told(rows[:200])))


def test_ninety_percent_of_one_side_is_too_much_and_hold_is_not() -> None:
    rows = served(100, 0.1)
    buys = [row._replace(action=2 if n % 10 else 0) for n, row in enumerate(rows)]
    assert "one_sided" in stages(told(buys))
    assert "one_sided" not in stages(told([row._replace(action=1) for row in rows]))


def test_failures_among_the_last_predictions_roll_back() -> None:
    state = told(served(10, 0.1))
    for _ in range(4):
        guard.fail(state)
    assert stages(state) == {}
    guard.fail(state)
    assert stages(state) == {"failures": "rollback"}


def test_silence_is_seen_against_the_market() -> None:
    state = told(served(10, 0.1))
    assert stages(state, lag_ms=50 * BAR) == {}
    assert stages(state, lag_ms=51 * BAR) == {"stale": "rollback"}


def test_thresholds_of_a_policy_are_those_that_apply() -> None:
    strict = GuardPolicy(least_distinct=51, least_range=0.05)
    rows = [
        row._replace(probabilities=(0.3, 0.4, 0.3) if n % 2 else (0.31, 0.4, 0.29))
        for n, row in enumerate(served(60, 0.1))
    ]
    assert "distinct" in stages(told(rows, strict), strict)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 400))
def test_a_restart_changes_no_finding(cut: int) -> None:
    rows = served(100, -0.05)
    half = begun()
    for number, row in enumerate(rows):
        if number == cut:
            half = msgspec.msgpack.decode(msgspec.msgpack.encode(half), type=ChampionWatch)
        guard.evolve(half, row)
    assert guard.findings(half) == guard.findings(told(rows))


def test_all_numbers_of_a_finding_are_finite() -> None:
    for state in (begun(), told(served(1, 0.1))):
        assert all(math.isfinite(x) for one in guard.findings(state, lag_ms=0) for x in (one.value, one.threshold))
