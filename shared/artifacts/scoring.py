"""Score forecasts against the class prior. Accuracy is always given with that of the majority class.

Skill is the mean log loss of the prior minus that of the model, in thousandths of a nat (mnat). Its interval is from
a circular moving-block bootstrap over time (Politis and Romano 1992). All symbols of a bar stay together, and blocks
are longer than a label, so that overlapping labels do not count as independent evidence.
"""

import math
from typing import Final

import numpy as np
from msgspec import UNSET, Struct, UnsetType
from numpy.typing import NDArray

from shared.labels.parts import gain_parts

Matrix = NDArray[np.float64]
Classes = NDArray[np.int64]
Times = NDArray[np.int64]

DRAWS: Final = 2000
SMALLEST: Final = 1e-304
"""Smaller probabilities count as this one."""
DISTINCT_AT_LEAST: Final = 20
"""A model with fewer different predictions, rounded to 1e-3, does not depend on its input."""
Triple = tuple[float, float, float]


class Interval(Struct, frozen=True, forbid_unknown_fields=True):
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


def interval_text(interval: Interval | UnsetType) -> str:
    """Return a gain (mnat) with its interval as text; ``-`` where an earlier release did not measure it."""
    return "-" if interval is UNSET else f"{interval.value:+.1f} [{interval.low:+.1f}, {interval.high:+.1f}]"


class Scores(Struct, frozen=True, forbid_unknown_fields=True):
    """Scores on rows that were not used in fitting.

    ``skill`` is in mnat. ``majority`` is the share of the most frequent class, the accuracy of a constant forecast.
    ``classes`` are the observed shares of SELL, HOLD and BUY; ``actions`` are the shares of the classes that the model
    predicted as most likely. ``distinct`` is the number of different predictions, rounded to 1e-3. ``moves`` and
    ``direction`` are the parts of ``skill`` (``shared.labels.parts``), a row of all rows each; earlier releases left
    them out.
    """

    rows: int
    log_loss: float
    prior_log_loss: float
    skill: Interval
    accuracy: float
    majority: float
    brier: float
    prior_brier: float
    classes: Triple
    actions: Triple
    distinct: int
    moves: Interval | UnsetType = UNSET
    direction: Interval | UnsetType = UNSET


def log_losses(p: Matrix, y: Classes) -> Matrix:
    """Return minus the log of the probability of the observed class, [N], at most 700."""
    return np.minimum(-np.log(np.maximum(p[np.arange(len(y)), y], SMALLEST)), 700.0)


def brier(p: Matrix, y: Classes) -> float:
    """Return the multi-class Brier score, 0 to 2."""
    return float(((p - np.eye(3)[y]) ** 2).sum(axis=1).mean())


def distinct(p: Matrix) -> int:
    """Return the number of different predictions, rounded to 1e-3."""
    return len(np.unique(np.rint(p * 1000).astype(np.int64), axis=0))


def spread(p: Matrix) -> float:
    """Return the mean Kullback-Leibler divergence of predictions from their mean (nats), at least 0: 0 for a
    constant."""
    p = np.maximum(p, SMALLEST)
    divergences = (p * np.log(p / p.mean(axis=0))).sum(axis=1)
    return max(0.0, round(float(divergences.mean()), 12))


def shares(labels: Classes) -> Triple:
    """Return the class frequencies."""
    sell, hold, buy = (np.bincount(labels, minlength=3) / max(1, len(labels))).tolist()
    return sell, hold, buy


def block_interval(gain: Matrix, time: Times, block: int, seed: int) -> Interval:
    """Return the mean of ``gain`` with its 95 % interval, from blocks of ``block`` consecutive times."""
    moments, where = np.unique(time, return_inverse=True)
    totals = np.bincount(where, weights=gain)
    counts = np.bincount(where).astype(np.float64)
    length = min(block, len(moments))
    runs = math.ceil(len(moments) / length)
    sums = [np.concatenate([[0.0], np.cumsum(np.concatenate([row, row[:length]]))]) for row in (totals, counts)]
    starts = np.random.default_rng(seed).integers(0, len(moments), size=(DRAWS, runs))
    drawn, rows = ((total[starts + length] - total[starts]).sum(axis=1) for total in sums)
    low, high = np.quantile(drawn / rows, [0.025, 0.975]).tolist()
    return Interval(float(gain.mean()), low, high)


def block_of(time: Times, horizon: int) -> int:
    """Return the length of a block in bars: four horizons, or the square root of the number of bars if it is longer."""
    return max(4 * horizon, math.isqrt(len(np.unique(time))))


def split_gains(p: Matrix, base: Matrix, y: Classes) -> tuple[Matrix, Matrix]:
    """Return the gains of ``p`` over ``base`` in nats, [N] each: about moves and about direction."""
    rows = zip(p.tolist(), base.tolist(), y.tolist(), strict=True)
    parts = [gain_parts(predicted, other, outcome, SMALLEST)[1:] for predicted, other, outcome in rows]
    columns = np.array(parts).reshape(-1, 2)
    return columns[:, 0], columns[:, 1]


def score(p: Matrix, y: Classes, time: Times, prior: Triple, *, horizon: int, seed: int = 0) -> Scores:
    """Return the scores of probabilities ``p`` [N, 3] for classes ``y`` [N] at times ``time`` [N]."""
    base = np.tile(np.array(prior), (len(y), 1))
    model_loss, base_loss = log_losses(p, y), log_losses(base, y)
    block = block_of(time, horizon)
    gain = block_interval(1000.0 * (base_loss - model_loss), time, block, seed)
    moves, direction = (block_interval(1000.0 * part, time, block, seed) for part in split_gains(p, base, y))
    frequencies = shares(y)
    return Scores(
        rows=len(y),
        log_loss=float(model_loss.mean()),
        prior_log_loss=float(base_loss.mean()),
        skill=gain,
        accuracy=float((p.argmax(axis=1) == y).mean()),
        majority=max(frequencies),
        brier=brier(p, y),
        prior_brier=brier(base, y),
        classes=frequencies,
        actions=shares(p.argmax(axis=1)),
        distinct=distinct(p),
        moves=moves,
        direction=direction,
    )
