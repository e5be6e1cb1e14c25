"""How large an effect is: an asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy and
Ramdas 2024), for people. Gates decide by e-values (``betting``); this says by how much."""

import math
from typing import Final

TIGHTEST_AT: Final = 60
"""The number of blocks at which the sequence is tightest."""
FEWEST: Final = 20
"""Asymptotics are not to be relied on with fewer blocks."""


def rho_squared(alpha: float, tightest_at: int = TIGHTEST_AT) -> float:
    """The mixture's variance that makes the bound tightest near ``tightest_at`` observations."""
    return (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / tightest_at


def half_width(count: int, deviation: float, alpha: float, tightest_at: int = TIGHTEST_AT) -> float:
    """Half the width after ``count`` observations of standard deviation ``deviation``; each bound by
    itself misses with probability ``alpha`` over all time. Infinite before 20 observations."""
    if count < FEWEST:
        return math.inf
    rho2 = rho_squared(alpha, tightest_at)
    scaled = count * rho2 + 1
    return deviation * math.sqrt(2 * scaled / (count * count * rho2) * math.log(1 + math.sqrt(scaled) / (2 * alpha)))
