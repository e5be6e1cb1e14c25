"""Measure whether the inputs still resemble those of training: one PSI for each feature, on frozen bins.

Inputs that follow from the calendar alone are left out: the first hours of any feed are unlike ten weeks, and no market
has changed. The bins are ten of equal mass over the training part. Newer vectors count more: counts are halved every
``halve_every`` vectors, so they represent about twice as many. The gate fails when more than a fifth of the features
raise an alarm, and its detail names the worst.
"""

from bisect import bisect_left
from collections.abc import Collection, Sequence
from typing import Final

from msgspec import Struct, field

from shared.gates import drift
from shared.gates.verdicts import Gate, gate, judged

MOST_ALARMS: Final = 0.20
FEWEST: Final = 200


class TrainingBins(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The reference: for each feature the ascending inner edges of its bins, and the training part's counts (one more
    than edges). A feature without edges is not compared.

    ``effect`` is the number of training rows per effective row."""

    names: tuple[str, ...]
    edges: tuple[tuple[float, ...], ...]
    counts: tuple[tuple[float, ...], ...]
    effect: float = 1.0


class Inputs(Struct, array_like=True, forbid_unknown_fields=True):
    """Counts by feature and bin. ``missing`` counts vectors of another length, which is a fault of their writer."""

    training: TrainingBins
    halve_every: int = 2_000
    counts: list[list[float]] = field(default_factory=list)
    seen: int = 0
    missing: int = 0

    def __post_init__(self) -> None:
        if not self.counts:
            self.counts = [[0.0] * len(row) for row in self.training.counts]


def reference(
    names: Sequence[str],
    columns: Sequence[Sequence[float]],
    effect: float = 1.0,
    left_out: Collection[int] = (),
) -> TrainingBins:
    """Return bins of equal mass over the training part. ``columns`` is [F][rows]. Equal values share a bin.
    ``left_out``: the features that are not to be compared, by index."""
    edges, counts = [], []
    for number, column in enumerate(columns):
        ordered = sorted(column)
        inner = [] if number in left_out else sorted({ordered[len(ordered) * k // 10] for k in range(1, 10)})
        tally = [0.0] * (len(inner) + 1)
        for value in ordered:
            tally[bisect_left(inner, value)] += 1.0
        edges.append(tuple(inner))
        counts.append(tuple(tally))
    return TrainingBins(tuple(names), tuple(edges), tuple(counts), effect)


def observe(state: Inputs, vector: Sequence[float]) -> Inputs:
    """Add one vector as the model received it."""
    if len(vector) != len(state.training.edges):
        state.missing += 1
        return state
    for edges, counts, value in zip(state.training.edges, state.counts, vector, strict=True):
        counts[bisect_left(edges, value)] += 1.0
    state.seen += 1
    if state.seen % state.halve_every == 0:
        state.counts = [[count / 2 for count in row] for row in state.counts]
    return state


def input_drift(state: Inputs, effect: float = 1.0) -> Gate:
    """Return the gate ``input_drift``: the share of features with an alarm. ``effect`` is the number of vectors per
    effective one."""
    drifts = {
        name: drift.judge(now, then, effect, state.training.effect)
        for name, now, then in zip(state.training.names, state.counts, state.training.counts, strict=True)
        if len(then) > 1
    }
    alarms = [name for name, feature_drift in drifts.items() if feature_drift.alarm]
    share = len(alarms) / max(1, len(drifts))
    outcome = judged(state.seen, FEWEST, share <= MOST_ALARMS and not state.missing)
    worst = max(drifts, key=lambda name: drifts[name].value, default="")
    detail = f"{len(alarms)} of {len(drifts)} features alarm"
    if worst:
        detail += f"; the worst is {worst}, PSI {drifts[worst].value:.3f} of {drifts[worst].threshold:.3f}"
    if state.missing:
        detail += f"; {state.missing} vectors had another length"
    return gate("input_drift", outcome, share, MOST_ALARMS, state.seen, "soft", detail=detail)
