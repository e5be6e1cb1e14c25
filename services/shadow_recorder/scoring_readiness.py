"""Decide when a prediction has its score, and when it has none for good."""

from collections.abc import Iterator
from typing import Any, Final

from schemas.codec import Encoded, Envelope, encode
from schemas.predictions import PredictionFailed, PredictionMade
from schemas.scores import PredictionUnscored, Unscored
from services.shadow_recorder.decisions import MARGIN_MS, ArtifactKey, JoinedDecision
from services.shadow_recorder.ordering import first_row, may_write
from services.shadow_recorder.policies import scored_policy
from services.shadow_recorder.scoring import scored
from services.shadow_recorder.state import LATE, PendingPrediction, State, SymbolState
from shared.labels.stream import Unlabelled
from shared.log.leases import id_order

SUMS_WITHIN: Final = 1e-6
UNHEARD: Final = (
    f"no decision of its bar, not active under the bar's stamp, more than {LATE} bars late, "
    "or not the first answer of its artifact at this bar or a later one"
)
"""One text for all of these reasons: which it was is not known any more once the bar is dropped."""


def write_ready(state: State, series: SymbolState) -> Iterator[Encoded]:
    """Write the scores that are ready, in the order of ``ordering``. The decision by a voting policy that was not in
    shadow under the stamp of its bar has none."""
    while (row := first_row(state, series)) is not None:
        artifact, predictions = row
        pending = predictions.queue[0]
        if pending.stream == "decisions" and _was_due(state, series, artifact, pending) is False:
            predictions.queue.popleft()
            continue
        event = _score(state, series, artifact, pending)
        if event is None:
            return
        state.settled += 1
        yield caused(predictions.queue.popleft().envelope, event)


def _score(state: State, series: SymbolState, artifact: ArtifactKey, pending: PendingPrediction) -> Any:
    """Return the score, or the event with the reason why there is none; None while that is open. The decision is
    checked before the outcome, whichever was read first, so that a prediction that lacks both has one reason."""
    made = pending.envelope.event
    if pending.stream == "decisions":
        return _score_policy(state, series, artifact, pending)
    counts = _counts(state, series, artifact, pending)
    if counts is None:
        return None
    if not counts:
        return unheard(state, pending.envelope)
    p = made.probabilities
    if abs(p[0] + p[1] + p[2] - 1.0) > SUMS_WITHIN:
        return unscored(state, pending.envelope, "bad_probabilities", f"they sum to {p[0] + p[1] + p[2]:.6g}")
    registered = state.configurations.registered(artifact[1])
    if registered.horizon is None or registered.kappa is None:
        detail = "its registration has no horizon and kappa: register it anew"
        return unscored(state, pending.envelope, "unlabelled", detail)
    decision: JoinedDecision | None = None
    if state.configurations.voted(made.control_version):
        if series.decided < made.open_time:
            return None
        decision = _decision(series, made.open_time)
        if decision is None or not _in_round(state, artifact, pending, decision):
            return unheard(state, pending.envelope)
        if not may_write(state, series, artifact, pending, decision):
            return None
    outcome = series.history.outcome(made.open_time, registered.horizon, registered.kappa)
    if isinstance(outcome, Unlabelled):
        return unscored(state, pending.envelope, "warming" if outcome.reason == "warming" else "gap", outcome.detail)
    if outcome is None:
        return None
    latency = max(pending.at - id_order(outcome.bar.entry)[0], 0)
    return scored(state.configurations, made, pending.envelope.id, decision, outcome, latency)


def _score_policy(state: State, series: SymbolState, artifact: ArtifactKey, pending: PendingPrediction) -> Any:
    """Return what ``_score`` returns, for a voting policy in shadow. Its decision is kept as long as it waits."""
    made, decision = pending.envelope.event, _decision(series, pending.open_time)
    assert decision is not None
    if not _was_due(state, series, artifact, pending) or not may_write(state, series, artifact, pending, decision):
        return None
    label = state.configurations.vote_label(decision.control_version)
    if label is None:
        return unscored(state, pending.envelope, "unlabelled", "the voting models have labels of their own")
    outcome = series.history.outcome(made.open_time, label.horizon, label.kappa)
    if isinstance(outcome, Unlabelled):
        return unscored(state, pending.envelope, "warming" if outcome.reason == "warming" else "gap", outcome.detail)
    if outcome is None:
        return None
    return scored_policy(state.configurations, pending, artifact, decision, label, outcome)


def _counts(state: State, series: SymbolState, artifact: ArtifactKey, pending: PendingPrediction) -> bool | None:
    """Return whether a prediction was due at its bar and in time (``retention`` has the rule); None while that is not
    known. Whether it is the first answer was checked when it was read."""
    made = pending.envelope.event
    if made.control_head is not None:
        due = _was_due(state, series, artifact, pending)
        if not due:
            return due
    if pending.frontier < made.open_time + LATE * series.history.interval_ms:
        return True
    if not state.configurations.voted(made.control_version):
        return False
    if series.decided < made.open_time:
        return None
    decision = _decision(series, made.open_time)
    return decision is not None and decision.lists(pending.envelope.id) and pending.at <= decision.at + MARGIN_MS


def _was_due(state: State, series: SymbolState, artifact: ArtifactKey, pending: PendingPrediction) -> bool | None:
    """Return whether an artifact, or a voting policy in shadow, was active under the stamp of a bar; None while the
    stamp is not known. The features of a bar are written before any prediction at it, so a prediction was not made from
    features that were written later."""
    made = pending.envelope.event
    stamp = series.stamps.get(made.open_time)
    latest = pending.at + MARGIN_MS
    if stamp is None:
        return False if series.featured >= made.open_time or state.features_at > latest else None
    if id_order(stamp.entry)[0] > latest:
        return False
    if stamp.version is None:
        return True
    configurations, version = state.configurations, stamp.version
    if pending.stream == "decisions":
        return version == made.control_version and artifact[1] in configurations.policy_shadows(version)
    return version == made.control_version and artifact in configurations.active(version)


def _decision(series: SymbolState, open_time: int) -> JoinedDecision | None:
    kept = series.decisions.get(open_time)
    return kept.unpacked() if kept is not None else None


def _in_round(state: State, artifact: ArtifactKey, pending: PendingPrediction, decision: JoinedDecision) -> bool:
    """Return whether a decision lists a prediction, or was made under a configuration in which its artifact was active.
    The two may differ in decisions of a release without stamps."""
    listed = decision.lists(pending.envelope.id)
    return listed or artifact in state.configurations.active(decision.control_version)


def failed(state: State, envelope: Envelope[PredictionFailed]) -> Encoded:
    """Return the event for a failed prediction, with the worker's reason."""
    event = envelope.event
    reason: Unscored = "withheld" if event.reason == "features_withheld" else "failed"
    return caused(envelope, unscored(state, envelope, reason, f"{event.reason}: {event.detail}".rstrip(": ")))


def give_up(state: State, series: SymbolState) -> Iterator[Encoded]:
    """Write as unscored the predictions that still wait in a series that has ended."""
    for _, predictions in sorted(series.pending.items()):
        for pending in predictions.queue:
            state.settled += 1
            yield caused(pending.envelope, unheard(state, pending.envelope))


def unheard(state: State, envelope: Envelope[PredictionMade]) -> PredictionUnscored:
    """Return the event for a prediction that belongs to no round."""
    return unscored(state, envelope, "unheard", UNHEARD)


def unscored(state: State, envelope: Envelope[Any], reason: Unscored, detail: str) -> PredictionUnscored:
    """Return the event for a prediction that has no score for good."""
    event = envelope.event
    champion = state.configurations.is_champion(event.control_version, event.model, event.artifact.hex())
    return PredictionUnscored(
        symbol=event.symbol,
        interval_ms=event.interval_ms,
        open_time=event.open_time,
        origin=event.origin,
        model=event.model,
        artifact=event.artifact,
        role="voting" if champion else "shadow",
        reason=reason,
        detail=detail[:2000],
        control_version=event.control_version,
        prediction=envelope.id,
    )


def caused(envelope: Envelope[Any], event: Any) -> Encoded:
    """Encode an event for ``scores`` that follows from another one."""
    return encode("scores", event, causation=envelope.id, correlation=envelope.correlation, flags=envelope.flags)
