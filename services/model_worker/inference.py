"""Asks one artifact about many windows at once, and takes nothing but probabilities for an answer."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.predictions import FailureReason

SUMS_WITHIN = 1e-6
VALUES = np.dtype("<f4")


class Predictor(Protocol):
    """What the worker needs of an artifact; ``shared.artifacts.Artifact`` is one. ``feature_set`` is
    a digest in hexadecimal, ``window`` T, ``features`` F; ``batch_rows`` the batch size at which its
    bits are stable, None where any will do."""

    @property
    def feature_set(self) -> str: ...  # noqa: D102  # said above
    @property
    def interval_ms(self) -> int: ...  # noqa: D102  # said above
    @property
    def window(self) -> int: ...  # noqa: D102  # said above
    @property
    def features(self) -> int: ...  # noqa: D102  # said above
    @property
    def batch_rows(self) -> int | None: ...  # noqa: D102  # said above

    def predict(self, windows: NDArray[np.float32]) -> NDArray[np.float64]:
        """float32 [N, T, F] to float64 [N, 3]."""


class Failure(NamedTuple):
    """Why there is no answer."""

    reason: FailureReason
    detail: str


Answer = tuple[float, float, float] | Failure


def answers(predictor: Predictor, windows: Sequence[bytes]) -> list[Answer]:
    """One answer for each window (T * F little-endian float32, in order). A window that makes the
    artifact raise fails alone: the others are asked again one by one."""
    shape = (len(windows), predictor.window, predictor.features)
    table = np.frombuffer(b"".join(windows), dtype=VALUES).astype(np.float32, copy=False).reshape(shape)
    # Ufuncs as such, and floats of Python below: for one window the wrappers over them cost more than they do.
    if np.logical_and.reduce(np.isfinite(table), axis=None):
        return _asked(predictor, table)
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(table).all(axis=(1, 2)))
    found = iter(_asked(predictor, table[finite]) if finite.any() else ())
    return [next(found) if finite[row] else _not_finite(table[row]) for row in range(len(table))]


def _asked(predictor: Predictor, table: NDArray[np.float32]) -> list[Answer]:
    try:
        p = _in_batches(predictor, table)
        if p.shape != (len(table), 3):
            raise ValueError(f"{list(p.shape)} for {len(table)} windows, expected [{len(table)}, 3]")
    except Exception as error:
        if len(table) > 1:
            return [answer for row in range(len(table)) for answer in _asked(predictor, table[row : row + 1])]
        return [Failure("error", f"{type(error).__name__}: {error}"[:500])]
    rows: list[Any] = p.tolist()
    return [_judged(*row) for row in rows]


def _judged(sell: float, hold: float, buy: float) -> Answer:
    fits = 0.0 <= sell <= 1.0 and 0.0 <= hold <= 1.0 and 0.0 <= buy <= 1.0
    if fits and abs(sell + hold + buy - 1.0) <= SUMS_WITHIN:
        return sell, hold, buy
    return Failure("bad_output", f"{[sell, hold, buy]} is not three probabilities that sum to one")


def _in_batches(predictor: Predictor, table: NDArray[np.float32]) -> NDArray[np.float64]:
    """One call, or calls of exactly ``batch_rows`` rows, the last filled up by repeating its last row."""
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
