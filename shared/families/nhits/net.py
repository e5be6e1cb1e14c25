"""The network of N-HiTS in torch: stacks from coarse to fine, for three classes and for the paper's forecast.

From Challu, Olivares, Oreshkin, Garza, Mergenthaler-Canseco and Dubrawski, "N-HiTS: Neural Hierarchical Interpolation
for Time Series Forecasting" (AAAI 2023). Each stack pools its input at its own rate and outputs a few knots, which are
interpolated to the horizon. The next stack gets the residual.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared.families.nhits.body import NHitsBody, Stack, knots, pooled


def interpolation(count: int, horizon: int) -> Tensor:
    """Return the matrix [count, horizon] that interpolates ``count`` knots to ``horizon`` steps. As in the paper's
    linear basis, knots lie at the centres of equal parts, and the line is constant outside the outermost."""
    return functional.interpolate(torch.eye(count)[:, None], size=horizon, mode="linear", align_corners=False)[:, 0]


class NHitsBlock(nn.Module):
    """The block of one stack: pooling, a perceptron, and linear maps to the backcast and the knots."""

    basis: Tensor

    def __init__(self, body: NHitsBody, stack: Stack) -> None:
        super().__init__()
        self.body = body
        self.pool = nn.MaxPool1d(stack.pool, stack.pool, ceil_mode=True)
        self.count = knots(body.horizon, stack.every)
        wide = body.channels * pooled(body.window, stack.pool)
        parts: list[nn.Module] = []
        for _ in range(body.layers):
            parts += [nn.Linear(wide, body.hidden), nn.ReLU(), nn.Dropout(body.dropout)]
            wide = body.hidden
        self.perceptron = nn.Sequential(*parts)
        self.backcast = nn.Linear(wide, body.channels * body.window)
        self.knots = nn.Linear(wide, body.outputs * self.count)
        self.register_buffer("basis", interpolation(self.count, body.horizon), persistent=False)

    def forward(self, residual: Tensor) -> tuple[Tensor, Tensor]:
        """Return the backcast [B, C, L], the part of the residual that this block explains, and its output [B, outputs,
        H]."""
        body = self.body
        # Newest first, so that a pool that is not full has the oldest steps.
        inner = self.perceptron(self.pool(residual.flip(-1)).flatten(1))
        explained = self.backcast(inner).view(-1, body.channels, body.window)
        return explained, self.knots(inner).view(-1, body.outputs, self.count) @ self.basis


class Residuals(nn.Module):
    """The stacks in order. Each gets the residual of those before it, and their outputs are added."""

    def __init__(self, body: NHitsBody) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(NHitsBlock(body, stack) for stack in body.stacks)

    def forward(self, x: Tensor) -> Tensor:
        """Return the summed outputs [B, outputs, H] of windows [B, C, L]."""
        residual, total = x, None
        for block in self.blocks:
            explained, output = block(residual)
            residual = residual - explained
            total = output if total is None else total + output
        assert total is not None
        return total


class Forecaster(nn.Module):
    """The paper's model for single series: maps [B, L] to the next steps [B, H]."""

    single = True

    def __init__(self, body: NHitsBody) -> None:
        super().__init__()
        self.stacks = Residuals(body)

    def forward(self, x: Tensor) -> Tensor:
        """Return the forecast: the last value plus the output of the stacks."""
        return x[:, -1:] + self.stacks(x[:, None]).squeeze(1)


class Classifier(nn.Module):
    """Maps windows [B, L, C] to logits [B, 3]. Each class has a trajectory over the label's horizon, interpolated from
    knots like a forecast; its logit is the mean of the trajectory. Initially the knots are near 0 and ``prior`` is the
    log prior, so that the network predicts the class prior before the first step. Outputs of the body beyond the three
    classes are learned with them and not served."""

    def __init__(self, body: NHitsBody) -> None:
        super().__init__()
        self.stacks = Residuals(body)
        self.prior = nn.Parameter(torch.zeros(body.outputs))
        for block in self.stacks.blocks:
            nn.init.normal_(block.knots.weight, std=1e-3)
            nn.init.zeros_(block.knots.bias)

    def begin(self, log_prior: Tensor) -> None:
        """See ``shared.families.learning.Net``."""
        self.prior.data[:3].copy_(log_prior)

    def outputs(self, x: Tensor) -> Tensor:
        """See ``shared.families.learning.Net``."""
        return self.prior + self.stacks(x.transpose(1, 2)).mean(-1)

    def served(self) -> dict[str, Tensor]:
        """See ``shared.families.learning.Net``."""
        weights = dict(self.state_dict())
        weights["prior"] = self.prior[:3]
        for number, block in enumerate(self.stacks.blocks):
            for part in ("weight", "bias"):
                name = f"stacks.blocks.{number}.knots.{part}"
                weights[name] = weights[name][: 3 * block.count]
        return weights

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, 3]."""
        return self.outputs(x)[:, :3]
