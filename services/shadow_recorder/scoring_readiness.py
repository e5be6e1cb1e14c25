"""When a prediction has its score, and when it never will."""

from collections.abc import Iterator
from typing import Any, Final

from schemas.codec import Encoded, Envelope, encode
from schemas.predictions import PredictionFailed, PredictionMade
from schemas.scores import PredictionUnscored, Unscored
from services.shadow_recorder.decisions import MARGIN_MS, ArtifactKey, JoinedDecision
from services.shadow_recorder.scoring import scored
from services.shadow_recorder.state import LATE, PendingPrediction, State, SymbolState
from shared.labels.stream import Unlabelled
from shared.log.leases import order

SUMS_WITHIN: Final = 1e-6
UNHEARD: Final = (
    f"no decision of its bar, not active under the bar's stamp, more than {LATE} bars late, "
    "or not the first answer of its artifact at this bar or a later one"
)
"""One sentence for all of them: which it was is not known any more once the bar is let go."""


def settle(state: State, series: SymbolState) -> Iterator[Encoded]:
    """Write the scores that are ready, by artifact; those of one artifact in the order of bars."""
    for artifact, line in sorted(series.pending.items()):
        while line.queue:
            event = _score(state, series, artifact, line.queue[0])
            if event is None:
                break
            state.settled += 1
            yield caused(line.queue.popleft().envelope, event)


def _score(state: State, series: SymbolState, artifact: ArtifactKey, pending: PendingPrediction) -> Any:
    """Return the score or why there is none; None while either may be. The decision comes before the outcome, whichever
    was read first, so that a prediction that lacks both has one reason."""
    made = pending.envelope.event
    may = _may_be_scored(state, series, artifact, pending)
    if may is None:
        return None
    if not may:
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
    came = series.history.outcome(made.open_time, registered.horizon, registered.kappa)
    if isinstance(came, Unlabelled):
        return unscored(state, pending.envelope, "warming" if came.reason == "warming" else "gap", came.detail)
    if came is None:
        return None
    latency = max(pending.at - order(came.entry)[0], 0)
    return scored(state.configurations, made, pending.envelope.id, decision, came, latency)


def _may_be_scored(state: State, series: SymbolState, artifact: ArtifactKey, pending: PendingPrediction) -> bool | None:
    """Return whether a prediction was due at its bar and came in time (``retention`` has the rule); None while that is
    not known. That it is the first answer was seen when it was read."""
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
    """Return whether an artifact was active under the stamp of a bar. The features of a bar are written before any
    prediction at it, so those that come later are not what the prediction was made from."""
    made = pending.envelope.event
    stamp = series.stamps.get(made.open_time)
    latest = pending.at + MARGIN_MS
    if stamp is None:
        return False if series.featured >= made.open_time or state.features_at > latest else None
    if order(stamp.entry)[0] > latest:
        return False
    if stamp.version is None:
        return True
    return stamp.version == made.control_version and artifact in state.configurations.active(stamp.version)


def _decision(series: SymbolState, open_time: int) -> JoinedDecision | None:
    kept = series.decisions.get(open_time)
    return kept.unpacked() if kept is not None else None


def _in_round(state: State, artifact: ArtifactKey, pending: PendingPrediction, decision: JoinedDecision) -> bool:
    """Return whether a decision lists a prediction, or was made under a configuration that has its artifact. The two
    may differ where a release without stamps decided."""
    listed = decision.lists(pending.envelope.id)
    return listed or artifact in state.configurations.active(decision.control_version)


def failed(state: State, envelope: Envelope[PredictionFailed]) -> Encoded:
    """Return what is written for a failure: the worker's reason."""
    event = envelope.event
    reason: Unscored = "withheld" if event.reason == "features_withheld" else "failed"
    return caused(envelope, unscored(state, envelope, reason, f"{event.reason}: {event.detail}".rstrip(": ")))


def given_up(state: State, series: SymbolState) -> Iterator[Encoded]:
    """Write what still waits in a series that has ended as unscored."""
    for _, line in sorted(series.pending.items()):
        for pending in line.queue:
            state.settled += 1
            yield caused(pending.envelope, unheard(state, pending.envelope))


def unheard(state: State, envelope: Envelope[PredictionMade]) -> PredictionUnscored:
    """Return what is written for a prediction that no round knows of."""
    return unscored(state, envelope, "unheard", UNHEARD)


def unscored(state: State, envelope: Envelope[Any], reason: Unscored, detail: str) -> PredictionUnscored:
    """Return a prediction without a score, for good."""
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
    """Return an event on ``scores`` that followed from another."""
    return encode("scores", event, causation=envelope.id, correlation=envelope.correlation, flags=envelope.flags)
