"""Compute the score of a prediction from its round and its outcome."""

import math
from typing import Final, NamedTuple

from schemas.common import ACTIONS, Action, Probabilities
from schemas.predictions import PredictionMade
from schemas.scores import PredictionScored, Role, TradedPrices
from services.shadow_recorder.configurations import Configurations
from services.shadow_recorder.decisions import JoinedDecision
from shared.labels.stream import LabelOutcome

FLOOR: Final = 1e-9
SIGN: Final[dict[Action, float]] = {"SELL": -1.0, "HOLD": 0.0, "BUY": 1.0}


class Terms(NamedTuple):
    """What a score is computed with, beside the prediction and its outcome.

    ``kappa`` and ``horizon``: the label. ``version``: the configuration of the round, whose ``cost`` counts.
    ``incumbent``: the probabilities that are compared, of ``incumbent_artifact``, and the action that follows from
    them; None if nothing is. ``pool_with`` and ``pool_without``: the pool with the prediction and without it."""

    role: Role
    late: bool
    prior: Probabilities
    kappa: float
    horizon: int
    version: int
    cost: float
    action: Action
    incumbent: Probabilities | None
    incumbent_artifact: bytes | None
    incumbent_action: Action | None
    pool_with: Probabilities
    pool_without: Probabilities
    latency_ms: int | None


def log_loss(probabilities: Probabilities, outcome: Action) -> float:
    """Return minus the log of the probability of the outcome (nats), with probabilities below ``FLOOR`` raised to
    it."""
    return -math.log(max(probabilities[ACTIONS.index(outcome)], FLOOR))


def brier(probabilities: Probabilities, outcome: Action) -> float:
    """Return the squared distance of the probabilities to the outcome, 0 to 2."""
    observed = ACTIONS.index(outcome)
    return sum((p - (k == observed)) ** 2 for k, p in enumerate(probabilities))


def signed_return(action: Action, forward_return: float, cost: float) -> float:
    """Return what an action earned after cost, as a fraction; 0 for HOLD. ``forward_return`` is a log return."""
    return SIGN[action] * math.expm1(forward_return) - cost if action != "HOLD" else 0.0


def scored(
    configurations: Configurations,
    made: PredictionMade,
    event: bytes,
    decision: JoinedDecision | None,
    outcome: LabelOutcome,
    latency_ms: int,
) -> PredictionScored:
    """Return the score of a prediction. ``decision``: None if no model voted. Pure."""
    version = decision.control_version if decision else made.control_version
    artifact = made.artifact.hex()
    registered = configurations.registered(artifact)
    assert registered.horizon is not None
    assert registered.kappa is not None
    champion = decision.champion(made.model) if decision else None
    if champion is not None and champion[0] == made.artifact:
        champion = None
    with_it, without = configurations.pools(version, decision, made.model, artifact, made.probabilities)
    terms = Terms(
        role="voting" if configurations.is_champion(version, made.model, artifact) else "shadow",
        late=decision is not None and not decision.lists(event),
        prior=registered.prior,
        kappa=registered.kappa,
        horizon=registered.horizon,
        version=version,
        cost=configurations.cost(version),
        action=configurations.own_action(version, made.probabilities),
        incumbent=champion[1] if champion else None,
        incumbent_artifact=champion[0] if champion else None,
        incumbent_action=configurations.own_action(version, champion[1]) if champion else None,
        pool_with=with_it,
        pool_without=without,
        latency_ms=latency_ms,
    )
    return row_of(made, event, decision, outcome, terms)


def row_of(
    made: PredictionMade, event: bytes, decision: JoinedDecision | None, outcome: LabelOutcome, terms: Terms
) -> PredictionScored:
    """Return the score of what was predicted, by its terms."""
    against = terms.incumbent_action
    return PredictionScored(
        symbol=made.symbol,
        interval_ms=made.interval_ms,
        open_time=made.open_time,
        origin=made.origin,
        model=made.model,
        artifact=made.artifact,
        role=terms.role,
        late=terms.late,
        probabilities=made.probabilities,
        prior=terms.prior,
        action=terms.action,
        outcome=outcome.action,
        hit=terms.action == outcome.action,
        forward_return=outcome.forward_return,
        scale=outcome.scale,
        kappa=terms.kappa,
        horizon=terms.horizon,
        ends=outcome.ends,
        hour_return=outcome.hour_return,
        log_loss=log_loss(made.probabilities, outcome.action),
        brier=brier(made.probabilities, outcome.action),
        signed_return=signed_return(terms.action, outcome.forward_return, terms.cost),
        cost=terms.cost,
        incumbent=terms.incumbent,
        incumbent_artifact=terms.incumbent_artifact,
        incumbent_return=None if against is None else signed_return(against, outcome.forward_return, terms.cost),
        pool_with=terms.pool_with,
        pool_without=terms.pool_without,
        decided=decision.action if decision else None,
        control_version=terms.version,
        prediction=event,
        decision=decision.event if decision else None,
        latency_ms=terms.latency_ms,
        prices=TradedPrices(
            close=outcome.bar.close,
            next_open=outcome.next_bar.open,
            next_close=outcome.next_bar.close,
            next_volume=outcome.next_bar.volume,
        ),
    )
