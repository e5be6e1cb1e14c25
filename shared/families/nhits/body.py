"""The sizes of an N-HiTS, alike for training and serving."""

from typing import NamedTuple


class Stack(NamedTuple):
    """``pool``: steps that max pooling joins into one. ``every``: one knot for so many steps of the
    horizon. Coarse stacks have large ones of both."""

    pool: int
    every: int


class NHitsBody(NamedTuple):
    """Sizes: ``channels`` series read, ``outputs`` trajectories written, ``hidden`` by ``layers`` the
    perceptron of each stack."""

    channels: int
    outputs: int
    window: int
    horizon: int
    hidden: int
    layers: int
    dropout: float
    stacks: tuple[Stack, ...]


def knots(horizon: int, every: int) -> int:
    """Knots of a stack: one for ``every`` steps of the horizon, at least one."""
    return max(horizon // every, 1)


def pooled(window: int, pool: int) -> int:
    """Steps that are left of a window, the last pool not always full."""
    return -(-window // pool)
