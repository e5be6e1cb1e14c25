"""Whether a voting artifact still earns what it earned at first: its gain over the class prior in purged blocks,
watched by an e-CUSUM. No error rate is promised where the first blocks showed more than twice what it is worth."""

import math
from typing import Final

from msgspec import Struct, field

from schemas.common import ACTIONS
from schemas.gates import SkillDecayed
from schemas.scores import PredictionScored
from services.gate_evaluator.candidates import finite
from shared.gates import blocks, ecusum
from shared.gates.backtest import UNKNOWN_SCALE
from shared.gates.blocks import Blocks
from shared.gates.ecusum import Cusum
from shared.gates.evidence import FLOOR

AT_FIRST: Final = 20
"""So many blocks say what it earns; then it is watched."""
KEPT: Final = 0.5
"""It has decayed when it earns less than this share of that; where that was nothing, less than the prior."""
LINE: Final = 100.0


class Decay(Struct, array_like=True):
    """One voting artifact since ``version``. ``earned``: its mean gain (nats) over the first ``counted``
    blocks; ``scale`` three deviations of that in its backtest."""

    artifact: str
    version: int
    scale: float
    blocks: Blocks
    counted: int = 0
    earned: float = 0.0
    watch: Cusum = field(default_factory=Cusum)


def begin(score: PredictionScored, scale: float | None) -> Decay:
    """Nothing seen yet. ``scale``: None for an artifact without a backtest."""
    length = blocks.length_ms(score.horizon, score.interval_ms)
    open_ = Blocks(length, score.horizon * score.interval_ms, 1)
    return Decay(score.artifact.hex(), score.control_version, scale or UNKNOWN_SCALE, open_)


def take(decay: Decay, score: PredictionScored, event: str) -> SkillDecayed | None:
    """A score of the voting artifact, in place; what is to be said at the end of a block. Said again only
    when as much evidence came together once more."""
    outcome = ACTIONS.index(score.outcome)
    gain = math.log(max(score.probabilities[outcome], FLOOR)) - math.log(max(score.prior[outcome], FLOOR))
    means = blocks.add(decay.blocks, score.open_time, (gain,))
    mean = means[0] if means is not None else None
    if mean is None:
        return None
    if decay.counted < AT_FIRST:
        decay.counted += 1
        decay.earned += (mean - decay.earned) / decay.counted
        return None
    least = KEPT * max(decay.earned, 0.0)
    ecusum.observe(decay.watch, (least - mean) / decay.scale)
    value, seen = decay.watch.value, decay.watch.blocks
    if value < LINE:
        return None
    decay.watch = Cusum()
    detail = f"e-CUSUM of a gain under {1000 * least:.2f} mnat a row; its first {AT_FIRST} blocks had "
    detail += f"{1000 * decay.earned:.2f}"
    return SkillDecayed(score.model, decay.artifact, finite(value), LINE, seen, detail, event, score.control_version)
