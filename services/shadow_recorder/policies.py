"""Score the decisions of voting policies in shadow, each as if it were a prediction of the model ``ENSEMBLE``.

The row of such a policy compares it with the policy in force, which takes the place of the champion: both decided the
same round from the same ballots. Its outcome is the label of the voting models. A round in which either had no quorum
has no row.
"""

from math import exp

from msgspec import UNSET

from schemas.codec import Envelope
from schemas.common import ENSEMBLE, Probabilities
from schemas.decisions import DecisionMade
from schemas.predictions import PredictionMade
from schemas.scores import PredictionScored, TradedPrices
from services.shadow_recorder.configurations import Configurations, VoteLabel
from services.shadow_recorder.decisions import ArtifactKey, JoinedDecision
from services.shadow_recorder.scoring import brier, log_loss, signed_return
from services.shadow_recorder.state import PendingPrediction, PendingPredictions, SymbolState
from shared.labels.stream import LabelOutcome


def add_policies(series: SymbolState, envelope: Envelope[DecisionMade], entry: str) -> bool:
    """Queue the decision of each voting policy in shadow, as a prediction that was made with the decision. Return
    whether there was one."""
    decision = envelope.event
    added = False
    if decision.candidates is UNSET or decision.status != "decided":
        return added
    for vote in decision.candidates:
        if vote.status != "decided":
            continue
        pending = series.pending.setdefault((ENSEMBLE, vote.policy), PendingPredictions())
        before = pending.answered
        if decision.open_time <= max(before, series.complete):
            continue
        made = PredictionMade(
            symbol=decision.symbol,
            interval_ms=decision.interval_ms,
            open_time=decision.open_time,
            origin=decision.origin,
            model=ENSEMBLE,
            artifact=bytes.fromhex(vote.policy),
            probabilities=vote.probabilities,
            vector=envelope.id,
            control_version=decision.control_version,
            control_head=bytes.fromhex(decision.control_head),
        )
        pending.answered = decision.open_time
        about = Envelope(
            schema=envelope.schema,
            flags=envelope.flags,
            id=envelope.id,
            causation=envelope.causation,
            correlation=envelope.correlation,
            event=made,
        )
        pending.queue.append(PendingPrediction(about, entry, before, series.frontier, "decisions"))
        added = True
    return added


def scored_policy(
    configurations: Configurations,
    pending: PendingPrediction,
    artifact: ArtifactKey,
    decision: JoinedDecision,
    label: VoteLabel,
    outcome: LabelOutcome,
) -> PredictionScored:
    """Return the score of a voting policy in shadow. It has no latency: it decides with the policy in force."""
    made, version = pending.envelope.event, decision.control_version
    cost = configurations.cost(version)
    action = decision.candidates[artifact[1]]
    in_force = decision.probabilities
    assert in_force is not None
    return PredictionScored(
        symbol=made.symbol,
        interval_ms=made.interval_ms,
        open_time=made.open_time,
        origin=made.origin,
        model=made.model,
        artifact=made.artifact,
        role="shadow",
        late=False,
        probabilities=made.probabilities,
        prior=_prior(configurations, version),
        action=action,
        outcome=outcome.action,
        hit=action == outcome.action,
        forward_return=outcome.forward_return,
        scale=outcome.scale,
        kappa=label.kappa,
        horizon=label.horizon,
        ends=outcome.ends,
        hour_return=outcome.hour_return,
        log_loss=log_loss(made.probabilities, outcome.action),
        brier=brier(made.probabilities, outcome.action),
        signed_return=signed_return(action, outcome.forward_return, cost),
        cost=cost,
        incumbent=in_force,
        incumbent_artifact=bytes.fromhex(configurations.policy_in_force(version)),
        incumbent_return=signed_return(decision.action, outcome.forward_return, cost),
        pool_with=made.probabilities,
        pool_without=in_force,
        decided=decision.action,
        control_version=version,
        prediction=pending.envelope.id,
        decision=decision.event,
        latency_ms=None,
        prices=TradedPrices(
            close=outcome.bar.close,
            next_open=outcome.next_bar.open,
            next_close=outcome.next_bar.close,
            next_volume=outcome.next_bar.volume,
        ),
    )


def _prior(configurations: Configurations, version: int) -> Probabilities:
    """Return the pool's prior: the class frequencies of the members' training parts, by weight."""
    sell, hold, buy = map(exp, configurations.panel(version).log_prior)
    return sell, hold, buy
