"""The sizes of an N-HiTS, for training and serving."""

from typing import NamedTuple


class Stack(NamedTuple):
    """``pool``: steps that max pooling joins into one. ``every``: steps of the horizon for each knot. Both are large in
    coarse stacks."""

    pool: int
    every: int


class NHitsBody(NamedTuple):
    """Sizes of the network. ``channels``: input series; ``outputs``: output trajectories; ``hidden``, ``layers``: width
    and depth of the perceptron of each stack."""

    channels: int
    outputs: int
    window: int
    horizon: int
    hidden: int
    layers: int
    dropout: float
    stacks: tuple[Stack, ...]


def knots(horizon: int, every: int) -> int:
    """Return the number of knots of a stack: one for ``every`` steps of the horizon, at least one."""
    return max(horizon // every, 1)


def pooled(window: int, pool: int) -> int:
    """Return the number of steps of a window after pooling. The last pool may have fewer steps than the others."""
    return -(-window // pool)
