"""Logits to calibrated probabilities: one temperature, or a scale and a bias for each class.

Temperature and vector scaling are Guo, Pleiss, Sun and Weinberger's (2017). Both are fitted on the
earlier half of the calibration part and kept only where they do no harm: not on its later half, which
chooses between them, and not on the test part, where what was chosen has one veto.
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
"""Rows whose labels do not overlap, for the six numbers of a vector."""
BINS: Final = 10
RIDGE: Final = 1e-4
_GOLDEN: Final = (math.sqrt(5) - 1) / 2


class VectorScaling(Struct, frozen=True, forbid_unknown_fields=True):
    """Each class's logit times its ``scale``, plus its ``bias``."""

    scale: Triple
    bias: Triple

    def apply(self, logits: Matrix) -> Matrix:
        """[N, 3]."""
        return np.asarray(logits * np.array(self.scale) + np.array(self.bias))


class Calibration(NamedTuple):
    """``temperature`` and ``vector`` are what to serve with: 1 and None where nothing was kept. ``fitted``
    is the temperature that was found, kept or not. The losses are those of the later half of the
    calibration part, with what did best there and without."""

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
    """[N, 3] softmax(vector(logits) / temperature). A row's bits depend on that row alone: sums of three
    are written out, so that no reduction chooses an order by the array's shape."""
    z = (logits if vector is None else vector.apply(logits)) / temperature
    z -= np.maximum(np.maximum(z[:, 0], z[:, 1]), z[:, 2])[:, None]
    e = np.exp(z)
    return np.asarray(e / (e[:, 0] + e[:, 1] + e[:, 2])[:, None])


def loss(logits: Matrix, y: Classes, temperature: float) -> float:
    """Mean log loss at a temperature."""
    z = logits / temperature
    top = z.max(axis=1)
    return float((top + np.log(np.exp(z - top[:, None]).sum(axis=1)) - z[np.arange(len(y)), y]).mean())


def error(p: Matrix, y: Classes) -> float:
    """Calibration error: over the classes, the mean distance between the probability said and the
    frequency that came, in ten bins of equal mass (Nixon et al. 2019). Of a perfect forecaster it is
    above 0 by chance: compare it only between forecasts of the same rows."""
    total = 0.0
    for class_ in range(3):
        for rows in np.array_split(np.argsort(p[:, class_], kind="stable"), BINS):
            total += abs(float((p[rows, class_] - (y[rows] == class_)).sum()))
    return total / (3 * len(y))


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


def best_vector(logits: Matrix, y: Classes) -> VectorScaling | None:
    """The scales and biases of least log loss, by Newton's method (the loss is convex in them) with a
    ridge towards the temperature of least loss. None where a scale leaves [0.2, 5]: one below 0 would
    turn a class's evidence round."""
    start = 1 / best_temperature(logits, y)
    found = origin = np.array([start] * 3 + [0.0] * 3)
    onehot = np.eye(3)[y]

    def objective(at: Matrix) -> float:
        return loss(logits * at[:3] + at[3:], y, 1.0) + RIDGE / 2 * float(((at - origin) ** 2).sum())

    for _ in range(50):
        p = probabilities(logits * found[:3] + found[3:], 1.0)
        slope = np.concatenate([((p - onehot) * logits).mean(axis=0), (p - onehot).mean(axis=0)])
        curve = p[:, :, None] * (np.eye(3) - p[:, None, :])
        moves = np.concatenate([logits[:, :, None] * np.eye(3), np.broadcast_to(np.eye(3), (len(p), 3, 3))], axis=2)
        hessian = np.einsum("nki,nkl,nlj->ij", moves, curve, moves, optimize=True) / len(p) + RIDGE * np.eye(6)
        step = np.linalg.solve(hessian, slope + RIDGE * (found - origin))
        size = 1.0
        while objective(found - size * step) > objective(found) and size > 1e-4:
            size /= 2
        if not objective(found - size * step) < objective(found) - 1e-10:
            break
        found = found - size * step
    if not ((found[:3] >= 1 / HIGHEST) & (found[:3] <= 1 / LOWEST)).all():
        return None
    a, b, c, *bias = found.tolist()
    return VectorScaling((a, b, c), (bias[0], bias[1], bias[2]))


def independent(time: Times, end: Times) -> float:
    """How many of the rows have labels that do not overlap: rows over the moments a label spans."""
    moments = np.unique(time)
    if len(moments) < 2:
        return float(len(time))
    return len(time) / max(float((end - time).mean()) / float(np.diff(moments).min()), 1.0)


def calibrate(logits: Matrix, y: Classes, time: Times, end: Times) -> Calibration:
    """Fits on the earlier half of the rows by time, without labels that reach into the later half, and
    keeps what makes the later half's loss least: nothing where nothing makes it smaller. A vector is
    tried where enough of the rows are independent."""
    middle = int(np.median(time))
    early, late = end < middle, time >= middle
    if early.sum() < ROWS_AT_LEAST or late.sum() < ROWS_AT_LEAST:
        return UNCALIBRATED
    fitted = best_temperature(logits[early], y[early])
    without, with_it = loss(logits[late], y[late], 1.0), loss(logits[late], y[late], fitted)
    found = Calibration(fitted if with_it <= without else 1.0, fitted, with_it, without)
    enough = independent(time[early], end[early]) >= INDEPENDENT_AT_LEAST
    vector = best_vector(logits[early], y[early]) if enough else None
    if vector is not None:
        with_vector = loss(vector.apply(logits[late]), y[late], 1.0)
        if with_vector < min(with_it, without):
            return Calibration(1.0, fitted, with_vector, without, vector)
    return found
