"""Estimate how large an effect is: an asymptotic confidence sequence, for people to read.

Source: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024. Gates decide by e-values (``betting``), not by this
interval.
"""

import math
from typing import Final

TIGHTEST_AT: Final = 60
"""Number of blocks at which the sequence is tightest."""
FEWEST: Final = 20
"""Number of blocks below which the asymptotics are not reliable."""


def rho_squared(alpha: float, tightest_at: int = TIGHTEST_AT) -> float:
    """Return the variance of the mixture that makes the bound tightest near ``tightest_at`` observations."""
    return (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / tightest_at


def half_width(count: int, deviation: float, alpha: float, tightest_at: int = TIGHTEST_AT) -> float:
    """Return half the width after ``count`` observations of standard deviation ``deviation``; infinite before 20
    observations.

    Each bound by itself misses with probability ``alpha`` over all time."""
    if count < FEWEST:
        return math.inf
    rho2 = rho_squared(alpha, tightest_at)
    scaled = count * rho2 + 1
    return deviation * math.sqrt(2 * scaled / (count * count * rho2) * math.log(1 + math.sqrt(scaled) / (2 * alpha)))
