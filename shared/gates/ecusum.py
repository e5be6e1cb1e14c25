"""Detect a change for the worse with an e-CUSUM (Shin, Ramdas and Rinaldo, e-detectors).

    M_k = mean over lambda of max(M_{k-1, lambda}, 1) (1 + lambda x_k),  x in [-1, 1], above 0 is harm

The expected number of blocks before a false alarm at threshold a is at least a, under E[x | past] <= 0.
"""

from typing import Final

from msgspec import Struct, field

STAKES: Final = (0.05, 0.10, 0.20, 0.35, 0.50, 0.70, 0.90)
CEILING: Final = 1e12
"""The largest wealth, far above any threshold, so that it stays finite."""


def _ones() -> list[float]:
    return [1.0] * len(STAKES)


class Cusum(Struct, array_like=True, forbid_unknown_fields=True):
    """The wealth at each stake, its mean ``value``, and the largest mean so far."""

    wealth: list[float] = field(default_factory=_ones)
    blocks: int = 0
    value: float = 1.0
    peak: float = 1.0


def observe(cusum: Cusum, harm: float) -> Cusum:
    """Add the harm of one block, in units of its scale and clipped to [-1, 1]."""
    x = min(1.0, max(-1.0, harm))
    for j, stake in enumerate(STAKES):
        cusum.wealth[j] = min(CEILING, max(cusum.wealth[j], 1.0) * (1.0 + stake * x))
    cusum.blocks += 1
    cusum.value = sum(cusum.wealth) / len(STAKES)
    cusum.peak = max(cusum.peak, cusum.value)
    return cusum
