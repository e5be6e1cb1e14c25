"""Whether the inputs still look like those of training: one PSI a feature, on frozen bins.

The bins are ten of equal mass over the training part. Newer vectors count more: counts are halved every
``halve_every`` vectors, so that about twice as many are remembered. The gate fails when more than a
fifth of the features alarm; which ones, it says by name.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from msgspec import Struct, field

from shared.gates import drift
from shared.gates.verdicts import Gate, gate, judged

MOST_ALARMS: Final = 0.20
FEWEST: Final = 200


class TrainingBins(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The reference: by feature the inner edges of its bins, ascending, and the training part's counts
    (one more than edges). ``rows`` per effective row, there, is ``effect``."""

    names: tuple[str, ...]
    edges: tuple[tuple[float, ...], ...]
    counts: tuple[tuple[float, ...], ...]
    effect: float = 1.0


class Inputs(Struct, array_like=True, forbid_unknown_fields=True):
    """Counts by feature and bin. ``missing`` counts vectors that had another length: a fault upstream."""

    training: TrainingBins
    halve_every: int = 2_000
    counts: list[list[float]] = field(default_factory=list)
    seen: int = 0
    missing: int = 0

    def __post_init__(self) -> None:
        if not self.counts:
            self.counts = [[0.0] * len(row) for row in self.training.counts]


def reference(names: Sequence[str], columns: Sequence[Sequence[float]], effect: float = 1.0) -> TrainingBins:
    """Bins of equal mass of the training part: ``columns`` [F][rows]. Equal values share a bin."""
    edges, counts = [], []
    for column in columns:
        ordered = sorted(column)
        inner = sorted({ordered[len(ordered) * k // 10] for k in range(1, 10)})
        tally = [0.0] * (len(inner) + 1)
        for value in ordered:
            tally[bisect_left(inner, value)] += 1.0
        edges.append(tuple(inner))
        counts.append(tuple(tally))
    return TrainingBins(tuple(names), tuple(edges), tuple(counts), effect)


def observe(state: Inputs, vector: Sequence[float]) -> Inputs:
    """Takes one vector as the model saw it."""
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
    """The gate ``input_drift``: the share of features that alarm. ``effect``: vectors per effective one."""
    found = {
        name: drift.judge(now, then, effect, state.training.effect)
        for name, now, then in zip(state.training.names, state.counts, state.training.counts, strict=True)
    }
    alarms = [name for name, one in found.items() if one.alarm]
    share = len(alarms) / max(1, len(found))
    outcome = judged(state.seen, FEWEST, share <= MOST_ALARMS and not state.missing)
    worst = max(found, key=lambda name: found[name].value, default="")
    detail = f"{len(alarms)} of {len(found)} features alarm"
    if worst:
        detail += f"; the worst is {worst}, PSI {found[worst].value:.3f} of {found[worst].threshold:.3f}"
    if state.missing:
        detail += f"; {state.missing} vectors had another length"
    return gate("input_drift", outcome, share, MOST_ALARMS, state.seen, "soft", detail=detail)
