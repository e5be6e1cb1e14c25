"""The served form of N-HiTS: the forward pass of the classifier in ``net``, in NumPy, from its weights by name."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from shared.families.base import Logits, Windows
from shared.families.layers import Array, Linear, Shape, checked
from shared.families.nhits.body import NHitsBody, Stack, knots, pooled


def shapes(body: NHitsBody) -> dict[str, Shape]:
    """Return the shape of every weight, by its name in ``net.Classifier``."""
    expected: dict[str, Shape] = {"prior": (body.outputs,)}
    for number, stack in enumerate(body.stacks):
        name = f"stacks.blocks.{number}"
        wide = body.channels * pooled(body.window, stack.pool)
        for layer in _perceptron(body, name):
            expected |= Linear.shapes(layer, wide, body.hidden)
            wide = body.hidden
        expected |= Linear.shapes(f"{name}.backcast", wide, body.channels * body.window)
        expected |= Linear.shapes(f"{name}.knots", wide, body.outputs * knots(body.horizon, stack.every))
    return expected


def _perceptron(body: NHitsBody, name: str) -> list[str]:
    """Return the names of its linear layers. In torch a ReLU and a dropout follow each, hence the numbering by
    three."""
    return [f"{name}.perceptron.{3 * number}" for number in range(body.layers)]


def mean_of_line(count: int, horizon: int) -> Array:
    """Return [count, 1]: the share of each knot in the mean of the interpolated line over ``horizon`` steps. The line
    is linear between knots, which lie at the centres of equal parts, and constant outside the outermost."""
    at = np.clip((np.arange(horizon) + 0.5) * count / horizon - 0.5, 0.0, count - 1.0)
    lines = np.array([np.interp(at, np.arange(count), knot) for knot in np.eye(count)])
    mean: Array = lines.mean(axis=1, keepdims=True).astype(np.float32)
    return mean


class ServedBlock:
    """The block of one stack, applied to the residual of the blocks before it, [N, C, L]."""

    def __init__(self, weights: Mapping[str, Array], number: int, body: NHitsBody, stack: Stack) -> None:
        name = f"stacks.blocks.{number}"
        self.body, self.pool = body, stack.pool
        self.perceptron = [Linear(weights, layer) for layer in _perceptron(body, name)]
        self.backcast = Linear(weights, f"{name}.backcast")
        self.knots = Linear(weights, f"{name}.knots")
        self.line = mean_of_line(knots(body.horizon, stack.every), body.horizon)

    def inner(self, residual: Array) -> Array:
        """Return the output of the perceptron, [N, 1, hidden]."""
        # Newest first, so that a pool that is not full has the oldest steps.
        turned = residual[:, :, ::-1]
        missing = -residual.shape[2] % self.pool
        if missing:
            turned = np.pad(turned, ((0, 0), (0, 0), (0, missing)), constant_values=-np.inf)
        x: Array = np.ascontiguousarray(turned)
        if self.pool > 1:
            x = np.maximum.reduce(x.reshape(*residual.shape[:2], -1, self.pool), axis=-1)
        x = x.reshape(len(residual), 1, -1)
        for linear in self.perceptron:
            x = linear(x)
            np.maximum(x, np.float32(0.0), out=x)
        return x

    def explained(self, inner: Array) -> Array:
        """Return the backcast [N, C, L], which is subtracted from the residual for the next block."""
        return self.backcast(inner).reshape(len(inner), self.body.channels, self.body.window)

    def output(self, inner: Array) -> Array:
        """Return the mean of each trajectory, [N, outputs]."""
        lines: Array = self.knots(inner).reshape(len(inner), self.body.outputs, -1) @ self.line
        return lines[..., 0]


class NHitsForward:
    """A ``base.FittedModel``. Guaranteed: one thread; the bits of a row depend on that row alone."""

    def __init__(self, weights: Mapping[str, NDArray[np.generic]], body: NHitsBody, *, file: str) -> None:
        """Raises ``WeightsError``, which names ``file``, where weights and sizes do not fit together."""
        self.weights = checked(weights, shapes(body), file)
        self.prior = self.weights["prior"]
        self.blocks = [ServedBlock(self.weights, number, body, stack) for number, stack in enumerate(body.stacks)]

    def logits(self, windows: Windows) -> Logits:
        """See ``base.FittedModel``."""
        residual = np.ascontiguousarray(windows.transpose(0, 2, 1), dtype=np.float32)
        total = self.prior[None].repeat(len(residual), axis=0)
        for block in self.blocks:
            inner = block.inner(residual)
            total += block.output(inner)
            if block is not self.blocks[-1]:
                residual = residual - block.explained(inner)
        return total.astype(np.float64)
