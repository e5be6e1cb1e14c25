"""Logits to calibrated probabilities: one temperature, or a scale and a bias for each class.

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
    """Each class's logit is multiplied by its ``scale``; then its ``bias`` is added."""

    scale: Triple
    bias: Triple

    def apply(self, logits: Matrix) -> Matrix:
        """Return the scaled logits [N, 3]."""
        return np.asarray(logits * np.array(self.scale) + np.array(self.bias))


class Calibration(NamedTuple):
    """``temperature`` and ``vector`` are served: 1 and None where no calibration helped. ``fitted`` is the fitted
    temperature, whether it is served or not. ``loss_with`` and ``loss_without`` are the log losses on the later half of
    the calibration part, with the best calibration and with none."""

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
    """Return softmax(vector(logits) / temperature), [N, 3]. The bits of a row depend on that row alone: sums of three
    are written out, so that the order of additions does not depend on the shape of the array."""
    z = (logits if vector is None else vector.apply(logits)) / temperature
    z -= np.maximum(np.maximum(z[:, 0], z[:, 1]), z[:, 2])[:, None]
    e = np.exp(z)
    return np.asarray(e / (e[:, 0] + e[:, 1] + e[:, 2])[:, None])


def error(p: Matrix, y: Classes) -> float:
    """Return the calibration error: the mean distance between predicted probability and observed frequency, in ten bins
    of equal mass for each class (Nixon et al. 2019). By chance it is above 0 for a perfect forecaster too, so compare
    it only between forecasts of the same rows."""
    total = 0.0
    for class_ in range(3):
        for rows in np.array_split(np.argsort(p[:, class_], kind="stable"), BINS):
            total += abs(float((p[rows, class_] - (y[rows] == class_)).sum()))
    return total / (3 * len(y))
