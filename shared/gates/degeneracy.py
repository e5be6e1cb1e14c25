"""Measure whether a model's output depends on its input at all.

Probabilities are rounded to 1e-3 first: float noise is no diversity (450 "distinct" confidences within 0.0001 count as
one). Recorded are the set of rounded triples (up to 4,096), the spread of the rounded probabilities, the longest run of
one triple for one symbol, and the number of bars in which all symbols had the same triple.
"""

import math
from typing import Final

from msgspec import Struct, field

GRID: Final = 1000
MOST_DISTINCT: Final = 4096
MOST_SYMBOLS: Final = 10_000

Triple = tuple[float, float, float]


def _counts() -> list[list[int]]:
    return [[0] * (GRID + 1) for _ in range(3)]


class OutputDistribution(Struct, array_like=True, forbid_unknown_fields=True):
    """The state.

    ``histogram`` is [class][thousandth]. The ``code`` of a triple is its rounded SELL and BUY as one number. ``codes``
    counts rows by code until 4,096 codes are known; ``other`` counts the rest. ``last`` is the code and the run length
    by symbol."""

    count: int = 0
    histogram: list[list[int]] = field(default_factory=_counts)
    codes: dict[int, int] = field(default_factory=dict)
    other: int = 0
    last: dict[str, tuple[int, int]] = field(default_factory=dict)
    longest_run: int = 0
    bar: int = -1
    bar_code: int = -1
    bar_symbols: int = 0
    bar_same: bool = True
    bars: int = 0
    shared_bars: int = 0
    same_bars: int = 0


def observe(state: OutputDistribution, symbol: str, open_time: int, probabilities: Triple) -> OutputDistribution:
    """Add one prediction. Predictions for one bar are compared with each other where they arrive consecutively."""
    sell, hold = int(probabilities[0] * GRID + 0.5), int(probabilities[1] * GRID + 0.5)
    buy = int(probabilities[2] * GRID + 0.5)
    state.count += 1
    histogram = state.histogram
    histogram[0][sell] += 1
    histogram[1][hold] += 1
    histogram[2][buy] += 1
    code = sell * 1024 + buy
    codes = state.codes
    if code in codes:
        codes[code] += 1
    elif len(codes) < MOST_DISTINCT:
        codes[code] = 1
    else:
        state.other += 1
    before, run = state.last.get(symbol, (-1, 0))
    run = run + 1 if before == code else 1
    state.longest_run = max(state.longest_run, run)
    if before >= 0 or len(state.last) < MOST_SYMBOLS:
        state.last[symbol] = (code, run)
    if open_time == state.bar:
        state.bar_symbols += 1
        if code != state.bar_code:
            state.bar_same = False
    elif open_time > state.bar:
        _close_bar(state)
        state.bar, state.bar_code, state.bar_symbols, state.bar_same = open_time, code, 1, True
    return state


def _close_bar(state: OutputDistribution) -> None:
    if state.bar < 0:
        return
    state.bars += 1
    if state.bar_symbols > 1:
        state.shared_bars += 1
        state.same_bars += state.bar_same


def distinct(state: OutputDistribution) -> int:
    """Return the number of different rounded triples; 4,096 means that many or more."""
    return len(state.codes)


def entropy(state: OutputDistribution) -> float:
    """Return the entropy of the rounded triples in nats; each row beyond the 4,096 known triples counts as a new
    one."""
    known = sum(n * math.log(n) for n in state.codes.values())
    return math.log(state.count) - known / state.count if state.count else 0.0


def spread(state: OutputDistribution) -> tuple[float, float]:
    """Return the largest standard deviation and the largest P10-to-P90 over the classes, on the grid of 1e-3."""
    pairs = [(_deviation(row, state.count), quantile_range(row, state.count)) for row in state.histogram]
    return max(deviation for deviation, _ in pairs), max(width for _, width in pairs)


def same_everywhere(state: OutputDistribution) -> float:
    """Return the share of bars with several symbols in which all symbols had the same rounded prediction."""
    return state.same_bars / state.shared_bars if state.shared_bars else 0.0


def quantile_range(counts: list[int], total: int, low: float = 0.10, high: float = 0.90) -> float:
    """Return the distance of two quantiles of a histogram over [0, 1], each the lower of two candidates."""
    step = 1.0 / max(1, len(counts) - 1)
    return (_rank(counts, high * total) - _rank(counts, low * total)) * step


def _rank(counts: list[int], target: float) -> int:
    seen = 0
    for bin_, count in enumerate(counts):
        seen += count
        if seen >= target and seen:
            return bin_
    return len(counts) - 1


def _deviation(counts: list[int], total: int) -> float:
    if not total:
        return 0.0
    mean = sum(bin_ * count for bin_, count in enumerate(counts)) / total
    square = sum(bin_ * bin_ * count for bin_, count in enumerate(counts)) / total
    return math.sqrt(max(0.0, square - mean * mean)) / GRID
