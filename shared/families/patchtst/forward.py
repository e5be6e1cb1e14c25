"""The served form of PatchTST: the forward pass of the classifier in ``net``, in NumPy, from its weights by name."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.families.base import Logits, Windows
from shared.families.layers import EPSILON, Array, BatchNorm, LayerNorm, Linear, Shape, attended, checked, gelu
from shared.families.patchtst.body import PatchTSTBody

TOKENS_AT_ONCE: Final = 2048
"""Windows are computed in groups of about this many tokens, which fit into the processor's cache. The grouping does not
change the bits of a row."""


def shapes(body: PatchTSTBody, *, instance: bool) -> dict[str, Shape]:
    """Return the shape of every weight, by its name in ``net.Classifier``."""
    width = body.width
    expected = Linear.shapes("encoder.embed", body.patch * (body.channels if body.mixed else 1), width)
    expected["encoder.position"] = (body.tokens, width)
    norm = BatchNorm if body.classic else LayerNorm
    for number in range(body.layers):
        layer = f"encoder.layers.{number}"
        expected |= Linear.shapes(f"{layer}.attention.qkv", width, 3 * width)
        expected |= Linear.shapes(f"{layer}.attention.out", width, width)
        expected |= Linear.shapes(f"{layer}.feed.0", width, body.feedforward)
        expected |= Linear.shapes(f"{layer}.feed.3", body.feedforward, width)
        expected |= norm.shapes(f"{layer}.norm_1", width) | norm.shapes(f"{layer}.norm_2", width)
    if not body.classic:
        expected |= LayerNorm.shapes("encoder.last", width)
    if not body.mixed:
        expected["of_channel"] = (body.channels, 1, width)
    return expected | Linear.shapes("head", body.pooled + 2 * body.channels * instance, 3)


class ServedLayer:
    """One encoder layer over [N, groups, tokens, width], stored as [N, groups * tokens, width]."""

    def __init__(self, weights: Mapping[str, Array], name: str, body: PatchTSTBody) -> None:
        self.body = body
        self.groups, self.tokens = body.groups, body.tokens
        # The affine map of a norm is merged into the linear layer after it: two passes fewer over all tokens.
        first, second = ("", "") if body.classic else (f"{name}.norm_1", f"{name}.norm_2")
        self.qkv = Linear(weights, f"{name}.attention.qkv", after=first)
        size = body.width // body.heads
        # Attention divides scores by the root of the head's size: done once here, in the weights of the queries.
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
        """Return the new tokens, and the attention scores for the next layer where these are residual."""
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
    """A ``base.FittedModel``. Guaranteed: one thread; the bits of a row depend on that row alone."""

    def __init__(
        self, weights: Mapping[str, NDArray[np.generic]], body: PatchTSTBody, *, instance: bool, file: str
    ) -> None:
        """Raises ``WeightsError``, which names ``file``, where weights and sizes do not fit together."""
        arrays = checked(weights, shapes(body, instance=instance), file)
        self.body = body
        self.groups, self.tokens = body.groups, body.tokens
        self.instance = instance
        self.weights = arrays
        self.embed = Linear(arrays, "encoder.embed")
        # Position embedding, plus channel embedding unless mixed: [groups * tokens, width].
        place = arrays["encoder.position"] + (0 if body.mixed else arrays["of_channel"])
        self.place: Array = np.ascontiguousarray(place, dtype=np.float32).reshape(-1, body.width)
        # Steps of the window by patch, [tokens, patch].
        self.cut = body.stride * np.arange(body.tokens)[:, None] + np.arange(body.patch)
        self.layers = [ServedLayer(arrays, f"encoder.layers.{number}", body) for number in range(body.layers)]
        self.last = None if body.classic else LayerNorm(arrays, "encoder.last")
        self.head = Linear(arrays, "head")

    def logits(self, windows: Windows) -> Logits:
        """See ``base.FittedModel``."""
        size = max(TOKENS_AT_ONCE // (self.groups * self.tokens), 1)
        x = np.ascontiguousarray(windows.transpose(0, 2, 1), dtype=np.float32)
        out = np.empty((len(x), 3))
        for at in range(0, len(x), size):
            out[at : at + size] = self._some(x[at : at + size])
        return out

    def _some(self, x: Array) -> Array:
        """Return the logits [N, 3] of windows with channels first, [N, C, L]."""
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
        features = np.concatenate([each.reshape(count, -1), *removed], axis=-1)
        logits: Array = self.head(features[:, None])[:, 0]
        return logits

    def _patches(self, x: Array) -> Array:
        """Return the patches of [N, C, L], oldest first: [N, groups * tokens, patch], or [N, tokens, C * patch] where
        mixed."""
        body = self.body
        if body.pad:
            x = np.concatenate([x, np.repeat(x[..., -1:], body.stride, axis=-1)], axis=-1)
        cut = x.take(self.cut, axis=-1)
        if body.mixed:
            cut = cut.swapaxes(1, 2)
        return np.ascontiguousarray(cut).reshape(len(x), self.groups * self.tokens, -1)
