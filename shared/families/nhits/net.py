"""The network of N-HiTS in torch: stacks from coarse to fine, a basis for three classes and the paper's.

Challu, Olivares, Oreshkin, Garza, Mergenthaler-Canseco and Dubrawski, "N-HiTS: Neural Hierarchical
Interpolation for Time Series Forecasting" (AAAI 2023): each stack pools its input at its own rate,
answers with few knots that are interpolated to the horizon, and hands on what it could not explain.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared.families.dropout import Dropout
from shared.families.nhits.body import NHitsBody, Stack, knots, pooled


def interpolation(count: int, horizon: int) -> Tensor:
    """[count, horizon]: the matrix that puts ``count`` knots on a line of ``horizon`` steps, knots at
    the centres of equal parts, constant outside the outermost (linear, as in the paper's basis)."""
    return functional.interpolate(torch.eye(count)[:, None], size=horizon, mode="linear", align_corners=False)[:, 0]


class NHitsBlock(nn.Module):
    """One stack's block: pool, perceptron, and a linear map to the backcast and the knots."""

    basis: Tensor

    def __init__(self, body: NHitsBody, stack: Stack) -> None:
        super().__init__()
        self.body = body
        self.pool = nn.MaxPool1d(stack.pool, stack.pool, ceil_mode=True)
        self.count = knots(body.horizon, stack.every)
        wide = body.channels * pooled(body.window, stack.pool)
        parts: list[nn.Module] = []
        for _ in range(body.layers):
            parts += [nn.Linear(wide, body.hidden), nn.ReLU(), Dropout(body.dropout)]
            wide = body.hidden
        self.perceptron = nn.Sequential(*parts)
        self.backcast = nn.Linear(wide, body.channels * body.window)
        self.knots = nn.Linear(wide, body.outputs * self.count)
        self.register_buffer("basis", interpolation(self.count, body.horizon), persistent=False)

    def forward(self, residual: Tensor) -> tuple[Tensor, Tensor]:
        """[B, C, L] to the part of it that this block explains, [B, C, L], and [B, outputs, H]."""
        body = self.body
        # Newest first, so that only the oldest steps fall into a pool that is not full.
        inner = self.perceptron(self.pool(residual.flip(-1)).flatten(1))
        explained = self.backcast(inner).view(-1, body.channels, body.window)
        return explained, self.knots(inner).view(-1, body.outputs, self.count) @ self.basis


class Residuals(nn.Module):
    """The stacks in order: each reads what those before it left, and their answers are added up."""

    def __init__(self, body: NHitsBody) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(NHitsBlock(body, stack) for stack in body.stacks)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, L] to [B, outputs, H]."""
        residual, total = x, None
        for block in self.blocks:
            explained, answer = block(residual)
            residual = residual - explained
            total = answer if total is None else total + answer
        assert total is not None
        return total


class Forecaster(nn.Module):
    """The paper's model for single series: [B, L] to [B, H], from the last value on (Naive1)."""

    single = True

    def __init__(self, body: NHitsBody) -> None:
        super().__init__()
        self.stacks = Residuals(body)

    def forward(self, x: Tensor) -> Tensor:
        """The last value is the level that the stacks add to."""
        return x[:, -1:] + self.stacks(x[:, None]).squeeze(1)


class Classifier(nn.Module):
    """Windows [B, L, C] to logits [B, 3]: each class has a trajectory over the label's horizon, made of
    knots like a forecast, and its logit is the trajectory's mean. The knots begin near 0 and ``prior``
    at the log prior: before the first step it is the class prior."""

    def __init__(self, body: NHitsBody) -> None:
        super().__init__()
        self.stacks = Residuals(body)
        self.prior = nn.Parameter(torch.zeros(3))
        for block in self.stacks.blocks:
            nn.init.normal_(block.knots.weight, std=1e-3)
            nn.init.zeros_(block.knots.bias)

    def begin(self, log_prior: Tensor) -> None:
        """See ``shared.families.learning.Net``."""
        self.prior.data.copy_(log_prior)

    def forward(self, x: Tensor) -> Tensor:
        """Before the softmax."""
        return self.prior + self.stacks(x.transpose(1, 2)).mean(-1)
