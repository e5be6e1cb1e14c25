"""Write the scores of a series in one order, however the streams were interleaved.

The rows of a series are written by the bar at which their outcome is known, and then by model and artifact. A row that
the decision of its bar lists, or that of a voting policy in shadow, is written once every ballot that decisions list
for earlier or equal rows was read. So the artifacts of an ensemble are scored bar by bar, even if the recorder reads a
long backlog in which each worker wrote many bars at once: no gate sees one artifact many bars ahead of another.

Not ordered: rows of ballots that no decision lists (their artifact was late), rows of bars without a decision,
failures and missing ballots, and rows of different symbols. They are written as soon as they are ready.
"""

from services.shadow_recorder.decisions import MARGIN_MS, ArtifactKey, JoinedDecision
from services.shadow_recorder.state import PendingPrediction, PendingPredictions, State, SymbolState


def first_row(state: State, series: SymbolState) -> tuple[ArtifactKey, PendingPredictions] | None:
    """Return the artifact whose oldest prediction is the next row of a series; None if no prediction waits.

    Left out is the decision by a voting policy whose bar may still get features. Rows of later bars with features come
    after it all the same: features are read in the order of bars."""
    waiting = [
        (_due(state, series, artifact, predictions.queue[0]), artifact)
        for artifact, predictions in series.pending.items()
        if predictions.queue and not _stamp_is_open(state, series, predictions.queue[0])
    ]
    if not waiting:
        return None
    _, artifact = min(waiting)
    return artifact, series.pending[artifact]


def _stamp_is_open(state: State, series: SymbolState, pending: PendingPrediction) -> bool:
    if pending.stream == "predictions" or series.featured >= pending.open_time:
        return False
    return state.features_at <= pending.at + MARGIN_MS


def may_write(
    state: State, series: SymbolState, artifact: ArtifactKey, pending: PendingPrediction, decision: JoinedDecision
) -> bool:
    """Return whether every row that comes before this one was read, as far as decisions list its ballot."""
    if pending.stream == "predictions" and not decision.lists(pending.envelope.id):
        return True
    while series.unjoined and listed_were_read(state, series, series.unjoined[0]):
        series.joined = series.unjoined.popleft()
    shortest = state.configurations.shortest * series.history.interval_ms
    return series.joined >= _due(state, series, artifact, pending) - shortest


def listed_were_read(state: State, series: SymbolState, open_time: int) -> bool:
    """Return whether every prediction that the decision of a bar lists was read, or is not on the log. Predictions are
    written before the decision that lists them."""
    if series.decided < open_time:
        return False
    kept = series.decisions.get(open_time)
    if kept is None:
        return True
    decision = kept.unpacked()
    return state.predictions_at > decision.at + MARGIN_MS or all(
        series.answered((ballot.model, ballot.artifact.hex())) >= open_time for ballot in decision.ballots
    )


def _due(state: State, series: SymbolState, artifact: ArtifactKey, pending: PendingPrediction) -> int:
    """Return the open time of the bar at which the outcome of a prediction is known."""
    configurations = state.configurations
    if pending.stream == "predictions":
        horizon = configurations.horizon_of(artifact[1])
    else:
        label = configurations.vote_label(pending.envelope.event.control_version)
        horizon = label.horizon if label is not None else 0
    return pending.open_time + horizon * series.history.interval_ms
