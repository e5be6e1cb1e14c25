"""What a model family is: one architecture, used alike by the trainer and by the worker.

A family turns windows into logits. It knows nothing of symbols, scalers, calibration or digests;
those are the artifact's (``shared.artifacts``).
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Windows = NDArray[np.float32] | NDArray[np.float64]
"""[N, T, F]: N windows of T vectors of F features, the newest vector last. Float64 where the
artifact scales them, else float32."""
Logits = NDArray[np.float64]
"""[N, 3]: log probabilities of SELL, HOLD, BUY up to a constant per row."""
Classes = NDArray[np.int64]
"""[N]: 0 SELL, 1 HOLD, 2 BUY."""
Weights = NDArray[np.float64]
"""[N]: how much each row counts."""

LONGEST_WINDOW: Final = 512
"""T is at most this. Every worker keeps so many vectors of each symbol, whichever artifacts it knows, so that one that
is started later has its window from its first bar (``services.model_worker.windows``)."""

Params = Mapping[str, int | float]
Files = Mapping[str, bytes]


class WeightsError(ValueError):
    """Weights that are not this family's, or do not fit the manifest. Names the file."""


Offset = NDArray[np.float64]
"""[3]: added to every row's logits before they are judged."""


class Sample(NamedTuple):
    """Windows with the class of each and how much it counts. ``offset``: what is added to a model's logits
    before the loss of these rows is taken; whoever serves the model adds that of the held rows."""

    x: Windows
    y: Classes
    weight: Weights
    offset: Offset | None = None


class Epoch(NamedTuple):
    """How a fit stands after step ``number`` of at most ``of`` (epochs, or trees every so many rounds).
    ``train_loss`` and ``held_loss`` are mean log losses in nats, the former as the fit itself sees it
    (with dropout, say); ``held`` are the logits [N, 3] of the held rows, their offset added: what would be
    served now."""

    number: int
    of: int
    train_loss: float
    held_loss: float
    held: Logits


Watch = Callable[[Epoch], bool | None]
"""Called after each epoch; true ends the fit there, with what it has. What it raises reaches the caller of
``fit``. Else the fitted model is the same with and without it."""


class FittedModel(Protocol):
    """A fitted or loaded model."""

    def logits(self, windows: Windows) -> Logits:
        """Guaranteed: finite for finite input; one thread; a row's bits depend on that row alone,
        not on how many others are asked with it (``batch_rows`` of the family says otherwise)."""


class Fitted(NamedTuple):
    """A fitted model and how many steps early stopping kept (trees, epochs; 0 where none).
    ``libraries``: name and version of those that had part in the weights, and have none in the answers."""

    model: Any
    steps: int
    libraries: Mapping[str, str] = MappingProxyType({})


class Family(Protocol):
    """One architecture. ``scaled``: whether its input is standardised.
    ``constant``: whether it may answer the same for every input (a baseline). ``batch_rows``: the
    batch size at which its bits are stable, None where they are at any. ``defaults``: every
    hyper-parameter with its value; there are no others. ``presets``: named sets of them."""

    name: str
    scaled: bool
    constant: bool
    batch_rows: int | None
    defaults: Params
    presets: Mapping[str, Params]

    def window(self, params: Params) -> int:
        """The T of the windows that a model with these parameters takes. Raises ``ValueError`` for
        parameters that give no model."""

    def fit(self, train: Sample, held: Sample, seed: int, params: Params, watch: Watch | None = None) -> Fitted:
        """Fits on ``train``; ``held`` only says when to stop. Plain multi-class log loss on
        the natural prior. Deterministic for the same input, seed, libraries and processor."""

    def save(self, model: Any) -> dict[str, bytes]:
        """The weights as files in formats that carry data and no code."""

    def load(self, files: Files, features: int, params: Params) -> FittedModel:
        """The model in ``files``, over windows [N, ``window(params)``, ``features``]. Raises
        ``WeightsError``. Never runs anything it reads."""

    def libraries(self) -> dict[str, str]:
        """Name and version of each library that the answer's bits depend on."""


NONE: Mapping[str, Params] = MappingProxyType({})


def complete(family: Family, given: Params, preset: str = "") -> dict[str, int | float]:
    """The family's defaults, with those of ``preset`` and then ``given`` over them. Raises ``ValueError``
    on an unknown name, and on values that give no model."""
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
    """The window of a family that looks at the newest vector alone."""
    return 1


def shifted(logits: Logits, offset: Offset | None) -> Logits:
    """[N, 3] with the offset added."""
    return logits if offset is None else np.asarray(logits + offset)


def held_loss(logits: Logits, held: Sample) -> float:
    """Weighted mean log loss of ``logits`` (their offset added) on ``held``, in nats."""
    top = logits.max(axis=1)
    losses = top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - logits[np.arange(len(held.y)), held.y]
    return float((losses * held.weight).sum() / held.weight.sum())


def only_file(files: Files, name: str, family: str) -> bytes:
    """The content of the one file a family saves. Raises ``WeightsError``."""
    if set(files) != {name}:
        raise WeightsError(
            f"family {family!r} expects the weight file {name}; found: {', '.join(sorted(files)) or 'none'}"
        )
    return files[name]


def last_row(windows: Windows, family: str) -> NDArray[Any]:
    """[N, F] of windows with T = 1. Raises ``ValueError`` for longer ones."""
    if windows.shape[1] != 1:
        raise ValueError(f"family {family!r} takes windows of one vector; these have {windows.shape[1]}")
    return np.ascontiguousarray(windows[:, 0, :])
