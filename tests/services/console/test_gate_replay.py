"""Another policy over the same scores: which promotions it allows, which it stops, and when first."""

import json
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.recorded import CANDIDATE, OTHER, PRIOR, START, market, record, scored, unscored
from schemas.control import Promote, StartShadow
from schemas.scores import PredictionScored
from services.console.gate_replay import allows, code_of, read_policy
from shared.gates import classic
from shared.gates.classic import ClassicPolicy
from shared.gates.policy import DefaultPolicy
from shared.gates.rows import row_of
from shared.report.replay import Policy, Promotion, Replay, begin, evolve, finish, policy_of

A2 = "a2" * 32
LOOSE = ClassicPolicy(least_passed=1, least_samples=100)
STRICT = ClassicPolicy(least_passed=4, least_samples=100, least_deviation=0.9)
NOW = 1_000_000


def promotion(at: int, version: int = 8, artifact: bytes = CANDIDATE) -> Promotion:
    return Promotion(version, at, "xgboost", artifact.hex(), False, "ada")


def replayed(policy: Policy, events: list[PredictionScored], *promotions: Promotion) -> Replay:
    """Event number n was recorded at NOW + n."""
    fold = begin(policy, list(promotions))
    for number, event in enumerate(events):
        evolve(fold, event, NOW + number)
    return finish(fold)


def test_a_loose_policy_allows_what_a_strict_one_stops() -> None:
    events = list(market(50))
    (loose,) = replayed(LOOSE, events, promotion(NOW + 300)).judged
    (strict,) = replayed(STRICT, events, promotion(NOW + 300)).judged
    assert (allows(loose), allows(strict)) == (True, False)
    assert strict.mark is not None
    assert "spread" in strict.mark.not_passed


def test_a_promotion_is_judged_on_what_was_recorded_by_then() -> None:
    events = list(market(50))
    early, late = replayed(LOOSE, events, promotion(NOW + 350, 9), promotion(NOW + 49, 8)).judged
    assert (early.promotion.version, late.promotion.version) == (8, 9)
    assert early.mark is not None
    assert late.mark is not None
    assert (early.mark.scores, early.mark.outcome) == (50, "inconclusive")
    assert (late.mark.scores, late.mark.outcome) == (351, "passed")


def test_a_promotion_without_a_score_is_neither_allowed_nor_stopped() -> None:
    found = replayed(LOOSE, list(market(50)), promotion(NOW - 1), promotion(NOW + 5, 9, OTHER))
    assert [allows(one) for one in found.judged] == [None, None]


def test_the_first_pass_is_kept_with_its_moment() -> None:
    found = replayed(LOOSE, list(market(50)))
    (candidate,) = found.candidates.values()
    assert candidate.first_passed is not None
    assert candidate.first_passed.scores == 100
    assert candidate.first_passed.bar == START + 12 * 3_600_000
    assert candidate.newest is not None
    assert candidate.newest.scores == 400


def test_the_default_policy_passes_skill_and_not_noise() -> None:
    policy = DefaultPolicy(least_days=2.0, least_blocks=20)
    skilled = replayed(policy, list(market(400, signal=1.2)))
    noise = replayed(policy, [scored(bar, "A", PRIOR, bar % 3) for bar in range(400)])
    (good,), (bad,) = skilled.candidates.values(), noise.candidates.values()
    assert good.first_passed is not None or good.newest is not None
    assert good.newest is not None
    assert "skill" not in good.newest.not_passed
    assert bad.newest is not None
    assert bad.newest.outcome == "failed"
    assert "distinct" in bad.newest.not_passed


def test_failures_count_under_the_default_policy() -> None:
    rows = list(market(60))
    fold = begin(DefaultPolicy(), [])
    for number, row in enumerate(rows):
        evolve(fold, row, NOW + number)
        evolve(fold, unscored(row, "failed", "no"), NOW + number)
    finish(fold)
    (candidate,) = fold.candidates.values()
    assert candidate.newest is not None
    assert "failures" in candidate.newest.not_passed


def test_a_new_champion_begins_the_evidence_anew() -> None:
    before = list(market(30))
    after = [scored(40 + n, "A", PRIOR, 1, incumbent_artifact=OTHER, control_version=8) for n in range(5)]
    found = replayed(LOOSE, [*before, *after, scored(29, "B", PRIOR, 1)])
    (candidate,) = found.candidates.values()
    assert (candidate.restarts, candidate.scores, candidate.champion) == (1, 5, OTHER.hex())
    assert candidate.first_passed is not None


def test_voters_are_not_judged() -> None:
    assert replayed(LOOSE, [scored(0, "A", PRIOR, 1, role="voting")]).candidates == {}


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 8), st.integers(30, 60))
def test_a_replay_says_what_the_policy_itself_says(seed: int, bars: int) -> None:
    events = list(market(bars, seed))
    (candidate,) = replayed(ClassicPolicy(), events).candidates.values()
    tally = classic.begin()
    for event in events:
        classic.evolve(tally, row_of(event))
    assert candidate.newest is not None
    assert candidate.newest.outcome == classic.judge(tally).outcome


@pytest.mark.parametrize(
    ("policy", "at", "code"),
    [(LOOSE, NOW + 300, 0), (STRICT, NOW + 300, 1), (LOOSE, NOW + 20, 1), (LOOSE, NOW - 1, 0), (STRICT, NOW - 1, 1)],
)
def test_the_exit_code_is_about_promotions_with_scores_else_about_candidates(
    policy: Policy, at: int, code: int
) -> None:
    assert code_of(replayed(policy, list(market(50)), promotion(at))) == code


def test_no_score_at_all_is_nothing_to_judge() -> None:
    assert code_of(replayed(LOOSE, [])) == 3
    assert code_of(replayed(LOOSE, list(market(5)))) == 3


def test_a_policy_comes_by_name_or_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text('{"name": "default", "parameters": {"alpha": 0.01, "margin": 0}}')
    assert read_policy("classic") == ClassicPolicy()
    assert read_policy(str(file)) == DefaultPolicy(alpha=0.01, margin=0.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"name": "default", "parameters": {"alfa": 0.01}}', "no parameter alfa; it has alpha, bias_ignored"),
        ('{"name": "default", "parameters": {"alpha": 2}}', "alpha"),
        ('{"name": "best"}', "no gate policy 'best'; there are default, classic"),
        ('{"alpha": 0.01}', 'expected {"name": "default", "parameters": {...}}; Object contains unknown field `alpha`'),
        ("{", "truncated"),
    ],
)
def test_a_policy_that_is_none_is_refused_by_name(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "mine.json"
    file.write_text(text)
    with pytest.raises(click.BadParameter) as refused:
        read_policy(str(file))
    assert words in str(refused.value)


def test_what_a_policy_may_do_is_no_matter_of_its_thresholds() -> None:
    assert policy_of("classic", {"automatic": False, "cost_per_side": 0.001, "least_passed": 2}) == ClassicPolicy(
        least_passed=2
    )


def test_the_command_tells_promotions_and_candidates(two: Any, tmp_path: Path) -> None:
    two.issue(StartShadow("a", A2))
    rows = [scored(n, "A", (0.2, 0.2, 0.6), 2, model="a", artifact=bytes.fromhex(A2)) for n in range(250)]
    two.with_log(lambda log: record(log, "scores", rows))
    two.issue(Promote("a", A2, forced=True))
    file = tmp_path / "loose.json"
    file.write_text('{"name": "classic", "parameters": {"least_passed": 1, "most_one_action": 1.0}}')
    strict, loose = two("gates", "replay", "--policy", "classic"), two("gates", "replay", "--policy", str(file))
    assert strict.code == 1
    assert "stopped" in strict.out
    assert "250 scores" in strict.out
    told = json.loads(two("gates", "replay", "--policy", str(file), "-o", "json").out)
    assert [one["allowed"] for one in told["promotions"]][-1] == (loose.code == 0)
    assert told["candidates"][0]["recorded_first_passed"] is None
    assert told["policy"]["least_passed"] == 1
    assert two("gates", "replay", "--policy", "best").code == 2


def test_an_empty_log_is_nothing_to_judge(desk: Any) -> None:
    assert desk("gates", "replay", "--policy", "classic").code == 3
