"""The logarithms and exponentials of three class probabilities, as every pool computes them."""

from math import exp, log
from typing import Final

from schemas.common import Probabilities
from schemas.control import Triple

FLOOR: Final = 1e-9
"""The smallest probability that enters a logarithm."""
ZERO: Final[Triple] = (0.0, 0.0, 0.0)


def evidence_of(probabilities: Probabilities, centre: Triple) -> Triple:
    """Return the centred evidence of one prediction: log p - c by class."""
    (p0, p1, p2), (c0, c1, c2) = probabilities, centre
    # Comparisons, not ``max``: a call costs four times as much.
    return (
        log(p0 if p0 > FLOOR else FLOOR) - c0,  # noqa: FURB136
        log(p1 if p1 > FLOOR else FLOOR) - c1,  # noqa: FURB136
        log(p2 if p2 > FLOOR else FLOOR) - c2,  # noqa: FURB136
    )


def softmax(sell: float, hold: float, buy: float) -> Probabilities:
    """Return the probabilities of three logits."""
    # Comparisons, not ``max``: a call costs four times as much, and a decision of four members needs 22.
    top = sell if sell > hold else hold  # noqa: FURB136
    top = buy if buy > top else top  # noqa: FURB136
    e0, e1, e2 = exp(sell - top), exp(hold - top), exp(buy - top)
    total = e0 + e1 + e2
    return (e0 / total, e1 / total, e2 / total)
