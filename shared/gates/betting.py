"""Test that the mean of a bounded sequence is above zero, with evidence that is valid at any time: ``pbe1``.

A gambler who starts with 1 stakes a fraction lambda of the wealth on each x in [-1, 1]:

    E_k = mean over lambda of prod_{i <= k} (1 + lambda x_i)

If E[x_i | past] <= 0 for every i, E is a non-negative supermartingale, so P(E ever >= 1/alpha) <= alpha (Ville 1939;
Waudby-Smith and Ramdas 2024, section 4). That is the *strong* null. A second, empirical-Bernstein process (Howard et
al. 2021; Choe and Ramdas 2023) assumes only that the mean of the conditional means so far is not above zero, and grows
more slowly:

    E^EB_k = mean over lambda of exp(lambda S_k - psi(lambda) V_k),  psi(l) = (-ln(1 - 2 l) - 2 l) / 4,
    S_k = sum x_i,  V_k = sum (x_i - mean of x before i)^2

Both directions are tested: against "not better" and against "not worse".
"""

import math
from collections.abc import Sequence
from typing import Final

from msgspec import Struct, field

from shared.gates.confidence import half_width

STAKES: Final = (0.02, 0.05, 0.10, 0.20, 0.35, 0.50, 0.70, 0.90)
EB_STAKES: Final = (0.02, 0.05, 0.10, 0.15, 0.20, 0.30, 0.40, 0.45)
EB_COSTS: Final = tuple((-math.log1p(-2 * stake) - 2 * stake) / 4 for stake in EB_STAKES)


def _zeros() -> list[float]:
    return [0.0] * len(STAKES)


class Bets(Struct, array_like=True, forbid_unknown_fields=True):
    """The evidence of one comparison. One observation is the mean gain of one purged block.

    ``scale`` converts a gain to x; it is fixed before the first observation. ``margin`` is added to each gain
    (non-inferiority). ``above`` and ``below`` are the log wealths by stake, for better and for worse. ``peak_above``
    and ``peak_below`` are the largest log E so far."""

    scale: float
    margin: float = 0.0
    blocks: int = 0
    above: list[float] = field(default_factory=_zeros)
    below: list[float] = field(default_factory=_zeros)
    peak_above: float = 0.0
    peak_below: float = 0.0
    mean: float = 0.0
    squares: float = 0.0
    total: float = 0.0
    x_mean: float = 0.0
    spread: float = 0.0

    @property
    def deviation(self) -> float:
        """The standard deviation of the gains, without the margin, in their units."""
        return math.sqrt(self.squares / self.blocks) if self.blocks else 0.0


def observe(bets: Bets, gain: float) -> Bets:
    """Add the mean gain of one block. Raises ``ValueError`` for a gain that is not finite."""
    if not math.isfinite(gain):
        raise ValueError(f"the gain of block {bets.blocks + 1} is {gain}: a score upstream was not finite")
    x = min(1.0, max(-1.0, (gain + bets.margin) / bets.scale))
    for j, stake in enumerate(STAKES):
        bets.above[j] += math.log1p(stake * x)
        bets.below[j] += math.log1p(-stake * x)
    bets.spread += (x - bets.x_mean) ** 2
    bets.blocks += 1
    bets.total += x
    bets.x_mean = bets.total / bets.blocks
    step = gain - bets.mean
    bets.mean += step / bets.blocks
    bets.squares += step * (gain - bets.mean)
    bets.peak_above = max(bets.peak_above, log_mean_exp(bets.above))
    bets.peak_below = max(bets.peak_below, log_mean_exp(bets.below))
    return bets


def log_e(bets: Bets) -> float:
    """Return ln E at present, against "not better"."""
    return log_mean_exp(bets.above)


def log_e_weak(bets: Bets) -> float:
    """Return ln of the empirical-Bernstein process at present, against "not better on average so far"."""
    return log_mean_exp(
        [stake * bets.total - cost * bets.spread for stake, cost in zip(EB_STAKES, EB_COSTS, strict=True)]
    )


def interval(bets: Bets, alpha: float) -> tuple[float, float]:
    """Return bounds of the mean gain; infinite before 20 blocks.

    Each bound by itself is asymptotically valid at level ``alpha`` at any time."""
    width = half_width(bets.blocks, bets.deviation, alpha)
    return bets.mean - width, bets.mean + width


def log_mean_exp(logs: Sequence[float]) -> float:
    """Return ln of the mean of the exponentials."""
    top = max(logs)
    return top + math.log(math.fsum(math.exp(value - top) for value in logs) / len(logs))
