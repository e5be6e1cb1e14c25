"""PatchTST as it is served: the classifier of ``net`` forward only, in NumPy, from its weights by name."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.families.base import Logits, Windows
from shared.families.layers import EPSILON, Array, BatchNorm, LayerNorm, Linear, Shape, attended, checked, gelu
from shared.families.patchtst.body import PatchTSTBody

TOKENS_AT_ONCE: Final = 2048
"""Windows are answered in groups of about so many tokens, which stay in the processor's cache. A row's
bits are its own: where a group ends changes nothing."""


def shapes(body: PatchTSTBody, *, instance: bool) -> dict[str, Shape]:
    """Every weight by its name in ``net.Classifier``, with its shape."""
    width = body.width
    found = Linear.shapes("encoder.embed", body.patch * (body.channels if body.mixed else 1), width)
    found["encoder.position"] = (body.tokens, width)
    norm = BatchNorm if body.classic else LayerNorm
    for number in range(body.layers):
        layer = f"encoder.layers.{number}"
        found |= Linear.shapes(f"{layer}.attention.qkv", width, 3 * width)
        found |= Linear.shapes(f"{layer}.attention.out", width, width)
        found |= Linear.shapes(f"{layer}.feed.0", width, body.feedforward)
        found |= Linear.shapes(f"{layer}.feed.3", body.feedforward, width)
        found |= norm.shapes(f"{layer}.norm_1", width) | norm.shapes(f"{layer}.norm_2", width)
    if not body.classic:
        found |= LayerNorm.shapes("encoder.last", width)
    if not body.mixed:
        found["of_channel"] = (body.channels, 1, width)
    return found | Linear.shapes("head", body.found + 2 * body.channels * instance, 3)


class ServedLayer:
    """One encoder layer over [N, groups, tokens, width], kept as [N, groups * tokens, width]."""

    def __init__(self, weights: Mapping[str, Array], name: str, body: PatchTSTBody) -> None:
        self.body = body
        self.groups, self.tokens = body.groups, body.tokens
        # A norm before a linear map leaves it its own affine map: two passes less over all tokens.
        first, second = ("", "") if body.classic else (f"{name}.norm_1", f"{name}.norm_2")
        self.qkv = Linear(weights, f"{name}.attention.qkv", after=first)
        size = body.width // body.heads
        # Scores are divided by the root of the head's size: once here, in the queries' weights.
        self.qkv.weight[:, : body.width] *= np.float32(size**-0.5)
        self.qkv.bias = self.qkv.bias.copy()
        self.qkv.bias[: body.width] *= np.float32(size**-0.5)
        self.out = Linear(weights, f"{name}.attention.out")
        self.widen = Linear(weights, f"{name}.feed.0", after=second)
        self.narrow = Linear(weights, f"{name}.feed.3")
        self.norm_1, self.norm_2 = (
            BatchNorm(weights, norm) if body.classic else LayerNorm(weights, norm, bare=True)
            for norm in (f"{name}.norm_1", f"{name}.norm_2")
        )

    def __call__(self, x: Array, scores: Array | None) -> tuple[Array, Array | None]:
        """The new tokens, and the scores for the next layer where they are handed on."""
        if self.body.classic:
            new, scores = self._attention(x, scores)
            x = self.norm_1(x + new)
            return self.norm_2(x + self.narrow(gelu(self.widen(x)))), scores
        new, _ = self._attention(self.norm_1(x), None)
        x = x + new
        return x + self.narrow(gelu(self.widen(self.norm_2(x)))), None

    def _attention(self, x: Array, before: Array | None) -> tuple[Array, Array]:
        parts = self.qkv(x).reshape(len(x), self.groups, self.tokens, 3, self.body.heads, -1)
        q, v = (np.ascontiguousarray(parts[:, :, :, part].swapaxes(2, 3)) for part in (0, 2))
        k = np.ascontiguousarray(parts[:, :, :, 1].transpose(0, 1, 3, 4, 2))
        scores: Array = q @ k
        if before is not None:
            scores += before
        mixed = np.ascontiguousarray(attended(scores, v).swapaxes(2, 3))
        return self.out(mixed.reshape(x.shape)), scores


class PatchTSTForward:
    """The model (``base.Model``). Guaranteed: one thread; a row's bits depend on that row alone."""

    def __init__(
        self, weights: Mapping[str, NDArray[np.generic]], body: PatchTSTBody, *, instance: bool, file: str
    ) -> None:
        """Raises ``WeightsError``, naming ``file``, where weights and sizes do not fit together."""
        arrays = checked(weights, shapes(body, instance=instance), file)
        self.body = body
        self.groups, self.tokens = body.groups, body.tokens
        self.instance = instance
        self.weights = arrays
        self.embed = Linear(arrays, "encoder.embed")
        # What is added to a token for where it stands: [groups * tokens, width].
        place = arrays["encoder.position"] + (0 if body.mixed else arrays["of_channel"])
        self.place: Array = np.ascontiguousarray(place, dtype=np.float32).reshape(-1, body.width)
        # Which step of the window each number of each patch is, [tokens, patch].
        self.cut = body.stride * np.arange(body.tokens)[:, None] + np.arange(body.patch)
        self.layers = [ServedLayer(arrays, f"encoder.layers.{number}", body) for number in range(body.layers)]
        self.last = None if body.classic else LayerNorm(arrays, "encoder.last")
        self.head = Linear(arrays, "head")

    def logits(self, windows: Windows) -> Logits:
        """See ``base.Model``."""
        size = max(TOKENS_AT_ONCE // (self.groups * self.tokens), 1)
        x = np.ascontiguousarray(windows.transpose(0, 2, 1), dtype=np.float32)
        out = np.empty((len(x), 3))
        for at in range(0, len(x), size):
            out[at : at + size] = self._some(x[at : at + size])
        return out

    def _some(self, x: Array) -> Array:
        """Channels first, [N, C, L], to [N, 3]."""
        count = len(x)
        removed: list[Array] = []
        if self.instance:
            mean = x.mean(axis=-1, keepdims=True)
            x = x - mean
            deviation = np.sqrt((x * x).mean(axis=-1, keepdims=True) + EPSILON)
            x /= deviation
            removed = [mean[..., 0], np.log(deviation[..., 0])]
        tokens = self.embed(self._patches(x))
        tokens += self.place
        scores = None
        for layer in self.layers:
            tokens, scores = layer(tokens, scores)
        if self.last is not None:
            tokens = self.last(tokens)
        grouped = tokens.reshape(count, self.groups, self.tokens, self.body.width)
        whole: Array = np.add.reduce(grouped, axis=2)
        whole *= np.float32(1 / self.tokens)
        each = np.concatenate([whole, grouped[:, :, -1]], axis=-1)
        found = np.concatenate([each.reshape(count, -1), *removed], axis=-1)
        logits: Array = self.head(found[:, None])[:, 0]
        return logits

    def _patches(self, x: Array) -> Array:
        """[N, C, L] cut into [N, groups * tokens, patch (* C where mixed)], oldest first."""
        body = self.body
        if body.pad:
            x = np.concatenate([x, np.repeat(x[..., -1:], body.stride, axis=-1)], axis=-1)
        cut = x.take(self.cut, axis=-1)
        if body.mixed:
            cut = cut.swapaxes(1, 2)
        return np.ascontiguousarray(cut).reshape(len(x), self.groups * self.tokens, -1)
