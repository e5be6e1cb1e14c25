"""Reach the verdict on a voting policy again, from the commands and scores of a proof pack alone."""

from collections.abc import Sequence

from schemas.codec import Envelope
from schemas.control import CommandRecorded
from schemas.gates import GateVerdict
from services.gate_evaluator.core import Evaluator
from shared.runtime.service import Batch, Received


def judged_again(
    control: Sequence[Envelope[CommandRecorded]], scores: Sequence[Received], digest: str
) -> Sequence[GateVerdict]:
    """Return the gates on a voting policy after these scores; none if no score counts under the commands."""
    evaluator = Evaluator()
    state = evaluator.initial(b"")
    evaluator.apply(state, Batch(control, ()))
    evaluator.handle(state, Batch((), scores))
    return state.gates(digest)
