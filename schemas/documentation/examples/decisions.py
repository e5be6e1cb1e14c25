"""Examples of a bar and what follows from it: vector, prediction, decision, intent."""

from collections.abc import Iterator
from typing import Any

from schemas.codec import Encoded, Envelope
from schemas.decisions import (
    AbsentMember,
    BallotLate,
    CountedBallot,
    DecisionMade,
    IntentIssued,
    MemberView,
    ShadowBallot,
)
from schemas.documentation.examples.values import (
    ARTIFACT,
    CHALLENGER,
    HEAD,
    MINUTE,
    OPEN,
    SET,
    STAMP,
    UP,
    WHERE,
    caused,
)
from schemas.features import BarsMissing, FeaturesWithheld
from schemas.predictions import PredictionFailed


def other_features(bar: Encoded) -> Iterator[Encoded]:
    """Yield what can be written for a bar instead of its vector, or before it."""
    withheld = FeaturesWithheld(
        **WHERE, feature_set=SET, reason="undefined", have=64, need=64, detail="rsi_14", **STAMP
    )
    yield caused(bar, "features", withheld)
    yield caused(bar, "features", BarsMissing(**WHERE, count=2, bridged=True, **STAMP))


def failure(vector: Envelope[Any]) -> PredictionFailed:
    """Return the failure of an artifact to predict from a vector."""
    return PredictionFailed(
        **WHERE,
        model="lightgbm",
        artifact=CHALLENGER,
        reason="wrong_feature_set",
        detail="trained on user-18, served core-26",
        vector=vector.id,
        **STAMP,
    )


def decision_of(ballot: Envelope[Any]) -> DecisionMade:
    """Return the decision that counts one ballot."""
    opinion: dict[str, Any] = {"event": ballot.id.hex(), "action": "BUY", "probabilities": UP}
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
                **opinion,
            ),
        ),
        absent=(AbsentMember("lightgbm", CHALLENGER.hex(), "wrong_feature_set", None),),
        shadow=(ShadowBallot(model="logistic", artifact="ab" * 32, **opinion),),
        closed_by="complete",
        intent="issued",
    )


def late_ballot(ballot: Envelope[Any]) -> BallotLate:
    """Return the note about a ballot that came after its decision."""
    return BallotLate(**WHERE, model="xgboost", artifact=ARTIFACT.hex(), event=ballot.id.hex())


def intent_of(decision: Envelope[Any]) -> IntentIssued:
    """Return the intent of a decision."""
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
