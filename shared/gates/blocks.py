"""Turn overlapping labels into observations that do not overlap: purged blocks.

A block is an interval of length B on the clock of the bars, aligned to multiples of B. Only predictions of its first B
- h bars count, because their labels (h bars ahead) are known within the block; the rest is purged. So all labels of a
block are known before the first prediction of the next one. The block means are a sequence adapted to an ordinary
filtration, and bets on it are fair. (Averages of h interleaved sequences are not: Henzi and Ziegel 2022, correction.)

A block closes when the first row of a later block arrives. Rows for a closed block are late: they are counted and left
out. Because the purge is h bars, a row may arrive up to h bars out of order and still count.
"""

import math
from typing import Final

from msgspec import Struct, field

FEWEST_ROWS: Final = 50
EIGHT_HOURS: Final = 8 * 3_600_000


def length_ms(horizon: int, interval_ms: int, at_least_ms: int = EIGHT_HOURS) -> int:
    """Return the length (ms) of the shortest valid block: eight horizons and eight hours, in whole bars."""
    return max(8 * horizon, math.ceil(at_least_ms / interval_ms)) * interval_ms


class Blocks(Struct, array_like=True, forbid_unknown_fields=True):
    """The open block and counts of rows.

    ``sums`` and ``rows`` are by quantity. A quantity with fewer than ``fewest`` rows at the close is carried into the
    next block. ``closed`` counts closed blocks, ``purged`` and ``late`` the rows left out."""

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
    """Add the values of one row; None for a value that is unknown.

    Return the means of the block that this row closed, with None for a quantity with too few rows; None where no block
    closed."""
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
