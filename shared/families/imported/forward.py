"""Forward passes of imported networks in NumPy. The bits of a row depend on that row alone
(``shared.families.layers``)."""

import math
import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared.families.base import Logits, Params, WeightsError, Windows
from shared.families.layers import Array, LayerNorm, Linear, Shape, attended, checked, gelu

TOKENS_AT_ONCE: Final = 2048
"""Windows are computed in groups of about this many tokens."""


class ImportedEncoder:
    """A transformer encoder with weights ``in``, ``position``, ``layers.<n>``, ``norm`` and ``head.<n>``.

    Vectors or patches are mapped to tokens, which pass through layers of torch's ``TransformerEncoderLayer`` with
    normalisation after each part. The pooled tokens pass through linear layers with ReLU between them."""

    def __init__(self, weights: Mapping[str, NDArray[Any]], features: int, params: Params, file: str) -> None:
        patch, window, heads = int(params["patch"]), int(params["window"]), int(params["heads"])
        if patch and window % patch:
            raise WeightsError(f"{file}: a window of {window} vectors is not divisible into patches of {patch}")
        width = _size(weights, "in.weight", 0, file)
        if heads < 1 or width % heads:
            raise WeightsError(f"{file}: a width of {width} is not divisible by {heads} heads")
        self.tokens = window // patch if patch else window
        expected: dict[str, Shape] = Linear.shapes("in", features * (patch or 1), width)
        count = _count(weights, r"layers\.(\d+)\.")
        feedforward = _size(weights, "layers.0.linear1.weight", 0, file)
        for number in range(count):
            expected |= _layer_shapes(f"layers.{number}", width, feedforward)
        if "norm.weight" in weights:
            expected |= LayerNorm.shapes("norm", width)
        if "position" in weights:
            expected["position"] = (self.tokens, width)
        expected |= _head_shapes(weights, width, params, file)
        self.weights = checked(weights, expected, file)
        self.params = params
        self.embed = Linear(self.weights, "in")
        self.layers = [
            ImportedLayer(self.weights, f"layers.{n}", heads, gelu=bool(params["gelu"])) for n in range(count)
        ]
        self.norm = LayerNorm(self.weights, "norm") if "norm.weight" in weights else None
        self.head = Head(self.weights, params)

    def logits(self, windows: Windows) -> Logits:
        """See ``base.FittedModel``."""
        size = max(TOKENS_AT_ONCE // self.tokens, 1)
        x = np.ascontiguousarray(windows, dtype=np.float32)
        logits = [self._some(x[at : at + size]) for at in range(0, len(x), size)]
        return np.concatenate(logits) if logits else np.empty((0, 3))

    def _some(self, x: Array) -> Logits:
        patch = int(self.params["patch"])
        if patch:
            x = x.reshape(len(x), self.tokens, patch, -1)
            x = x.swapaxes(2, 3) if self.params["channels_first"] else x
            x = np.ascontiguousarray(x).reshape(len(x), self.tokens, -1)
        tokens = self.embed(x)
        if "position" in self.weights:
            tokens += self.weights["position"]
        for layer in self.layers:
            tokens = layer(tokens)
        if self.norm is not None:
            tokens = self.norm(tokens)
        pooled = tokens[:, -1:] if self.params["last"] else tokens.mean(axis=1, keepdims=True)
        return self.head(np.ascontiguousarray(pooled))


class ImportedLayer:
    """torch's ``TransformerEncoderLayer`` with ``norm_first=False``, in evaluation mode."""

    def __init__(self, weights: Mapping[str, Array], name: str, heads: int, *, gelu: bool) -> None:
        self.heads, self.gelu = heads, gelu
        own = {
            "qkv.weight": weights[f"{name}.self_attn.in_proj_weight"],
            "qkv.bias": weights[f"{name}.self_attn.in_proj_bias"],
        }
        self.qkv = Linear(own, "qkv")
        self.out = Linear(weights, f"{name}.self_attn.out_proj")
        self.widen, self.narrow = Linear(weights, f"{name}.linear1"), Linear(weights, f"{name}.linear2")
        self.norm1, self.norm2 = LayerNorm(weights, f"{name}.norm1"), LayerNorm(weights, f"{name}.norm2")

    def __call__(self, x: Array) -> Array:
        """Return new tokens of the same shape, [N, tokens, width]."""
        x = self.norm1(x + self._attention(x))
        wide = self.widen(x)
        wide = gelu(wide) if self.gelu else np.maximum(wide, np.float32(0))
        return self.norm2(x + self.narrow(wide))

    def _attention(self, x: Array) -> Array:
        count, tokens, width = x.shape
        size = width // self.heads
        parts = self.qkv(x).reshape(count, tokens, 3, self.heads, size)
        q, v = (np.ascontiguousarray(parts[:, :, part].swapaxes(1, 2)) for part in (0, 2))
        k = np.ascontiguousarray(parts[:, :, 1].transpose(0, 2, 3, 1))
        q *= np.float32(size**-0.5)
        scores: Array = q @ k
        return self.out(np.ascontiguousarray(attended(scores, v).swapaxes(1, 2)).reshape(x.shape))


class Stacks:
    """A perceptron of residual stacks, with weights ``stacks.<n>.0``, ``stacks.<n>.3`` and ``head.<n>``.

    A stack is two linear layers with ReLU, whose output is added to their input where widths match. The window is laid
    out vector by vector."""

    def __init__(self, weights: Mapping[str, NDArray[Any]], features: int, params: Params, file: str) -> None:
        count = _count(weights, r"stacks\.(\d+)\.")
        wide = features * int(params["window"])
        expected: dict[str, Shape] = {}
        for number in range(count):
            for part in (0, 3):
                out = _size(weights, f"stacks.{number}.{part}.weight", 0, file)
                expected |= Linear.shapes(f"stacks.{number}.{part}", wide, out)
                wide = out
        expected |= _head_shapes(weights, wide, params, file)
        self.weights = checked(weights, expected, file)
        self.stacks = [[Linear(self.weights, f"stacks.{n}.{part}") for part in (0, 3)] for n in range(count)]
        self.head = Head(self.weights, params)

    def logits(self, windows: Windows) -> Logits:
        """See ``base.FittedModel``."""
        x = np.ascontiguousarray(windows, dtype=np.float32).reshape(len(windows), 1, -1)
        for stack in self.stacks:
            before = x
            for linear in stack:
                x = np.maximum(linear(x), np.float32(0))
            if x.shape == before.shape:
                x = x + before
        return self.head(x)


class Head:
    """Linear layers with ReLU between them, from [N, 1, width] to logits [N, 3]. A network with one output does not
    predict HOLD, which then has probability ``hold``."""

    def __init__(self, weights: Mapping[str, Array], params: Params) -> None:
        self.layers = [Linear(weights, f"head.{number}") for number in range(_count(weights, r"head\.(\d+)\."))]
        self.sigmoid, self.hold = bool(params["sigmoid"]), float(params["hold"])

    def __call__(self, x: Array) -> Logits:
        """Return logits [N, 3] in float64."""
        for number, layer in enumerate(self.layers):
            x = layer(np.maximum(x, np.float32(0)) if number else x)
        logits: Logits = x[:, 0].astype(np.float64)
        if not self.sigmoid:
            return logits
        odds = logits[:, 0]
        sides = [math.log1p(-self.hold) - np.logaddexp(0.0, sign * odds) for sign in (1.0, -1.0)]
        return np.stack([sides[0], np.full_like(odds, math.log(self.hold)), sides[1]], axis=1)


def _layer_shapes(name: str, width: int, feedforward: int) -> dict[str, Shape]:
    return {
        f"{name}.self_attn.in_proj_weight": (3 * width, width),
        f"{name}.self_attn.in_proj_bias": (3 * width,),
        **Linear.shapes(f"{name}.self_attn.out_proj", width, width),
        **Linear.shapes(f"{name}.linear1", width, feedforward),
        **Linear.shapes(f"{name}.linear2", feedforward, width),
        **LayerNorm.shapes(f"{name}.norm1", width),
        **LayerNorm.shapes(f"{name}.norm2", width),
    }


def _head_shapes(weights: Mapping[str, NDArray[Any]], wide: int, params: Params, file: str) -> dict[str, Shape]:
    if params["sigmoid"] and not 0 < params["hold"] < 1:
        raise WeightsError(f"{file}: the manifest's share of HOLD is {params['hold']}, expected one between 0 and 1")
    expected: dict[str, Shape] = {}
    count = _count(weights, r"head\.(\d+)\.")
    for number in range(count):
        last = 1 if params["sigmoid"] else 3
        out = last if number == count - 1 else _size(weights, f"head.{number}.weight", 0, file)
        expected |= Linear.shapes(f"head.{number}", wide, out)
        wide = out
    return expected


def _count(weights: Mapping[str, Any], pattern: str) -> int:
    """Return how many different numbers the names have where they match ``pattern``."""
    return len({match[1] for name in weights if (match := re.match(pattern, name))})


def _size(weights: Mapping[str, NDArray[Any]], name: str, axis: int, file: str) -> int:
    if name not in weights or weights[name].ndim <= axis:
        raise WeightsError(f"{file}: {name}: missing, or without an axis {axis}")
    return int(weights[name].shape[axis])
