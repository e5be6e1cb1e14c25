"""Logits to calibrated probabilities: one temperature, or a scale and a bias for each class.

Temperature and vector scaling are from Guo, Pleiss, Sun and Weinberger (2017). Both are fitted by SciPy on the earlier
half of the calibration part. The later half chooses between them, or neither. The test part has one veto over the
chosen one.
"""

import math
from typing import Final, Literal, NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from shared.families.base import mean_log_loss
from shared.families.libraries import library

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
    """Return the temperature in [0.2, 5] with the least log loss, found over 1/T, in which the loss is convex."""
    found = library("scipy.optimize").minimize_scalar(
        lambda inverse: mean_log_loss(logits * inverse, y), bounds=(1 / HIGHEST, 1 / LOWEST), options={"xatol": 1e-6}
    )
    return float(1 / found.x)


def best_vector(logits: Matrix, y: Classes) -> VectorScaling | None:
    """Return the scales and biases with the least log loss, which is convex in them, plus a ridge towards the best
    temperature. None where a scale is outside [0.2, 5]: a negative one would reverse the evidence for a class."""
    start = 1 / best_temperature(logits, y)
    origin = np.array([start] * 3 + [0.0] * 3)
    onehot = np.eye(3)[y]

    def objective(at: Matrix) -> tuple[float, Matrix]:
        scaled = logits * at[:3] + at[3:]
        errors = probabilities(scaled, 1.0) - onehot
        slope = np.concatenate([(errors * logits).mean(axis=0), errors.mean(axis=0)])
        return (
            mean_log_loss(scaled, y) + RIDGE / 2 * float(((at - origin) ** 2).sum()),
            slope + RIDGE * (at - origin),
        )

    found = library("scipy.optimize").minimize(objective, origin, jac=True, method="BFGS", options={"gtol": 1e-7}).x
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
    without, with_it = mean_log_loss(logits[late], y[late]), mean_log_loss(logits[late] / fitted, y[late])
    found = Calibration(fitted if with_it <= without else 1.0, fitted, with_it, without)
    enough = independent(time[early], end[early]) >= INDEPENDENT_AT_LEAST
    vector = best_vector(logits[early], y[early]) if enough else None
    if vector is not None:
        with_vector = mean_log_loss(vector.apply(logits[late]), y[late])
        if with_vector < min(with_it, without):
            return Calibration(1.0, fitted, with_vector, without, vector)
    return found
