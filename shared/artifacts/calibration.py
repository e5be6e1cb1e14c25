"""Calibrate logits: one temperature, or a scale and a bias for each class.

Temperature and vector scaling are from Guo, Pleiss, Sun and Weinberger (2017). ``shared.training.scaling`` fits them.
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

BINS: Final = 10


class VectorScaling(Struct, frozen=True, forbid_unknown_fields=True):
    """Multiply the logit of each class by its ``scale`` and add its ``bias``."""

    scale: Triple
    bias: Triple

    def apply(self, logits: Matrix) -> Matrix:
        """Return the scaled logits [N, 3]."""
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
        """Return ``vector``, ``temperature`` or ``none``."""
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
