"""Purged blocks: overlapping labels turned into observations that do not overlap.

A block is an interval of length B on the clock of the bars, aligned to multiples of B. Only
predictions of its first B - h bars count, for their labels (h bars ahead) mature inside it; the rest
is purged. So all labels of a block are known before the first prediction of the next is made, and the
means of the blocks are a sequence in a plain filtration: bets on it are fair. (Averages of h
interleaved sequences are not: Henzi and Ziegel 2022, correction.)

A block closes when the first row of a later one arrives: rows behind it are late, counted and left
out. Where the purge is h bars, a row may come up to h bars out of order and still counts.
"""

import math
from typing import Final

from msgspec import Struct, field

FEWEST_ROWS: Final = 50
EIGHT_HOURS: Final = 8 * 3_600_000


def length_ms(horizon: int, interval_ms: int, at_least_ms: int = EIGHT_HOURS) -> int:
    """The shortest block that is lawful: eight horizons and eight hours, in whole bars."""
    return max(8 * horizon, math.ceil(at_least_ms / interval_ms)) * interval_ms


class Blocks(Struct, array_like=True, forbid_unknown_fields=True):
    """The open block. ``sums`` and ``rows`` by quantity; a quantity with fewer than ``fewest`` rows at
    the close waits for the next block. ``closed`` counts closes; ``purged`` and ``late`` rows left out."""

    length: int
    purge: int
    quantities: int
    fewest: int = FEWEST_ROWS
    number: int = -1
    sums: list[float] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    closed: int = 0
    purged: int = 0
    late: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.purge < self.length:
            raise ValueError(
                f"a block of {self.length} ms has no room for a purge of {self.purge} ms: "
                "make it longer than the label's horizon"
            )
        if not self.sums:
            self.sums = [0.0] * self.quantities
            self.rows = [0] * self.quantities


Means = list[float | None]


def add(blocks: Blocks, open_time: int, values: tuple[float | None, ...]) -> Means | None:
    """Takes one row's values (None: not known for this row). Returns the means of the block that this
    row closed, None for a quantity with too few rows; or None where nothing closed."""
    number, offset = divmod(open_time, blocks.length)
    means = None
    if number != blocks.number:
        if number < blocks.number:
            blocks.late += 1
            return None
        if blocks.number >= 0:
            means = _close(blocks)
        blocks.number = number
    if offset >= blocks.length - blocks.purge:
        blocks.purged += 1
        return means
    sums, rows = blocks.sums, blocks.rows
    for j, value in enumerate(values):
        if value is not None:
            sums[j] += value
            rows[j] += 1
    return means


def _close(blocks: Blocks) -> Means:
    means: Means = []
    for j, rows in enumerate(blocks.rows):
        if rows < blocks.fewest:
            means.append(None)
            continue
        means.append(blocks.sums[j] / rows)
        blocks.sums[j], blocks.rows[j] = 0.0, 0
    blocks.closed += 1
    return means
