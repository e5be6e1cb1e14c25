"""The interface of a model family: one architecture, used by the trainer and by the worker.

A family turns windows into logits. Symbols, scalers, calibration and digests belong to the artifact
(``shared.artifacts``).
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.families.windows import CutWindows

Windows = NDArray[np.float32] | NDArray[np.float64]
"""[N, T, F]: N windows of T vectors of F features, the newest vector last. Float64 where the artifact scales them,
float32 otherwise."""
Logits = NDArray[np.float64]
"""[N, 3]: log probabilities of SELL, HOLD and BUY, up to a constant in each row."""
Classes = NDArray[np.int64]
"""[N]: 0 SELL, 1 HOLD, 2 BUY."""
Weights = NDArray[np.float64]
"""[N]: the weight of each row in the loss."""

LONGEST_WINDOW: Final = 512
"""The largest T. Every worker keeps this many vectors of each symbol, whichever artifacts are active, so that an
artifact that is started later has a full window at its first bar (``services.model_worker.windows``)."""

Params = Mapping[str, int | float]
Files = Mapping[str, bytes]


class WeightsError(ValueError):
    """The weights are not those of this family, or do not fit the manifest. The message names the file."""


Offset = NDArray[np.float64]
"""[3]: added to the logits of every row before the loss is computed."""


class Sample(NamedTuple):
    """Windows, their classes and their weights. ``offset`` is added to a model's logits before the loss of these rows
    is computed. A model is served with the offset of the held-out sample. ``ahead`` [N, 2]: the volatility over the
    label's horizon, for families that learn it as well as the class; held-out rows have none.

    ``x`` are ``Windows`` or ``CutWindows``. Training gives the latter for windows of several vectors: index them batch
    by batch, since ``np.asarray(x)`` holds each vector T times."""

    x: Any
    y: Classes
    weight: Weights
    offset: Offset | None = None
    ahead: NDArray[np.floating[Any]] | None = None


class Epoch(NamedTuple):
    """The progress of a fit after step ``number`` of at most ``of``: epochs of a network, rounds of trees.

    ``train_loss`` and ``held_loss`` are mean log losses in nats. ``train_loss`` is computed by the fit itself, with
    dropout if there is any. ``held`` are the logits [N, 3] of the held-out rows with their offset added."""

    number: int
    of: int
    train_loss: float
    held_loss: float
    held: Logits


Watch = Callable[[Epoch], bool | None]
"""A callback after each epoch. If it returns true, the fit ends with the best model so far. What it raises is raised by
``fit``. Otherwise it has no effect on the fitted model."""


class FittedModel(Protocol):
    """A fitted or loaded model."""

    def logits(self, windows: Windows) -> Logits:
        """Return [N, 3]. Guaranteed: finite for finite input; one thread; the bits of a row depend on that row alone,
        not on the other rows of the call (unless ``batch_rows`` of the family is set)."""


class Fitted(NamedTuple):
    """A fitted model. ``steps``: trees or epochs that early stopping kept, 0 where there is no early stopping.
    ``libraries``: name and version of the libraries that were used to fit and are not needed to predict."""

    model: Any
    steps: int
    libraries: Mapping[str, str] = MappingProxyType({})


class Family(Protocol):
    """One architecture.

    ``scaled``: whether its input is standardised. ``constant``: whether it may predict the same for every input, as a
    baseline does. ``batch_rows``: the batch size at which its bits are reproducible, None if they are at any size.
    ``defaults``: every hyper-parameter with its default. ``presets``: named sets of hyper-parameters."""

    name: str
    scaled: bool
    constant: bool
    batch_rows: int | None
    defaults: Params
    presets: Mapping[str, Params]

    def window(self, params: Params) -> int:
        """Return the window length T of a model with these parameters. Raises ``ValueError`` for parameters that are
        not valid."""

    def fit(self, train: Sample, held: Sample, seed: int, params: Params, watch: Watch | None = None) -> Fitted:
        """Fit a model on ``train``; ``held`` decides only when to stop, or which penalty to keep.

        The loss is the plain multi-class log loss; classes are not resampled. Deterministic for the same input, seed,
        libraries and processor. Raises ``LibraryMissingError``."""

    def save(self, model: Any) -> dict[str, bytes]:
        """Return the weights as files, in formats that hold data and no code."""

    def load(self, files: Files, features: int, params: Params) -> FittedModel:
        """Return the model in ``files``, for windows [N, ``window(params)``, ``features``]. Raises ``WeightsError``.
        Guaranteed: runs no code from the files."""

    def libraries(self) -> dict[str, str]:
        """Return name and version of each library that the bits of a prediction depend on."""


NONE: Mapping[str, Params] = MappingProxyType({})


def complete(family: Family, given: Params, preset: str = "") -> dict[str, int | float]:
    """Return the family's defaults, overridden by those of ``preset`` and then by ``given``. Raises ``ValueError`` for
    an unknown name and for values that are not valid."""
    if preset and preset not in family.presets:
        raise ValueError(
            f"family {family.name!r} has no preset {preset!r}; it has: {', '.join(family.presets) or 'none'}"
        )
    unknown = sorted(set(given) - set(family.defaults))
    if unknown:
        raise ValueError(
            f"family {family.name!r} has no parameter {', '.join(unknown)}; "
            f"it has: {', '.join(family.defaults) or 'none'}"
        )
    settings = {**family.defaults, **family.presets.get(preset, {}), **given}
    family.window(settings)
    return settings


def one_vector(params: Params) -> int:
    """Return the window of a family whose input is the newest vector alone: 1."""
    return 1


def shifted(logits: Logits, offset: Offset | None, sign: int = 1) -> Logits:
    """Return logits with ``sign`` times the offset added to every row."""
    return logits if offset is None else np.asarray(logits + sign * offset)


def class_shares(train: Sample) -> NDArray[np.float64]:
    """Return the weighted shares [3] of the classes. Raises ``ValueError`` where a class has no row."""
    counts = np.bincount(train.y, weights=train.weight, minlength=3)
    if not (counts > 0).all():
        raise ValueError(f"a class has no row in the training part: SELL, HOLD, BUY weigh {counts.tolist()}")
    return np.asarray(counts / counts.sum())


def only_file(files: Files, name: str, family: str) -> bytes:
    """Return the content of the only file that a family saves. Raises ``WeightsError``."""
    if set(files) != {name}:
        raise WeightsError(
            f"family {family!r} expects the weight file {name}; found: {', '.join(sorted(files)) or 'none'}"
        )
    return files[name]


def last_row(windows: Windows | CutWindows, family: str) -> NDArray[Any]:
    """Return windows with T = 1 as [N, F]. Raises ``ValueError`` for longer windows."""
    if windows.shape[1] != 1:
        raise ValueError(f"family {family!r} takes windows of one vector; these have {windows.shape[1]}")
    return np.ascontiguousarray(windows[:, 0])
