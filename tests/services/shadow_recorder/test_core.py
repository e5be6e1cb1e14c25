"""Scores follow from the recorded events alone."""

import math
import random
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from world import ART, MINUTE, MODEL, STREAMS, TWO, Builder, Run, World, limits, random_world, register

from schemas.codec import Envelope, decode, encode
from schemas.control import Found, Promote, SetVotingPolicy, StartPolicyShadow, StartShadow, StopShadow
from schemas.decisions import DecisionMade
from schemas.gates import VerdictReached
from schemas.operations import InterferenceFound
from schemas.scores import (
    BallotMissing,
    InterferenceChecked,
    PredictionScored,
    PredictionUnscored,
    TradeJoined,
)
from services.gate_evaluator.core import Evaluator
from services.shadow_recorder.core import Recorder
from shared.control.policies import policy_digest
from shared.runtime.service import Batch, Received

BULL = (0.1, 0.3, 0.6)
BEAR = (0.6, 0.3, 0.1)
WARM = 101


def rising(builder: Builder, bars: int = WARM + 80, last: int = 0) -> None:
    """A market that jitters and rises from bar ``WARM`` on."""
    close = 100.0
    for number in range(last + 1, bars + 1):
        close *= math.exp((0.001 if number % 2 else -0.001) + (0.002 if number > WARM else 0.0))
        builder.bar(number, close)


def all_predict(builder: Builder, number: int) -> None:
    for artifact in ("a2", "c", "a", "b"):
        builder.predict(artifact, number, BULL if artifact != "b" else BEAR)


def run_of(builder: Builder) -> Run:
    return Run(builder.world()).in_order()


def test_a_prediction_is_scored_with_its_decision_and_its_outcome() -> None:
    builder = Builder()
    all_predict(builder, WARM)
    rising(builder)
    scores = run_of(builder).events(PredictionScored)
    assert [(s.model, s.role, s.artifact.hex()) for s in scores] == [
        ("a", "voting", ART["a"]),
        ("a", "shadow", ART["a2"]),
        ("b", "voting", ART["b"]),
        ("c", "shadow", ART["c"]),
    ]
    first = scores[0]
    assert first.outcome == "BUY"
    assert first.action == "BUY"
    assert first.hit
    assert first.log_loss == pytest.approx(-math.log(0.6))
    assert first.brier == pytest.approx(0.1**2 + 0.3**2 + 0.4**2)
    assert first.signed_return == pytest.approx(math.expm1(first.forward_return) - 0.002)
    assert first.decided is not None
    assert first.ends == (WARM + 3) * MINUTE
    assert first.hour_return is not None
    assert not first.late
    assert scores[1].incumbent == BULL
    assert scores[1].incumbent_artifact == bytes.fromhex(ART["a"])
    assert first.incumbent is None
    assert scores[3].incumbent is None


def test_a_score_waits_for_the_last_bar_of_its_horizon_and_hour() -> None:
    builder = Builder()
    all_predict(builder, WARM)
    rising(builder, WARM + 59)
    assert run_of(builder).events(PredictionScored) == []
    rising(builder, WARM + 60, WARM + 59)
    assert len(run_of(builder).events(PredictionScored)) == 4


def test_the_pool_without_a_voter_leaves_it_out_and_with_a_shadow_replaces_its_champion() -> None:
    builder = Builder()
    builder.predict("a2", WARM, BEAR)
    builder.predict("c", WARM, BULL)
    builder.predict("a", WARM, BULL)
    builder.predict("b", WARM, BULL)
    rising(builder)
    decision = builder.streams["decisions"][0].envelope.event
    voter, rival, _, newcomer = run_of(builder).events(PredictionScored)
    assert voter.pool_with == pytest.approx(decision.probabilities, abs=1e-12)
    assert voter.pool_without != voter.pool_with
    assert rival.pool_without == voter.pool_with
    assert rival.pool_with[2] < rival.pool_without[2]
    assert newcomer.pool_without == voter.pool_with
    assert sum(newcomer.pool_with) == pytest.approx(1.0)


def test_where_no_model_votes_shadows_are_scored_without_a_decision() -> None:
    builder = Builder((Found(1, "log-of-a-test"), register("a"), StartShadow("a", ART["a"])))
    builder.predict("a", WARM, BULL)
    rising(builder)
    (score,) = run_of(builder).events(PredictionScored)
    assert score.decision is None
    assert score.decided is None
    assert score.role == "shadow"
    assert score.pool_with == pytest.approx(_centred(BULL))


def _centred(p: tuple[float, float, float]) -> tuple[float, float, float]:
    """The pool of one member with weight one: its prior, times its probabilities over its centre."""
    raw = [prior * p_k / centre for prior, p_k, centre in zip((0.25, 0.5, 0.25), p, (1, math.exp(0.1), 1), strict=True)]
    return (raw[0] / sum(raw), raw[1] / sum(raw), raw[2] / sum(raw))


def test_a_late_ballot_is_scored_as_late_and_missing_from_its_round() -> None:
    builder = Builder()
    for artifact in ("c", "a", "b", "a2"):
        builder.predict(artifact, WARM, BULL)
    rising(builder)
    run = run_of(builder)
    late = [score for score in run.events(PredictionScored) if score.late]
    assert [score.artifact.hex() for score in late] == [ART["a2"]]
    (missing,) = run.events(BallotMissing)
    assert missing.artifact == late[0].artifact
    assert missing.decision == late[0].decision


def test_a_ballot_far_too_late_is_not_scored() -> None:
    builder = Builder()
    for number in range(WARM, WARM + 140):
        builder.predict("a", number, BULL)
        builder.predict("b", number, BULL)
    builder.predict("a2", WARM, BULL)
    rising(builder, WARM + 210)
    with limits(late=128):
        run = run_of(builder)
    assert [(u.reason, u.artifact.hex()) for u in run.events(PredictionUnscored)] == [("unheard", ART["a2"])]


@pytest.mark.parametrize(("reason", "expected"), [("error", "failed"), ("features_withheld", "withheld")])
def test_a_failure_is_unscored_at_once_with_its_reason(reason: str, expected: str) -> None:
    builder = Builder()
    builder.predict("a2", WARM, reason)
    (event,) = run_of(builder).events(PredictionUnscored)
    assert event.reason == expected
    assert event.role == "shadow"
    assert reason in event.detail


def test_no_label_crosses_missing_bars() -> None:
    builder = Builder()
    all_predict(builder, WARM)
    rising(builder, WARM + 1)
    rising(builder, WARM + 90, WARM + 2)
    run = run_of(builder)
    assert run.events(PredictionScored) == []
    assert {event.reason for event in run.events(PredictionUnscored)} == {"gap"}


def test_before_volatility_is_known_there_is_no_label() -> None:
    builder = Builder()
    all_predict(builder, WARM - 1)
    rising(builder)
    assert {event.reason for event in run_of(builder).events(PredictionUnscored)} == {"warming"}


def test_an_artifact_whose_classes_are_unknown_is_unlabelled() -> None:
    builder = Builder((TWO[0], register("a", horizon=None, kappa=None), StartShadow("a", ART["a"])))
    builder.features(WARM)
    builder.predict("a", WARM, BULL)
    (event,) = run_of(builder).events(PredictionUnscored)
    assert event.reason == "unlabelled"


def test_a_symbol_whose_bars_stop_is_given_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.labels.stream.EXPIRES_AFTER_BARS", 50)
    monkeypatch.setattr("services.shadow_recorder.core.SWEEP", 10)
    builder = Builder()
    rising(builder, WARM)
    all_predict(builder, WARM)
    for number in range(1, 80):
        builder.bar(WARM + number, 10.0, "ETH")
    run = run_of(builder)
    assert {event.reason for event in run.events(PredictionUnscored)} == {"gap"}
    assert run.waiting == []


def test_shadows_change_nothing_and_n_of_n_is_counted() -> None:
    builder = Builder()
    for number in range(WARM, WARM + 5):
        all_predict(builder, number)
    checks = run_of(builder).events(InterferenceChecked)
    assert [(check.checked, check.equal_so_far, check.equal, check.shadows) for check in checks] == [
        (n, n, True, 2) for n in range(1, 6)
    ]


def _altered(received: Received, **changed: object) -> Received:
    envelope: Envelope[DecisionMade] = received.envelope
    event = replace(envelope.event, **changed)
    again = encode("decisions", event, causation=envelope.causation, correlation=envelope.correlation)
    return received._replace(envelope=again.envelope)


@pytest.mark.parametrize("what", ["probabilities", "action", "shadow counted", "weight", "head"])
def test_a_vote_that_a_shadow_touched_raises_an_alarm(what: str) -> None:
    builder = Builder()
    all_predict(builder, WARM)
    (received,) = builder.streams["decisions"]
    decision = received.envelope.event
    first, *rest = decision.counted
    changes: dict[str, dict[str, Any]] = {
        "probabilities": {"probabilities": tuple(p + 1e-12 * (k - 1) for k, p in enumerate(decision.probabilities))},
        "action": {"action": "SELL" if decision.action != "SELL" else "BUY"},
        "shadow counted": {"counted": (replace(first, artifact=ART["a2"]), *rest)},
        "weight": {"counted": (replace(first, weight=first.weight + 1e-9), *rest)},
        "head": {"control_head": "0" * 64},
    }
    builder.streams["decisions"][0] = _altered(received, **changes[what])
    run = run_of(builder)
    (check,) = run.events(InterferenceChecked)
    assert not check.equal
    assert (check.checked, check.equal_so_far) == (1, 0)
    (alarm,) = run.events(InterferenceFound)
    assert alarm.decision == check.decision.hex()
    assert alarm.detail == check.detail != ""


def _decided(builder: Builder) -> Envelope[DecisionMade]:
    for artifact in ("a2", "c", "a", "b"):
        builder.predict(artifact, WARM, BULL)
    found: Envelope[DecisionMade] = builder.streams["decisions"][0].envelope
    assert found.event.intent == "issued"
    return found


def test_a_closed_trade_is_joined_with_its_decision() -> None:
    builder = Builder()
    decision = _decided(builder)
    builder.close_trade(decision)
    (joined,) = run_of(builder).events(TradeJoined)
    assert joined.joined
    assert joined.decision == decision.id
    assert joined.confidence == decision.event.confidence
    assert joined.gross == pytest.approx(0.01)
    assert joined.net == pytest.approx(0.008)


@pytest.mark.parametrize("wrong", [{"action": "SELL"}, {"origin": "live"}, {"decision": "0" * 32}])
def test_a_trade_that_does_not_fit_its_decision_is_not_joined(wrong: dict[str, str]) -> None:
    builder = Builder()
    builder.close_trade(_decided(builder), **wrong)
    builder.clock += 61_000
    all_predict(builder, WARM + 1)
    (joined,) = run_of(builder).events(TradeJoined)
    assert not joined.joined
    assert next(iter(wrong.values())) in joined.detail


def shuffled(world: World, dice: random.Random, restarts: int) -> Run:
    """The streams in whatever order and batches, held back where the recorder asks, restarted."""
    run = Run(world)
    most = dice.choice([20, 200, 1000])
    bias = [dice.choice([dice.random(), 0.1, 1.0]) for _ in STREAMS]
    while not run.done:
        held = run.recorder.paused_streams(run.state)
        chosen = [name for name, odds in zip(STREAMS, bias, strict=True) if dice.random() < odds and name not in held]
        run.take(*dice.sample(chosen, len(chosen)), count=dice.randint(1, most), ahead=dice.choice([0, 0, 1, 9]))
        if restarts and dice.random() < 0.2:
            run.restart()
            restarts -= 1
    return run


def backlog(builder: Builder, count: int) -> Run:
    """A recorder that was started late, as the runtime reads: so many entries of each stream that is not held."""
    run = Run(builder.world())
    while not run.done:
        held = run.recorder.paused_streams(run.state)
        run.take(*(name for name in STREAMS if name not in held), count=count)
    return run


@pytest.mark.parametrize("count", [1000, 200, 7])
def test_a_backlog_has_the_scores_of_a_recorder_that_kept_pace(count: int) -> None:
    """Given a voting model and a shadow that answer 300 bars after the others, so that decisions are as late, and four
    predictions for each bar, so that a recorder which reads as much of each stream has all decisions long before."""
    builder = Builder()
    for number in range(1, 900):
        builder.bar(number, 100.0 + number % 7)
        for artifact in ("a", "c") if number > WARM else ():
            builder.predict(artifact, number, BULL)
        for artifact in ("b", "a2") if number > WARM + 300 else ():
            builder.predict(artifact, number - 300, BEAR)
    expected = run_of(builder)
    assert len(expected.events(PredictionScored)) == 4 * (899 - WARM - 300)
    assert sorted(one.data for one in backlog(builder, count).outputs) == sorted(one.data for one in expected.outputs)


def verdicts(world: World, run: Run) -> list[bytes]:
    """What the gate-evaluator writes over the scores of a run."""
    evaluator = Evaluator()
    state = evaluator.initial(b"")
    evaluator.apply(state, Batch(world.commands, ()))
    scores = [each.envelope for each in run.outputs if each.stream == "scores"]
    received = [Received("scores", f"{number}-0", each) for number, each in enumerate(scores, 1)]
    return [each.data for each in evaluator.handle(state, Batch((), received))]


@pytest.mark.parametrize("count", [1000, 200])
def test_a_backlog_has_the_verdicts_of_a_recorder_that_kept_pace(count: int) -> None:
    """Given two workers that wrote 300 bars at a time, so that in a backlog one is read far ahead of the other."""
    builder = Builder()
    for number in range(1, 1100):
        builder.bar(number, 100.0 + number % 7)
        if number > WARM:
            builder.predict("a", number, BULL)
            builder.predict("a2", number, BULL if number % 3 else BEAR)
        if number > WARM and number % 300 == 0:
            for earlier in range(max(WARM + 1, number - 299), number + 1):
                builder.predict("b", earlier, BEAR)
                builder.predict("c", earlier, BULL if number % 5 else BEAR)
    kept_pace = run_of(builder)
    expected = verdicts(builder.world(), kept_pace)
    assert any(isinstance(decode("gates", each).event, VerdictReached) for each in expected)
    assert verdicts(builder.world(), backlog(builder, count)) == expected


@pytest.mark.parametrize("count", [1000, 200])
def test_a_log_without_stamps_loses_no_score_in_a_backlog(count: int) -> None:
    builder = Builder(stamped=False)
    for number in range(1, 600):
        builder.bar(number, 100.0 + number % 7)
        if number > WARM:
            all_predict(builder, number)
    expected = sorted(one.data for one in run_of(builder).outputs)
    assert sorted(one.data for one in backlog(builder, count).outputs) == expected


def test_bars_that_no_artifact_answers_are_dropped_and_those_of_the_first_shadow_are_kept() -> None:
    builder = Builder((TWO[0], register("a")))
    rising(builder, WARM + 20)
    builder.issue(StartShadow("a", ART["a"]))
    rising(builder, WARM + 100, WARM + 20)
    run = Run(builder.world())
    run.take("market", "features", count=10_000)
    assert run.state.series["BTC", MINUTE, False].history.times[0] == (WARM + 21) * MINUTE
    for number in range(WARM + 21, WARM + 25):
        builder.predict("a", number, BULL)
    run.take("predictions", count=10)
    assert [score.open_time // MINUTE for score in run.events(PredictionScored)] == list(range(WARM + 21, WARM + 25))


def test_an_answer_under_a_configuration_that_did_not_have_its_artifact_is_unheard() -> None:
    builder = Builder((*TWO, StopShadow("c", ART["c"])))
    rising(builder)
    all_predict(builder, WARM)
    assert [(u.reason, u.model) for u in run_of(builder).events(PredictionUnscored)] == [("unheard", "c")]


def test_a_ballot_that_its_decision_lists_is_scored_however_late_it_is() -> None:
    """Given a voting model that was dead for 300 bars, whose rounds waited for it."""
    builder = Builder()
    rising(builder, WARM + 400)
    for number in range(WARM, WARM + 300):
        builder.predict("a", number, BULL)
    for number in range(WARM, WARM + 300):
        builder.predict("b", number, BULL)
    with limits(late=20):
        run = run_of(builder)
    assert len([score for score in run.events(PredictionScored) if score.model == "b"]) == 300


def test_a_restart_makes_no_prediction_late_that_was_not() -> None:
    """Given predictions that wait for bars, when others are answered far ahead of them and the recorder restarts."""
    shadows = (StartShadow("a", ART["a"]), StartShadow("c", ART["c"]))
    builder = Builder((TWO[0], register("a"), register("c"), *shadows))
    rising(builder)
    for artifact in ("a", "c"):
        for number in range(WARM, WARM + 10) if artifact == "a" else range(WARM, WARM + 60):
            builder.predict(artifact, number, BULL)
    run = Run(builder.world())
    with limits(late=12):
        run.take("features", "predictions", count=1000)
        run.restart()
        run.take("market", count=1000)
    assert len([score for score in run.events(PredictionScored) if score.model == "a"]) == 10


def test_a_memo_of_an_earlier_release_is_read() -> None:
    feed = (
        "BTC",
        MINUTE,
        False,
        150,
        (150 * MINUTE, 100.0, 1e-4, 30.0, 149),
        (("a", bytes.fromhex(ART["a"]), 151 * MINUTE, "9-0"),),
    )
    former = msgspec.msgpack.encode((150, 7, 6, "9-0", (), (feed,)))
    state = Recorder().initial(former)
    series = state.series["BTC", MINUTE, False]
    assert (state.checked, state.equal, state.count) == (7, 6, 150)
    assert (series.complete, series.history.base.seen) == (150 * MINUTE, 149)
    assert series.answered(("a", ART["a"])) == 151 * MINUTE


SMALL = {"late": 12, "margin": 40, "ahead": 10, "queued": 10}
"""Limits that a world of 120 bars reaches; at its most, a step of its clock is 50 ms."""


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), small=st.booleans(), restarts=st.sampled_from([0, 10]))
def test_scores_depend_on_no_order_of_streams_no_cut_and_no_restart(seed: int, small: bool, restarts: int) -> None:
    world = random_world(seed, bars=120)
    dice = random.Random(seed)
    with limits(**(SMALL if small else {})):
        reference = Run(world).in_order()
        expected = sorted(sealed.data for sealed in reference.outputs)
        run = shuffled(world, dice, restarts)
    assert sorted(sealed.data for sealed in run.outputs) == expected
    assert run.waiting == reference.waiting
    assert rows_in_order(run) == rows_in_order(reference)


def rows_in_order(run: Run) -> dict[str, list[tuple[int, bytes]]]:
    """The scores whose ballot a decision lists, by symbol, in the order in which they were written."""
    rows: dict[str, list[tuple[int, bytes]]] = {}
    for score in run.events(PredictionScored):
        if score.decision is not None and not score.late:
            rows.setdefault(score.symbol, []).append((score.open_time, score.artifact))
    return rows


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_every_prediction_is_scored_or_has_a_reason_once_and_in_order(seed: int) -> None:
    world = random_world(seed, bars=60)
    run = Run(world).in_order()
    settled = [event.prediction for event in run.events(PredictionScored) + run.events(PredictionUnscored)]
    predicted = [received.envelope.id for received in world.streams["predictions"]]
    assert sorted(settled + run.waiting) == sorted(predicted + decided_by_policies(world))
    times: dict[tuple[str, bytes], list[int]] = {}
    for score in run.events(PredictionScored):
        times.setdefault((score.symbol, score.artifact), []).append(score.open_time)
    assert all(a < b for each in times.values() for a, b in pairwise(each))


def decided_by_policies(world: World) -> list[bytes]:
    """The decisions of rounds with a quorum, once for each voting policy in shadow that had one too."""
    decisions = [received.envelope for received in world.streams["decisions"]]
    return [
        envelope.id
        for envelope in decisions
        if isinstance(envelope.event, DecisionMade) and envelope.event.status == "decided"
        for vote in envelope.event.candidates or ()
        if vote.status == "decided"
    ]


def test_a_voting_policy_in_shadow_is_scored_as_the_ensemble_against_the_one_in_force() -> None:
    calm = SetVotingPolicy(quorum_count=1, edge=0.5, temperature=0.5)
    builder = Builder((*TWO, StartPolicyShadow(calm)))
    builder.predict("a2", WARM, BULL)
    builder.predict("c", WARM, BULL)
    builder.predict("a", WARM, BULL)
    builder.predict("b", WARM, BULL)
    rising(builder)
    run = run_of(builder)
    decision = builder.streams["decisions"][0].envelope
    rows = run.events(PredictionScored)
    [row] = [score for score in rows if score.model == "ensemble"]
    assert len(rows) == 5
    assert (row.role, row.late, row.artifact.hex()) == ("shadow", False, policy_digest(calm))
    assert row.prediction == row.decision == decision.id
    [vote] = decision.event.candidates
    assert (row.probabilities, row.action) == (vote.probabilities, vote.action)
    assert (row.incumbent, row.decided) == (decision.event.probabilities, decision.event.action)
    assert row.incumbent_artifact == bytes.fromhex(policy_digest(builder.control.policy))
    assert (row.pool_with, row.pool_without) == (row.probabilities, row.incumbent)
    assert sum(row.prior) == pytest.approx(1.0)
    member = next(score for score in rows if score.model == "b")
    same = ("outcome", "forward_return", "horizon", "kappa", "ends", "prices", "decided", "decision")
    assert [getattr(row, name) for name in same] == [getattr(member, name) for name in same]
    assert row.signed_return == pytest.approx(math.expm1(row.forward_return) - 0.002)


def test_where_the_voting_models_have_labels_of_their_own_the_vote_has_no_score() -> None:
    builder = Builder((*TWO, StartPolicyShadow(SetVotingPolicy(quorum_count=1, edge=0.5))))
    other = register("b", horizon=4)
    builder.issue(msgspec.structs.replace(other, artifact="dd" * 32))
    builder.issue(Promote("b", "dd" * 32, forced=True, accept_changes=True))
    ART["b2"], MODEL["b2"] = "dd" * 32, "b"
    try:
        for artifact in ("a2", "c", "a", "b2"):
            builder.predict(artifact, WARM, BULL)
    finally:
        del ART["b2"], MODEL["b2"]
    rising(builder)
    [row] = [event for event in run_of(builder).events(PredictionUnscored) if event.model == "ensemble"]
    assert (row.reason, row.detail) == ("unlabelled", "the voting models have labels of their own")


def size(run: Run) -> tuple[int, int, int, int, int]:
    """Bars, stamps, decisions and predictions that are kept of BTC, and the memo in units of 16 bytes."""
    series = run.state.series["BTC", MINUTE, False]
    queued = sum(len(line.queue) for line in series.pending.values())
    memo = len(run.recorder.snapshot(run.state)) // 16
    return len(series.history.times), len(series.stamps), len(series.decisions), queued, memo


def test_what_is_remembered_does_not_grow_with_the_bars() -> None:
    sizes = []
    builder = Builder()
    rising(builder, WARM)
    run = Run(builder.world())
    for number in range(WARM + 1, WARM + 600):
        builder.bar(number, 100.0 + number % 7)
        all_predict(builder, number)
        run.take(*STREAMS, count=10_000)
        if number in {WARM + 300, WARM + 599}:
            sizes.append(size(run))
    assert sizes[0] == sizes[1]
    assert max(sizes[0][:3]) < 70


def test_a_dead_shadow_costs_late_bars_and_no_score_of_the_others() -> None:
    builder = Builder()
    run = Run(builder.world())
    with limits(late=100):
        for number in range(1, WARM + 300):
            builder.bar(number, 100.0 + number % 7)
            for artifact in ("a2", "a", "b") if number > 150 else ():
                builder.predict(artifact, number, BULL)
            run.take(*STREAMS, count=10_000)
    assert max(size(run)[:3]) < 165
    assert len(run.events(PredictionScored)) == 3 * (WARM + 299 - 150 - 60)


def test_decisions_far_ahead_of_their_predictions_are_paused() -> None:
    builder = Builder()
    for number in range(WARM, WARM + 200):
        all_predict(builder, number)
    rising(builder, WARM + 205)
    run = Run(builder.world())
    with limits(late=10, ahead=20):
        run.take("decisions", count=150)
        assert set(run.recorder.paused_streams(run.state)) == {"decisions"}
        run.take("market", "features", "predictions", count=100_000)
        assert set(run.recorder.paused_streams(run.state)) == set()


def test_bars_far_ahead_of_predictions_are_paused() -> None:
    builder = Builder()
    rising(builder, 200)
    run = Run(builder.world())
    with limits(late=10, ahead=20):
        run.take("market", "features", count=150)
        assert set(run.recorder.paused_streams(run.state)) == {"market", "features"}


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), missing=st.sampled_from([(), ("decisions",), ("features",), ("predictions",)]))
def test_holding_back_stops_no_stream_for_good(seed: int, missing: tuple[str, ...]) -> None:
    """Given streams that may miss what another waits for, when those that are not held are read and nothing else, then
    all of them are read to the end, and the number of turns has a bound."""
    world = random_world(seed, bars=70)
    world = World(world.commands, {name: [] if name in missing else events for name, events in world.streams.items()})
    dice = random.Random(seed)
    with limits(late=5, ahead=0, queued=0):
        run, turns = Run(world), 0
        while not run.done:
            held = run.recorder.paused_streams(run.state)
            run.take(*(name for name in STREAMS if name not in held), count=dice.choice([20, 1000]))
            turns += 1
            assert turns < 20_000
        expected = sorted(sealed.data for sealed in Run(world).in_order().outputs)
        assert sorted(sealed.data for sealed in run.outputs) == expected
