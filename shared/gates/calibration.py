"""Whether probabilities mean what they say: reliability sums, and what is read from them.

Each class keeps 100 bins of width 0.01: rows, sum of the probability, outcomes. Ten bins of equal mass
are made of neighbours when they are read, so no edges need be known beforehand. Read from them:

- the class-wise calibration error over equal-mass bins, less what a calibrated model would show by
  chance at this many effective rows (``debiased``);
- the slope of the logistic recalibration logit P(y = k) = a + b logit p_k: 1 is calibrated, under 1 is
  overconfident;
- Murphy's decomposition of the Brier score by the isotonic fit (CORP; Dimitriadis, Gneiting and Jordan
  2021): BS = MCB - DSC + UNC. DSC is the spread of confidence that pays, MCB the calibration error.

Bins lose the differences inside 0.01; MCB and DSC are those of the binned forecast.
Rows overlap and symbols move together, so standard errors use the design effect: the variance of a
block's mean residual over what independent rows would give.
"""

import math
from typing import Final, NamedTuple

from msgspec import Struct, field

BINS: Final = 100
GROUPS: Final = 10
CLASSES: Final = 3
EDGE: Final = 1e-3
"""Probabilities enter a logit no closer to 0 and 1 than this."""


def _matrix() -> list[list[float]]:
    return [[0.0] * BINS for _ in range(CLASSES)]


class Reliability(Struct, array_like=True, forbid_unknown_fields=True):
    """The sums: ``rows``, ``said`` (sum of p) and ``came`` (outcomes), each [class][bin]."""

    count: int = 0
    rows: list[list[float]] = field(default_factory=_matrix)
    said: list[list[float]] = field(default_factory=_matrix)
    came: list[list[float]] = field(default_factory=_matrix)


def observe(state: Reliability, probabilities: tuple[float, float, float], outcome: int) -> Reliability:
    """Takes one row."""
    state.count += 1
    rows, said = state.rows, state.said
    a, b, c = probabilities
    i, j, k = int(a * BINS), int(b * BINS), int(c * BINS)
    if i >= BINS or j >= BINS or k >= BINS:
        i, j, k = min(i, BINS - 1), min(j, BINS - 1), min(k, BINS - 1)
    rows[0][i] += 1.0
    rows[1][j] += 1.0
    rows[2][k] += 1.0
    said[0][i] += a
    said[1][j] += b
    said[2][k] += c
    state.came[outcome][(i, j, k)[outcome]] += 1.0
    return state


class Group(NamedTuple):
    """Neighbouring bins taken together: rows, mean probability said, share that came."""

    rows: float
    said: float
    came: float


def groups(state: Reliability, class_: int, count: int = GROUPS) -> list[Group]:
    """About ``count`` groups of equal mass of one class; fewer where many rows share a bin."""
    out = []
    rows = said = came = 0.0
    target = state.count / count
    for n, p, y in zip(state.rows[class_], state.said[class_], state.came[class_], strict=True):
        if n and rows and rows + n / 2 > target:
            out.append(Group(rows, said / rows, came / rows))
            rows = said = came = 0.0
        rows, said, came = rows + n, said + p, came + y
    if rows:
        out.append(Group(rows, said / rows, came / rows))
    return out


class Error(NamedTuple):
    """A calibration error of one class: ``debiased`` = ``raw`` - expected by chance; its ``error``."""

    raw: float
    debiased: float
    error: float


def calibration_error(state: Reliability, class_: int, effect: float = 1.0) -> Error:
    """Mean |said - came| over equal-mass groups. By chance a group of n effective rows shows
    sqrt(2/pi) sigma on average, with variance (1 - 2/pi) sigma^2, sigma^2 = p (1 - p) / n."""
    raw = chance = variance = 0.0
    for group in groups(state, class_):
        share = group.rows / state.count
        sigma2 = group.said * (1 - group.said) * effect / group.rows
        raw += share * abs(group.said - group.came)
        chance += share * math.sqrt(2 / math.pi * sigma2)
        variance += share * share * (1 - 2 / math.pi) * sigma2
    return Error(raw, max(0.0, raw - chance), math.sqrt(variance))


class Slope(NamedTuple):
    """Logistic recalibration: slope, intercept, and the slope's standard error (infinite where the
    probabilities hardly differ)."""

    slope: float
    intercept: float
    error: float


def recalibration(state: Reliability, class_: int, effect: float = 1.0, steps: int = 25) -> Slope:
    """Newton's method on the binned likelihood, from slope 1 and intercept 0."""
    points = [
        (n, _logit(said / n), came)
        for n, said, came in zip(state.rows[class_], state.said[class_], state.came[class_], strict=True)
        if n
    ]
    a, b = 0.0, 1.0
    spread = 0.0
    for _ in range(steps):
        ga = gb = haa = hab = hbb = 0.0
        for n, x, came in points:
            p = 1 / (1 + math.exp(-min(30.0, max(-30.0, a + b * x))))
            w = n * p * (1 - p)
            ga, gb = ga + came - n * p, gb + (came - n * p) * x
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
    """Brier score of one class, its miscalibration, discrimination and uncertainty: score =
    miscalibration - discrimination + uncertainty."""

    score: float
    miscalibration: float
    discrimination: float
    uncertainty: float


def murphy(state: Reliability, class_: int) -> Murphy:
    """The CORP decomposition of the binned forecast."""
    points = [
        (n, said / n, came / n)
        for n, said, came in zip(state.rows[class_], state.said[class_], state.came[class_], strict=True)
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
    """The non-decreasing fit of least weighted squares: pool adjacent violators."""
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
    """Mean of (p - outcome)^2 over rows of which a share ``y`` came."""
    return y * (1 - p) ** 2 + (1 - y) * p * p


def _logit(p: float) -> float:
    p = min(1 - EDGE, max(EDGE, p))
    return math.log(p / (1 - p))
