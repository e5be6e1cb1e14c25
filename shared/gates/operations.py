"""Count a candidate's failures, and keep a histogram of its latencies; ``critical`` judges them."""

import math
from typing import Final

from msgspec import Struct, field

BUCKETS: Final = 64
_PER_DOUBLING: Final = 3
"""Buckets per doubling, from 0.1 ms. 64 buckets reach beyond four minutes; a quantile is at most 26 % too high."""
SMALLEST_MS: Final = 0.1


def _buckets() -> list[int]:
    return [0] * BUCKETS


class Operations(Struct, array_like=True, forbid_unknown_fields=True):
    """Counts of one candidate.

    ``answered`` counts rows, ``failed`` failed predictions. ``unreadable`` counts rows whose action or outcome is none
    of the three classes, or whose probabilities are invalid. ``first`` and ``last`` are open times of bars."""

    answered: int = 0
    failed: int = 0
    unreadable: int = 0
    timed: int = 0
    latencies: list[int] = field(default_factory=_buckets)
    first: int = -1
    last: int = -1


def bucket(latency_ms: float) -> int:
    """Return the bucket of a latency; bucket 0 holds everything up to 0.1 ms."""
    if latency_ms <= SMALLEST_MS:
        return 0
    return min(BUCKETS - 1, 1 + int(_PER_DOUBLING * math.log2(latency_ms / SMALLEST_MS)))


def upper_ms(bucket_: int) -> float:
    """Return the largest latency of a bucket."""
    return SMALLEST_MS * 2 ** (bucket_ / _PER_DOUBLING)


def quantile_ms(state: Operations, share: float) -> float:
    """Return an upper bound of a latency quantile; NaN where nothing was timed."""
    seen = 0
    for number, count in enumerate(state.latencies):
        seen += count
        if count and seen >= share * state.timed:
            return upper_ms(number)
    return math.nan


def wilson(hits: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Return the interval of a share (Wilson 1927); [0, 1] where there are no observations."""
    if not count:
        return 0.0, 1.0
    share, room = hits / count, z * z / count
    middle = (share + room / 2) / (1 + room)
    half = z * math.sqrt(share * (1 - share) / count + room / (4 * count)) / (1 + room)
    return (0.0 if hits == 0 else middle - half), (1.0 if hits == count else middle + half)
