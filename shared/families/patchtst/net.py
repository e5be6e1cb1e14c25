"""The network of PatchTST in torch: one body, with a head for three classes and the paper's head for a forecast.

From Nie, Nguyen, Sinthong and Kalagnanam, "A Time Series is Worth 64 Words" (ICLR 2023). A window is cut into patches,
and each patch is a token. One transformer encoder, shared by all channels, is applied to the tokens of each channel
separately. The residual attention scores are RealFormer's (He et al. 2021).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared.families.patchtst.body import PatchTSTBody


class Removed(NamedTuple):
    """Mean and deviation of each channel that ``normalised`` removed, [B, C, 1]."""

    mean: Tensor
    deviation: Tensor


def normalised(x: Tensor) -> tuple[Tensor, Removed]:
    """Return each channel of each window [B, C, L] with mean 0 and deviation 1: RevIN without its affine map (Kim et
    al. 2022), as in the paper's settings."""
    mean = x.mean(-1, keepdim=True).detach()
    deviation = torch.sqrt(x.var(-1, keepdim=True, unbiased=False) + 1e-5).detach()
    return (x - mean) / deviation, Removed(mean, deviation)


def restored(y: Tensor, removed: Removed) -> Tensor:
    """Return the inverse of ``normalised``, for series of any length, [B, C, H]."""
    return y * removed.deviation + removed.mean


def patches(x: Tensor, patch: int, stride: int, *, pad: bool) -> Tensor:
    """Return [B, C, L] cut into patches [B, C, N, patch], oldest first. With ``pad``, the newest step is repeated
    ``stride`` times. Newest steps that fill no whole patch are dropped."""
    if pad:
        x = functional.pad(x, (0, stride), mode="replicate")
    return x.unfold(-1, patch, stride)


class Attention(nn.Module):
    """Multi-head self-attention over [M, N, width], optionally with residual scores [M * heads, N, N]: the scores of
    the layer before are added, and the sum is returned for the next layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.size = width // heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, scores: Tensor | None, *, residual: bool) -> tuple[Tensor, Tensor | None]:
        """Return the new tokens, and the scores where ``residual``."""
        count, tokens, width = x.shape
        q, k, v = self.qkv(x).view(count, tokens, 3, self.heads, self.size).permute(2, 0, 3, 1, 4).unbind(0)
        if not residual:
            mixed = functional.scaled_dot_product_attention(q, k, v)
        else:
            q, k, v = (part.reshape(-1, tokens, self.size) for part in (q, k, v))
            scale = self.size**-0.5
            turned = k.transpose(1, 2)
            scores = torch.bmm(q * scale, turned) if scores is None else torch.baddbmm(scores, q, turned, alpha=scale)
            mixed = torch.bmm(scores.softmax(-1), v).view(count, self.heads, tokens, self.size)
        return self.out(mixed.transpose(1, 2).reshape(count, tokens, width)), scores


class OverTokens(nn.BatchNorm1d):
    """Batch normalisation of each of the ``width`` components of a token, over all tokens of all rows."""

    def forward(self, x: Tensor) -> Tensor:
        """Return [M, N, width], normalised."""
        return super().forward(x.reshape(-1, x.shape[-1])).view(x.shape)


class EncoderLayer(nn.Module):
    """One encoder layer, in the paper's order or with normalisation first."""

    def __init__(self, body: PatchTSTBody) -> None:
        super().__init__()
        self.classic = body.classic
        self.attention = Attention(body.width, body.heads)
        self.feed = nn.Sequential(
            nn.Linear(body.width, body.feedforward),
            nn.GELU(),
            nn.Dropout(body.dropout),
            nn.Linear(body.feedforward, body.width),
        )
        norm = OverTokens if body.classic else nn.LayerNorm
        self.norm_1, self.norm_2 = norm(body.width), norm(body.width)
        self.drop = nn.Dropout(body.dropout)

    def forward(self, x: Tensor, scores: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return new tokens [M, N, width], and the scores for the next layer where these are residual."""
        if self.classic:
            new, scores = self.attention(x, scores, residual=True)
            x = self.norm_1(x + self.drop(new))
            return self.norm_2(x + self.drop(self.feed(x))), scores
        new, _ = self.attention(self.norm_1(x), None, residual=False)
        x = x + self.drop(new)
        return x + self.drop(self.feed(self.norm_2(x))), None


class PatchTSTEncoder(nn.Module):
    """Maps windows [B, C, L] to tokens [B, G, N, width], where G is the number of channels, or 1 where ``mixed``."""

    def __init__(self, body: PatchTSTBody) -> None:
        super().__init__()
        self.body = body
        self.embed = nn.Linear(body.patch * (body.channels if body.mixed else 1), body.width)
        self.position = nn.Parameter(torch.empty(body.tokens, body.width).uniform_(-0.02, 0.02))
        self.drop = nn.Dropout(body.dropout)
        self.layers = nn.ModuleList(EncoderLayer(body) for _ in range(body.layers))
        self.last = nn.Identity() if body.classic else nn.LayerNorm(body.width)

    def forward(self, x: Tensor, of_channel: Tensor | None = None) -> Tensor:
        """Return the tokens. ``of_channel`` [C, 1, width] is added to the tokens of each channel."""
        body = self.body
        cut = patches(x, body.patch, body.stride, pad=body.pad)
        if body.mixed:
            cut = cut.transpose(1, 2).flatten(2).unsqueeze(1)
        tokens = self.embed(cut) + self.position
        if of_channel is not None:
            tokens = tokens + of_channel
        rows, groups = tokens.shape[:2]
        tokens = self.drop(tokens.flatten(0, 1))
        scores = None
        for layer in self.layers:
            tokens, scores = layer(tokens, scores)
        return self.last(tokens).view(rows, groups, body.tokens, body.width)


class Forecaster(nn.Module):
    """The paper's model: maps [B, C, L] to the next ``horizon`` steps of each channel, [B, C, horizon]."""

    def __init__(self, body: PatchTSTBody, horizon: int) -> None:
        super().__init__()
        self.encoder = PatchTSTEncoder(body)
        self.head = nn.Linear(body.tokens * body.width, horizon)

    def forward(self, x: Tensor) -> Tensor:
        """Return the forecast, in the scale of the input."""
        inner, removed = normalised(x)
        return restored(self.head(self.encoder(inner).flatten(2)), removed)


class Classifier(nn.Module):
    """Maps windows [B, L, C] to logits [B, 3], by a linear head on the mean and the newest token of each group.

    ``instance``: each window is normalised as in the paper. Mean and log deviation of each channel are inputs of the
    head, so that the level is not lost. Initially the head's weights are near 0 and its bias is the log prior, so that
    the network predicts the class prior before the first step. ``further``: outputs of the head that are learned with
    the classes and not served."""

    def __init__(self, body: PatchTSTBody, *, instance: bool, head_dropout: float, further: int = 0) -> None:
        super().__init__()
        self.instance = instance
        self.encoder = PatchTSTEncoder(body)
        self.of_channel = None if body.mixed else nn.Parameter(torch.zeros(body.channels, 1, body.width))
        wide = body.pooled + 2 * body.channels * instance
        self.drop = nn.Dropout(head_dropout)
        self.head = nn.Linear(wide, 3 + further)
        nn.init.normal_(self.head.weight, std=1e-3)

    def begin(self, log_prior: Tensor) -> None:
        """See ``shared.families.learning.Net``."""
        self.head.bias.data[:3].copy_(log_prior)

    def served(self) -> dict[str, Tensor]:
        """See ``shared.families.learning.Net``."""
        return dict(self.state_dict()) | {"head.weight": self.head.weight[:3], "head.bias": self.head.bias[:3]}

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, 3]."""
        return self.outputs(x)[:, :3]

    def outputs(self, x: Tensor) -> Tensor:
        """See ``shared.families.learning.Net``."""
        inner, removed = x.transpose(1, 2), None
        if self.instance:
            inner, removed = normalised(inner)
        tokens = self.encoder(inner, self.of_channel)
        features = torch.cat([tokens.mean(2), tokens[:, :, -1]], dim=-1).flatten(1)
        if removed is not None:
            features = torch.cat([features, removed.mean.squeeze(-1), removed.deviation.log().squeeze(-1)], dim=-1)
        return self.head(self.drop(features))
