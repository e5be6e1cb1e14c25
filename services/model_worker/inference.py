"""Predict many windows with one artifact, and accept nothing but probabilities from it."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.predictions import FailureReason

SUMS_WITHIN = 1e-6
VALUES = np.dtype("<f4")


class Predictor(Protocol):
    """The part of ``shared.artifacts.Artifact`` that the worker uses.

    ``feature_set``: its digest in hexadecimal; ``window``: T; ``features``: F. ``batch_rows``: the only batch size at
    which its results are stable to the bit; None if any size is."""

    @property
    def feature_set(self) -> str: ...  # noqa: D102  # see above
    @property
    def interval_ms(self) -> int: ...  # noqa: D102  # see above
    @property
    def window(self) -> int: ...  # noqa: D102  # see above
    @property
    def features(self) -> int: ...  # noqa: D102  # see above
    @property
    def batch_rows(self) -> int | None: ...  # noqa: D102  # see above

    def predict(self, windows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the probabilities float64 [N, 3] of windows float32 [N, T, F]."""


class Failure(NamedTuple):
    """Why there is no prediction."""

    reason: FailureReason
    detail: str


Prediction = tuple[float, float, float] | Failure


def predict_batch(predictor: Predictor, windows: Sequence[bytes]) -> list[Prediction]:
    """Return one prediction for each window (T * F little-endian float32), in order. If the artifact raises, each
    window is predicted alone, so that only those fail on which it raises again."""
    shape = (len(windows), predictor.window, predictor.features)
    table = np.frombuffer(b"".join(windows), dtype=VALUES).astype(np.float32, copy=False).reshape(shape)
    # The ufunc itself, and Python's floats below: for one window, the wrappers over them take longer than the work.
    if np.logical_and.reduce(np.isfinite(table), axis=None):
        return _predict(predictor, table)
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(table).all(axis=(1, 2)))
    predictions = iter(_predict(predictor, table[finite]) if finite.any() else ())
    return [next(predictions) if finite[row] else _not_finite(table[row]) for row in range(len(table))]


def _predict(predictor: Predictor, table: NDArray[np.float32]) -> list[Prediction]:
    try:
        p = _in_batches(predictor, table)
        if p.shape != (len(table), 3):
            raise ValueError(f"{list(p.shape)} for {len(table)} windows, expected [{len(table)}, 3]")
    except Exception as error:
        if len(table) > 1:
            return [alone for row in range(len(table)) for alone in _predict(predictor, table[row : row + 1])]
        return [Failure("error", f"{type(error).__name__}: {error}"[:500])]
    rows: list[Any] = p.tolist()
    return [_checked(*row) for row in rows]


def _checked(sell: float, hold: float, buy: float) -> Prediction:
    fits = 0.0 <= sell <= 1.0 and 0.0 <= hold <= 1.0 and 0.0 <= buy <= 1.0
    if fits and abs(sell + hold + buy - 1.0) <= SUMS_WITHIN:
        return sell, hold, buy
    return Failure("bad_output", f"{[sell, hold, buy]} is not three probabilities that sum to one")


def _in_batches(predictor: Predictor, table: NDArray[np.float32]) -> NDArray[np.float64]:
    """Predict in one call, or in calls of exactly ``batch_rows`` rows, the last padded with its last row."""
    size = predictor.batch_rows
    if size is None:
        return predictor.predict(table)
    calls = []
    for at in range(0, len(table), size):
        part = table[at : at + size]
        filled = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
        calls.append(predictor.predict(filled)[: len(part)])
    return np.concatenate(calls)


def _not_finite(window: NDArray[np.float32]) -> Failure:
    places = np.argwhere(~np.isfinite(window))[:5].tolist()
    return Failure("bad_vector", f"not finite at (vector, feature) {places}")
