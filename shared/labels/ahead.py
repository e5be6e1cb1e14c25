"""The volatility over a label's horizon, which networks learn as well as the class. Like it, known only afterwards.

A class tells little about a row: it is one return, in three parts. The volatility over the same bars is an average of
as many observations as there are bars, and the class depends on it.
"""

from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from shared.labels.batch import Moves

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

COLUMNS: Final = 2
"""Numbers of a row."""
LEAST: Final = 1e-4
"""The smallest ratio of variances. Without it, the logarithm of bars that do not move would be infinite."""


def volatility_ahead(open_time: Ints, close: Floats, high: Floats, low: Floats, labelled: Moves) -> Floats:
    """Return [N, 2] for the labelled bars of a symbol: the logs of two estimates of volatility over the bars of each
    label, relative to the volatility that is known before them.

    The first is the root mean square of one-bar log returns. The second is computed from high and low (Parkinson 1980,
    "The Extreme Value Method for Estimating the Variance of the Rate of Return"). A row depends on the bars of its
    label and the volatility before it alone."""
    out = np.empty((len(labelled.z), COLUMNS))
    if not len(out):
        return out
    squares = np.square(np.diff(np.log(close), prepend=np.log(close[0])))
    ranges = np.square(np.log(high / low)) / (4.0 * np.log(2.0))
    first = np.searchsorted(open_time, labelled.open_time)
    horizon = int(np.searchsorted(open_time, labelled.end[0]) - first[0])
    for column, each in enumerate((squares, ranges)):
        # Each window by itself: with differences of one cumulative sum, a row would depend on all bars before it.
        mean = sliding_window_view(each, horizon).mean(axis=1)[first + 1]
        out[:, column] = 0.5 * np.log(np.maximum(mean / np.square(labelled.known), LEAST))
    return out
