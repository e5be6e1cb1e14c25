"""A promotion on probation, and decisions made during it."""

from schemas.codec import Encoded, encode
from schemas.decisions import CountedBallot, DecisionMade

FORMER, ON_PROBATION = "a1" * 32, "a2" * 32


def decision(number: int, *, version: int = 5, model: str = "a", artifact: str = ON_PROBATION) -> Encoded:
    ballot = CountedBallot(model, artifact, "0a" * 16, "HOLD", 0.4, (0.3, 0.4, 0.3), 1.0, 0.0, False)
    event = DecisionMade(
        symbol="BTCUSDT",
        interval_ms=60_000,
        open_time=number * 60_000,
        origin="replay",
        control_version=version,
        control_head="0" * 64,
        policy="logpool",
        status="decided",
        action="HOLD",
        confidence=0.4,
        probabilities=(0.3, 0.4, 0.3),
        consensus_count=1,
        total_models=1,
        counted=(ballot,),
        absent=(),
        shadow=(),
        closed_by="complete",
        intent="hold",
    )
    return encode("decisions", event)
