"""Measure whether probabilities match frequencies: sums by probability, and statistics computed from them.

Each class has 100 bins of width 0.01 with rows, the sum of probabilities, and outcomes. Ten groups of equal mass are
formed from neighbouring bins when they are read, so no edges need to be known beforehand. The statistics are:

- the class-wise calibration error over equal-mass groups, less what a calibrated model would show by chance at this
  many effective rows (``debiased``);
- the slope of the logistic recalibration logit P(y = k) = a + b logit p_k: 1 is calibrated, under 1 is overconfident;
- Murphy's decomposition of the Brier score by the isotonic fit (CORP; Dimitriadis, Gneiting and Jordan 2021): BS = MCB
  - DSC + UNC. DSC is the discrimination, MCB the calibration error.

Differences within a bin are lost; MCB and DSC are those of the binned forecast. Rows overlap and symbols move together.
So standard errors use the design effect: the variance of a block's mean residual, divided by that of independent rows.
"""

import math
from typing import Final, NamedTuple

from msgspec import Struct, field

BINS: Final = 100
GROUPS: Final = 10
CLASSES: Final = 3
EDGE: Final = 1e-3
"""The smallest distance of a probability from 0 and 1 in a logit."""


def _matrix() -> list[list[float]]:
    return [[0.0] * BINS for _ in range(CLASSES)]


class Reliability(Struct, array_like=True, forbid_unknown_fields=True):
    """Sums by [class][bin]: ``rows``, ``predicted`` (the sum of p) and ``observed`` (outcomes)."""

    count: int = 0
    rows: list[list[float]] = field(default_factory=_matrix)
    predicted: list[list[float]] = field(default_factory=_matrix)
    observed: list[list[float]] = field(default_factory=_matrix)


def observe(state: Reliability, probabilities: tuple[float, float, float], outcome: int) -> Reliability:
    """Add one row."""
    state.count += 1
    rows, predicted = state.rows, state.predicted
    a, b, c = probabilities
    i, j, k = int(a * BINS), int(b * BINS), int(c * BINS)
    if i >= BINS or j >= BINS or k >= BINS:
        i, j, k = min(i, BINS - 1), min(j, BINS - 1), min(k, BINS - 1)
    rows[0][i] += 1.0
    rows[1][j] += 1.0
    rows[2][k] += 1.0
    predicted[0][i] += a
    predicted[1][j] += b
    predicted[2][k] += c
    state.observed[outcome][(i, j, k)[outcome]] += 1.0
    return state


class Group(NamedTuple):
    """Neighbouring bins combined: rows, mean predicted probability, and observed share."""

    rows: float
    predicted: float
    observed: float


def groups(state: Reliability, class_: int, count: int = GROUPS) -> list[Group]:
    """Return about ``count`` groups of equal mass for one class; fewer where many rows share a bin."""
    out = []
    rows = predicted = observed = 0.0
    target = state.count / count
    for n, p, y in zip(state.rows[class_], state.predicted[class_], state.observed[class_], strict=True):
        if n and rows and rows + n / 2 > target:
            out.append(Group(rows, predicted / rows, observed / rows))
            rows = predicted = observed = 0.0
        rows, predicted, observed = rows + n, predicted + p, observed + y
    if rows:
        out.append(Group(rows, predicted / rows, observed / rows))
    return out


class Error(NamedTuple):
    """The calibration error of one class. ``debiased`` is ``raw`` less its expectation by chance; ``error`` its
    standard error."""

    raw: float
    debiased: float
    error: float


def calibration_error(state: Reliability, class_: int, effect: float = 1.0) -> Error:
    """Return the mean |predicted - observed| over equal-mass groups.

    By chance a group of n effective rows shows sqrt(2/pi) sigma on average, with variance (1 - 2/pi) sigma^2, where
    sigma^2 = p (1 - p) / n."""
    raw = chance = variance = 0.0
    for group in groups(state, class_):
        share = group.rows / state.count
        sigma2 = group.predicted * (1 - group.predicted) * effect / group.rows
        raw += share * abs(group.predicted - group.observed)
        chance += share * math.sqrt(2 / math.pi * sigma2)
        variance += share * share * (1 - 2 / math.pi) * sigma2
    return Error(raw, max(0.0, raw - chance), math.sqrt(variance))


class Slope(NamedTuple):
    """A logistic recalibration: slope, intercept, and the slope's standard error, which is infinite where probabilities
    hardly differ."""

    slope: float
    intercept: float
    error: float


def recalibration(state: Reliability, class_: int, effect: float = 1.0, steps: int = 25) -> Slope:
    """Fit the logistic recalibration by Newton's method on the binned likelihood, from slope 1 and intercept 0."""
    points = [
        (n, _logit(predicted / n), observed)
        for n, predicted, observed in zip(
            state.rows[class_], state.predicted[class_], state.observed[class_], strict=True
        )
        if n
    ]
    a, b = 0.0, 1.0
    spread = 0.0
    for _ in range(steps):
        ga = gb = haa = hab = hbb = 0.0
        for n, x, observed in points:
            p = 1 / (1 + math.exp(-min(30.0, max(-30.0, a + b * x))))
            w = n * p * (1 - p)
            ga, gb = ga + observed - n * p, gb + (observed - n * p) * x
            haa, hab, hbb = haa + w, hab + w * x, hbb + w * x * x
        spread = haa * hbb - hab * hab
        if len(points) < 2 or spread <= 1e-9 * max(1.0, haa * hbb):
            return Slope(b, a, math.inf)
        da, db = (hbb * ga - hab * gb) / spread, (haa * gb - hab * ga) / spread
        scale = max(1.0, abs(da), abs(db))
        a, b = a + da / scale, b + db / scale
        if abs(da) + abs(db) < 1e-10:
            return Slope(b, a, math.sqrt(haa / spread * effect))
    return Slope(b, a, math.inf)


class Murphy(NamedTuple):
    """The Brier score of one class and its parts: score = miscalibration - discrimination + uncertainty."""

    score: float
    miscalibration: float
    discrimination: float
    uncertainty: float


def murphy(state: Reliability, class_: int) -> Murphy:
    """Return the CORP decomposition of the binned forecast."""
    points = [
        (n, predicted / n, observed / n)
        for n, predicted, observed in zip(
            state.rows[class_], state.predicted[class_], state.observed[class_], strict=True
        )
        if n
    ]
    total = sum(n for n, _, _ in points)
    if not total:
        return Murphy(0.0, 0.0, 0.0, 0.0)
    base = sum(n * y for n, _, y in points) / total
    fitted = isotonic([y for _, _, y in points], [n for n, _, _ in points])
    score = sum(n * _brier(p, y) for n, p, y in points) / total
    best = sum(n * _brier(f, y) for (n, _, y), f in zip(points, fitted, strict=True)) / total
    uncertainty = base * (1 - base)
    return Murphy(score, score - best, uncertainty - best, uncertainty)


def isotonic(values: list[float], weights: list[float]) -> list[float]:
    """Return the non-decreasing fit of least weighted squares, by pooling adjacent violators."""
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        mean, mass, size = value, weight, 1
        while pools and pools[-1][0] >= mean:
            before, heavy, many = pools.pop()
            mean = (before * heavy + mean * mass) / (heavy + mass)
            mass, size = mass + heavy, size + many
        pools.append((mean, mass, size))
    return [mean for mean, _, size in pools for _ in range(size)]


def _brier(p: float, y: float) -> float:
    """Return the mean of (p - outcome)^2 over rows of which a share ``y`` has the outcome 1."""
    return y * (1 - p) ** 2 + (1 - y) * p * p


def _logit(p: float) -> float:
    p = min(1 - EDGE, max(EDGE, p))
    return math.log(p / (1 - p))
