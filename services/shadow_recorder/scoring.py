"""What a prediction was worth: one event from the prediction, its round and what came."""

import math
from typing import Final

from schemas.common import ACTIONS, Action, Probabilities
from schemas.predictions import PredictionMade
from schemas.scores import PredictionScored
from services.shadow_recorder.panels import Panels
from services.shadow_recorder.rounds import Round
from shared.outcomes import Outcome

FLOOR: Final = 1e-9
SIGN: Final[dict[Action, float]] = {"SELL": -1.0, "HOLD": 0.0, "BUY": 1.0}


def log_loss(probabilities: Probabilities, outcome: Action) -> float:
    """Minus the log of what was given to the class that came."""
    return -math.log(max(probabilities[ACTIONS.index(outcome)], FLOOR))


def brier(probabilities: Probabilities, outcome: Action) -> float:
    """The squared distance to the class that came, 0 to 2."""
    came = ACTIONS.index(outcome)
    return sum((p - (k == came)) ** 2 for k, p in enumerate(probabilities))


def signed_return(action: Action, forward_return: float, cost: float) -> float:
    """What an action earned, as a fraction: nothing for HOLD."""
    return SIGN[action] * math.expm1(forward_return) - cost if action != "HOLD" else 0.0


def scored(
    panels: Panels, said: PredictionMade, event: bytes, joined: Round | None, came: Outcome, late: bool, latency_ms: int
) -> PredictionScored:
    """The score. ``joined`` None: no model voted, so there was no decision. A function of its arguments."""
    decision = joined.decision if joined else None
    version = decision.control_version if decision else said.control_version
    artifact = said.artifact.hex()
    registered = panels.registered(artifact)
    assert registered.horizon is not None
    assert registered.kappa is not None
    cost = panels.cost(version)
    action = panels.own_action(version, said.probabilities)
    incumbent = next(
        (b for b in (decision.counted if decision else ()) if b.model == said.model and b.artifact != artifact), None
    )
    theirs = panels.own_action(version, incumbent.probabilities) if incumbent else None
    with_it, without = panels.pools(version, decision, said.model, artifact, said.probabilities)
    return PredictionScored(
        symbol=said.symbol,
        interval_ms=said.interval_ms,
        open_time=said.open_time,
        origin=said.origin,
        model=said.model,
        artifact=said.artifact,
        role="voting" if panels.role(version, said.model, artifact) else "shadow",
        late=late,
        probabilities=said.probabilities,
        prior=registered.prior,
        action=action,
        outcome=came.action,
        hit=action == came.action,
        forward_return=came.forward_return,
        scale=came.scale,
        kappa=registered.kappa,
        horizon=registered.horizon,
        ends=came.ends,
        hour_return=came.hour_return,
        log_loss=log_loss(said.probabilities, came.action),
        brier=brier(said.probabilities, came.action),
        signed_return=signed_return(action, came.forward_return, cost),
        cost=cost,
        incumbent=incumbent.probabilities if incumbent else None,
        incumbent_artifact=bytes.fromhex(incumbent.artifact) if incumbent else None,
        incumbent_return=signed_return(theirs, came.forward_return, cost) if theirs else None,
        pool_with=with_it,
        pool_without=without,
        decided=decision.action if decision else None,
        control_version=version,
        prediction=event,
        decision=joined.event if joined else None,
        latency_ms=latency_ms,
    )
