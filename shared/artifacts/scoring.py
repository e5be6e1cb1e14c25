"""How good a set of forecasts is, against the class prior. Accuracy never stands alone here.

Skill is the prior's mean log loss minus the model's, in thousandths of a nat (mnat). Its interval is
a circular moving-block bootstrap over the time axis (Politis and Romano 1992): all symbols of a bar
stay together, blocks are longer than a label, so that overlapping labels do not pass for evidence.
"""

import math
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Classes = NDArray[np.int64]
Times = NDArray[np.int64]

DRAWS: Final = 2000
DISTINCT_AT_LEAST: Final = 20
"""Fewer different answers, rounded to 1e-3, than this: the model does not look at its input."""
Triple = tuple[float, float, float]


class Interval(Struct, frozen=True, forbid_unknown_fields=True):
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


class Scores(Struct, frozen=True, forbid_unknown_fields=True):
    """Measured on rows that took no part in fitting. ``skill`` in mnat; ``majority`` is the share of
    the most frequent class, the accuracy of a model that knows nothing; ``classes`` the shares of
    SELL, HOLD, BUY that came, ``actions`` those that the model held most likely; ``distinct`` how
    many different answers, rounded to 1e-3."""

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


def log_losses(p: Matrix, y: Classes) -> Matrix:
    """[N] minus the log of the probability given to what came, cut at 700."""
    return np.minimum(-np.log(np.maximum(p[np.arange(len(y)), y], 1e-304)), 700.0)


def brier(p: Matrix, y: Classes) -> float:
    """The multi-class Brier score, 0 to 2."""
    return float(((p - np.eye(3)[y]) ** 2).sum(axis=1).mean())


def distinct(p: Matrix) -> int:
    """Different answers after rounding to 1e-3."""
    return len(np.unique(np.rint(p * 1000).astype(np.int64), axis=0))


def shares(labels: Classes) -> Triple:
    """Class frequencies."""
    sell, hold, buy = (np.bincount(labels, minlength=3) / max(1, len(labels))).tolist()
    return sell, hold, buy


def block_interval(gain: Matrix, time: Times, block: int, seed: int) -> Interval:
    """The mean of ``gain`` with its 95 % interval from blocks of ``block`` successive moments."""
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
    """Moments in a block: four horizons, or the square root of the number of moments if that is longer."""
    return max(4 * horizon, math.isqrt(len(np.unique(time))))


def score(p: Matrix, y: Classes, time: Times, prior: Triple, *, horizon: int, seed: int = 0) -> Scores:
    """Scores of probabilities ``p`` [N, 3] for classes ``y`` [N] at moments ``time`` [N]; blocks: ``block_of``."""
    base = np.tile(np.array(prior), (len(y), 1))
    model_loss, base_loss = log_losses(p, y), log_losses(base, y)
    gain = block_interval(1000.0 * (base_loss - model_loss), time, block_of(time, horizon), seed)
    came = shares(y)
    return Scores(
        rows=len(y),
        log_loss=float(model_loss.mean()),
        prior_log_loss=float(base_loss.mean()),
        skill=gain,
        accuracy=float((p.argmax(axis=1) == y).mean()),
        majority=max(came),
        brier=brier(p, y),
        prior_brier=brier(base, y),
        classes=came,
        actions=shares(p.argmax(axis=1)),
        distinct=distinct(p),
    )
