"""The layers of a network in NumPy, for serving: float32, without gradients and without torch.

The bits of a row do not depend on the number of rows: each window is computed by the same calls on arrays of the same
shape. So a product with a weight matrix is always *stacked*, [N, rows, in] @ [in, out], for which NumPy makes one BLAS
call of one shape for each of the N windows. A flattened [N * rows, in] would be summed in an order that depends on N.

Ufuncs are called directly, without NumPy's Python wrappers: for one window, overhead costs more than arithmetic.
"""

import functools
import math
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.families.base import WeightsError

Array = NDArray[np.float32]
Shape = tuple[int, ...]


def _float32(*values: float) -> tuple[np.float32, ...]:
    return tuple(np.float32(value) for value in values)


EPSILON: Final = np.float32(1e-5)
"""Added to the variance by torch's normalisations."""
HALF, ONE, FOUR = _float32(0.5, 1.0, 4.0)
ROOT_HALF: Final = np.float32(math.sqrt(0.5))
NUMERATOR: Final = _float32(
    -2.72614225801306e-10,
    2.77068142495902e-08,
    -2.10102402082508e-06,
    -5.69250639462346e-05,
    -7.34990630326855e-04,
    -2.95459980854025e-03,
    -1.60960333262415e-02,
)
DENOMINATOR: Final = _float32(
    -1.45660718464996e-05,
    -2.13374055278905e-04,
    -1.68282697438203e-03,
    -7.37332916720468e-03,
    -1.42647390514189e-02,
)
"""Coefficients of a rational minimax approximation of erf on [-4, 4], in powers of x², highest first. From Eigen; exact
to a few units of the last place in float32."""


def checked(weights: Mapping[str, NDArray[np.generic]], expected: Mapping[str, Shape], file: str) -> dict[str, Array]:
    """Return the arrays by name as contiguous float32. Raises ``WeightsError`` for a missing or unknown name, another
    shape or type, and a value that is not finite."""
    faults = [f"{name}: missing" for name in sorted(expected.keys() - weights.keys())]
    faults += [f"{name}: unknown" for name in sorted(weights.keys() - expected.keys())]
    for name in sorted(expected.keys() & weights.keys()):
        array = weights[name]
        if array.dtype != np.float32 or array.shape != expected[name]:
            faults.append(f"{name}: {array.dtype} {list(array.shape)}, expected float32 {list(expected[name])}")
        elif not np.isfinite(array).all():
            faults.append(f"{name}: not finite")
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise WeightsError(f"{file}: {'; '.join(faults[:5])}{more}")
    return {name: np.ascontiguousarray(weights[name], dtype=np.float32) for name in expected}


class Linear:
    """A linear layer, [N, rows, in] to [N, rows, out]. ``name`` is its name in torch, where its weight is [out, in].

    ``after``: the layer norm whose output it takes. The norm's affine map is merged into this layer, and the norm
    itself is built with ``bare=True``."""

    def __init__(self, weights: Mapping[str, Array], name: str, *, after: str = "") -> None:
        weight: Array = weights[f"{name}.weight"]
        self.bias: Array = weights[f"{name}.bias"]
        if after:
            self.bias = self.bias + weight @ weights[f"{after}.bias"]
            weight = weight * weights[f"{after}.weight"]
        self.weight: Array = np.array(weight.T, order="C")  # a copy: callers may scale it in place

    def __call__(self, x: Array) -> Array:
        """Return a new array."""
        y: Array = x @ self.weight
        y += self.bias
        return y

    @staticmethod
    def shapes(name: str, wide: int, out: int) -> dict[str, Shape]:
        """Return the shape of each of its weights, by name."""
        return {f"{name}.weight": (out, wide), f"{name}.bias": (out,)}


class LayerNorm:
    """Layer normalisation: each token [..., width] to mean 0 and variance 1, then, unless ``bare``, an affine map."""

    def __init__(self, weights: Mapping[str, Array], name: str, *, bare: bool = False) -> None:
        self.bare = bare
        self.weight = weights[f"{name}.weight"]
        self.bias = weights[f"{name}.bias"]
        # A product with 1/width sums a short axis four times faster than ``mean``.
        self.mean: Array = np.full((len(self.weight), 1), 1 / len(self.weight), dtype=np.float32)

    def __call__(self, x: Array) -> Array:
        """Return a new array."""
        y: Array = x - x @ self.mean
        deviation: Array = np.square(y) @ self.mean
        np.sqrt(deviation + EPSILON, out=deviation)
        y /= deviation
        if not self.bare:
            y *= self.weight
            y += self.bias
        return y

    @staticmethod
    def shapes(name: str, width: int) -> dict[str, Shape]:
        """Return the shape of each of its weights, by name."""
        return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


class BatchNorm:
    """Batch normalisation by the mean and variance that training recorded: an affine map."""

    def __init__(self, weights: Mapping[str, Array], name: str) -> None:
        deviation = np.sqrt(weights[f"{name}.running_var"] + EPSILON)
        self.factor: Array = weights[f"{name}.weight"] / deviation
        self.offset: Array = weights[f"{name}.bias"] - weights[f"{name}.running_mean"] * self.factor

    def __call__(self, x: Array) -> Array:
        """Return a new array."""
        y: Array = x * self.factor
        y += self.offset
        return y

    @staticmethod
    def shapes(name: str, width: int) -> dict[str, Shape]:
        """Return the shape of each of its weights, by name, without torch's count of batches."""
        return {f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")}


def gelu(x: Array) -> Array:
    """Return x times the standard normal distribution function of x (Hendrycks and Gimpel 2016)."""
    y = erf(x * ROOT_HALF)
    y += ONE
    y *= x
    y *= HALF
    return y


def erf(x: Array) -> Array:
    """Return the error function, within 5e-7."""
    x = np.minimum(x, FOUR)
    np.maximum(x, -FOUR, out=x)
    square = x * x
    y = _polynomial(NUMERATOR, square)
    y *= x
    y /= _polynomial(DENOMINATOR, square)
    return y


def _polynomial(coefficients: tuple[np.float32, ...], x: Array) -> Array:
    highest, *others, constant = coefficients
    y: Array = x * highest
    for coefficient in others:
        y += coefficient
        y *= x
    y += constant
    return y


@functools.cache
def _ones(count: int) -> Array:
    return np.ones((count, 1), dtype=np.float32)


def attended(scores: Array, values: Array) -> Array:
    """Return the values [..., N, size], averaged with the softmax of the scores [..., N, N] over their last axis."""
    tokens = scores.shape[-1]
    # On a transposed copy the maximum of a short axis is averaged four times faster.
    turned = np.ascontiguousarray(scores.reshape(len(scores), -1, tokens).swapaxes(1, 2))
    shares: Array = scores - np.maximum.reduce(turned, axis=1).reshape(*scores.shape[:-1], 1)
    np.exp(shares, out=shares)
    sums = (shares.reshape(len(scores), -1, tokens) @ _ones(tokens)).reshape(*scores.shape[:-1], 1)
    averaged: Array = shares @ values
    averaged /= sums
    return averaged
