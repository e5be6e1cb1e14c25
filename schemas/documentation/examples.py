"""One example of every event, as a chain: a bar, the events that it caused, and the commands in force.

The AsyncAPI document shows them. The bytes that each release wrote for them are kept for ever
(``tests/schemas/golden``). The figures are made up.
"""

from collections.abc import Iterator
from struct import pack
from typing import Any, Final

from msgspec.structs import replace

from schemas.codec import SAMPLED, Encoded, Envelope, encode
from schemas.control import (
    Backtest,
    Command,
    CommandRecorded,
    ConfirmPromotion,
    Found,
    Halt,
    Promote,
    RegisterArtifact,
    Resume,
    Retire,
    RevertProbation,
    RevokeKey,
    Rollback,
    SetGatePolicy,
    SetLadder,
    SetTrainingPolicy,
    SetVotingPolicy,
    SetWeights,
    StartShadow,
    StepWeight,
    StopShadow,
    TrustKey,
)
from schemas.decisions import (
    AbsentMember,
    BallotLate,
    CountedBallot,
    DecisionMade,
    FenceClosed,
    FenceOpened,
    IntentIssued,
    MemberView,
    ShadowBallot,
)
from schemas.features import BarsMissing, FeaturesComputed, FeaturesWithheld
from schemas.gates import (
    ActionDue,
    ContributionsMeasured,
    EvidenceRestarted,
    GateVerdict,
    GuardTripped,
    InputsDrifted,
    SkillDecayed,
    VerdictReached,
    WeightsProposed,
    Worth,
)
from schemas.market import BarClosed
from schemas.operations import (
    ArchiveFailed,
    ControlRefused,
    DeadLetter,
    GapDetected,
    GroupRecreated,
    InterferenceFound,
    LogTruncated,
    OwnerReplaced,
)
from schemas.predictions import PredictionFailed, PredictionMade
from schemas.readiness import ArtifactFailed, ArtifactFreed, ArtifactReady
from schemas.scores import BallotMissing, InterferenceChecked, PredictionScored, PredictionUnscored, TradeJoined
from schemas.trades import TradeClosed
from schemas.training import (
    DataAssessed,
    DataReport,
    Ends,
    Gain,
    Recipe,
    SanityCheck,
    SymbolData,
    TrainingCompleted,
    TrainingFailed,
    TrainingProgressed,
    TrainingRejected,
    TrainingRequested,
    TrainingStarted,
)

MINUTE: Final = 60_000
OPEN: Final = 1_700_000_040_000
WHERE: Final[dict[str, Any]] = {
    "symbol": "BTCUSDT",
    "interval_ms": MINUTE,
    "open_time": OPEN,
    "origin": "synthetic",
}
SET: Final = bytes(range(32))
ARTIFACT: Final = bytes(range(32, 64))
CHALLENGER: Final = bytes(range(64, 96))
HEAD: Final = "3f" * 32
STAMP: Final[dict[str, Any]] = {"control_version": 7, "control_head": bytes.fromhex(HEAD)}
UP: Final = (0.125, 0.25, 0.625)


def examples() -> tuple[Encoded, ...]:
    """Return encoded events, the same at every call. Every event type of every stream is among them."""
    bar = encode(
        "market",
        BarClosed(**WHERE, open=37_000.5, high=37_012.25, low=36_990.0, close=37_005.75, volume=12.5),
        flags=SAMPLED,
    )
    values = pack("<4f", 1.5, -0.25, 0, 3)
    vector = _caused(bar, "features", FeaturesComputed(**WHERE, **STAMP, feature_set=SET, values=values))
    ballot = _caused(
        vector,
        "predictions",
        PredictionMade(
            **WHERE,
            model="xgboost",
            artifact=ARTIFACT,
            probabilities=UP,
            vector=vector.envelope.id,
            **STAMP,
        ),
    )
    decision = _caused(ballot, "decisions", _decision(ballot.envelope))
    return (
        bar,
        vector,
        *_without_a_vector(bar),
        ballot,
        _caused(vector, "predictions", _failure(vector.envelope)),
        decision,
        _caused(ballot, "decisions", _late(ballot.envelope)),
        encode("decisions", FenceClosed("5f1e0a7c", "ada", "exchange outage", OPEN)),
        encode("decisions", FenceOpened("77aa01c2", "ada", "exchange is back", OPEN)),
        _caused(decision, "intents", _intent(decision.envelope)),
        *(encode("control", command) for command in _commands()),
        *_operations(),
        *_scores(ballot, decision),
        *_gates(),
        *_training(),
    )


def _caused(cause: Encoded, stream: str, event: Any) -> Encoded:
    parent = cause.envelope
    return encode(stream, event, causation=parent.id, correlation=parent.correlation, flags=parent.flags)


def _without_a_vector(bar: Encoded) -> Iterator[Encoded]:
    withheld = FeaturesWithheld(
        **WHERE, feature_set=SET, reason="undefined", have=64, need=64, detail="rsi_14", **STAMP
    )
    yield _caused(bar, "features", withheld)
    yield _caused(bar, "features", BarsMissing(**WHERE, count=2, bridged=True, **STAMP))


def _failure(vector: Envelope[Any]) -> PredictionFailed:
    return PredictionFailed(
        **WHERE,
        model="lightgbm",
        artifact=CHALLENGER,
        reason="wrong_feature_set",
        detail="trained on user-18, served core-26",
        vector=vector.id,
        **STAMP,
    )


def _decision(ballot: Envelope[Any]) -> DecisionMade:
    prediction: dict[str, Any] = {"event": ballot.id.hex(), "action": "BUY", "probabilities": UP}
    return DecisionMade(
        **WHERE,
        control_version=7,
        control_head=HEAD,
        policy="logpool",
        status="decided",
        action="BUY",
        confidence=0.625,
        probabilities=UP,
        consensus_count=1,
        total_models=2,
        counted=(
            CountedBallot(
                model="xgboost",
                artifact=ARTIFACT.hex(),
                confidence=0.625,
                weight=0.5,
                effect=0.25,
                pivotal=True,
                **prediction,
            ),
        ),
        absent=(AbsentMember("lightgbm", CHALLENGER.hex(), "wrong_feature_set", None),),
        shadow=(ShadowBallot(model="logistic", artifact="ab" * 32, **prediction),),
        closed_by="complete",
        intent="issued",
    )


def _late(ballot: Envelope[Any]) -> BallotLate:
    return BallotLate(**WHERE, model="xgboost", artifact=ARTIFACT.hex(), event=ballot.id.hex())


def _intent(decision: Envelope[Any]) -> IntentIssued:
    return IntentIssued(
        **WHERE,
        decision=decision.id.hex(),
        control_version=7,
        action="BUY",
        confidence=0.625,
        consensus_count=1,
        total_models=2,
        model_breakdown={
            "xgboost": MemberView("BUY", 0.625, "xgboost"),
            "logistic": MemberView("BUY", 0.625, "logistic", shadow=True),
        },
        valid_until=OPEN + 2 * MINUTE,
    )


def _commands() -> Iterator[CommandRecorded]:
    model, artifact = "xgboost", ARTIFACT.hex()
    registered = RegisterArtifact(
        model=model,
        artifact=artifact,
        family="xgboost",
        feature_set=SET.hex(),
        feature_set_name="core-26",
        interval_ms=MINUTE,
        classes=("SELL", "HOLD", "BUY"),
        centre=(-1.25, -0.75, -1.5),
        prior=(0.25, 0.5, 0.25),
    )
    commands: tuple[Command, ...] = (
        Found(partitions=1, log_id="5d0c2f7e9a31"),
        registered,
        replace(registered, features=("rsi_14",), libraries={"xgboost": "3.0"}, horizon=12, kappa=0.75),
        replace(registered, backtest=Backtest(0.0625, 0.25, ((-0.5, 0.5),), ((10.0, 20.0, 10.0),), 4.0)),
        StartShadow(model, artifact),
        StopShadow(model, artifact),
        Promote(model, artifact, forced=True, weight=0.5),
        SetWeights({"xgboost": 0.5, "lightgbm": 0.5}),
        SetVotingPolicy(rule="consensus", quorum_count=3, edge=0.0),
        Halt(),
        Resume(),
        Retire(model, artifact),
        Promote(model, artifact, ready=("0a" * 16,), verdict="0b" * 16, probation=200, accept_changes=True),
        ConfirmPromotion(model, artifact),
        RevertProbation(model, artifact, decisions=200, last="0c" * 16),
        Rollback(),
        Rollback(to=7, model=model),
        SetGatePolicy("classic", {"least": 3, "agreement": 0.55, "automatic": False, "horizon": "1h"}),
        SetLadder(automatic=True),
        SetTrainingPolicy(schedule_hours=24, sanity="refuse"),
        StepWeight(model, up=False),
        TrustKey("ada", "0d" * 32, holder="Ada", may=("promote", "rollback", "halt")),
        RevokeKey("ada"),
    )
    first = CommandRecorded(
        version=1,
        previous="0" * 64,
        command_id="0001",
        at=OPEN,
        actor="ada",
        reason="Begin.",
        command=commands[0],
    )
    yield first
    for version, command in enumerate(commands[1:], start=2):
        yield replace(
            first, version=version, previous=HEAD, command_id=f"{version:04}", command=command, expects=version - 1
        )
    signed = replace(first, version=2, previous=HEAD, command_id="signed", command=Halt())
    yield replace(signed, key="ada", signature="0e" * 64)


def _scores(ballot: Encoded, decision: Encoded) -> Iterator[Encoded]:
    about: dict[str, Any] = {**WHERE, "control_version": 7}
    chosen = decision.envelope.id
    trade = TradeClosed(
        **WHERE,
        decision=chosen.hex(),
        action="BUY",
        opened_at=OPEN + MINUTE,
        closed_at=OPEN + 13 * MINUTE,
        entry_price=37_005.75,
        exit_price=37_190.75,
        fees=0.002,
        closed_by="take profit",
    )
    closed = _caused(decision, "trades", trade)
    yield closed
    scored = PredictionScored(
        **about,
        model="xgboost",
        artifact=ARTIFACT,
        role="voting",
        late=False,
        probabilities=UP,
        prior=(0.25, 0.5, 0.25),
        action="BUY",
        outcome="BUY",
        hit=True,
        forward_return=0.005,
        scale=0.004,
        kappa=0.75,
        horizon=12,
        ends=OPEN + 12 * MINUTE,
        hour_return=None,
        log_loss=0.4700036292457356,
        brier=0.21875,
        signed_return=0.003,
        cost=0.002,
        incumbent=None,
        incumbent_artifact=None,
        incumbent_return=None,
        pool_with=UP,
        pool_without=(0.25, 0.5, 0.25),
        decided="BUY",
        prediction=ballot.envelope.id,
        decision=chosen,
        latency_ms=14,
    )
    yield _caused(ballot, "scores", scored)
    rival: dict[str, Any] = {**about, "model": "xgboost", "artifact": CHALLENGER, "role": "shadow"}
    unscored = PredictionUnscored(**rival, reason="gap", detail="3 bars are missing", prediction=ballot.envelope.id)
    yield _caused(ballot, "scores", unscored)
    yield _caused(decision, "scores", BallotMissing(**rival, detail="silent", decision=chosen))
    yield _caused(
        decision,
        "scores",
        InterferenceChecked(**about, decision=chosen, shadows=1, equal=True, detail="", checked=200, equal_so_far=200),
    )
    yield _caused(
        closed,
        "scores",
        TradeJoined(
            **about,
            decision=chosen,
            trade=closed.envelope.id,
            joined=True,
            detail="",
            action="BUY",
            confidence=0.625,
            gross=0.005,
            net=0.003,
        ),
    )
    yield encode("alarms", InterferenceFound(chosen.hex(), 7, "action: BUY was recorded, HOLD follows"))


def _gates() -> Iterator[Encoded]:
    rival: dict[str, Any] = {"model": "xgboost", "artifact": CHALLENGER.hex(), "control_version": 7}
    policy: dict[str, Any] = {"policy": "default", "policy_digest": "2a" * 32}
    skill = GateVerdict("skill", "passed", "needed", 24.5, 20.0, 31, 0.25, 2.5, 1.5, "e-value against the class prior")
    verdict = VerdictReached(
        **rival,
        **policy,
        champion=ARTIFACT.hex(),
        overall="inconclusive",
        gates=(skill, GateVerdict("calibration", "inconclusive", "soft", None, 0.03, 0, None, None)),
        scores=1200,
        since=OPEN,
        until=OPEN + 1200 * MINUTE,
        first_score="1a" * 16,
        last_score="1b" * 16,
        recommended_weight=0.05,
        advice="stay in shadow; not enough seen for: calibration",
    )
    yield encode("gates", verdict)
    yield encode("gates", EvidenceRestarted(**rival, **policy, changed=("champion", "policy"), scores=1200))
    last: dict[str, Any] = {"last_score": "1c" * 16, "control_version": 7}
    tripped = encode(
        "gates",
        GuardTripped(
            model="xgboost",
            artifact=CHALLENGER.hex(),
            ghost=ARTIFACT.hex(),
            guard="slow-harm",
            stage="rollback",
            value=104.5,
            threshold=100.0,
            samples=26,
            detail="worse than the champion it replaced",
            **last,
        ),
    )
    yield tripped
    reason = "guard slow-harm: 104.5 of 100 after 26 blocks"
    yield encode(
        "gates", ActionDue(**rival, action="rollback", acts=False, evidence=tripped.envelope.id.hex(), reason=reason)
    )
    weights = {"xgboost": 0.75, "lightgbm": 0.25}
    yield encode("gates", WeightsProposed(weights, blocks=40, until=OPEN, acts=False, **last))
    worths = {"xgboost": Worth(0.0125, 0.005), "lightgbm": Worth(0.0075, 0.0)}
    yield encode("gates", ContributionsMeasured(worths, rounds=256, **last))
    worst = "2 of 8 features alarm; the worst is rsi_14, PSI 0.250 of 0.100"
    drifted = InputsDrifted("xgboost", CHALLENGER.hex(), True, 0.25, 0.2, samples=400, detail=worst, vector="1d" * 16)
    yield encode("gates", drifted)
    less = "e-CUSUM of a gain under 5.00 mnat a row; its first 20 blocks had 10.00"
    yield encode("gates", SkillDecayed("xgboost", CHALLENGER.hex(), 112.5, 100.0, samples=14, detail=less, **last))


def _training() -> Iterator[Encoded]:
    recipe = Recipe("xgboost", "core-28", {"rounds": 300, "eta": 0.05}, horizon=12, hold=0.55, seed=1)
    requested = TrainingRequested(
        model="xgboost",
        recipe=recipe,
        cause="drift",
        evidence="1d" * 16,
        actor="trainer",
        reason="inputs of 40414243 drifted: 2 of 8 features alarm",
        at=OPEN,
        window_ms=30 * 86_400_000,
    )
    first = encode("training", requested)
    yield first
    last = OPEN - MINUTE
    of: dict[str, Any] = {"request": first.envelope.id.hex(), "model": "xgboost", "at": OPEN}
    ends = (Ends(0, "1700000040000-3", "1700000040000-4"),)
    started = TrainingStarted(**of, attempt=1, first=0, last=last, ends=ends, worker="trainer (pid 11 on a)")
    report = DataReport(
        interval_ms=MINUTE,
        first=0,
        last=last,
        rows=3949,
        symbols={"BTCUSDT": SymbolData(bars=4100, vectors=4040, rows=3949, gaps=1, missing=2)},
        parts={"train": 2300, "validation": 380, "calibration": 380, "test": 770},
        classes=(0.25, 0.5, 0.25),
        constant=("gap_flag",),
        duplicated=(("rsi_14", "rsi_14_again"),),
        drifted=("rsi_14",),
        drift=0.125,
        against=ARTIFACT.hex(),
        kappa=0.75,
        bars_digest="2b" * 32,
        vectors_digest="2c" * 32,
        unfit=("3 labelled rows; 1,000 are the fewest",),
    )
    losses: dict[str, Any] = {"train_loss": 0.9375, "held_loss": 0.96875}
    forecasts: dict[str, Any] = {"skill": 0.03125, "spread": 0.25, "entropy": 0.875, "distinct": 40, "top": 0.75}
    rejected = TrainingRejected(
        **of,
        reason="no_information",
        evidence="3 epochs, and at best +0.01% of the prior's log loss was gained",
        quarantine="training/0a1b2c3d/quarantine",
        seconds=1.5,
    )
    completed = TrainingCompleted(
        **of,
        artifact=CHALLENGER.hex(),
        rows={"train": 2300, "validation": 380, "calibration": 380, "test": 770},
        log_loss=0.9375,
        prior_log_loss=0.96875,
        gains=(
            Gain("prior", 31.25, 12.5, 50.0),
            Gain("champion", 0.5, -2.0, 3.0, "it has seen these bars"),
        ),
        sanity=(SanityCheck("one_class", True, 0.625, 0.7),),
        seconds=12.5,
        peak_mb=310.0,
        version=12,
        shadow=True,
    )
    for event in (
        started,
        DataAssessed(**of, report=report),
        TrainingProgressed(**of, stage="reading", number=0, of=1),
        TrainingProgressed(**of, stage="fitting", number=2, of=6, **losses, **forecasts),
        completed,
        rejected,
        TrainingFailed(**of, reason="interrupted", detail="given up after 3 attempts"),
    ):
        yield _caused(first, "training", event)


def _operations() -> Iterator[Encoded]:
    worker: dict[str, Any] = {"owner": "model-worker.xgboost (pid 11 on a)", "life": "6f1d09b2", "control_version": 7}
    yield encode("readiness", ArtifactReady("xgboost", ARTIFACT.hex(), **worker, took_ms=180, at=OPEN))
    reason = "artifact 40414243 in state/artifacts: model.ubj: missing"
    yield encode("readiness", ArtifactFailed("xgboost", CHALLENGER.hex(), **worker, reason=reason, at=OPEN))
    yield encode("readiness", ArtifactFreed("xgboost", ARTIFACT.hex(), **worker))
    yield encode(
        "dead", DeadLetter("feed", "bars/BTCUSDT.csv:7", "impossible_prices", "low 5 is above open 4", "1,4,6,5,5,1")
    )
    group, stream = "ensemble-voter", "predictions"
    yield encode("alarms", ControlRefused("8-0", 7, HEAD, "it is not an event of this stream", '{"halt": true}'))
    yield encode("alarms", GapDetected(group, stream, committed="1700000040000-3", oldest="1700000100000-0", at=OPEN))
    yield encode("alarms", ArchiveFailed("lost", "var/archive/p0/market/00000007.sealed is missing", OPEN))
    lost = "entry 8-0 of version 8 was read and is gone"
    yield encode("alarms", LogTruncated(group, "control", "8-0", "7-0", lost, OPEN))
    yield encode("alarms", GroupRecreated(group, stream, position="1700000040000-3", at=OPEN))
    yield encode(
        "alarms", OwnerReplaced(group, former="voter (pid 7 on a)", owner="voter (pid 9 on b)", epoch=2, at=OPEN)
    )
