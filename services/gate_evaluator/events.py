"""Convert scores into the input of ``shared.gates``, and results into events for ``gates``."""

import math
from typing import Any

from schemas.codec import Encoded, Envelope, encode
from schemas.common import ACTIONS
from schemas.scores import PredictionScored
from shared.gates.rounds import MemberScore


def caused(envelope: Envelope[Any], event: Any) -> Encoded:
    """Encode an event for ``gates`` that follows from another one."""
    return encode("gates", event, causation=envelope.id, correlation=envelope.correlation, flags=envelope.flags)


def finite(value: float) -> float | None:
    """Return a number that an event can carry; None for one that is infinite, NaN or above 1e15."""
    return float(value) if math.isfinite(value) and abs(value) < 1e15 else None


def member_score(score: PredictionScored) -> MemberScore:
    """Return a score as that of a member of the ensemble."""
    outcome = ACTIONS.index(score.outcome)
    return MemberScore(score.model, score.symbol, score.open_time, score.probabilities, outcome)
