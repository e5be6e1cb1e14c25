"""Logits to calibrated probabilities: softmax with one temperature (Guo et al. 2017)."""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Classes = NDArray[np.int64]
Times = NDArray[np.int64]

LOWEST: Final = 0.2
HIGHEST: Final = 5.0
_GOLDEN: Final = (math.sqrt(5) - 1) / 2


class Calibration(NamedTuple):
    """``temperature`` is what to serve with; 1 where the one that was fitted was refused. The losses
    are those of the later half of the calibration part, with and without the fitted one."""

    temperature: float
    fitted: float
    loss_with: float
    loss_without: float


UNCALIBRATED: Final = Calibration(1.0, 1.0, math.nan, math.nan)


def probabilities(logits: Matrix, temperature: float) -> Matrix:
    """[N, 3] softmax(logits / temperature). A row's bits depend on that row alone: sums of three are
    written out, so that no reduction chooses an order by the array's shape."""
    z = logits / temperature
    z -= np.maximum(np.maximum(z[:, 0], z[:, 1]), z[:, 2])[:, None]
    e = np.exp(z)
    return np.asarray(e / (e[:, 0] + e[:, 1] + e[:, 2])[:, None])


def loss(logits: Matrix, y: Classes, temperature: float) -> float:
    """Mean log loss at a temperature."""
    z = logits / temperature
    top = z.max(axis=1)
    return float((top + np.log(np.exp(z - top[:, None]).sum(axis=1)) - z[np.arange(len(y)), y]).mean())


def best_temperature(logits: Matrix, y: Classes) -> float:
    """The temperature of least log loss in [0.2, 5], by golden-section search over 1/T, in which the
    loss is convex."""
    low, high = 1 / HIGHEST, 1 / LOWEST
    while high - low > 1e-4:
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if loss(logits, y, 1 / left) <= loss(logits, y, 1 / right):
            high = right
        else:
            low = left
    return 2 / (low + high)


def calibrate(logits: Matrix, y: Classes, time: Times, end: Times) -> Calibration:
    """Fits on the earlier half of the rows by time, without labels that reach into the later half,
    and keeps the result only if it makes the later half's loss no worse."""
    middle = int(np.median(time))
    early, late = end < middle, time >= middle
    if early.sum() < 30 or late.sum() < 30:
        return UNCALIBRATED
    fitted = best_temperature(logits[early], y[early])
    with_it, without = loss(logits[late], y[late], fitted), loss(logits[late], y[late], 1.0)
    return Calibration(fitted if with_it <= without else 1.0, fitted, with_it, without)
