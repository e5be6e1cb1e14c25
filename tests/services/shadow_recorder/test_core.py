"""Scores follow from the events behind them alone."""

import math
import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from world import ART, MINUTE, STREAMS, TWO, Builder, Run, World, random_world, register

from schemas.codec import Envelope, seal
from schemas.control import Found, StartShadow
from schemas.decisions import DecisionMade
from schemas.operations import InterferenceFound
from schemas.scores import (
    BallotMissing,
    InterferenceChecked,
    PredictionScored,
    PredictionUnscored,
    TradeJoined,
)
from shared.service import Received

BULL = (0.1, 0.3, 0.6)
BEAR = (0.6, 0.3, 0.1)
WARM = 101


def rising(builder: Builder, bars: int = WARM + 80, last: int = 0) -> None:
    """A market that jitters and rises from bar ``WARM`` on."""
    close = 100.0
    for number in range(last + 1, bars + 1):
        close *= math.exp((0.001 if number % 2 else -0.001) + (0.002 if number > WARM else 0.0))
        builder.bar(number, close)


def all_say(builder: Builder, number: int) -> None:
    for artifact in ("a2", "c", "a", "b"):
        builder.say(artifact, number, BULL if artifact != "b" else BEAR)


def run_of(builder: Builder) -> Run:
    return Run(builder.world()).in_order()


def test_a_prediction_is_scored_with_its_decision_and_its_outcome() -> None:
    builder = Builder()
    all_say(builder, WARM)
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
    all_say(builder, WARM)
    rising(builder, WARM + 59)
    assert run_of(builder).events(PredictionScored) == []
    rising(builder, WARM + 60, WARM + 59)
    assert len(run_of(builder).events(PredictionScored)) == 4


def test_the_pool_without_a_voter_leaves_it_out_and_with_a_shadow_replaces_its_champion() -> None:
    builder = Builder()
    builder.say("a2", WARM, BEAR)
    builder.say("c", WARM, BULL)
    builder.say("a", WARM, BULL)
    builder.say("b", WARM, BULL)
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
    builder.say("a", WARM, BULL)
    rising(builder)
    (score,) = run_of(builder).events(PredictionScored)
    assert score.decision is None
    assert score.decided is None
    assert score.role == "shadow"
    assert score.pool_with == pytest.approx(_centred(BULL))


def _centred(p: tuple[float, float, float]) -> tuple[float, float, float]:
    """One member at weight one: its prior, times what it says over its centre."""
    raw = [
        prior * said / centre for prior, said, centre in zip((0.25, 0.5, 0.25), p, (1, math.exp(0.1), 1), strict=True)
    ]
    return (raw[0] / sum(raw), raw[1] / sum(raw), raw[2] / sum(raw))


def test_a_late_ballot_is_scored_as_late_and_missing_from_its_round() -> None:
    builder = Builder()
    for artifact in ("c", "a", "b", "a2"):
        builder.say(artifact, WARM, BULL)
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
        builder.say("a", number, BULL)
        builder.say("b", number, BULL)
    builder.say("a2", WARM, BULL)
    rising(builder, WARM + 210)
    run = run_of(builder)
    assert [(u.reason, u.artifact.hex()) for u in run.events(PredictionUnscored)] == [("unheard", ART["a2"])]


@pytest.mark.parametrize(("reason", "expected"), [("error", "failed"), ("features_withheld", "withheld")])
def test_a_failure_is_unscored_at_once_with_its_reason(reason: str, expected: str) -> None:
    builder = Builder()
    builder.say("a2", WARM, reason)
    (event,) = run_of(builder).events(PredictionUnscored)
    assert event.reason == expected
    assert event.role == "shadow"
    assert reason in event.detail


def test_no_label_crosses_missing_bars() -> None:
    builder = Builder()
    all_say(builder, WARM)
    rising(builder, WARM + 1)
    rising(builder, WARM + 90, WARM + 2)
    run = run_of(builder)
    assert run.events(PredictionScored) == []
    assert {event.reason for event in run.events(PredictionUnscored)} == {"gap"}


def test_before_volatility_is_known_there_is_no_label() -> None:
    builder = Builder()
    all_say(builder, WARM - 1)
    rising(builder)
    assert {event.reason for event in run_of(builder).events(PredictionUnscored)} == {"warming"}


def test_an_artifact_whose_classes_are_unknown_is_unlabelled() -> None:
    builder = Builder((TWO[0], register("a", horizon=None, kappa=None), StartShadow("a", ART["a"])))
    builder.say("a", WARM, BULL)
    (event,) = run_of(builder).events(PredictionUnscored)
    assert event.reason == "unlabelled"


def test_a_symbol_whose_bars_stop_is_given_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.shadow_recorder.core.FORGOTTEN", 50)
    monkeypatch.setattr("services.shadow_recorder.core.SWEEP", 10)
    builder = Builder()
    rising(builder, WARM)
    all_say(builder, WARM)
    for number in range(1, 80):
        builder.bar(WARM + number, 10.0, "ETH")
    run = run_of(builder)
    assert {event.reason for event in run.events(PredictionUnscored)} == {"gap"}
    assert ("BTC", MINUTE, False) not in run.state.feeds


def test_shadows_change_nothing_and_n_of_n_is_counted() -> None:
    builder = Builder()
    for number in range(WARM, WARM + 5):
        all_say(builder, number)
    checks = run_of(builder).events(InterferenceChecked)
    assert [(check.checked, check.equal_so_far, check.equal, check.shadows) for check in checks] == [
        (n, n, True, 2) for n in range(1, 6)
    ]


def _altered(received: Received, **changed: object) -> Received:
    envelope: Envelope[DecisionMade] = received.envelope
    event = replace(envelope.event, **changed)
    again = seal("decisions", event, causation=envelope.causation, correlation=envelope.correlation)
    return received._replace(envelope=again.envelope)


@pytest.mark.parametrize("what", ["probabilities", "action", "shadow counted", "weight", "head"])
def test_a_vote_that_a_shadow_touched_raises_an_alarm(what: str) -> None:
    builder = Builder()
    all_say(builder, WARM)
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
        builder.say(artifact, WARM, BULL)
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
def test_a_trade_that_does_not_fit_its_decision_says_so(wrong: dict[str, str]) -> None:
    builder = Builder()
    builder.close_trade(_decided(builder), **wrong)
    (joined,) = run_of(builder).events(TradeJoined)
    assert not joined.joined
    assert next(iter(wrong.values())) in joined.detail


def shuffled(world: World, dice: random.Random, restarts: int) -> Run:
    """The streams in whatever order and batches, held back where the recorder asks, restarted."""
    run = Run(world)
    most = dice.choice([5, 50, 1000])
    bias = [dice.random() for _ in STREAMS]
    while not run.done:
        held = run.recorder.hold(run.state)
        chosen = [name for name, odds in zip(STREAMS, bias, strict=True) if dice.random() < odds and name not in held]
        run.take(*chosen, count=dice.randint(1, most))
        if restarts and dice.random() < 0.2:
            run.restart()
            restarts -= 1
    return run


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_scores_depend_on_no_order_of_streams_no_cut_and_no_restart(seed: int) -> None:
    world = random_world(seed, bars=170)
    dice = random.Random(seed)
    expected = sorted(sealed.data for sealed in Run(world).in_order().outputs)
    for restarts in (0, 20):
        assert sorted(sealed.data for sealed in shuffled(world, dice, restarts).outputs) == expected


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_every_prediction_is_scored_or_has_a_reason_once_and_in_order(seed: int) -> None:
    world = random_world(seed, bars=60)
    run = Run(world).in_order()
    settled = [event.prediction for event in run.events(PredictionScored) + run.events(PredictionUnscored)]
    waiting = [w.envelope.id for feed in run.state.feeds.values() for line in feed.lines.values() for w in line.queue]
    assert sorted(settled + waiting) == sorted(received.envelope.id for received in world.streams["predictions"])
    times: dict[tuple[str, bytes], list[int]] = {}
    for score in run.events(PredictionScored):
        times.setdefault((score.symbol, score.artifact), []).append(score.open_time)
    assert all(a < b for each in times.values() for a, b in pairwise(each))


def test_what_is_remembered_does_not_grow_with_the_bars() -> None:
    sizes = []
    builder = Builder()
    rising(builder, WARM)
    run = Run(builder.world())
    for number in range(WARM + 1, WARM + 1000):
        builder.bar(number, 100.0 + number % 7)
        all_say(builder, number)
        run.take(*STREAMS, count=10_000)
        if number in {WARM + 400, WARM + 999}:
            track = run.state.feeds["BTC", MINUTE, False].track
            rounds = run.state.rounds["BTC", MINUTE]
            queued = sum(len(line.queue) for line in run.state.feeds["BTC", MINUTE, False].lines.values())
            sizes.append((len(track.times), len(rounds.kept), queued, len(run.recorder.memo(run.state)) // 16))
    assert sizes[0] == sizes[1]
    assert sizes[0][0] < 250
    assert sizes[0][1] < 250


def test_decisions_far_ahead_of_their_predictions_are_held_back() -> None:
    builder = Builder()
    for number in range(WARM, WARM + 2400):
        all_say(builder, number)
    run = Run(builder.world())
    run.take("decisions", count=2300)
    assert set(run.recorder.hold(run.state)) == {"decisions"}
    run.take("predictions", count=100_000)
    rising(builder, WARM + 2500)
    run.take("market", count=3000)
    assert "decisions" not in run.recorder.hold(run.state)


def test_bars_far_ahead_of_predictions_are_held_back_until_one_asks_for_more() -> None:
    builder = Builder()
    rising(builder, 2400)
    run = Run(builder.world())
    run.take("market", count=2300)
    assert set(run.recorder.hold(run.state)) == {"market"}
    builder.say("a2", 2299, BULL)
    run.take("predictions")
    assert set(run.recorder.hold(run.state)) == set()
