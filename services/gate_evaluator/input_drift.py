"""Compare the inputs of every artifact that votes or is in shadow with those of its training part."""

from struct import Struct as Packing
from typing import Final

from msgspec import Struct

from schemas.control import RegisterArtifact
from schemas.features import FeaturesComputed
from schemas.gates import InputsDrifted
from services.gate_evaluator.events import finite
from shared.gates import blocks, inputs
from shared.gates.backtest import effect_of
from shared.gates.inputs import Inputs, TrainingBins
from shared.gates.verdicts import Gate

CHECK_EVERY: Final = 200
"""Drift is checked after so many vectors."""
SPAN_SHARE: Final = 10
SPAN_MOST_MS: Final = 7 * 86_400_000
"""Vectors must span a tenth of the training part, or a week, before they are compared with it."""


class InputDrift(Struct, array_like=True):
    """The inputs of one artifact. ``since`` and ``until``: the first and last bar of its vectors (open times, ms).
    ``least_ms``: the span of vectors from which on they are compared; 0 for an artifact of an earlier release, whose
    training part has no known span."""

    model: str
    artifact: str
    block_ms: int
    interval_ms: int
    inputs: Inputs
    since: int = -1
    until: int = -1
    drifted: bool = False
    least_ms: int = 0


def initial(registered: RegisterArtifact) -> InputDrift | None:
    """Return the state of an artifact without any vector; None if its training recorded no reference."""
    backtest = registered.backtest
    if backtest is None or registered.horizon is None:
        return None
    training = TrainingBins(registered.features, backtest.edges, backtest.counts, backtest.effect)
    length = blocks.length_ms(registered.horizon, registered.interval_ms)
    drift = InputDrift(registered.model, registered.artifact, length, registered.interval_ms, Inputs(training))
    drift.least_ms = min((backtest.span_ms or 0) // SPAN_SHARE, SPAN_MOST_MS)
    return drift


def evolve(state: InputDrift, vector: FeaturesComputed, event: str) -> InputsDrifted | None:
    """Add one vector, in place. Return the event to write if a drift began or ended."""
    if vector.interval_ms != state.interval_ms:
        return None
    values = Packing(f"<{len(vector.values) // 4}f").unpack(vector.values)
    inputs.observe(state.inputs, values)
    state.since = vector.open_time if state.since < 0 else min(state.since, vector.open_time)
    state.until = max(state.until, vector.open_time)
    if state.inputs.seen % CHECK_EVERY or state.until - state.since + state.interval_ms < state.least_ms:
        return None
    gate = judge(state)
    if gate.outcome == "inconclusive" or (gate.outcome == "failed") == state.drifted:
        return None
    state.drifted = not state.drifted
    return InputsDrifted(
        model=state.model,
        artifact=state.artifact,
        drifted=state.drifted,
        share=finite(gate.value) or 0.0,
        threshold=gate.threshold,
        samples=gate.count,
        detail=gate.detail,
        vector=event,
    )


def judge(state: InputDrift) -> Gate:
    """Return whether the inputs so far are distributed as those of the training part."""
    span = state.until - state.since + state.interval_ms
    return inputs.input_drift(state.inputs, effect_of(state.inputs.seen, span, state.block_ms))
