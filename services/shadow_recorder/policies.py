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
from schemas.scores import PredictionScored
from services.shadow_recorder.configurations import Configurations, VoteLabel
from services.shadow_recorder.decisions import ArtifactKey, JoinedDecision
from services.shadow_recorder.scoring import Terms, row_of
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
    in_force = decision.probabilities
    assert in_force is not None
    terms = Terms(
        role="shadow",
        late=False,
        prior=_prior(configurations, version),
        kappa=label.kappa,
        horizon=label.horizon,
        version=version,
        cost=configurations.cost(version),
        action=decision.candidates[artifact[1]],
        incumbent=in_force,
        incumbent_artifact=bytes.fromhex(configurations.policy_in_force(version)),
        incumbent_action=decision.action,
        pool_with=made.probabilities,
        pool_without=in_force,
        latency_ms=None,
    )
    return row_of(made, pending.envelope.id, decision, outcome, terms)


def _prior(configurations: Configurations, version: int) -> Probabilities:
    """Return the pool's prior: the class frequencies of the members' training parts, by weight."""
    sell, hold, buy = map(exp, configurations.panel(version).log_prior)
    return sell, hold, buy
