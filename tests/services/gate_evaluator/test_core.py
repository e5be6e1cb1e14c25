"""Given what was recorded, when a score is read, then these events are written about candidates, champions and
weights."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bench.recorded import (
    BEFORE,
    CANDIDATE,
    CHAMPION,
    MINUTE,
    OTHER,
    PRIOR,
    START,
    commands,
    market,
    missing,
    register,
    scored,
    two_models,
    unscored,
    votes,
    wrong,
)
from schemas.codec import Encoded, encode
from schemas.control import (
    Command,
    ConfirmPromotion,
    Found,
    Promote,
    Retire,
    Rollback,
    SetGatePolicy,
    SetLadder,
    StartShadow,
    StopShadow,
)
from schemas.features import FeaturesComputed
from schemas.gates import (
    ActionDue,
    ContributionsMeasured,
    EvidenceRestarted,
    GuardTripped,
    InputsDrifted,
    SkillDecayed,
    VerdictReached,
    WeightsProposed,
)
from schemas.scores import PredictionScored, ScoreEvent
from services.gate_evaluator import guard_state
from services.gate_evaluator.candidates import CHECK_EVERY, WRITE_EVERY
from services.gate_evaluator.core import Evaluator, State
from services.gate_evaluator.guard_state import PAIRS
from shared.control import ControlError
from shared.gates import backtest
from shared.runtime.service import Batch, Received

T = TypeVar("T")
HOUR = 60 * MINUTE
FORMER = CHAMPION
PROMOTED: tuple[Command, ...] = (*BEFORE, Promote("xgboost", CANDIDATE.hex(), forced=True))
"""The candidate votes since version 8; the former champion continues in shadow."""
ACTING = SetGatePolicy("default", {"automatic": True})


class Bench:
    """The evaluator, the commands it has read, and the events it wrote."""

    def __init__(self, *given: Command) -> None:
        self.evaluator = Evaluator()
        self.state: State = self.evaluator.initial(b"")
        self.count = 0
        self.known: list[Command] = []
        self.written: list[Encoded] = []
        self.command(*(given or BEFORE))

    def command(self, *more: Command) -> None:
        self.known += more
        entries = commands(first=self.known)[len(self.known) - len(more) :]
        self.written += self.evaluator.handle(self.state, Batch(entries, ()))

    def take(self, events: Iterable[ScoreEvent | FeaturesComputed]) -> None:
        self.written += self.evaluator.handle(self.state, Batch((), self.received(events)))

    def received(self, events: Iterable[ScoreEvent | FeaturesComputed]) -> list[Received]:
        found = []
        for event in events:
            self.count += 1
            stream = "features" if isinstance(event, FeaturesComputed) else "scores"
            found.append(Received(stream, f"{self.count}-0", encode(stream, event).envelope))
        return found

    def restart(self) -> None:
        memo = self.evaluator.snapshot(self.state)
        self.evaluator = Evaluator()
        self.state = self.evaluator.initial(memo)
        self.evaluator.apply(self.state, Batch(commands(first=self.known), ()))

    def of(self, kind: type[T]) -> list[T]:
        return [one.envelope.event for one in self.written if isinstance(one.envelope.event, kind)]


def served(bars: int, *, champion: float, former: float, version: int = 8, symbols: int = 8) -> list[PredictionScored]:
    """Rounds of the promoted candidate and of the former champion, each with so much signal in its predictions."""
    found = []
    mine, theirs = (list(market(bars, signal=signal, symbols=symbols)) for signal in (champion, former))
    for own, other in zip(mine, theirs, strict=True):
        found.append(msgspec.structs.replace(own, role="voting", control_version=version))
        found.append(msgspec.structs.replace(other, artifact=FORMER, outcome=own.outcome, control_version=version))
    return found


def test_given_a_shadow_when_enough_is_scored_then_a_verdict_names_its_evidence() -> None:
    bench = Bench()
    rows = list(market(WRITE_EVERY // 8 + 1))
    bench.take(rows[: WRITE_EVERY - 1])
    assert bench.of(VerdictReached) == []
    bench.take(rows[WRITE_EVERY - 1 : WRITE_EVERY])
    (verdict,) = bench.of(VerdictReached)
    assert (verdict.artifact, verdict.champion, verdict.scores) == (CANDIDATE.hex(), CHAMPION.hex(), WRITE_EVERY)
    assert verdict.first_score == encode("scores", rows[0]).envelope.id.hex()
    assert verdict.last_score == encode("scores", rows[WRITE_EVERY - 1]).envelope.id.hex()
    assert all(gate.threshold is not None and gate.samples >= 0 for gate in verdict.gates)


def test_given_a_verdict_when_it_changes_then_it_is_written_at_once_and_else_every_so_often() -> None:
    bench = Bench(*BEFORE, SetGatePolicy("classic", {"least_passed": 1, "most_one_action": 1.0}))
    rows = [msgspec.structs.replace(row, control_version=8) for row in market(100)]
    bench.take(rows[:WRITE_EVERY])
    assert [verdict.overall for verdict in bench.of(VerdictReached)] == ["passed"]
    bench.command(SetGatePolicy("classic", {"least_passed": 4, "least_deviation": 0.9}))
    later = [msgspec.structs.replace(row, control_version=9, open_time=row.open_time + 100 * HOUR) for row in rows]
    bench.take(later[:WRITE_EVERY])
    assert [(verdict.overall, verdict.scores) for verdict in bench.of(VerdictReached)[1:]] == [("failed", WRITE_EVERY)]


def of_champion(rows: Iterable[PredictionScored], origin: Any = "replay") -> list[PredictionScored]:
    return [msgspec.structs.replace(row, artifact=CHAMPION, role="voting", origin=origin) for row in rows]


@settings(max_examples=10)
@given(st.lists(st.integers(0, 400), max_size=4, unique=True).map(sorted))
def test_given_a_backfill_then_no_verdict_depends_on_how_far_another_model_has_come(cuts: list[int]) -> None:
    alone, beside = Bench(), Bench()
    shadow = [msgspec.structs.replace(row, origin="replay") for row in market(70)]
    champion = of_champion(market(5000, symbols=1))
    alone.take(shadow)
    for first, last in pairwise([0, *cuts, len(shadow)]):
        beside.take(champion[first * 10 : last * 10])
        beside.take(shadow[first:last])
    assert alone.state.judge(CANDIDATE.hex()) == beside.state.judge(CANDIDATE.hex())
    assert beside.of(VerdictReached) == alone.of(VerdictReached) != []


def test_given_142_days_of_replayed_bars_and_a_champion_far_ahead_then_the_better_shadow_passes() -> None:
    bench = Bench()
    bench.take(of_champion(market(142 * 24 + 500, symbols=1)))
    bench.take([msgspec.structs.replace(row, origin="replay") for row in market(142 * 24, symbols=2)])
    last = bench.of(VerdictReached)[-1]
    assert last.overall == "passed", last.advice
    gates = {gate.name: gate for gate in last.gates}
    assert {name: (gates[name].verdict, gates[name].kind) for name in ("latency", "staleness")} == {
        "latency": ("inconclusive", "soft"),
        "staleness": ("inconclusive", "soft"),
    }
    assert gates["time"].verdict == "passed"
    assert gates["time"].value is not None
    assert gates["time"].value > 120  # days


def test_given_a_shadow_that_answered_live_bars_when_the_market_goes_on_without_it_then_it_is_stale() -> None:
    bench = Bench()
    live = [msgspec.structs.replace(row, origin="live") for row in market(100)]
    bench.take(live[:400])
    bench.take(of_champion(live, "live"))
    assert bench.state.judge(CANDIDATE.hex()).outcome == "failed"
    bench.restart()
    stale = next(gate for gate in bench.state.judge(CANDIDATE.hex()).gates if gate.name == "staleness")
    assert (stale.outcome, stale.kind, stale.value) == ("failed", "critical", 49.0)


@pytest.mark.parametrize(("origin", "stages"), [("replay", []), ("live", ["rollback"])])
def test_given_a_promoted_model_far_behind_another_when_only_live_bars_show_it_then_it_is_rolled_back(
    origin: Any, stages: list[str]
) -> None:
    bench = Bench(*PROMOTED)
    rows = [msgspec.structs.replace(row, origin=origin) for row in served(100, champion=1.0, former=1.0)]
    bench.take(rows[:80])
    bench.take([row for row in rows[80:] if row.artifact != CANDIDATE])
    assert [tripped.stage for tripped in bench.of(GuardTripped) if tripped.guard == "stale"] == stages


def test_given_a_voting_artifact_when_it_is_scored_then_no_verdict_is_about_it() -> None:
    bench = Bench()
    bench.take(msgspec.structs.replace(row, artifact=CHAMPION, role="voting") for row in market(100))
    assert bench.of(VerdictReached) == []
    assert bench.state.memory.candidates == {}


@pytest.mark.parametrize(
    ("after", "row", "changed"),
    [
        (Promote("xgboost", OTHER.hex(), forced=True), {}, ("champion",)),
        (SetGatePolicy("default", {"alpha": 0.01}), {}, ("policy",)),
        (StopShadow("xgboost", OTHER.hex()), {"kappa": 0.7}, ("label",)),
        (StopShadow("xgboost", OTHER.hex()), {"horizon": 2}, ("label",)),
    ],
)
def test_given_evidence_when_what_it_is_about_changes_then_it_restarts_and_that_is_written(
    after: Command, row: dict[str, Any], changed: tuple[str, ...]
) -> None:
    bench = Bench()
    bench.take(list(market(10)))
    bench.command(after)
    bench.take([scored(11, "SYN0", PRIOR, 1, control_version=8, **row)])
    (restarted,) = bench.of(EvidenceRestarted)
    assert (restarted.changed, restarted.scores) == (changed, 80)
    assert bench.state.memory.candidates[CANDIDATE.hex()].scores == 1
    bench.take([scored(9, "SYN0", PRIOR, 1, control_version=7)])
    assert bench.state.memory.candidates[CANDIDATE.hex()].scores == 1, "a late row about what was before"


def under(version: int, rows: Iterable[PredictionScored]) -> list[PredictionScored]:
    """The same scores, of predictions made under another version."""
    return [msgspec.structs.replace(row, control_version=version) for row in rows]


def later(rows: Iterable[PredictionScored], bars: int) -> list[PredictionScored]:
    return [msgspec.structs.replace(row, open_time=row.open_time + bars * HOUR) for row in rows]


def of_another(rows: Iterable[PredictionScored]) -> list[PredictionScored]:
    return [msgspec.structs.replace(row, artifact=OTHER) for row in rows]


STOP, START_AGAIN = StopShadow("xgboost", CANDIDATE.hex()), StartShadow("xgboost", CANDIDATE.hex())


def test_given_a_shadow_when_it_is_stopped_then_its_evidence_is_dropped_at_the_first_score_under_that_version() -> None:
    bench = Bench()
    bench.take(list(market(10)))
    bench.command(STOP)
    assert bench.state.memory.candidates[CANDIDATE.hex()].scores == 80, "a command by itself changes nothing"
    bench.take(of_another(under(8, market(1))))
    assert CANDIDATE.hex() not in bench.state.memory.candidates
    bench.take(list(market(10)))
    assert CANDIDATE.hex() not in bench.state.memory.candidates, "late rows of a run that ended"
    assert bench.of(EvidenceRestarted) == []


@pytest.mark.parametrize("batches", [[[STOP, START_AGAIN]], [[STOP], [START_AGAIN]], []])
def test_given_a_shadow_that_was_stopped_and_started_however_that_was_read_then_its_evidence_starts_again(
    batches: list[list[Command]],
) -> None:
    bench = Bench()
    bench.take(list(market(76)))
    if not batches:  # down meanwhile
        bench.known += [STOP, START_AGAIN]
        bench.restart()
    for batch in batches:
        bench.command(*batch)
    bench.take(under(9, later(market(75), 76)))
    (restarted,) = bench.of(EvidenceRestarted)
    assert (restarted.artifact, restarted.changed, restarted.scores) == (CANDIDATE.hex(), ("candidate",), 608)
    assert restarted.control_version == 9
    assert bench.state.memory.candidates[CANDIDATE.hex()].scores == 600
    bench.take(list(market(1)))
    assert bench.state.memory.candidates[CANDIDATE.hex()].scores == 600, "late rows of the run before"


def test_given_a_run_whose_end_was_scored_when_it_is_started_again_then_that_is_written_as_well() -> None:
    bench = Bench()
    bench.take(list(market(10)))
    bench.command(STOP, START_AGAIN)
    bench.take(of_another(under(8, market(1))))
    assert bench.of(EvidenceRestarted) == []
    bench.restart()
    bench.take(of_another(under(9, market(1))))
    assert [(one.changed, one.scores) for one in bench.of(EvidenceRestarted)] == [(("candidate",), 80)]


def test_given_an_artifact_that_was_retired_then_nothing_about_it_is_remembered() -> None:
    bench = Bench()
    bench.take(list(market(10)))
    bench.command(Retire("xgboost", CANDIDATE.hex()))
    bench.take(of_another(under(8, market(1))))
    memory = bench.state.memory
    assert CANDIDATE.hex() not in {*memory.candidates, *memory.dropped, *memory.input_drifts}


def test_given_permission_that_was_withdrawn_when_a_late_score_trips_a_guard_then_the_newest_stamp_decides() -> None:
    bench = Bench(*PROMOTED, ACTING, SetGatePolicy("default"))
    rows = wrong(200, control_version=9)
    bench.take([msgspec.structs.replace(rows[0], control_version=10), *rows])
    assert bench.of(ActionDue)
    assert not any(one.acts for one in bench.of(ActionDue))
    assert {one.control_version for one in bench.of(ActionDue)} == {10}


def test_given_permission_that_was_withdrawn_later_then_what_is_due_before_follows_the_stamp() -> None:
    bench = Bench(*PROMOTED, ACTING)
    bench.command(SetGatePolicy("default"))
    bench.take(wrong(200, control_version=9))
    assert [one.acts for one in bench.of(ActionDue) if one.action == "rollback"] == [True]
    assert {one.control_version for one in bench.of(GuardTripped)} == {9}


def test_given_a_champion_that_came_back_between_two_scores_then_its_guard_starts_again() -> None:
    bench = Bench(*PROMOTED, Rollback(model="xgboost"), PROMOTED[-1])
    bench.take(wrong(200))
    assert bench.state.memory.guards["xgboost"].stage == "rollback"
    bench.take(wrong(1, control_version=10))
    assert (bench.state.memory.guards["xgboost"].stage, bench.state.memory.guards["xgboost"].seen) == ("continue", 16)


def test_given_a_late_failure_of_what_was_judged_before_then_it_is_not_counted() -> None:
    bench = Bench(*BEFORE, Promote("xgboost", OTHER.hex(), forced=True))
    bench.take(under(8, market(10)))
    failures = [unscored(row, reason="failed") for row in market(10)]
    before = bench.evaluator.snapshot(bench.state)
    bench.take(failures)
    assert bench.evaluator.snapshot(bench.state) == before


def test_given_a_memo_of_a_release_that_noted_no_stamps_then_its_evidence_is_kept() -> None:
    bench = Bench(*PROMOTED)
    bench.take(served(5, champion=1.0, former=1.0))
    bench.take(of_another(under(8, market(5))))
    fields = msgspec.msgpack.decode(bench.evaluator.snapshot(bench.state))
    state = bench.evaluator.initial(msgspec.msgpack.encode(fields[:7]))
    assert (state.memory.version, state.memory.features_version) == (8, 0)
    bench.state, bench.written = state, []
    bench.evaluator.apply(state, Batch(commands(first=bench.known), ()))
    bench.take([*of_another(under(8, later(market(5), 5))), *vectors(0, 1, version=8)])
    assert state.memory.candidates[OTHER.hex()].scores == 80
    assert state.memory.guards["xgboost"].seen == 80
    assert bench.of(EvidenceRestarted) == []


def test_given_a_memo_of_a_release_with_two_rules_for_weights_then_learning_goes_on() -> None:
    bench = Bench(*two_models())
    bench.take(votes(300))
    memo = bench.evaluator.snapshot(bench.state)
    fields = msgspec.msgpack.decode(memo)
    fold = fields[3][3]
    rate, memory, *limits = fold[0]
    fold[0] = ["logpool1", rate, memory, 1.0, 0.02, *limits]
    fold.insert(9, [0, 0])
    read = bench.evaluator.initial(msgspec.msgpack.encode(fields))
    assert bench.evaluator.snapshot(read) == memo


def test_given_a_control_log_that_lost_its_tail_then_no_score_is_judged_by_what_is_left() -> None:
    bench = Bench(*BEFORE, STOP)
    bench.take(of_another(under(8, market(1))))
    bench.known = list(BEFORE)
    bench.restart()
    with pytest.raises(ControlError, match="version 8 of control, which ends at 7"):
        bench.take(list(market(1)))


def test_given_a_policy_that_cannot_be_used_when_a_verdict_is_due_then_it_is_inconclusive_with_the_reason() -> None:
    bench = Bench(*BEFORE, SetGatePolicy("default", {"alfa": 1.0}))
    bench.take(msgspec.structs.replace(row, control_version=8) for row in market(WRITE_EVERY // 8 + 1))
    (verdict,) = bench.of(VerdictReached)
    assert verdict.overall == "inconclusive"
    assert "no parameter alfa" in verdict.gates[0].detail


def test_given_a_promoted_model_when_it_does_harm_then_the_guard_trips_and_a_person_must_act() -> None:
    bench = Bench(*PROMOTED)
    bench.take(wrong(200))
    tripped, due = bench.of(GuardTripped), bench.of(ActionDue)
    assert tripped[-1].stage == "rollback"
    assert (tripped[-1].artifact, tripped[-1].ghost) == (CANDIDATE.hex(), FORMER.hex())
    assert due[-1].action == "rollback"
    assert not any(one.acts for one in due)
    assert due[-1].evidence in {one.envelope.id.hex() for one in bench.written}


def test_given_permission_to_act_when_a_promoted_model_does_harm_then_the_rollback_is_the_evaluators() -> None:
    bench = Bench(*PROMOTED, ACTING)
    bench.take(wrong(200, control_version=9))
    assert [one.acts for one in bench.of(ActionDue) if one.action == "rollback"] == [True]


def test_given_harm_that_was_reported_when_it_goes_on_then_it_is_not_reported_again() -> None:
    bench = Bench(*PROMOTED)
    bench.take(wrong(200))
    told = len(bench.of(GuardTripped))
    bench.take(msgspec.structs.replace(row, open_time=row.open_time + 200 * HOUR) for row in wrong(200))
    assert len(bench.of(GuardTripped)) == told


def test_given_steps_permitted_by_one_of_policy_and_ladder_then_a_step_down_waits_for_both() -> None:
    only_policy = Bench(*PROMOTED, ACTING)
    both = Bench(*PROMOTED, ACTING, SetLadder((0.05, 0.1), automatic=True))
    for bench, version in ((only_policy, 9), (both, 10)):
        for bar in range(0, 200, 5):
            bench.take(wrong(200, control_version=version)[bar * 16 : (bar + 5) * 16])
            if bench.of(ActionDue):
                break
    first = only_policy.of(ActionDue)[0]
    assert (first.action, first.acts) in {("step_down", False), ("rollback", True)}
    assert both.of(ActionDue)[0].acts


@pytest.mark.parametrize("silent", [unscored, missing])
def test_given_a_promoted_model_when_it_falls_silent_then_the_guard_trips_without_a_score(silent: Any) -> None:
    bench = Bench(*PROMOTED)
    rows = served(10, champion=1.0, former=1.0)
    bench.take(rows)
    assert bench.of(GuardTripped) == []
    mine = [row for row in rows if row.role == "voting"]
    failed = {"reason": "failed"} if silent is unscored else {}
    bench.take(silent(row, **failed) for row in mine)
    assert [one.guard for one in bench.of(GuardTripped)] == ["failures"]


def test_given_a_former_champion_that_is_as_good_when_blocks_pass_then_the_promotion_is_confirmed_once() -> None:
    probation = Promote("xgboost", CANDIDATE.hex(), forced=True, probation=5000)
    bench = Bench(*BEFORE, probation)
    bench.take(served(400, champion=1.0, former=1.0))
    assert [one.action for one in bench.of(ActionDue)] == ["confirm_promotion"]


def test_given_a_probation_that_a_person_ended_later_then_its_scores_under_it_confirm_it_all_the_same() -> None:
    bench = Bench(*BEFORE, Promote("xgboost", CANDIDATE.hex(), forced=True, probation=5000))
    bench.command(ConfirmPromotion("xgboost", CANDIDATE.hex()))
    bench.take(served(150, champion=1.0, former=1.0))
    assert [(one.action, one.control_version) for one in bench.of(ActionDue)] == [("confirm_promotion", 8)]


def test_given_no_promotion_when_the_first_champion_is_scored_then_nothing_guards_it() -> None:
    bench = Bench()
    bench.take(msgspec.structs.replace(row, artifact=CHAMPION, role="voting") for row in market(50))
    assert bench.state.memory.guards == {}


def test_given_two_voting_models_when_one_earns_more_then_its_weight_is_proposed_higher() -> None:
    bench = Bench(*two_models())
    bench.take(votes(300))
    proposed = bench.of(WeightsProposed)
    assert proposed
    last = proposed[-1]
    assert last.weights["xgboost"] > 0.5 > last.weights["lightgbm"]
    assert sum(last.weights.values()) == pytest.approx(1.0)
    assert not any(one.acts for one in proposed)


def test_given_two_voting_models_when_enough_rounds_are_complete_then_their_contributions_are_measured() -> None:
    bench = Bench(*two_models())
    bench.take(votes(100))
    first, *_, last = bench.of(ContributionsMeasured)
    assert (first.rounds, last.rounds) == (256, 768)
    assert last.members["xgboost"].shapley > 0.01
    assert last.members["xgboost"].leave_one_out > last.members["lightgbm"].leave_one_out


TOLD = backtest.measure(
    lambda windows: np.tile([0.2, 0.5, 0.3], (len(windows), 1)) + windows[:, -1, :1] * [0.01, 0.0, -0.01],
    np.random.default_rng(1).normal(size=(4000, 2)).astype(np.float32),
    np.repeat(np.arange(1000) * HOUR, 4),
    np.random.default_rng(2).normal(size=(400, 1, 2)).astype(np.float32),
    np.random.default_rng(3).integers(0, 3, 400),
    np.repeat(np.arange(100) * HOUR, 4),
    PRIOR,
    horizon=1,
    interval_ms=HOUR,
)
WATCHED: tuple[Command, ...] = (
    *BEFORE[:2],
    register(CANDIDATE, backtest=TOLD, features=("rsi_14", "macd")),
    *BEFORE[3:],
)


def vectors(first: int, bars: int, shift: float = 0.0, version: int = 7) -> list[FeaturesComputed]:
    random = np.random.default_rng(first)
    return [
        FeaturesComputed(
            symbol=f"SYN{number}",
            interval_ms=HOUR,
            open_time=START + bar * HOUR,
            origin="synthetic",
            feature_set=b"\xff" * 32,
            values=(random.normal(size=2) + shift).astype("<f4").tobytes(),
            control_version=version,
            control_head=bytes(32),
        )
        for bar in range(first, first + bars)
        for number in range(4)
    ]


def test_given_inputs_like_those_of_training_when_they_drift_and_return_then_each_is_written_once() -> None:
    bench = Bench(*WATCHED)
    bench.take(vectors(0, 1000))
    assert bench.of(InputsDrifted) == []
    bench.take(vectors(1000, 2000, shift=2.0))
    (drifted,) = bench.of(InputsDrifted)
    assert (drifted.artifact, drifted.drifted, drifted.share) == (CANDIDATE.hex(), True, 1.0)
    assert "2 of 2 features alarm; the worst is" in drifted.detail
    bench.take(vectors(3000, 8000))
    assert [one.drifted for one in bench.of(InputsDrifted)] == [True, False]


def test_given_a_feed_of_a_few_hours_then_its_inputs_are_not_compared_with_weeks_of_training() -> None:
    bench = Bench(*WATCHED)  # trained on 1,000 hours
    bench.take(vectors(0, 98, shift=2.0))
    assert bench.of(InputsDrifted) == []
    bench.take(vectors(98, 52, shift=2.0))
    (drifted,) = bench.of(InputsDrifted)
    assert drifted.samples == 400


def test_given_an_artifact_of_an_earlier_release_then_its_inputs_are_compared_as_that_release_did() -> None:
    old = msgspec.structs.replace(TOLD, span_ms=None)
    assert b"span_ms" not in msgspec.json.encode(old)
    bench = Bench(*WATCHED[:2], register(CANDIDATE, backtest=old, features=("rsi_14", "macd")), *BEFORE[3:])
    bench.take(vectors(0, 98, shift=2.0))
    (drifted,) = bench.of(InputsDrifted)
    assert drifted.samples == 200


def test_given_vectors_without_a_stamp_when_they_drift_then_they_count_under_the_newest_stamp_before() -> None:
    old = [msgspec.structs.replace(one, control_version=0, control_head=None) for one in vectors(0, 1000, shift=2.0)]
    bench = Bench(*WATCHED)
    bench.take(old)
    assert bench.state.memory.input_drifts == {}
    bench.take([*vectors(0, 1), *old])
    assert [one.drifted for one in bench.of(InputsDrifted)] == [True]


def test_given_a_shadow_that_was_stopped_and_started_then_its_inputs_are_looked_at_again() -> None:
    bench = Bench(*WATCHED, STOP, START_AGAIN)
    bench.take(vectors(0, 10))
    assert bench.state.memory.input_drifts[CANDIDATE.hex()].inputs.seen == 40
    bench.take(vectors(10, 1, version=9))
    assert bench.state.memory.input_drifts[CANDIDATE.hex()].inputs.seen == 4


def test_given_a_shadow_that_was_promoted_then_its_inputs_are_looked_at_further() -> None:
    bench = Bench(*WATCHED, Promote("xgboost", CANDIDATE.hex(), forced=True))
    bench.take(vectors(0, 10))
    bench.take(vectors(10, 1, version=8))
    assert bench.state.memory.input_drifts[CANDIDATE.hex()].inputs.seen == 44


def test_given_a_backtest_when_a_verdict_is_due_then_the_response_is_among_its_gates() -> None:
    bench = Bench(*WATCHED)
    bench.take(list(market(WRITE_EVERY // 8 + 1)))
    (verdict,) = bench.of(VerdictReached)
    gates = {gate.name: gate for gate in verdict.gates}
    assert gates["response"].verdict == "passed"
    assert gates["response"].value == pytest.approx(TOLD.response)


def test_given_a_model_that_does_not_answer_to_its_inputs_then_the_response_vetoes() -> None:
    deaf = msgspec.structs.replace(TOLD, response=0.0)
    bench = Bench(*WATCHED[:2], register(CANDIDATE, backtest=deaf, features=("rsi_14", "macd")), *BEFORE[3:])
    bench.take(list(market(WRITE_EVERY // 8 + 1)))
    (verdict,) = bench.of(VerdictReached)
    assert verdict.overall == "failed"
    assert {gate.name: gate.verdict for gate in verdict.gates}["response"] == "failed"


def voting(bars: int, signal: float, first: int = 0) -> list[PredictionScored]:
    """The champion that votes, with so much of the truth in its answers, from bar ``first`` on."""
    rows = market(bars, signal=signal, seed=first + 1)
    about = {"role": "voting", "artifact": CHAMPION, "incumbent_artifact": None}
    return [msgspec.structs.replace(row, open_time=row.open_time + first * HOUR, **about) for row in rows]


def dull(bars: int, first: int) -> list[PredictionScored]:
    """The same champion, now saying the prior and nothing else."""
    return [msgspec.structs.replace(row, probabilities=PRIOR) for row in voting(bars, 1.2, first)]


def test_given_a_champion_that_earned_when_it_earns_nothing_then_its_skill_decayed() -> None:
    bench = Bench()
    bench.take(voting(24 * 8, 1.2))
    assert bench.of(SkillDecayed) == []
    bench.take(dull(60 * 8, 24 * 8))
    first = bench.of(SkillDecayed)[0]
    assert (first.model, first.artifact) == ("xgboost", CHAMPION.hex())
    assert first.value is not None
    assert first.value >= first.threshold
    assert bench.of(ActionDue) == [], "a cause to retrain, and no rollback"


def test_given_a_champion_that_earns_on_when_a_year_passes_then_no_decay_is_written() -> None:
    bench = Bench()
    bench.take(voting(365 * 8, 1.2))
    assert bench.of(SkillDecayed) == []


def test_given_a_new_champion_when_it_is_scored_then_its_skill_is_measured_from_nothing() -> None:
    bench = Bench(*PROMOTED)
    bench.take(served(5, champion=1.0, former=1.0))
    assert bench.state.memory.decays["xgboost"].artifact == CANDIDATE.hex()
    bench.take(voting(20, 1.2, 10))
    assert bench.state.memory.decays["xgboost"].artifact == CANDIDATE.hex(), "a late row about what was before"


SEVERAL: tuple[Command, ...] = (Found(3, "log-of-a-test"), *PROMOTED[1:])


def test_given_several_partitions_when_a_promoted_model_does_harm_then_each_needs_so_much_more_evidence() -> None:
    bench = Bench(*PROMOTED)
    bench.take(wrong(20))
    held = bench.state.memory.guards["xgboost"]
    one, three = (
        next(found for found in guard_state.findings(held, -1, count) if found.guard == "harm") for count in (1, 3)
    )
    assert (three.value, three.threshold) == (one.value, 3 * one.threshold)


def test_given_several_partitions_with_permission_to_act_then_an_evaluator_rolls_back_and_does_nothing_else() -> None:
    bench = Bench(*SEVERAL, ACTING, SetLadder((0.05, 0.1), automatic=True))
    for bar in range(0, 200, 5):
        bench.take(wrong(200, control_version=10)[bar * 16 : (bar + 5) * 16])
    assert {one.action: one.acts for one in bench.of(ActionDue)}["rollback"]
    assert not any(one.acts for one in bench.of(ActionDue) if one.action != "rollback")
    weighing = Bench(Found(3, "log-of-a-test"), *two_models()[1:], ACTING)
    weighing.take(msgspec.structs.replace(row, control_version=7) for row in votes(300))
    assert weighing.of(WeightsProposed)
    assert not any(one.acts for one in weighing.of(WeightsProposed))


def test_what_inputs_are_changes_nothing_in_a_verdict() -> None:
    quiet, drifting = Bench(*WATCHED), Bench(*WATCHED)
    drifting.take(vectors(0, 600, 3.0))
    for bench in (quiet, drifting):
        bench.take(list(market(WRITE_EVERY // 8 + 1)))
    assert drifting.of(InputsDrifted)
    assert quiet.of(VerdictReached) == drifting.of(VerdictReached)


HISTORIES: dict[str, tuple[Sequence[Command], list[Any]]] = {
    "inputs": (WATCHED, [*vectors(0, 100), *market(20), *vectors(100, 200, 2.0), *market(60, seed=3)]),
    "a candidate": (BEFORE, list(market(90))),
    "harm": (PROMOTED, wrong(60)),
    "weights": (tuple(two_models()), votes(60)),
    "decay": (BEFORE, [*voting(21 * 8, 1.2), *dull(40 * 8, 21 * 8)]),
}


@pytest.mark.parametrize("name", HISTORIES)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_cuts_and_restarts_change_not_a_byte_of_what_is_written(name: str, data: st.DataObject) -> None:
    known, rows = HISTORIES[name]
    whole = Bench(*known)
    whole.take(rows)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=5)))
    pieces: list[Sequence[ScoreEvent | FeaturesComputed]] = [
        rows[start:end] for start, end in zip([0, *cuts], [*cuts, len(rows)], strict=True)
    ]
    other = Bench(*known)
    for piece in pieces:
        other.take(piece)
        if data.draw(st.booleans()):
            other.restart()
    assert [one.data for one in other.written] == [one.data for one in whole.written]
    assert other.written
    assert other.evaluator.snapshot(other.state) == whole.evaluator.snapshot(whole.state)


CHANGES: tuple[Command, ...] = (
    *WATCHED,
    STOP,
    START_AGAIN,
    SetGatePolicy("classic", {"least_passed": 1, "most_one_action": 1.0}),
    Promote(model="xgboost", artifact=CANDIDATE.hex(), forced=True, probation=100, accept_changes=True),
    ACTING,
    SetLadder((0.05, 0.1), automatic=True),
    Rollback(model="xgboost"),
    SetGatePolicy("default"),
)
"""Versions 7 to 15: each changes what is judged, by what, or who may act."""
SINCE = len(WATCHED)
PROMOTED_AT, ROLLED_BACK_AT = SINCE + 4, SINCE + 7


def said_under(version: int, first: int, bars: int) -> list[PredictionScored]:
    """Scores of the candidate and of the champion beside it, in the roles that they had under a version."""
    votes = PROMOTED_AT <= version < ROLLED_BACK_AT
    rows = later(wrong(bars, control_version=version), first)
    roles = {CANDIDATE: "voting" if votes else "shadow", CHAMPION: "shadow" if votes else "voting"}
    return [msgspec.structs.replace(row, role=roles[row.artifact]) for row in rows]


class Schedule(Bench):
    """An evaluator that reads commands, scores and vectors when it likes, never an event before its stamp."""

    def __init__(self, known: Sequence[Command]) -> None:
        super().__init__(*known[:1])
        self.entries = commands(first=known)

    def read(self, events: Sequence[ScoreEvent | FeaturesComputed], ahead: int) -> None:
        stamp = max((event.control_version for event in events), default=0)
        folded, until = len(self.known), min(max(stamp, len(self.known) + ahead), len(self.entries))
        self.known += [entry.event.command for entry in self.entries[folded:until]]
        self.written += self.evaluator.handle(self.state, Batch(self.entries[folded:until], self.received(events)))

    def restart(self) -> None:
        memo = self.evaluator.snapshot(self.state)
        self.state = self.evaluator.initial(memo)
        self.evaluator.apply(self.state, Batch(self.entries[: len(self.known)], ()))

    def written_about(self, inputs: bool) -> list[bytes]:
        return [one.data for one in self.written if isinstance(one.envelope.event, InputsDrifted) is inputs]


STAMPS = st.lists(st.integers(SINCE, len(CHANGES)), min_size=2, max_size=8)
PIECES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 300), st.integers(0, 4), st.booleans()), max_size=12)


@settings(max_examples=15, deadline=None)
@given(stamps=STAMPS, fed=STAMPS, pieces=PIECES)
@example(stamps=[7, 9], fed=[7, 9], pieces=[(16, 0, 9, False)])
@example(stamps=[7, 9], fed=[7, 9], pieces=[(16, 0, 1, False), (0, 0, 1, True)])
@example(stamps=[11, 12, 14, 11], fed=[7, 7], pieces=[(160, 800, 9, True)])
def test_what_is_written_follows_from_each_stream_and_its_stamps_whenever_commands_and_the_other_are_read(
    stamps: list[int], fed: list[int], pieces: list[tuple[int, int, int, bool]]
) -> None:
    scores = [row for at, version in enumerate(stamps) for row in said_under(version, 10 * at, 10)]
    features = [
        row for at, version in enumerate(sorted(fed)) for row in vectors(100 * at, 100, 2.0 * (at % 2), version)
    ]
    whole = Schedule(CHANGES)
    whole.read((), len(CHANGES))
    whole.read(scores, 0)
    whole.read(features, 0)
    other, scored_, fed_ = Schedule(CHANGES), 0, 0
    for some_scores, some_vectors, ahead, restarted in pieces:
        other.read(scores[scored_ : scored_ + some_scores], ahead)
        other.read(features[fed_ : fed_ + some_vectors], ahead)
        scored_, fed_ = scored_ + some_scores, fed_ + some_vectors
        if restarted:
            other.restart()
    other.read(features[fed_:], 0)
    other.read(scores[scored_:], 0)
    for inputs in (True, False):
        assert other.written_about(inputs) == whole.written_about(inputs)
    assert other.evaluator.snapshot(other.state) == whole.evaluator.snapshot(whole.state)


def test_what_is_remembered_does_not_grow_with_what_was_scored() -> None:
    bench = Bench(*PROMOTED, SetGatePolicy("default"))

    def feed(first: int, bars: int) -> int:
        rows = served(bars, champion=1.0, former=0.9, version=9)
        shift = first * HOUR
        bench.take(msgspec.structs.replace(row, open_time=row.open_time + shift) for row in rows)
        shadow = [msgspec.structs.replace(row, artifact=OTHER, control_version=9) for row in market(bars)]
        bench.take(msgspec.structs.replace(row, open_time=row.open_time + shift) for row in shadow)
        return len(bench.evaluator.snapshot(bench.state))

    feed(0, 300)
    small = feed(300, 300)
    large = small
    for round_ in range(2, 5):
        large = feed(300 * round_, 300)
    assert large < 1.1 * small


def test_answers_that_wait_for_a_counterpart_that_does_not_answer_are_bounded() -> None:
    bench = Bench(*PROMOTED)
    rows = served(300, champion=1.0, former=1.0)
    bench.take(row for row in rows if row.role == "voting")
    watched = bench.state.memory.guards["xgboost"]
    assert len(watched.waiting) == PAIRS
    assert watched.guard.answered == 300 * 8 - PAIRS
    bench.take(row for row in rows if row.role == "shadow")
    assert len(watched.former_waiting) <= PAIRS


def test_looks_are_frequent_enough_to_matter_and_rare_enough_to_be_cheap() -> None:
    assert WRITE_EVERY % CHECK_EVERY == 0


def test_a_retired_champion_is_no_longer_watched() -> None:
    bench = Bench(*PROMOTED)
    bench.take(served(5, champion=1.0, former=1.0))
    assert list(bench.state.memory.guards) == ["xgboost"]
    bench.command(Promote("xgboost", OTHER.hex(), forced=True), Retire("xgboost", CANDIDATE.hex()))
    bench.take(of_another(under(10, market(1))))
    assert CANDIDATE.hex() not in {one.artifact for one in bench.state.memory.guards.values()}
