"""Fit the calibration of a model: temperature scaling and vector scaling, by SciPy.

Both are fitted on the earlier half of the calibration part. The later half chooses between them, or neither.
"""

from typing import Final

import numpy as np

from shared.artifacts.calibration import (
    UNCALIBRATED,
    Calibration,
    Classes,
    Matrix,
    Times,
    VectorScaling,
    probabilities,
)
from shared.families.libraries import library
from shared.families.losses import mean_log_loss

LOWEST: Final = 0.2
HIGHEST: Final = 5.0
"""Bounds of a temperature and of each scale."""
ROWS_AT_LEAST: Final = 30
"""Rows of each half of the calibration part."""
INDEPENDENT_AT_LEAST: Final = 2000
"""Rows with labels that do not overlap, for the six numbers of a vector."""
RIDGE: Final = 1e-4
"""Penalty on the squared distance of a vector from the best temperature."""


def best_temperature(logits: Matrix, y: Classes) -> float:
    """Return the temperature in [0.2, 5] with the least log loss, found over 1/T, in which the loss is convex."""
    minimum = library("scipy.optimize").minimize_scalar(
        lambda inverse: mean_log_loss(logits * inverse, y), bounds=(1 / HIGHEST, 1 / LOWEST), options={"xatol": 1e-6}
    )
    return float(1 / minimum.x)


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

    point = library("scipy.optimize").minimize(objective, origin, jac=True, method="BFGS", options={"gtol": 1e-7}).x
    if not ((point[:3] >= 1 / HIGHEST) & (point[:3] <= 1 / LOWEST)).all():
        return None
    a, b, c, *bias = point.tolist()
    return VectorScaling((a, b, c), (bias[0], bias[1], bias[2]))


def independent(time: Times, end: Times) -> float:
    """Return the number of rows whose labels do not overlap: all rows, divided by the number of bars that a label
    spans."""
    moments = np.unique(time)
    if len(moments) < 2:
        return float(len(time))
    return len(time) / max(float((end - time).mean()) / float(np.diff(moments).min()), 1.0)


def calibrate(logits: Matrix, y: Classes, time: Times, end: Times) -> Calibration:
    """Fit on the earlier half of the rows, without the labels that end in the later half; return the calibration with
    the least log loss on the later half, or none if each makes it larger. A vector is tried only if enough rows are
    independent."""
    middle = int(np.median(time))
    early, late = end < middle, time >= middle
    if early.sum() < ROWS_AT_LEAST or late.sum() < ROWS_AT_LEAST:
        return UNCALIBRATED
    fitted = best_temperature(logits[early], y[early])
    without, with_it = mean_log_loss(logits[late], y[late]), mean_log_loss(logits[late] / fitted, y[late])
    scalar = Calibration(fitted if with_it <= without else 1.0, fitted, with_it, without)
    enough = independent(time[early], end[early]) >= INDEPENDENT_AT_LEAST
    vector = best_vector(logits[early], y[early]) if enough else None
    if vector is not None:
        with_vector = mean_log_loss(vector.apply(logits[late]), y[late])
        if with_vector < min(with_it, without):
            return Calibration(1.0, fitted, with_vector, without, vector)
    return scalar
