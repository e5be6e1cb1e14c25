"""Another policy over the same scores: which promotions it allows, which it stops, and when first."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.recorded import CANDIDATE, CHAMPION, OTHER, PRIOR, START, commands, market, record, scored, unscored
from schemas.codec import encode
from schemas.control import Command, Promote, Retire, SetGatePolicy, StartShadow
from schemas.scores import ScoreEvent
from services.console.evidence.gate_replay import allows, code_of, read_policy
from services.console.evidence.rejudging import Replay, Replaying
from shared.gates import classic
from shared.gates.classic import ClassicPolicy
from shared.gates.policies import Policy, policy_of
from shared.gates.policy import DefaultPolicy
from shared.gates.rows import row_of
from shared.runtime.service import Received

A2 = "a2" * 32
NOW = 1_000_000


def policy(name: str, **parameters: Any) -> Policy:
    return policy_of(SetGatePolicy(name, parameters))


LOOSE = policy("classic", least_passed=1, least_samples=100)
STRICT = policy("classic", least_passed=4, least_samples=100, least_deviation=0.9)


def promote(artifact: bytes = CANDIDATE) -> Promote:
    return Promote("xgboost", artifact.hex(), forced=True)


def replayed(policy: Policy, events: Sequence[ScoreEvent], *later: tuple[int, Command]) -> Replay:
    """Event number n was recorded at NOW + n."""
    replaying = Replaying(policy, commands(*later))
    for number, event in enumerate(events):
        replaying.apply(Received("scores", f"{NOW + number}-0", encode("scores", event).envelope), NOW + number)
    return replaying.finish()


def test_a_loose_policy_allows_what_a_strict_one_stops() -> None:
    events = list(market(50))
    (_, loose) = replayed(LOOSE, events, (NOW + 300, promote())).judged
    (_, strict) = replayed(STRICT, events, (NOW + 300, promote())).judged
    assert (allows(loose), allows(strict)) == (True, False)
    assert strict.mark is not None
    assert "spread" in strict.mark.not_passed


def test_a_promotion_is_judged_on_what_was_recorded_by_then() -> None:
    events = list(market(50))
    (_, early), (_, late) = (replayed(LOOSE, events, (NOW + at, promote())).judged for at in (49, 350))
    assert early.mark is not None
    assert late.mark is not None
    assert (early.mark.scores, early.mark.outcome) == (50, "inconclusive")
    assert (late.mark.scores, late.mark.outcome) == (351, "passed")


def test_a_promotion_without_a_score_is_neither_allowed_nor_stopped() -> None:
    found = replayed(LOOSE, list(market(50)), (NOW - 1, promote()), (NOW + 5, promote(OTHER)))
    assert [allows(one) for one in found.judged] == [None, None, None]


def test_the_first_pass_is_kept_with_its_moment() -> None:
    found = replayed(LOOSE, list(market(50)))
    (candidate,) = found.candidates.values()
    assert candidate.first_passed is not None
    assert candidate.first_passed.scores == 100
    assert candidate.first_passed.bar == START + 12 * 3_600_000
    assert candidate.newest is not None
    assert candidate.newest.scores == 400


def test_the_default_policy_passes_skill_and_not_noise() -> None:
    rules = policy("default", least_days=2.0, least_blocks=20)
    skilled = replayed(rules, list(market(400, signal=1.2)))
    noise = replayed(rules, [scored(bar, "A", PRIOR, bar % 3) for bar in range(400)])
    (good,), (bad,) = skilled.candidates.values(), noise.candidates.values()
    assert good.newest is not None
    assert "skill" not in good.newest.not_passed
    assert bad.newest is not None
    assert bad.newest.outcome == "failed"
    assert "distinct" in bad.newest.not_passed


def test_failures_count_under_the_default_policy() -> None:
    rows = [event for row in market(60) for event in (row, unscored(row, "failed", "no"))]
    (candidate,) = replayed(policy("default"), rows).candidates.values()
    assert candidate.newest is not None
    assert "failures" in candidate.newest.not_passed


def test_a_new_champion_begins_the_evidence_anew() -> None:
    before = list(market(30))
    after = [scored(40 + n, "A", PRIOR, 1, incumbent_artifact=OTHER, control_version=8) for n in range(5)]
    found = replayed(LOOSE, [*before, *after, scored(29, "B", PRIOR, 1)], (NOW + 240, promote(OTHER)))
    (candidate,) = found.candidates.values()
    assert (candidate.restarts, candidate.scores, candidate.champion) == (1, 5, OTHER.hex())
    assert candidate.first_passed is not None


def test_what_a_candidate_was_said_to_be_outlives_its_time_in_shadow() -> None:
    after = scored(60, "A", PRIOR, 1, artifact=CHAMPION, role="voting", control_version=8)
    events = [*market(25), after, *market(25)]
    found = replayed(LOOSE, events, (NOW + 200, Retire("xgboost", CANDIDATE.hex())))
    (candidate,) = found.candidates.values()
    assert candidate.newest is not None
    assert (candidate.newest.scores, candidate.newest.outcome) == (200, "passed")


def test_voters_are_not_judged() -> None:
    assert replayed(LOOSE, [scored(0, "A", PRIOR, 1, role="voting", artifact=CHAMPION)]).candidates == {}


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 8), st.integers(30, 60))
def test_a_replay_says_what_the_policy_itself_says(seed: int, bars: int) -> None:
    events = list(market(bars, seed))
    (candidate,) = replayed(policy("classic"), events).candidates.values()
    tally = classic.initial()
    for event in events:
        classic.evolve(tally, row_of(event))
    assert candidate.newest is not None
    assert candidate.newest.outcome == classic.judge(tally).outcome


@pytest.mark.parametrize(
    ("policy", "at", "code"),
    [(LOOSE, NOW + 300, 0), (STRICT, NOW + 300, 1), (LOOSE, NOW + 20, 1), (LOOSE, NOW + 900, 0)],
)
def test_the_exit_code_is_about_promotions_with_scores(policy: Policy, at: int, code: int) -> None:
    assert code_of(replayed(policy, list(market(50)), (at, promote()))) == code


@pytest.mark.parametrize(("policy", "code"), [(LOOSE, 0), (STRICT, 1)])
def test_without_a_promotion_that_had_scores_the_exit_code_is_about_candidates(policy: Policy, code: int) -> None:
    assert code_of(replayed(policy, list(market(50)))) == code


def test_no_score_at_all_is_nothing_to_judge() -> None:
    assert code_of(replayed(LOOSE, [])) == 3
    assert code_of(replayed(LOOSE, list(market(5)))) == 3


def test_a_policy_comes_by_name_or_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text('{"name": "default", "parameters": {"alpha": 0.01, "margin": 0}}')
    assert read_policy("classic").thresholds == ClassicPolicy()
    assert read_policy(str(file)).thresholds == DefaultPolicy(alpha=0.01, margin=0.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"name": "default", "parameters": {"alfa": 0.01}}', "no parameter alfa; it has act_confirm"),
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
    asked = policy("classic", automatic=False, cost_per_side=0.001, least_passed=2)
    assert asked.thresholds == ClassicPolicy(least_passed=2)


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
    assert told["policy"]["parameters"]["least_passed"] == 1
    assert two("gates", "replay", "--policy", "best").code == 2


def test_an_empty_log_is_nothing_to_judge(desk: Any) -> None:
    assert desk("gates", "replay", "--policy", "classic").code == 3
