"""The volatility over a label's horizon, which networks learn as well as the class. Like it, known only afterwards.

A class tells little about a row: it is one return, in three parts. The volatility over the same bars is an average of
as many observations as there are bars, and the class depends on it.
"""

from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from shared.labels.batch import volatility

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

COLUMNS: Final = 2
"""Numbers of a row."""
LEAST: Final = 1e-4
"""The smallest ratio of variances. Without it, the logarithm of bars that do not move would be infinite."""


def volatility_ahead(
    open_time: Ints, close: Floats, high: Floats, low: Floats, interval_ms: int, time: Ints, end: Ints
) -> Floats:
    """Return [N, 2] for labels of one horizon: the logs of two estimates of volatility over the bars after ``time`` [N]
    until ``end`` [N], relative to the volatility that is known at ``time``.

    The first is the root mean square of one-bar log returns. The second is computed from high and low (Parkinson 1980,
    "The Extreme Value Method for Estimating the Variance of the Rate of Return"). No bar from ``time`` to ``end`` may
    be missing, as with a label. A row depends on the bars of its label and the volatility before it alone."""
    out = np.empty((len(time), COLUMNS))
    if not len(time):
        return out
    known = np.square(volatility(open_time, close, interval_ms))
    squares = np.square(np.diff(np.log(close), prepend=np.log(close[0])))
    ranges = np.square(np.log(high / low)) / (4.0 * np.log(2.0))
    first = np.searchsorted(open_time, time)
    bars = int(np.searchsorted(open_time, end[0]) - first[0])
    for column, each in enumerate((squares, ranges)):
        # Each window by itself: with differences of one cumulative sum, a row would depend on all bars before it.
        mean = sliding_window_view(each, bars).mean(axis=1)[first + 1]
        out[:, column] = 0.5 * np.log(np.maximum(mean / known[first], LEAST))
    return out
