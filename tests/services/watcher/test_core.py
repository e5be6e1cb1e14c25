"""Which notices the watcher sends once, and which it only counts."""

from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map

from schemas.control import (
    Approve,
    Command,
    CommandRecorded,
    Halt,
    Promote,
    PromotePolicy,
    Propose,
    Resume,
    RevertProbation,
    Rollback,
)
from schemas.decisions import AbsentMember, CountedBallot, DecisionMade
from schemas.documentation.examples import examples
from schemas.gates import ActionDue, GateVerdict, GuardTripped, VerdictReached
from schemas.operations import ControlRefused, DeadLetter, GapDetected
from schemas.training import (
    StackerFitted,
    StackerRejected,
    StackerRequested,
    StackerStarted,
    TrainingFailed,
    TrainingProgressed,
    TrainingRejected,
)
from services.watcher.alerts import ALERTS
from services.watcher.core import check, check_server, observe, observe_command
from services.watcher.gauges import readings
from services.watcher.lone import LoneLines
from services.watcher.state import BURST_MS, MINUTE_MS, Notice, State, active_counts
from shared.control.state import Model, Probation
from shared.control.state import State as Control
from shared.log import GroupView, Position
from shared.telemetry.metrics import METRICS

HEAD = "0" * 64
EVENT = "0" * 32


def decision(status: Any = "decided", *, at: int = 0, version: int = 1, **changes: Any) -> DecisionMade:
    made = DecisionMade(
        symbol="BTCUSDT",
        interval_ms=MINUTE_MS,
        open_time=at,
        origin="live",
        control_version=version,
        control_head=HEAD,
        policy="logpool",
        status=status,
        action="HOLD",
        confidence=0.0,
        probabilities=(0.25, 0.5, 0.25),
        consensus_count=0,
        total_models=2,
        counted=(),
        absent=(AbsentMember("xgboost", HEAD, "no answer", None),),
        shadow=(),
        closed_by="deadline",
        intent="no_quorum",
    )
    return msgspec.structs.replace(made, **changes)


def view(
    group: str = "ensemble-voter", *, alive: bool = True, at: str = "1-0", lag: int = 0, epoch: int = 1
) -> GroupView:
    return GroupView(group, 0, epoch, "pid 7 on here", alive, {"predictions": Position(at, 1)}, {"predictions": lag})


def kinds(notices: Sequence[Notice]) -> list[str]:
    return [f"{notice.alert} {notice.kind}" for notice in notices]


def recorded(version: int, asked: Command, at: int = 0) -> CommandRecorded:
    return CommandRecorded(
        version=version, previous=HEAD, command_id=f"c{version}", at=at, actor="ada", reason="because", command=asked
    )


def test_given_short_bars_when_the_third_round_in_a_row_has_no_quorum_then_it_is_reported_once_and_resolved_once() -> (
    None
):
    state = State()
    notices = [observe(state, decision("no_quorum"), 0, at) for at in range(5)]
    assert [kinds(some) for some in notices] == [[], [], ["no-quorum raised"], [], []]
    assert "xgboost (no answer)" in notices[2][0].text
    assert kinds(observe(state, decision(), 0, 9)) == ["no-quorum resolved"]


def test_given_hourly_bars_when_one_round_has_no_quorum_then_it_is_reported_at_once() -> None:
    assert kinds(observe(State(), decision("no_quorum", interval_ms=60 * MINUTE_MS), 0, 1)) == ["no-quorum raised"]


def test_given_two_symbols_when_both_are_without_quorum_then_one_alert_is_active_until_both_decide() -> None:
    state = State()
    sent = [
        notice
        for at in range(4)
        for symbol in ("A", "B")
        for notice in observe(state, decision("no_quorum", symbol=symbol), 0, at)
    ]
    assert kinds(sent) == ["no-quorum raised"]
    assert observe(state, decision(symbol="A"), 0, 5) == []
    assert kinds(observe(state, decision(symbol="B"), 0, 6)) == ["no-quorum resolved"]


def test_given_a_replay_that_ended_without_quorum_when_an_hour_has_passed_then_no_alert_is_active() -> None:
    state = State()
    for at in range(3):
        observe(state, decision("no_quorum", origin="replay"), 0, at)
    assert check(state, 60 * MINUTE_MS, [], Control()) == []
    assert kinds(check(state, 61 * MINUTE_MS, [], Control())) == ["no-quorum resolved"]
    assert state.series == {}


def test_given_an_alert_that_comes_and_goes_then_it_is_reported_once_and_the_rest_counted() -> None:
    state, sent = State(), []
    for at in range(40):
        sent += observe(state, decision("no_quorum" if at % 4 else "decided", origin="replay"), 0, at)
    assert kinds(sent) == ["no-quorum raised", "no-quorum resolved"]
    [notice] = check(state, BURST_MS + 100, [], Control())
    assert (notice.kind, notice.more) == ("raised", 8)


def test_given_an_alert_that_came_and_went_when_it_comes_again_and_stays_then_it_is_reported_within_a_minute() -> None:
    state, control = State(), Control()
    sent = [check(state, at * 1_000, [view(alive=at > 40)], control) for at in range(45)]
    assert [kinds(some) for some in sent if some] == [["group-down raised"], ["group-down resolved"]]
    again = [(at, check(state, at * 1_000, [view(alive=False)], control)) for at in range(45, 200)]
    [(moment, notices)] = [(at, some) for at, some in again if some]
    assert (moment, kinds(notices)) == (45 + 30 + 60, ["group-down raised"])
    assert kinds(check(state, 201_000, [view()], control)) == ["group-down resolved"]


@given(st.lists(st.integers(0, 3 * BURST_MS), max_size=60).map(sorted))
def test_however_dead_letters_come_each_is_reported_or_counted_once(moments: list[int]) -> None:
    state, sent = State(), []
    letter = DeadLetter(service="feed", source="bars.csv:7", reason="not_finite", detail="close is NaN", raw="x")
    for at in moments:
        sent += observe(state, letter, 0, at)
        sent += check(state, at, [], Control())
    sent += check(state, 5 * BURST_MS, [], Control())
    assert sum(1 + notice.more for notice in sent) == len(moments)
    assert len(sent) <= 1 + 3 * BURST_MS // BURST_MS + 1


def test_dead_letters_of_another_reason_are_reported_on_their_own() -> None:
    state = State()
    one = DeadLetter(service="feed", source="bars.csv:7", reason="not_finite", detail="close is NaN", raw="x")
    assert kinds(observe(state, one, 0, 1)) == ["dead-letters reported"]
    assert kinds(observe(state, msgspec.structs.replace(one, reason="duplicate"), 0, 2)) == ["dead-letters reported"]


def test_a_collapsed_guard_an_intruder_and_a_gap_are_critical() -> None:
    events: list[Any] = [
        GuardTripped(
            model="xgboost",
            artifact=HEAD,
            ghost=None,
            guard="collapse",
            stage="rollback",
            value=3.0,
            threshold=2.0,
            samples=40,
            detail="one answer",
            last_score=EVENT,
            control_version=1,
        ),
        ControlRefused(entry="9-1", version=3, head=HEAD, reason="no command", raw="x"),
        GapDetected(group="ensemble-voter", stream="predictions", committed="1-0", oldest="9-0", at=1),
    ]
    notices = [notice for event in events for notice in observe(State(), event, 0, 1)]
    assert [notice.severity for notice in notices] == ["critical"] * 3
    assert kinds(notices) == ["guard-tripped reported", "control-refused reported", "gap-detected reported"]


def test_a_command_that_the_evaluator_issues_itself_gives_no_notice() -> None:
    due = ActionDue(
        model="xgboost", artifact=HEAD, action="rollback", acts=True, evidence=EVENT, reason="harm", control_version=1
    )
    assert observe(State(), due, 0, 1) == []
    assert kinds(observe(State(), msgspec.structs.replace(due, acts=False), 0, 1)) == ["action-due reported"]


def test_commands_that_change_who_votes_are_reported_once_even_if_read_again() -> None:
    state = State()
    entries = [
        recorded(1, Promote("xgboost", HEAD)),
        recorded(2, Rollback()),
        recorded(3, RevertProbation("xgboost", HEAD, 5)),
        recorded(4, Halt()),
        recorded(5, Resume()),
    ]
    sent = kinds([notice for entry in entries for notice in observe_command(state, entry)])
    assert sent == [
        "promoted reported",
        "rolled-back reported",
        "rolled-back reported",
        "halted raised",
        "halted resolved",
    ]
    assert [notice for entry in entries for notice in observe_command(state, entry)] == []


def test_a_halt_from_before_the_watcher_started_is_active_too() -> None:
    state = State(version=7)
    assert kinds(check(state, 1, [], Control(version=7, halted=True))) == ["halted raised"]
    assert active_counts(state) == {"halted": 1}


def test_a_promotion_by_two_persons_is_reported_when_it_is_approved() -> None:
    promote = Promote("xgboost", HEAD, probation=3)
    state = State()
    assert observe_command(state, recorded(1, Propose(promote))) == []
    assert kinds(observe_command(state, recorded(2, Approve(1, promote)))) == ["promoted reported"]
    assert state.trials["xgboost"].version == 2


def test_a_promoted_voting_policy_is_reported_and_its_probation_counts_each_decision() -> None:
    state = State()
    entry = recorded(4, PromotePolicy(HEAD, forced=True, probation=2))
    [notice] = observe_command(state, entry)
    assert "is in force, without a verdict; by" in notice.text
    for version in (3, 4, 4):
        observe(state, decision(version=version), 0, 1_000)
    here = Control(probations=Map({"ensemble": Probation(HEAD, 4, 2, 0)}))
    assert kinds(check(state, 1_000 + MINUTE_MS, [], here)) == ["probation-overdue raised"]


def test_the_swap_takes_from_the_command_to_the_first_decision_under_it() -> None:
    state = State()
    observe_command(state, recorded(4, Promote("xgboost", HEAD), at=1_000))
    observe(state, decision(version=3), 0, 1_100)
    assert state.swapped == []
    observe(state, decision(version=4), 0, 1_250)
    observe(state, decision(version=4), 0, 1_900)
    assert state.swapped == [250]


def test_a_group_without_an_owner_for_half_a_minute_is_reported_and_its_return_too() -> None:
    state, control = State(), Control()
    assert check(state, 0, [view(alive=False)], control) == []
    assert check(state, 29_000, [view(alive=False)], control) == []
    assert kinds(check(state, 30_000, [view(alive=False)], control)) == ["group-down raised"]
    assert kinds(check(state, 31_000, [view()], control)) == ["group-down resolved"]


def test_a_feed_at_its_end_and_a_worker_of_a_model_without_artifacts_are_not_missed() -> None:
    state = State()
    gone = [view("feed", alive=False), view("model-worker.old", alive=False)]
    assert [check(state, at, gone, Control()) for at in (0, 60_000)] == [[], []]
    needed = Control(models={"old": Model(champion=HEAD)})
    check(state, 61_000, gone, needed)
    assert kinds(check(state, 100_000, gone, needed)) == ["group-down raised"]


def test_a_service_that_lives_and_does_not_move_is_reported() -> None:
    """The process is there, its lease runs, and nothing is read: what a check of the process never finds."""
    state, control = State(), Control()
    assert check(state, 0, [view(lag=5)], control) == []
    assert kinds(check(state, 60_000, [view(lag=9)], control)) == ["group-stuck raised"]
    assert kinds(check(state, 61_000, [view(lag=9, at="2-0")], control)) == ["group-stuck resolved"]
    assert check(state, 200_000, [view(lag=0, at="2-0")], control) == []
    assert check(state, 400_000, [view(lag=0, at="2-0")], control) == []


def test_a_group_with_a_large_lag_for_ten_minutes_is_reported_and_a_backlog_that_goes_is_not() -> None:
    state, control = State(), Control()
    notices = [check(state, at * MINUTE_MS, [view(lag=5_000, at=f"{at}-1")], control) for at in range(12)]
    assert [kinds(some) for some in notices if some] == [["group-lagging raised"]]
    state = State()
    check(state, 0, [view(lag=5_000)], control)
    check(state, MINUTE_MS, [view(lag=0, at="2-0")], control)
    assert check(state, 11 * MINUTE_MS, [view(lag=5_000, at="3-0")], control) == []


def test_the_fifth_start_within_ten_minutes_is_reported_and_staying_up_for_ten_too() -> None:
    """6,568 restarts went unnoticed once, with a supervisor that was content."""
    state, control = State(), Control()
    sent = [kinds(check(state, at * 10_000, [view(epoch=at + 1)], control)) for at in range(9)]
    assert [some for some in sent if some] == [["restarting raised"]]
    assert kinds(check(state, 80_000 + BURST_MS, [view(epoch=9)], control)) == ["restarting resolved"]


def test_live_bars_that_are_not_decided_are_reported_and_replayed_ones_are_not() -> None:
    state = State()
    observe(state, decision(), 0, 0)
    assert check(state, 4 * MINUTE_MS, [], Control()) == []
    assert kinds(check(state, 4 * MINUTE_MS + 1, [], Control())) == ["no-decisions raised"]
    assert kinds(observe(state, decision(), 0, 5 * MINUTE_MS)) == ["no-decisions resolved"]
    replayed = State()
    observe(replayed, decision(origin="replay"), 0, 0)
    assert check(replayed, 60 * MINUTE_MS, [], Control()) == []


def test_a_server_that_does_not_answer_for_half_a_minute_is_reported() -> None:
    state = State()
    assert check_server(state, 29_000, "refused", 0) == []
    assert kinds(check_server(state, 30_000, "refused", 0)) == ["log-unreachable raised"]
    assert kinds(check_server(state, 31_000, "", 31_000)) == ["log-unreachable resolved"]


def test_what_is_remembered_survives_its_file() -> None:
    state = State()
    for at in range(3):
        observe(state, decision("no_quorum"), 0, at)
    observe_command(state, recorded(4, Promote("xgboost", HEAD), at=1_000))
    check(state, 5, [view()], Control())
    again = msgspec.json.decode(msgspec.json.encode(state), type=State)
    assert again == state
    assert kinds(observe(again, decision(version=4), 0, 9)) == ["no-quorum resolved"]


def test_gauges_are_those_of_the_table_and_forget_a_candidate_that_is_gone() -> None:
    state = State()
    gate = GateVerdict(
        name="skill", verdict="inconclusive", kind="needed", value=3.5, threshold=20.0, samples=500, low=None, high=None
    )
    reached_ = VerdictReached(
        model="xgboost",
        artifact=HEAD,
        champion=None,
        policy="default",
        policy_digest=HEAD,
        overall="inconclusive",
        gates=(gate,),
        scores=500,
        since=0,
        until=1,
        first_score=EVENT,
        last_score=EVENT,
        control_version=1,
    )
    assert observe(state, reached_, 0, 1) == []
    here = Control(version=3, models={"xgboost": Model(champion="1" * 64, weight=1.0, shadows=(HEAD,))})
    check(state, 2, [view(lag=4)], here)
    found = {(name, at): value for name, at, value in readings(state, [view(lag=4)], here, 2, LoneLines())}
    assert found["conclave.gate.value", ("xgboost", HEAD[:12], "0", "skill")] == 3.5
    assert found["conclave.gate.threshold", ("xgboost", HEAD[:12], "0", "skill")] == 20.0
    assert found["conclave.group.lag", ("ensemble-voter", "0", "predictions")] == 4
    assert found["conclave.model.weight", ("xgboost",)] == 1.0
    assert found["conclave.notices.waiting", ()] == 2
    assert {name for name, _ in found} <= set(METRICS)
    assert all(len(at) == len(METRICS[name].attributes) for name, at in found)
    assert {at[0] for name, at in found if name == "conclave.alerts"} == set(ALERTS)
    check(state, 3, [], Control(version=4))
    assert state.judged == {}


def test_a_training_is_followed_and_its_refusal_reported() -> None:
    state = State()
    going = TrainingProgressed(
        request=EVENT, model="xgboost", stage="fitting", number=3, of=12, at=1, train_loss=0.9, held_loss=1.05
    )
    assert observe(state, going, 0, 1) == []
    found = {(name, at): value for name, at, value in readings(state, [], Control(), 0, LoneLines())}
    assert found["conclave.training.stage", ("xgboost", "fitting")] == 1.0
    assert found["conclave.training.progress", ("xgboost",)] == 0.25
    assert found["conclave.training.log_loss", ("xgboost", "held")] == 1.05
    refused = TrainingRejected(
        request=EVENT,
        model="xgboost",
        reason="collapsed",
        evidence="one answer to everything",
        quarantine="quarantine/x",
        seconds=3.0,
        at=2,
    )
    [notice] = observe(state, refused, 0, 2)
    assert (notice.alert, notice.severity) == ("retrain-rejected", "warning")
    assert "collapsed; one answer to everything" in notice.text
    assert [
        reading.attributes
        for reading in readings(state, [], Control(), 0, LoneLines())
        if reading.name.endswith("stage")
    ] == [("xgboost", "rejected")]
    failed = TrainingFailed(request=EVENT, model="xgboost", reason="out_of_memory", detail="6144 MiB", at=3)
    assert kinds(observe(state, failed, 0, 3)) == ["retrain-failed reported"]


def test_the_fit_of_a_stacker_is_followed_and_its_result_reported() -> None:
    state = State()
    notices = []
    for each in examples():
        if isinstance(each.envelope.event, StackerRequested | StackerStarted | StackerRejected):
            notices += observe(state, each.envelope.event, 0, 1)
    assert notices == []  # a rejection is the rule, and no reason to look
    assert state.jobs["ensemble"].stage == "rejected"
    [made] = [each.envelope.event for each in examples() if isinstance(each.envelope.event, StackerFitted)]
    [notice] = observe(state, made, 0, 2)
    assert (notice.alert, notice.subject) == ("retrained", "ensemble")
    assert notice.text.endswith("+0.50 mnat [+0.12, +0.88] over the one in force")
    assert state.jobs["ensemble"].stage == "completed"


def test_a_probation_that_is_not_ended_in_time_is_reported_as_a_dead_guard_is() -> None:
    """Two guards were dead for ten days once."""
    state = State()
    here = Control(probations=Map({"xgboost": Probation(HEAD, 4, 3, 0)}))
    observe_command(state, recorded(4, Promote("xgboost", HEAD, probation=3)))
    ballot = CountedBallot(
        model="xgboost",
        artifact=HEAD,
        event=EVENT,
        action="BUY",
        confidence=0.5,
        probabilities=(0.25, 0.25, 0.5),
        weight=1.0,
        effect=0.1,
        pivotal=False,
    )
    for at in range(5):
        observe(state, decision(version=3 if at == 0 else 4, counted=(ballot,), origin="replay"), 0, at)
    assert check(state, MINUTE_MS, [], here) == []
    assert kinds(check(state, 3 + MINUTE_MS, [], here)) == ["probation-overdue raised"]
    assert kinds(check(state, 4 + MINUTE_MS, [], Control())) == ["probation-overdue resolved"]
    assert state.trials == {}


def test_a_voting_model_that_never_had_a_worker_is_told_once_and_resolved_by_one() -> None:
    state, control = State(), Control(models={"xgbost": Model("a" * 64, weight=1.0)}, partitions=1)
    views = [view()]
    assert kinds(check(state, 0, views, control)) == []  # it may be starting
    notices = check(state, MINUTE_MS, views, control)
    assert kinds(notices) == ["group-down raised"]
    assert "xgbost votes, and no worker has served it in partition 0" in notices[0].text
    assert kinds(check(state, 2 * MINUTE_MS, views, control)) == []
    served = [view(at="2-0"), view("model-worker.xgbost", at="2-0")]
    assert kinds(check(state, 2 * MINUTE_MS + 1, served, control)) == ["group-down resolved"]


def test_no_worker_is_missed_for_a_shadow_or_in_a_partition_that_has_one() -> None:
    state, control = State(), Control(models={"shadowed": Model(None, ("a" * 64,))}, partitions=1)
    for now in (0, MINUTE_MS):
        assert kinds(check(state, now, [view(at=f"{now + 1}-0")], control)) == []
