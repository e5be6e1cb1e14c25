"""The policy ``default``: what passes, what vetoes, and that neither a look nor a restart changes it."""

import math
from collections.abc import Iterable

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.gates import betting, default, evidence
from shared.gates.critical import LiveBars
from shared.gates.evidence import BETTER, CHAMPION, CHAMPION_OVER_PRIOR, MONEY, POOL, PRIOR, Evidence
from shared.gates.policy import DefaultPolicy
from shared.gates.rows import UNKNOWN, Key, Plan, Row, Scales, Triple
from shared.gates.verdicts import Gate, Judgement, combine, combine_counted, gate

BAR = 300_000
KEY = Key("m", "new", "old", "f", "l", "default")
BASE: Triple = (0.3, 0.4, 0.3)


def plan(**changes: object) -> Plan:
    return msgspec.structs.replace(Plan(KEY, 1, BAR, Scales(0.3, 0.3, 0.3, 0.001)), **changes)


def answer(outcome: int, lead: float, jitter: float) -> Triple:
    """Probabilities that lean to what comes by ``lead``."""
    raw = [0.3 + 0.05 * jitter, 0.4, 0.3 - 0.05 * jitter]
    raw[outcome] += lead
    total = sum(raw)
    return raw[0] / total, raw[1] / total, raw[2] / total


def story(bars: int, lead: float, champion: float | None = 0.0, seed: int = 0, symbols: int = 2) -> Iterable[Row]:
    """Rows of a candidate that leans to the outcome by ``lead`` on average, and a champion by ``champion``."""
    random = np.random.default_rng(seed)
    for bar in range(bars):
        for symbol in range(symbols):
            outcome = int(random.choice(3, p=BASE))
            noise, jitter, other = random.normal(size=3).tolist()
            mine = answer(outcome, max(-0.25, lead + 0.05 * noise), math.tanh(jitter))
            theirs = None if champion is None else answer(outcome, champion, math.tanh(other))
            yield Row(
                f"S{symbol}",
                bar * BAR,
                mine,
                outcome,
                BASE,
                outcome if bar % 3 else int(random.integers(3)),
                theirs,
                mine,
                theirs or BASE,
                net=0.0005 * lead / 0.1,
                champion_net=0.0,
                latency_ms=12.0,
            )


def told(rows: Iterable[Row], of: Plan | None = None) -> Evidence:
    state = evidence.initial(of or plan())
    for row in rows:
        evidence.evolve(state, row)
    return state


def named(found: Judgement) -> dict[str, Gate]:
    return {one.name: one for one in found.gates}


WEEK = 8 * 288


@pytest.fixture(scope="module")
def healthy() -> Evidence:
    return told(story(WEEK, 0.1))


def test_a_better_candidate_passes(healthy: Evidence) -> None:
    found = default.judge(healthy)
    assert found.outcome == "passed", found.advice
    assert named(found)["skill"].value > math.log(20)


def test_reading_a_verdict_changes_nothing(healthy: Evidence) -> None:
    before = msgspec.msgpack.encode(healthy)
    assert default.judge(healthy) == default.judge(healthy)
    assert msgspec.msgpack.encode(healthy) == before


def test_every_number_of_a_verdict_is_finite(healthy: Evidence) -> None:
    for state in (evidence.initial(plan()), told(story(2, 0.1)), told(story(40, 0.1, None)), healthy):
        for one in default.judge(state).gates:
            assert all(math.isfinite(x) for x in (one.value, one.threshold, one.low, one.high, one.effect)), one


def test_a_worse_candidate_fails_by_skill_and_against_the_champion() -> None:
    found = named(default.judge(told(story(WEEK, -0.1, 0.1))))
    assert found["skill"].outcome == found["incumbent"].outcome == found["contribution"].outcome == "failed"


def test_no_worse_than_the_champion_is_enough_for_that_gate_but_not_for_contribution() -> None:
    state = told(story(WEEK, 0.1, 0.1), plan(scales=Scales(0.3, 0.02, 0.3, 0.001)))
    betting_gate = named(default.judge(state))
    assert betting_gate["incumbent"].effect == pytest.approx(0.0, abs=0.02)
    assert default.judge(state).outcome != "passed"


def test_without_a_champion_there_is_no_comparison_with_one() -> None:
    found = named(default.judge(told(story(WEEK, 0.1, None))))
    assert not {"incumbent", "copy", "money"} & set(found)
    assert default.judge(told(story(WEEK, 0.1, None))).outcome == "passed"


def test_a_champion_worse_than_the_prior_waives_the_comparison() -> None:
    found = named(default.judge(told(story(WEEK, 0.05, -0.2))))
    assert found["incumbent"].outcome == "passed"
    assert "waived" in found["incumbent"].detail


def test_a_copy_of_the_champion_is_refused() -> None:
    rows = (row._replace(probabilities=row.champion or BASE, pool=row.rest) for row in story(WEEK, 0.1))
    found = default.judge(told(rows))
    assert found.outcome == "failed"
    assert named(found)["copy"].outcome == "failed"
    assert named(found)["contribution"].outcome == "inconclusive"


def test_two_samples_are_inconclusive() -> None:
    found = default.judge(told(story(1, 0.1)))
    assert found.outcome == "inconclusive"
    assert not [one.name for one in found.gates if one.outcome == "failed"]


@pytest.mark.parametrize(
    "broken",
    [
        {"action": UNKNOWN},
        {"action": 3},
        {"outcome": UNKNOWN},
        {"probabilities": (math.nan, 0.5, 0.5)},
        {"probabilities": (0.5, 0.6, 0.2)},
        {"probabilities": (-0.1, 0.6, 0.5)},
    ],
)
def test_what_cannot_be_read_never_counts_and_holds_the_verdict_back(
    broken: dict[str, object], healthy: Evidence
) -> None:
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(healthy), type=Evidence)
    before = state.reliability.count
    evidence.evolve(state, next(iter(story(1, 0.1)))._replace(**broken))  # type: ignore[arg-type]  # broken on purpose
    assert state.reliability.count == before
    found = default.judge(state)
    assert named(found)["readable"].outcome == found.outcome == "inconclusive"


def test_failures_over_the_limit_veto(healthy: Evidence) -> None:
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(healthy), type=Evidence)
    for _ in range(100):
        evidence.fail(state)
    found = default.judge(state)
    assert (found.outcome, named(found)["failures"].outcome) == ("failed", "failed")


def test_a_few_failures_among_few_samples_are_not_judged() -> None:
    state = told(story(120, 0.1))
    evidence.fail(state)
    assert named(default.judge(state))["failures"].outcome == "inconclusive"


def test_slow_answers_veto() -> None:
    found = named(default.judge(told(row._replace(latency_ms=400.0) for row in story(200, 0.1))))
    assert found["latency"].outcome == "failed"


def test_a_candidate_that_live_bars_show_to_be_stale_fails(healthy: Evidence) -> None:
    last = healthy.operations.last
    for bars, outcome in ((2, "passed"), (20, "failed")):
        found = named(default.judge(healthy, live=LiveBars(0, last, last + bars * BAR)))
        assert (found["staleness"].outcome, found["staleness"].kind) == (outcome, "critical")


def test_without_a_live_bar_staleness_is_not_answered_and_vetoes_nothing(healthy: Evidence) -> None:
    for newest in (-1, healthy.operations.last + 1000 * BAR):
        found = default.judge(healthy, live=LiveBars(newest=newest))
        assert (named(found)["staleness"].outcome, named(found)["staleness"].kind) == ("inconclusive", "soft")
        assert found.outcome == "passed"
        assert found.advice.endswith("only live bars can answer: staleness")


def test_a_candidate_judged_on_replayed_bars_alone_is_told_which_gates_only_live_bars_answer() -> None:
    found = default.judge(told(row._replace(latency_ms=None) for row in story(WEEK, 0.1)))
    assert found.outcome == "passed"
    assert found.advice.endswith("only live bars can answer: latency, staleness")


def test_outputs_that_do_not_answer_to_perturbed_inputs_veto() -> None:
    assert named(default.judge(told(story(200, 0.1), plan(response=0.0))))["response"].outcome == "failed"
    assert named(default.judge(told(story(200, 0.1), plan(response=0.2))))["response"].outcome == "passed"


def test_six_days_are_not_enough_and_sixty_one_of_live_bars_are_too_many(healthy: Evidence) -> None:
    assert named(default.judge(healthy, DefaultPolicy(least_days=9)))["time"].outcome == "inconclusive"
    last = healthy.operations.last
    late = named(default.judge(healthy, DefaultPolicy(most_days=6), live=LiveBars(0, last, last)))["time"]
    assert late.outcome == "failed"
    assert late.detail.startswith("expired after 8.0 days of live bars: 8.0 days,")


def test_a_long_history_does_not_expire(healthy: Evidence) -> None:
    last = healthy.operations.last
    for live in (LiveBars(), LiveBars(last - BAR, last, last)):
        assert named(default.judge(healthy, DefaultPolicy(most_days=6), live=live))["time"].outcome == "passed"


def test_outputs_that_move_away_are_seen() -> None:
    moved = (
        row._replace(probabilities=(0.1, 0.8, 0.1)) if row.open_time > 5 * 288 * BAR else row
        for row in story(WEEK, 0.1)
    )
    assert named(default.judge(told(moved)))["output_drift"].outcome == "failed"


def test_overconfidence_fails_calibration() -> None:
    def sharpened(row: Row) -> Row:
        p = [x**5 for x in row.probabilities]
        return row._replace(probabilities=(p[0] / sum(p), p[1] / sum(p), p[2] / sum(p)))

    random = np.random.default_rng(3)
    rows = (row._replace(outcome=int(random.choice(3, p=row.probabilities))) for row in story(WEEK, 0.2))
    honest = list(rows)
    assert named(default.judge(told(honest)))["calibration"].outcome == "passed"
    state = told(map(sharpened, honest))
    assert named(default.judge(state))["calibration"].outcome == "failed"
    lenient = DefaultPolicy(most_miscalibration=9.0, most_calibration_error=9.0)
    assert named(default.judge(state, lenient))["calibration"].outcome == "failed"
    lenient = DefaultPolicy(most_miscalibration=9.0, slope_from=0.0)
    assert named(default.judge(state, lenient))["calibration"].outcome == "failed"


def test_a_candidate_shares_the_error_budget(healthy: Evidence) -> None:
    mine = default.claim(healthy)
    alone = default.judge(healthy, rivals={"new": mine})
    assert "budget" not in named(alone)
    crowd = {"new": math.log(25)} | {f"rival-{n}": 0.0 for n in range(9)}
    budget = named(default.judge(healthy, rivals=crowd))["budget"]
    assert budget.outcome == "inconclusive"
    assert budget.threshold == pytest.approx(math.log(200))
    assert default.judge(healthy, rivals=crowd).outcome == "inconclusive"
    with pytest.raises(ValueError, match="do not name new"):
        default.judge(healthy, rivals={"a": 1.0, "b": 2.0})


def test_evidence_restarts_with_what_it_is_about(healthy: Evidence) -> None:
    assert evidence.restarted(healthy, plan()) is healthy
    for name in ("artifact", "champion", "feature_set", "label", "policy"):
        other = plan(key=msgspec.structs.replace(KEY, **{name: "another"}))
        assert evidence.restarted(healthy, other).operations.answered == 0
    assert evidence.restarted(None, plan()).operations.answered == 0


def test_a_block_that_is_no_whole_number_of_bars_is_refused() -> None:
    with pytest.raises(ValueError, match="whole number of bars"):
        evidence.initial(plan(), block_ms=10 * BAR + 1)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 700), st.integers(0, 50))
def test_a_restart_in_the_middle_changes_no_verdict(cut: int, seed: int) -> None:
    rows = list(story(350, 0.1, seed=seed))
    whole = told(rows)
    half = evidence.initial(plan())
    for number, row in enumerate(rows):
        if number == cut:
            half = msgspec.msgpack.decode(msgspec.msgpack.encode(half), type=Evidence)
        evidence.evolve(half, row)
    assert msgspec.msgpack.encode(half) == msgspec.msgpack.encode(whole)
    assert default.judge(half) == default.judge(whole)


def test_memory_does_not_grow_with_scores() -> None:
    random = np.random.default_rng(0)
    state = evidence.initial(plan())
    sizes = []
    for number, (a, b, c) in enumerate(random.dirichlet((1, 1, 1), size=12_000).tolist()):
        evidence.evolve(state, Row(f"S{number % 50}", number // 50 * BAR, (a, b, c), number % 3, BASE, number % 3))
        if number in {5_999, 11_999}:
            sizes.append(len(msgspec.msgpack.encode(state)))
    assert sizes[1] < 1.1 * sizes[0] < 100_000


def test_the_design_effect_of_repeated_rows_is_seen() -> None:
    once = list(story(WEEK, 0.1, symbols=1))
    copies = [row._replace(symbol=f"S{n}") for row in once for n in range(6)]
    assert evidence.design_effect(told(once), 1) < 2.5
    assert evidence.design_effect(told(copies), 1) > 3.0


def test_bets_are_fed_by_their_own_comparison(healthy: Evidence) -> None:
    blocks = [healthy.bets[j].blocks for j in (PRIOR, CHAMPION, POOL, CHAMPION_OVER_PRIOR, MONEY, BETTER)]
    assert len(set(blocks)) == 1
    assert healthy.bets[CHAMPION].mean == pytest.approx(healthy.bets[BETTER].mean)
    assert betting.log_e(healthy.bets[CHAMPION]) > betting.log_e(healthy.bets[BETTER])


def one(outcome: str, kind: str = "needed") -> Gate:
    return gate("g", outcome, 0.0, 0.0, 1, kind)  # type: ignore[arg-type]  # short for literals


@pytest.mark.parametrize(
    ("gates", "outcome"),
    [
        ([], "inconclusive"),
        ([one("passed"), one("passed", "critical")], "passed"),
        ([one("passed"), one("failed", "critical")], "failed"),
        ([one("passed"), one("inconclusive", "critical")], "inconclusive"),
        ([one("passed"), one("failed", "soft")], "passed"),
        ([one("passed"), one("failed", "soft"), one("failed", "soft")], "failed"),
        ([one("passed"), one("inconclusive", "soft")], "passed"),
        ([one("passed", "soft")], "inconclusive"),
    ],
)
def test_critical_gates_veto_and_one_soft_gate_may_fail(gates: list[Gate], outcome: str) -> None:
    assert combine(gates) == outcome


def test_a_count_of_gates_waits_while_it_can_still_turn() -> None:
    assert combine_counted([one("passed"), one("passed"), one("inconclusive"), one("failed")], 3) == "inconclusive"
    assert combine_counted([one("passed"), one("failed"), one("inconclusive"), one("failed")], 3) == "failed"
    assert combine_counted([one("passed")] * 3 + [one("inconclusive")], 3) == "passed"
