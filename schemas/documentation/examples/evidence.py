"""Examples of scores, trades and gates."""

from collections.abc import Iterator
from typing import Any

from schemas.codec import Encoded, encode
from schemas.documentation.examples.values import ARTIFACT, CHALLENGER, MINUTE, OPEN, UP, WHERE, caused
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
from schemas.operations import InterferenceFound
from schemas.scores import BallotMissing, InterferenceChecked, PredictionScored, PredictionUnscored, TradeJoined
from schemas.trades import TradeClosed


def scores(ballot: Encoded, decision: Encoded) -> Iterator[Encoded]:
    """Yield scores of a ballot, and a trade on its decision with what is joined to it."""
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
    closed = caused(decision, "trades", trade)
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
    yield caused(ballot, "scores", scored)
    rival: dict[str, Any] = {**about, "model": "xgboost", "artifact": CHALLENGER, "role": "shadow"}
    unscored = PredictionUnscored(**rival, reason="gap", detail="3 bars are missing", prediction=ballot.envelope.id)
    yield caused(ballot, "scores", unscored)
    yield caused(decision, "scores", BallotMissing(**rival, detail="silent", decision=chosen))
    yield caused(
        decision,
        "scores",
        InterferenceChecked(**about, decision=chosen, shadows=1, equal=True, detail="", checked=200, equal_so_far=200),
    )
    yield caused(
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


def gates() -> Iterator[Encoded]:
    """Yield verdicts, guards and proposals."""
    rival: dict[str, Any] = {"model": "xgboost", "artifact": CHALLENGER.hex(), "control_version": 7}
    policy: dict[str, Any] = {"policy": "default", "policy_digest": "2a" * 32}
    skill = GateVerdict(
        name="skill",
        verdict="passed",
        kind="needed",
        value=24.5,
        threshold=20.0,
        samples=31,
        low=0.25,
        high=2.5,
        effect=1.5,
        detail="e-value against the class prior",
    )
    calibration = GateVerdict(
        name="calibration",
        verdict="inconclusive",
        kind="soft",
        value=None,
        threshold=0.03,
        samples=0,
        low=None,
        high=None,
    )
    verdict = VerdictReached(
        **rival,
        **policy,
        champion=ARTIFACT.hex(),
        overall="inconclusive",
        gates=(skill, calibration),
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
    drifted = InputsDrifted(
        model="xgboost",
        artifact=CHALLENGER.hex(),
        drifted=True,
        share=0.25,
        threshold=0.2,
        samples=400,
        detail=worst,
        vector="1d" * 16,
    )
    yield encode("gates", drifted)
    less = "e-CUSUM of a gain under 5.00 mnat a row; its first 20 blocks had 10.00"
    yield encode(
        "gates",
        SkillDecayed(
            model="xgboost", artifact=CHALLENGER.hex(), value=112.5, threshold=100.0, samples=14, detail=less, **last
        ),
    )
