"""Dropout that draws eight masks from one random number: drawing was a quarter of a training step."""

import torch
from torch import Tensor, nn

LEVELS = 256


class Dropout(nn.Module):
    """Sets a share of the values to 0 in training and scales the rest, so that the mean stays.

    Srivastava et al. (2014). One byte decides each value, so the share is kept to the next 256th, and
    the scale is that of the share kept. Draws from torch's default generator."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.cut = round(share * LEVELS)
        if not 0 <= self.cut < LEVELS:
            raise ValueError(f"a dropout of {share}; expected at least 0 and below 1")

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        if not self.training or not self.cut:
            return x
        drawn = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = drawn.view(torch.uint8)[: x.numel()].view(x.shape) >= self.cut
        return x * (kept * (LEVELS / (LEVELS - self.cut)))
