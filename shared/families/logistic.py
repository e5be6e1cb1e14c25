"""Multinomial logistic regression on the newest vector, with standardised features: the linear baseline.

Fitted by scikit-learn, with a ridge penalty on the coefficients and none on the intercepts. Five penalties are tried;
the one with the least loss on the validation part is kept. A fitted model is an array of coefficients, which is
evaluated without a matrix product: BLAS adds in another order for another number of rows.
"""

import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from schemas.codec import UNDECODABLE
from shared.families.base import (
    NONE,
    Epoch,
    Files,
    Fitted,
    Logits,
    Params,
    Sample,
    Watch,
    WeightsError,
    Windows,
    class_shares,
    last_row,
    one_vector,
    only_file,
    shifted,
)
from shared.families.libraries import library
from shared.families.losses import mean_log_loss

FILE: Final = "weights.json"
CHUNK: Final = 4096
"""Rows that are evaluated at once, to bound the memory of the intermediate products."""
RIDGES: Final = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Penalties that are tried. The objective is the mean log loss plus ``ridge / 2`` times the sum of the squared
coefficients."""
TOLERANCE: Final = 1e-8
"""Largest component of the gradient at which a fit has converged."""

Matrix = NDArray[np.float64]


class LogisticModel(Struct, frozen=True, forbid_unknown_fields=True):
    """``coefficients``: for each feature one row, for SELL, HOLD and BUY; the last row holds the intercepts."""

    coefficients: tuple[tuple[float, float, float], ...]

    def logits(self, windows: Windows) -> Logits:
        """Return [N, 3]. Products are added feature by feature, so that the bits of a row depend on that row alone."""
        x = last_row(windows, "logistic").astype(np.float64)
        table = np.array(self.coefficients)
        out = np.empty((len(x), 3))
        for at in range(0, len(x), CHUNK):
            part = x[at : at + CHUNK]
            terms = part.T[:, :, None] * table[:-1, None, :]
            # With at least three columns NumPy adds rows one after the other, never pairwise.
            sums = np.add.reduce(terms.reshape(len(table) - 1, -1), axis=0)
            out[at : at + CHUNK] = sums.reshape(-1, 3) + table[-1]
        return out


class Logistic:
    """The family ``logistic``. ``iterations``: the most Newton steps for each penalty."""

    name = "logistic"
    window = staticmethod(one_vector)
    scaled = True
    constant = False
    batch_rows: int | None = None
    presets: Mapping[str, Params] = NONE
    defaults: Params = MappingProxyType({"iterations": 20})

    def fit(self, train: Sample, held: Sample, seed: int, params: Params, watch: Watch | None = None) -> Fitted:
        """See ``Family.fit``. ``steps`` of the result is the number of penalties. Nothing is random, so ``seed`` has no
        effect. Raises ``ValueError`` where a class has no training row."""
        class_shares(train)
        x = last_row(train.x, self.name).astype(np.float64)
        held_x = last_row(held.x, self.name).astype(np.float64)
        regression = library("sklearn.linear_model").LogisticRegression(
            solver="newton-cholesky", tol=TOLERANCE, max_iter=int(params["iterations"]), warm_start=True
        )
        best, least = np.zeros((x.shape[1] + 1, 3)), np.inf
        for number, ridge in enumerate(reversed(RIDGES), 1):  # the strongest first: each fit starts near its end
            regression.set_params(C=1 / (ridge * train.weight.sum()))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", library("sklearn.exceptions").ConvergenceWarning)
                regression.fit(x, train.y, sample_weight=train.weight)
            # An offset is the same for all rows and intercepts are not penalised: it is a part of the intercepts.
            table = np.vstack([regression.coef_.T, shifted(regression.intercept_, train.offset, -1)])
            logits = shifted(held_x @ table[:-1] + table[-1], held.offset)
            loss = mean_log_loss(logits, held.y, held.weight)
            if loss < least:
                best, least = table, loss
            if watch is not None:
                fitted = mean_log_loss(regression.decision_function(x), train.y, train.weight)
                if watch(Epoch(number, len(RIDGES), fitted, loss, logits)):
                    break
        model = LogisticModel(tuple((sell, hold, buy) for sell, hold, buy in best.tolist()))
        return Fitted(model, len(RIDGES), {"scikit-learn": str(library("sklearn").__version__)})

    def save(self, model: LogisticModel) -> dict[str, bytes]:
        """Return one JSON file."""
        return {FILE: msgspec.json.encode(model)}

    def load(self, files: Files, features: int, params: Params) -> LogisticModel:
        """See ``Family.load``."""
        try:
            model = msgspec.json.decode(only_file(files, FILE, self.name), type=LogisticModel)
        except UNDECODABLE as error:
            raise WeightsError(f"{FILE}: {error}") from None
        if len(model.coefficients) != features + 1:
            raise WeightsError(
                f"{FILE}: coefficients of {len(model.coefficients) - 1} features, manifest names {features}"
            )
        return model

    def libraries(self) -> dict[str, str]:
        """Return NumPy alone: scikit-learn is needed to fit, not to predict."""
        return {"numpy": np.__version__}
