"""Detect that a voting artifact gains less than it did at first.

The gain is that in log score over the class prior, averaged over purged blocks and tested with an e-CUSUM. No error
rate is guaranteed if the first blocks showed more than twice the true gain."""

import math
from typing import Final

from msgspec import Struct, field

from schemas.common import ACTIONS
from schemas.gates import SkillDecayed
from schemas.scores import PredictionScored
from services.gate_evaluator.events import finite
from shared.gates import blocks, ecusum
from shared.gates.backtest import UNKNOWN_SCALE
from shared.gates.blocks import Blocks
from shared.gates.ecusum import Cusum
from shared.gates.evidence import FLOOR

BASELINE_BLOCKS: Final = 20
"""The first gain is the mean of so many blocks. The blocks after them are tested."""
LEAST_SHARE: Final = 0.5
"""The skill has decayed if the gain is below this share of the first gain; or below zero, if that was not positive."""
THRESHOLD: Final = 100.0


class Decay(Struct, array_like=True):
    """The champion ``artifact`` since configuration ``version``. ``baseline``: its mean gain (nats) over the first
    ``counted`` blocks. ``scale``: three standard deviations of the block means in its backtest."""

    artifact: str
    version: int
    scale: float
    blocks: Blocks
    counted: int = 0
    baseline: float = 0.0
    cusum: Cusum = field(default_factory=Cusum)


def initial(score: PredictionScored, scale: float | None) -> Decay:
    """Return the state of an artifact without any score. ``scale``: None if it has no backtest."""
    length = blocks.length_ms(score.horizon, score.interval_ms)
    open_block = Blocks(length, score.horizon * score.interval_ms, 1)
    return Decay(score.artifact.hex(), score.control_version, scale or UNKNOWN_SCALE, open_block)


def evolve(decay: Decay, score: PredictionScored, event: str) -> SkillDecayed | None:
    """Add a score of the champion, in place. Return the event to write if a block ended and the skill has decayed.
    After an event the evidence starts at zero, so a further one needs as much new evidence."""
    outcome = ACTIONS.index(score.outcome)
    gain = math.log(max(score.probabilities[outcome], FLOOR)) - math.log(max(score.prior[outcome], FLOOR))
    means = blocks.add(decay.blocks, score.open_time, (gain,))
    mean = means[0] if means is not None else None
    if mean is None:
        return None
    if decay.counted < BASELINE_BLOCKS:
        decay.counted += 1
        decay.baseline += (mean - decay.baseline) / decay.counted
        return None
    least = LEAST_SHARE * max(decay.baseline, 0.0)
    ecusum.observe(decay.cusum, (least - mean) / decay.scale)
    value, seen = decay.cusum.value, decay.cusum.blocks
    if value < THRESHOLD:
        return None
    decay.cusum = Cusum()
    detail = f"e-CUSUM of a gain under {1000 * least:.2f} mnat a row; its first {BASELINE_BLOCKS} blocks had "
    detail += f"{1000 * decay.baseline:.2f}"
    return SkillDecayed(
        model=score.model,
        artifact=decay.artifact,
        value=finite(value),
        threshold=THRESHOLD,
        samples=seen,
        detail=detail,
        last_score=event,
        control_version=score.control_version,
    )
