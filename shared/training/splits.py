"""Split labelled rows into training, validation, calibration and test parts in time order, for all symbols on one time
axis.

A row is *purged* if its label ends in a later part, and each part begins an *embargo* after its boundary. So no label
of one part depends on a bar that another part uses (López de Prado 2018, chapter 7).
"""

from datetime import UTC, datetime
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.common import ACTIONS

FRACTIONS: Final = (0.60, 0.10, 0.10, 0.20)
"""Shares of the time axis of training, validation, calibration and test."""

Rows = NDArray[np.intp]
Times = NDArray[np.int64]


class Parts(NamedTuple):
    """Row numbers of each part, ascending."""

    train: Rows
    validation: Rows
    calibration: Rows
    test: Rows


class SplitError(ValueError):
    """There are too few bars: a part would be empty, or the training part would lack a class. The message names the
    part and the number of rows."""


def split(
    time: Times, end: Times, *, embargo_ms: int, fractions: tuple[float, float, float, float] = FRACTIONS
) -> Parts:
    """Return the four parts. ``time`` [N] and ``end`` [N] are the open times of a row's bar and of its label's last
    bar.

    Guaranteed: more than ``embargo_ms`` lies between the last label end of a part and the first row of any later part.
    Raises ``SplitError``.
    """
    moments = _moments(time)
    shares = np.cumsum(fractions[:-1])
    starts = [int(moments[min(round(share * len(moments)), len(moments) - 1)]) for share in shares]
    return _parts(time, end, [int(moments[0]), *starts, int(end.max()) + 1], embargo_ms)


def walk_forward(time: Times, end: Times, *, folds: int, embargo_ms: int) -> list[Parts]:
    """Return the parts of ``folds`` walk-forward folds. Their test parts follow one another over the second half of the
    time axis. All rows before a test part are used: three quarters for training, an eighth each for validation and
    calibration. Guarantees and errors are those of ``split``, within each fold."""
    if folds < 1:
        raise SplitError(f"{folds} folds; at least one is needed")
    moments = _moments(time)
    parts = []
    for fold in range(folds):
        begin, until = (round(len(moments) * (0.5 + 0.5 * number / folds)) for number in (fold, fold + 1))
        starts = [int(moments[min(round(begin * share), len(moments) - 1)]) for share in (0.75, 0.875, 1.0)]
        last = int(moments[until - 1])
        stop = int(end[time <= last].max()) + 1
        parts.append(_parts(time, end, [int(moments[0]), *starts, stop], embargo_ms))
    return parts


def require_all_classes(y: NDArray[np.int64], time: Times) -> None:
    """Check that the training part, of classes ``y`` [N] at ``time`` [N] (ms), has rows of every class: nothing can be
    learned about an absent one, and skill is measured against its share. Raises ``SplitError``."""
    counts = np.bincount(y, minlength=3)
    absent = [action for action, count in zip(ACTIONS, counts, strict=True) if not count]
    if absent:
        first, last = (datetime.fromtimestamp(at / 1000, UTC).date() for at in (int(time.min()), int(time.max())))
        raise SplitError(
            f"the training part ({len(y):,} rows from {first} to {last}) has no row of class {' and '.join(absent)}: "
            f"{', '.join(f'{action} {count:,}' for action, count in zip(ACTIONS, counts, strict=True))}. Prices there "
            "move one way or not at all; train on more bars, or on other symbols too"
        )


def _moments(time: Times) -> Times:
    moments = np.unique(time)
    if not len(moments):
        raise SplitError(
            "no labelled rows at all: the bars are fewer than the warm-up plus the horizon, or full of gaps"
        )
    return moments


def _parts(time: Times, end: Times, bounds: list[int], embargo_ms: int) -> Parts:
    """Return the rows between successive bounds. A part begins an embargo after its bound, and its labels end before
    the next bound."""
    lows = [bounds[0], *(bound + embargo_ms for bound in bounds[1:-1])]
    parts = Parts(*(np.flatnonzero((time >= low) & (end < high)) for low, high in zip(lows, bounds[1:], strict=True)))
    for name, rows in parts._asdict().items():
        if not len(rows):
            raise SplitError(
                f"the {name} part is empty: {len(time)} labelled rows over {len(np.unique(time))} bars are too few, "
                f"with an embargo of {embargo_ms} ms; give more bars, fewer folds or a shorter horizon"
            )
    return parts
