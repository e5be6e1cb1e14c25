"""Write the scores of a series in one order, however the streams were interleaved.

The rows of a series are written by the bar at which their outcome is known, and then by model and artifact. A row that
the decision of its bar lists is written once every ballot that decisions list for earlier or equal rows was read. So
the artifacts of an ensemble are scored bar by bar, even if the recorder reads a long backlog in which each worker wrote
many bars at once: no gate sees one artifact many bars ahead of another.

Not ordered: rows of ballots that no decision lists (their artifact was late), rows of bars without a decision,
failures and missing ballots, and rows of different symbols. They are written as soon as they are ready.
"""

from services.shadow_recorder.decisions import MARGIN_MS, ArtifactKey, JoinedDecision
from services.shadow_recorder.state import PendingPrediction, PendingPredictions, State, SymbolState


def first_row(state: State, series: SymbolState) -> tuple[ArtifactKey, PendingPredictions] | None:
    """Return the artifact whose oldest prediction is the next row of a series; None if no prediction waits."""
    waiting = [
        (_due(state, series, artifact, predictions.queue[0]), artifact)
        for artifact, predictions in series.pending.items()
        if predictions.queue
    ]
    if not waiting:
        return None
    _, artifact = min(waiting)
    return artifact, series.pending[artifact]


def may_write(
    state: State, series: SymbolState, artifact: ArtifactKey, pending: PendingPrediction, decision: JoinedDecision
) -> bool:
    """Return whether every row that comes before this one was read, as far as decisions list its ballot."""
    if not decision.lists(pending.envelope.id):
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
    return pending.open_time + state.configurations.horizon_of(artifact[1]) * series.history.interval_ms
