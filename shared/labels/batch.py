"""Label bars with ``vfh1``: the move of the close over a fixed number of bars, in units of volatility.

For bar t and horizon h, with C the close, s the volatility known at t:

    z = ln(C[t+h] / C[t]) / (s[t] * sqrt(h));   BUY where z > kappa, SELL where z < -kappa, else HOLD

s is the exponentially weighted root mean square of one-bar log returns, decay 0.97, normalised by the sum of its
weights (RiskMetrics 1996 without its start value). kappa is chosen on the training part alone, so that a stated share
of it is HOLD.
"""

import math
from typing import Annotated, Final, Literal, NamedTuple

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

DECAY: Final = 0.97
WARM: Final = 100
"""Number of returns before the first label: 0.97**100 leaves 5 % of the kernel's weight missing."""


class LabelSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """The meaning of an artifact's classes.

    ``horizon`` is in bars. ``hold`` is the share of HOLD in the training part for which ``kappa`` was chosen."""

    name: Literal["vfh1"]
    horizon: Annotated[int, Meta(ge=1)]
    decay: float
    hold: float
    kappa: float


class Moves(NamedTuple):
    """The moves of one symbol's labelled bars, before they are divided into classes.

    ``open_time`` [N] int64 is the open time of bar t. ``end`` [N] int64 is the open time of bar t + h, whose close
    determines the move. ``z`` [N] float64 is the move in units of volatility. ``known`` [N] float64 is the volatility
    known at bar t."""

    open_time: NDArray[np.int64]
    end: NDArray[np.int64]
    z: NDArray[np.float64]
    known: NDArray[np.float64]


def volatility(open_time: NDArray[np.int64], close: NDArray[np.float64], interval_ms: int) -> NDArray[np.float64]:
    """Return the volatility known at each bar, [N]; NaN before ``WARM`` returns.

    A return across missing bars is not a one-bar return: it is left out, and the estimate stays as it was."""
    returns = np.diff(np.log(close), prepend=np.nan)
    squares = np.where(np.diff(open_time, prepend=-1) == interval_ms, returns**2, np.nan)
    out = np.full(len(close), np.nan)
    total = weight = 0.0
    seen = 0
    for row, square in enumerate(squares.tolist()):
        if not math.isnan(square):
            total, weight, seen = DECAY * total + square, DECAY * weight + 1.0, seen + 1
        if seen >= WARM:
            out[row] = math.sqrt(total / weight)
    return out


def moves(open_time: NDArray[np.int64], close: NDArray[np.float64], interval_ms: int, horizon: int) -> Moves:
    """Return the move of every bar that can be labelled.

    A bar can be labelled where its volatility is known and above zero and all ``horizon`` bars after it are present. No
    label crosses a gap."""
    sigma = volatility(open_time, close, interval_ms)
    rows = np.arange(max(0, len(close) - horizon))
    ends = rows + horizon
    complete = open_time[ends] - open_time[rows] == horizon * interval_ms
    valid = complete & (np.nan_to_num(sigma[rows]) > 0)
    rows, ends = rows[valid], ends[valid]
    z = np.log(close[ends] / close[rows]) / (sigma[rows] * math.sqrt(horizon))
    return Moves(open_time[rows], open_time[ends], z, sigma[rows])


def kappa_for(z: NDArray[np.float64], hold: float) -> float:
    """Return the threshold for which a share ``hold`` of the moves is HOLD."""
    return float(np.quantile(np.abs(z), hold))


def classes(z: NDArray[np.float64], kappa: float) -> NDArray[np.int64]:
    """Return the class of each move: 0 SELL, 1 HOLD, 2 BUY."""
    return 1 + (z > kappa).astype(np.int64) - (z < -kappa).astype(np.int64)
