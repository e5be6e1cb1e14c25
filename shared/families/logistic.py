"""Multinomial logistic regression on standardised features: the linear baseline.

Fitted by Newton's method (Böhning 1992 gives the Hessian) with a ridge penalty on the weights and
none on the intercepts; the penalty is the one of five that the validation part likes best. Answers
without a matrix product, because BLAS sums in another order for another number of rows.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from shared.families.base import (
    NONE,
    Classes,
    Epoch,
    Files,
    Fitted,
    Logits,
    Params,
    Sample,
    Watch,
    WeightsError,
    Windows,
    last_row,
    one_vector,
    only_file,
)

FILE: Final = "weights.json"
CHUNK: Final = 4096
RIDGES: Final = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Penalties tried, per row of the training part."""

Matrix = NDArray[np.float64]


class LogisticModel(Struct, frozen=True, forbid_unknown_fields=True):
    """``coefficients``: one row of three for each feature, then the row of intercepts."""

    coefficients: tuple[tuple[float, float, float], ...]

    def logits(self, windows: Windows) -> Logits:
        """Sums feature after feature, so that a row's bits are its own."""
        x = last_row(windows, "logistic").astype(np.float64)
        table = np.array(self.coefficients)
        out = np.empty((len(x), 3))
        for at in range(0, len(x), CHUNK):
            part = x[at : at + CHUNK]
            terms = part.T[:, :, None] * table[:-1, None, :]
            # Rows of at least three: NumPy adds them one after the other, never pairwise.
            sums = np.add.reduce(terms.reshape(len(table) - 1, -1), axis=0)
            out[at : at + CHUNK] = sums.reshape(-1, 3) + table[-1]
        return out


class Design(NamedTuple):
    """Features and a column of ones [N, F + 1], classes, weights that sum to one, and what is added to the
    logits of every row."""

    x: Matrix
    y: Classes
    share: Matrix
    offset: Matrix


def _design(sample: Sample) -> Design:
    rows = last_row(sample.x, "logistic").astype(np.float64)
    offset = np.zeros(3) if sample.offset is None else sample.offset
    return Design(np.hstack([rows, np.ones((len(rows), 1))]), sample.y, sample.weight / sample.weight.sum(), offset)


def _softmax(z: Matrix) -> Matrix:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def _log_loss(sample: Design, table: Matrix) -> float:
    p = _softmax(sample.x @ table + sample.offset)[np.arange(len(sample.y)), sample.y]
    return float(-(sample.share * np.log(np.maximum(p, 1e-300))).sum())


def _newton(sample: Design, ridge: float, start: Matrix, steps: int) -> Matrix:
    """Minimises mean log loss + ridge/2 * |weights|^2 from ``start`` ([F + 1, 3])."""
    x, y, share, offset = sample
    width = x.shape[1]
    penalty = np.full((width, 3), ridge)
    penalty[-1] = 1e-9  # only picks one of the equivalent intercepts
    table = start

    def objective(candidate: Matrix) -> float:
        return _log_loss(sample, candidate) + 0.5 * float((penalty * candidate**2).sum())

    value = objective(table)
    for _ in range(steps):
        p = _softmax(x @ table + offset)
        error = p.copy()
        error[np.arange(len(y)), y] -= 1.0
        gradient = x.T @ (error * share[:, None]) + penalty * table
        hessian = _hessian(sample, p) + np.diag(penalty.T.ravel() + 1e-9)
        step = np.linalg.solve(hessian, gradient.T.ravel()).reshape(3, width).T
        size = 1.0
        while objective(table - size * step) > value and size > 1e-4:
            size /= 2
        improved = objective(table - size * step)
        if not improved < value - 1e-10:
            break
        table, value = table - size * step, improved
    return table


def _hessian(sample: Design, p: Matrix) -> Matrix:
    """[3(F + 1), 3(F + 1)], class by class."""
    x, _, share, _ = sample
    width = x.shape[1]
    blocks = np.zeros((3, width, 3, width))
    for j in range(3):
        for k in range(j, 3):
            curve = share * p[:, j] * ((j == k) - p[:, k])
            blocks[j, :, k, :] = blocks[k, :, j, :] = x.T @ (x * curve[:, None])
    return blocks.reshape(3 * width, 3 * width)


class Logistic:
    """The family ``logistic``. ``iterations`` bounds Newton's steps for each penalty."""

    name = "logistic"
    window = staticmethod(one_vector)
    scaled = True
    constant = False
    batch_rows: int | None = None
    presets: Mapping[str, Params] = NONE
    defaults: Params = MappingProxyType({"iterations": 20})

    def fit(self, train: Sample, held: Sample, seed: int, params: Params, watch: Watch | None = None) -> Fitted:
        """``steps`` of the result is the number of penalties tried; nothing is drawn at random."""
        fitting, watched = _design(train), _design(held)
        best = table = np.zeros((fitting.x.shape[1], 3))
        least = np.inf
        for number, ridge in enumerate(reversed(RIDGES), 1):  # strongest first: each start is near its end
            table = _newton(fitting, ridge, table, int(params["iterations"]))
            loss = _log_loss(watched, table)
            if loss < least:
                best, least = table, loss
            if watch is not None:
                answers = watched.x @ table + watched.offset
                if watch(Epoch(number, len(RIDGES), _log_loss(fitting, table), loss, answers)):
                    break
        return Fitted(LogisticModel(tuple((s, h, b) for s, h, b in best.tolist())), len(RIDGES))

    def save(self, model: LogisticModel) -> dict[str, bytes]:
        """One JSON file."""
        return {FILE: msgspec.json.encode(model)}

    def load(self, files: Files, features: int, params: Params) -> LogisticModel:
        """See ``Family.load``."""
        try:
            model = msgspec.json.decode(only_file(files, FILE, self.name), type=LogisticModel)
        except msgspec.DecodeError as error:
            raise WeightsError(f"{FILE}: {error}") from None
        if len(model.coefficients) != features + 1:
            raise WeightsError(
                f"{FILE}: coefficients of {len(model.coefficients) - 1} features, manifest names {features}"
            )
        return model

    def libraries(self) -> dict[str, str]:
        """NumPy only."""
        return {"numpy": np.__version__}
