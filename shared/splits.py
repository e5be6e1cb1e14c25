"""Cuts labelled rows into training, validation, calibration and test, in time order, for all symbols
on one time axis.

A row is *purged* when its label ends in a later part, and a part begins an *embargo* after its
boundary, so that no label of one part is decided by a bar that another part sees (López de Prado
2018, chapter 7).
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

FRACTIONS: Final = (0.60, 0.10, 0.10, 0.20)
"""Shares of the time axis: training, validation, calibration, test."""

Rows = NDArray[np.intp]
Times = NDArray[np.int64]


class Parts(NamedTuple):
    """Row numbers of each part, ascending."""

    train: Rows
    validation: Rows
    calibration: Rows
    test: Rows


class SplitError(ValueError):
    """Too few bars: a part would be empty. Says which, and how many rows there are."""


def split(
    time: Times, end: Times, *, embargo_ms: int, fractions: tuple[float, float, float, float] = FRACTIONS
) -> Parts:
    """``time`` [N] and ``end`` [N] are the open times of a row's bar and of its label's last bar.

    Guaranteed: between the last label end of a part and the first row of any later part lies more than
    ``embargo_ms``. Raises ``SplitError``.
    """
    moments = np.unique(time)
    if not len(moments):
        raise SplitError(
            "no labelled rows at all: the bars are fewer than the warm-up plus the horizon, or full of gaps"
        )
    shares = np.cumsum(fractions[:-1])
    starts = [int(moments[min(round(share * len(moments)), len(moments) - 1)]) for share in shares]
    lows = [int(moments[0]), *(start + embargo_ms for start in starts)]
    highs = [*starts, int(end.max()) + 1]
    parts = Parts(*(np.flatnonzero((time >= low) & (end < high)) for low, high in zip(lows, highs, strict=True)))
    for name, rows in parts._asdict().items():
        if not len(rows):
            raise SplitError(
                f"the {name} part is empty: {len(time)} labelled rows over {len(moments)} bars are too few for "
                f"fractions {fractions} and an embargo of {embargo_ms} ms; give more bars or a shorter horizon"
            )
    return parts
