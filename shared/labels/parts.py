"""Split a gain in log score into two parts: whether the price moves, and in which direction.

A prediction of three classes is two predictions: of HOLD against a move, with P(SELL) + P(BUY) for the move, and of the
direction given a move, with P(BUY) / (P(SELL) + P(BUY)). By the chain rule its log score is the sum of theirs; a row
that ends in HOLD says nothing about direction. On real bars nearly all skill is in the first part: it is about
volatility, and no order can be placed on it alone.
"""

from math import log
from typing import Final, NamedTuple

from schemas.common import Probabilities

HOLD: Final = 1


class GainParts(NamedTuple):
    """A gain in log score (nats): ``total``, and its parts, whose sum it is."""

    total: float
    moves: float
    direction: float


def gain_parts(predicted: Probabilities, base: Probabilities, outcome: int, floor: float) -> GainParts:
    """Return the gain in log score of ``predicted`` over ``base``. ``outcome``: the index of the observed class.
    Probabilities below ``floor`` count as ``floor``."""
    total = _log(predicted[outcome], floor) - _log(base[outcome], floor)
    if outcome == HOLD:
        return GainParts(total, total, 0.0)
    moves = _log(predicted[0] + predicted[2], floor) - _log(base[0] + base[2], floor)
    return GainParts(total, moves, total - moves)


def _log(probability: float, floor: float) -> float:
    return log(max(probability, floor))
