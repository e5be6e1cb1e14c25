"""Measure in training what an artifact's live evidence is compared with (``schemas.control.Backtest``).

These are the scale of its gains, its response to changed inputs, and the bins of its inputs.
"""

import math
from collections.abc import Callable, Collection
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.common import Probabilities
from schemas.control import Backtest
from shared.families.windows import CutWindows
from shared.gates import blocks, inputs
from shared.gates.evidence import FLOOR, ROWS_A_BLOCK

Windows = NDArray[np.float32] | CutWindows
Predict = Callable[[Windows], NDArray[np.float64]]
PROBES: Final = 16
"""Number of windows whose inputs are changed, one input at a time."""
FEWEST_BLOCKS: Final = 5
UNKNOWN_SCALE: Final = 0.05
"""The scale (nats) where a test part has too few blocks to estimate one."""
LEAST_SCALE: Final = 0.005


def measure(
    predict: Predict,
    training: NDArray[np.float32],
    training_time: NDArray[np.int64],
    test: Windows,
    classes: NDArray[np.int64],
    time: NDArray[np.int64],
    prior: Probabilities,
    *,
    horizon: int,
    interval_ms: int,
    calendar: Collection[int] = (),
) -> Backtest:
    """Return the backtest of an artifact. ``calendar``: the inputs that follow from the time alone, by index.

    ``training`` [N, F] holds the last vectors of the training part's windows, ``training_time`` [N] their open times
    (ms). ``test`` [M, T, F] holds the windows of the test part in the order of ``time`` [M]; ``classes`` [M] are their
    labels."""
    length = blocks.length_ms(horizon, interval_ms)
    names = [str(n) for n in range(training.shape[1])]
    bins = inputs.reference(names, training.T.astype(float).tolist(), left_out=calendar)
    span_ms = int(np.ptp(training_time)) + interval_ms
    return Backtest(
        scale=_scale(predict(test), classes, time, prior, length, horizon * interval_ms),
        response=_response(predict, test, training.astype(np.float64).std(axis=0)),
        edges=bins.edges,
        counts=bins.counts,
        effect=effect_of(len(training), span_ms, length),
        span_ms=span_ms,
    )


def effect_of(rows: float, span_ms: int, block_ms: int) -> float:
    """Return the number of rows per independent row, at least 1: a block counts as at most fifty independent rows."""
    return max(1.0, rows / (ROWS_A_BLOCK * max(1.0, span_ms / block_ms)))


def _scale(
    p: NDArray[np.float64],
    classes: NDArray[np.int64],
    time: NDArray[np.int64],
    prior: Probabilities,
    length: int,
    purge: int,
) -> float:
    scores = np.log(np.maximum(p[np.arange(len(p)), classes], FLOOR))
    gains = scores - np.log(np.maximum(np.array(prior)[classes], FLOOR))
    open_block = blocks.Blocks(length, purge, 1, 1)
    closed = (blocks.add(open_block, int(at), (gain,)) for at, gain in zip(time.tolist(), gains.tolist(), strict=True))
    means = [mean for row in closed if row is not None for mean in row if mean is not None]
    if len(means) < FEWEST_BLOCKS:
        return UNKNOWN_SCALE
    return max(3 * math.sqrt(float(np.var(means, ddof=1))), LEAST_SCALE)


def _response(predict: Predict, windows: Windows, deviation: NDArray[np.float64]) -> float:
    chosen = windows[np.linspace(0, len(windows) - 1, min(PROBES, len(windows))).astype(int)]
    usual = predict(chosen)
    largest = 0.0
    for feature, step in enumerate(deviation):
        moved = chosen.copy()
        moved[:, -1, feature] += np.float32(step)
        largest = max(largest, float(np.abs(predict(moved) - usual).max()))
    return largest
