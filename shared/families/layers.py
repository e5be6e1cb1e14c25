"""The layers of a network in NumPy, for serving: float32, no automatic gradient, no torch.

Ufuncs are called as such, without NumPy's wrappers in Python: at one bar every 20 ms what counts is how
little is executed. Rows keep their bits: whatever is computed for one window is computed by the same calls on arrays of
the same shape, however many windows are asked at once. A product with a weight matrix is therefore
always a *stacked* one, [N, rows, in] @ [in, out]: NumPy then makes one BLAS call for each of the N
windows, all of one shape, where a flattened [N * rows, in] would sum in an order that depends on N.
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
"""Of torch's normalisations."""
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
"""A rational minimax approximation of erf on [-4, 4], highest power first, in x² (Eigen's, in float32
within a few units of the last place)."""


def checked(weights: Mapping[str, NDArray[np.generic]], expected: Mapping[str, Shape], file: str) -> dict[str, Array]:
    """The arrays by name as contiguous float32. Strict: a name missing or unknown, another shape or
    type, or a value that is not finite raises ``WeightsError``."""
    faults = [f"{name}: missing" for name in sorted(expected.keys() - weights.keys())]
    faults += [f"{name}: unknown" for name in sorted(weights.keys() - expected.keys())]
    for name in sorted(expected.keys() & weights.keys()):
        found = weights[name]
        if found.dtype != np.float32 or found.shape != expected[name]:
            faults.append(f"{name}: {found.dtype} {list(found.shape)}, expected float32 {list(expected[name])}")
        elif not np.isfinite(found).all():
            faults.append(f"{name}: not finite")
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise WeightsError(f"{file}: {'; '.join(faults[:5])}{more}")
    return {name: np.ascontiguousarray(weights[name], dtype=np.float32) for name in expected}


class Linear:
    """[N, rows, in] to [N, rows, out]; ``name`` as in torch, with its weight [out, in]. ``after``: the
    layer norm before it, whose affine map is taken over here; the norm itself is then ``bare``."""

    def __init__(self, weights: Mapping[str, Array], name: str, *, after: str = "") -> None:
        weight: Array = weights[f"{name}.weight"]
        self.bias: Array = weights[f"{name}.bias"]
        if after:
            self.bias = self.bias + weight @ weights[f"{after}.bias"]
            weight = weight * weights[f"{after}.weight"]
        self.weight: Array = np.array(weight.T, order="C")  # a copy: the owner may scale it

    def __call__(self, x: Array) -> Array:
        """A new array."""
        y: Array = x @ self.weight
        y += self.bias
        return y

    @staticmethod
    def shapes(name: str, wide: int, out: int) -> dict[str, Shape]:
        """What its weights must look like."""
        return {f"{name}.weight": (out, wide), f"{name}.bias": (out,)}


class LayerNorm:
    """Each token [..., width] to mean 0 and variance 1; then, unless ``bare``, its affine map."""

    def __init__(self, weights: Mapping[str, Array], name: str, *, bare: bool = False) -> None:
        self.bare = bare
        self.weight = weights[f"{name}.weight"]
        self.bias = weights[f"{name}.bias"]
        # A product with 1/width sums a short axis four times faster than ``mean`` does.
        self.mean: Array = np.full((len(self.weight), 1), 1 / len(self.weight), dtype=np.float32)

    def __call__(self, x: Array) -> Array:
        """A new array."""
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
        """What its weights must look like."""
        return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


class BatchNorm:
    """Each number of a token by the mean and variance that training kept: an affine map."""

    def __init__(self, weights: Mapping[str, Array], name: str) -> None:
        deviation = np.sqrt(weights[f"{name}.running_var"] + EPSILON)
        self.factor: Array = weights[f"{name}.weight"] / deviation
        self.offset: Array = weights[f"{name}.bias"] - weights[f"{name}.running_mean"] * self.factor

    def __call__(self, x: Array) -> Array:
        """A new array."""
        y: Array = x * self.factor
        y += self.offset
        return y

    @staticmethod
    def shapes(name: str, width: int) -> dict[str, Shape]:
        """What its weights must look like, without torch's count of batches, which serves nothing."""
        return {f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")}


def gelu(x: Array) -> Array:
    """x times the normal distribution function (Hendrycks and Gimpel 2016), by ``erf``."""
    y = erf(x * ROOT_HALF)
    y += ONE
    y *= x
    y *= HALF
    return y


def erf(x: Array) -> Array:
    """The error function, within 5e-7."""
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
    """The values [..., N, size] averaged by the softmax of the scores [..., N, N] over their last axis."""
    tokens = scores.shape[-1]
    # The largest of a short last axis is found four times faster along a long one, over a copy.
    turned = np.ascontiguousarray(scores.reshape(len(scores), -1, tokens).swapaxes(1, 2))
    shares: Array = scores - np.maximum.reduce(turned, axis=1).reshape(*scores.shape[:-1], 1)
    np.exp(shares, out=shares)
    sums = (shares.reshape(len(scores), -1, tokens) @ _ones(tokens)).reshape(*scores.shape[:-1], 1)
    found: Array = shares @ values
    found /= sums
    return found
