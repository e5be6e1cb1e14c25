"""The inputs of every artifact that votes or is in shadow, beside those of its training part."""

from struct import Struct as Packing
from typing import Final

from msgspec import Struct

from schemas.control import RegisterArtifact
from schemas.features import FeaturesComputed
from schemas.gates import InputsDrifted
from services.gate_evaluator.candidates import finite
from shared.gates import blocks, inputs
from shared.gates.backtest import effect_of
from shared.gates.inputs import Inputs, TrainingBins
from shared.gates.verdicts import Gate

LOOK: Final = 200
"""Drift is looked at every so many vectors."""


class Intake(Struct, array_like=True):
    """What came in for one artifact. ``since`` and ``until``: the open times (ms) of the bars seen."""

    model: str
    artifact: str
    block_ms: int
    interval_ms: int
    inputs: Inputs
    since: int = -1
    until: int = -1
    drifted: bool = False


def begin(known: RegisterArtifact) -> Intake | None:
    """Nothing seen yet; None for an artifact whose training left nothing to compare with."""
    if known.backtest is None or known.horizon is None:
        return None
    told = known.backtest
    training = TrainingBins(known.features, told.edges, told.counts, told.effect)
    length = blocks.length_ms(known.horizon, known.interval_ms)
    return Intake(known.model, known.artifact, length, known.interval_ms, Inputs(training))


def take(intake: Intake, vector: FeaturesComputed, event: str) -> InputsDrifted | None:
    """Takes one vector, in place. What is to be said, where drift began or ended."""
    if vector.interval_ms != intake.interval_ms:
        return None
    values = Packing(f"<{len(vector.values) // 4}f").unpack(vector.values)
    inputs.observe(intake.inputs, values)
    intake.since = vector.open_time if intake.since < 0 else min(intake.since, vector.open_time)
    intake.until = max(intake.until, vector.open_time)
    if intake.inputs.seen % LOOK:
        return None
    found = judge(intake)
    if found.outcome == "inconclusive" or (found.outcome == "failed") == intake.drifted:
        return None
    intake.drifted = not intake.drifted
    share = finite(found.value) or 0.0
    return InputsDrifted(
        intake.model,
        intake.artifact,
        intake.drifted,
        share,
        found.threshold,
        found.count,
        found.detail,
        event,
    )


def judge(intake: Intake) -> Gate:
    """Whether the inputs seen so far are like those of the training part."""
    span = intake.until - intake.since + intake.interval_ms
    return inputs.input_drift(intake.inputs, effect_of(intake.inputs.seen, span, intake.block_ms))
