"""The course of an equity from moment to moment, kept as sums.

With r the relative change from one moment to the next, the sums of r, r squared, r cubed and r to the fourth are all
that a Sharpe ratio and its interval need. A moment at which nothing changed adds nothing to them, so a symbol that is
not held costs nothing.
"""

from math import sqrt
from typing import NamedTuple

VARIES: float = 1e-14
"""The variance, as a share of the mean square, below which changes count as all equal."""


class Moments(NamedTuple):
    """Of changes: their number, mean, standard deviation (n - 1), skew, and kurtosis (3 for a normal distribution)."""

    number: int
    mean: float
    deviation: float
    skew: float
    kurtosis: float


class EquityCourse:
    """See the module. Moments are counted from 1.

    ``drawdown``: the largest loss since an earlier high, as a share of the high. ``lowest``: the lowest equity."""

    def __init__(self, begin: float) -> None:
        self.drawdown = 0.0
        self.lowest = begin
        self._equity = self._highest = begin
        self._exposed = 0.0
        self._exposure = 0.0
        self._moment = 0
        self._powers = (0.0, 0.0, 0.0, 0.0)

    def mark(self, moment: int, equity: float, gross: float) -> None:
        """Note the equity at a moment, and the value of all positions without their signs. At the moments since the
        last one that was noted, nothing changed."""
        self._exposed += (moment - 1 - self._moment) * self._exposure
        self._moment, self._exposure = moment, gross / equity if equity > 0.0 else 0.0
        self._exposed += self._exposure
        if equity == self._equity:
            return
        if self._equity > 0.0:
            change = (equity - self._equity) / self._equity
            first, second, third, fourth = self._powers
            square = change * change
            self._powers = first + change, second + square, third + square * change, fourth + square * square
        self._equity = equity
        self._highest, self.lowest = max(self._highest, equity), min(self.lowest, equity)
        self.drawdown = max(self.drawdown, (self._highest - equity) / self._highest)

    def exposure(self, moments: int) -> float:
        """Return the mean of gross over equity at so many moments; 0 for none."""
        return (self._exposed + (moments - self._moment) * self._exposure) / moments if moments else 0.0

    def changes(self, moments: int) -> Moments | None:
        """Return what the changes at so many moments (at least 2) are like; None if all are equal."""
        mean, square, cube, fourth = (power / moments for power in self._powers)
        variance = square - mean**2
        if variance <= VARIES * square:
            return None
        skew = (cube - 3 * mean * square + 2 * mean**3) / variance**1.5
        kurtosis = (fourth - 4 * mean * cube + 6 * mean**2 * square - 3 * mean**4) / variance**2
        return Moments(moments, mean, sqrt(variance * moments / (moments - 1)), skew, kurtosis)
