"""Calibrate logits: one temperature, or a scale and a bias for each class.

Temperature and vector scaling are those of Guo, Pleiss, Sun and Weinberger (2017). Both are fitted on the earlier
half of the calibration part. The later half selects one of them, or neither. The selected one is discarded if it
increases the log loss of the test part.
"""

import math
from typing import Final, Literal, NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Classes = NDArray[np.int64]
Times = NDArray[np.int64]
Triple = tuple[float, float, float]
Method = Literal["none", "temperature", "vector"]

LOWEST: Final = 0.2
HIGHEST: Final = 5.0
ROWS_AT_LEAST: Final = 30
INDEPENDENT_AT_LEAST: Final = 2000
"""The fewest rows without overlapping labels for which vector scaling, with its six parameters, is fitted."""
BINS: Final = 10
RIDGE: Final = 1e-4
_GOLDEN: Final = (math.sqrt(5) - 1) / 2


class VectorScaling(Struct, frozen=True, forbid_unknown_fields=True):
    """Multiply the logit of each class by its ``scale`` and add its ``bias``."""

    scale: Triple
    bias: Triple

    def apply(self, logits: Matrix) -> Matrix:
        """[N, 3]."""
        return np.asarray(logits * np.array(self.scale) + np.array(self.bias))


class Calibration(NamedTuple):
    """The result of a calibration.

    ``temperature`` and ``vector`` are to be served; they are 1 and None if neither was selected. ``fitted`` is the
    fitted temperature, selected or not. The losses are those of the later half of the calibration part, with the best
    calibration there and without any.
    """

    temperature: float
    fitted: float
    loss_with: float
    loss_without: float
    vector: VectorScaling | None = None

    @property
    def method(self) -> Method:
        """``vector``, ``temperature`` or ``none``."""
        return "vector" if self.vector is not None else "none" if self.temperature == 1.0 else "temperature"


UNCALIBRATED: Final = Calibration(1.0, 1.0, math.nan, math.nan)


def probabilities(logits: Matrix, temperature: float, vector: VectorScaling | None = None) -> Matrix:
    """Return softmax(vector(logits) / temperature), [N, 3].

    The bits of a row depend on that row alone: sums of three are written out, since a reduction chooses its order by
    the shape of the array.
    """
    z = (logits if vector is None else vector.apply(logits)) / temperature
    z -= np.maximum(np.maximum(z[:, 0], z[:, 1]), z[:, 2])[:, None]
    e = np.exp(z)
    return np.asarray(e / (e[:, 0] + e[:, 1] + e[:, 2])[:, None])


def loss(logits: Matrix, y: Classes, temperature: float) -> float:
    """Return the mean log loss at a temperature, in nats."""
    z = logits / temperature
    top = z.max(axis=1)
    return float((top + np.log(np.exp(z - top[:, None]).sum(axis=1)) - z[np.arange(len(y)), y]).mean())


def error(p: Matrix, y: Classes) -> float:
    """Return the calibration error: the mean distance between predicted probability and observed frequency.

    It is taken in ten bins of equal mass for each class, and averaged over the classes (Nixon et al. 2019). It is
    above 0 by chance for a perfect forecaster, so compare it only between forecasts of the same rows.
    """
    total = 0.0
    for class_ in range(3):
        for rows in np.array_split(np.argsort(p[:, class_], kind="stable"), BINS):
            total += abs(float((p[rows, class_] - (y[rows] == class_)).sum()))
    return total / (3 * len(y))


def best_temperature(logits: Matrix, y: Classes) -> float:
    """Return the temperature in [0.2, 5] with the least log loss, by golden-section search over 1/T, in which the loss
    is convex."""
    low, high = 1 / HIGHEST, 1 / LOWEST
    while high - low > 1e-4:
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if loss(logits, y, 1 / left) <= loss(logits, y, 1 / right):
            high = right
        else:
            low = left
    return 2 / (low + high)


def best_vector(logits: Matrix, y: Classes) -> VectorScaling | None:
    """Return the scales and biases with the least log loss, by Newton's method; the loss is convex in them.

    A ridge penalty pulls them towards the best temperature. Returns None if a scale is outside [0.2, 5]; a scale below
    0 would reverse the evidence for a class.
    """
    start = 1 / best_temperature(logits, y)
    point = origin = np.array([start] * 3 + [0.0] * 3)
    onehot = np.eye(3)[y]

    def objective(at: Matrix) -> float:
        return loss(logits * at[:3] + at[3:], y, 1.0) + RIDGE / 2 * float(((at - origin) ** 2).sum())

    for _ in range(50):
        p = probabilities(logits * point[:3] + point[3:], 1.0)
        slope = np.concatenate([((p - onehot) * logits).mean(axis=0), (p - onehot).mean(axis=0)])
        curve = p[:, :, None] * (np.eye(3) - p[:, None, :])
        moves = np.concatenate([logits[:, :, None] * np.eye(3), np.broadcast_to(np.eye(3), (len(p), 3, 3))], axis=2)
        hessian = np.einsum("nki,nkl,nlj->ij", moves, curve, moves, optimize=True) / len(p) + RIDGE * np.eye(6)
        step = np.linalg.solve(hessian, slope + RIDGE * (point - origin))
        size = 1.0
        while objective(point - size * step) > objective(point) and size > 1e-4:
            size /= 2
        if not objective(point - size * step) < objective(point) - 1e-10:
            break
        point = point - size * step
    if not ((point[:3] >= 1 / HIGHEST) & (point[:3] <= 1 / LOWEST)).all():
        return None
    a, b, c, *bias = point.tolist()
    return VectorScaling((a, b, c), (bias[0], bias[1], bias[2]))


def independent(time: Times, end: Times) -> float:
    """Return the number of rows without overlapping labels: rows over the number of bars that a label spans."""
    moments = np.unique(time)
    if len(moments) < 2:
        return float(len(time))
    return len(time) / max(float((end - time).mean()) / float(np.diff(moments).min()), 1.0)


def calibrate(logits: Matrix, y: Classes, time: Times, end: Times) -> Calibration:
    """Return the calibration that is best on the later half of the rows, by time.

    It is fitted on the earlier half, without rows whose labels extend into the later half. Neither method is selected
    if neither reduces the loss of the later half. Vector scaling is tried only if enough rows are independent.
    """
    middle = int(np.median(time))
    early, late = end < middle, time >= middle
    if early.sum() < ROWS_AT_LEAST or late.sum() < ROWS_AT_LEAST:
        return UNCALIBRATED
    fitted = best_temperature(logits[early], y[early])
    without, with_it = loss(logits[late], y[late], 1.0), loss(logits[late], y[late], fitted)
    scalar = Calibration(fitted if with_it <= without else 1.0, fitted, with_it, without)
    enough = independent(time[early], end[early]) >= INDEPENDENT_AT_LEAST
    vector = best_vector(logits[early], y[early]) if enough else None
    if vector is not None:
        with_vector = loss(vector.apply(logits[late]), y[late], 1.0)
        if with_vector < min(with_it, without):
            return Calibration(1.0, fitted, with_vector, without, vector)
    return scalar
