"""The common part of the network families: networks of one architecture, trained from several seeds, are one model.

They are trained in torch and served in NumPy from the same weights (ADR 50). Only ``fit`` imports torch.
"""

import functools
import importlib
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.families.base import (
    LONGEST_WINDOW,
    Files,
    Fitted,
    Logits,
    Params,
    Sample,
    Watch,
    WeightsError,
    Windows,
    only_file,
)
from shared.families.libraries import library
from shared.families.tensors import arrays_in, written
from shared.families.windows import CutWindows
from shared.labels.ahead import COLUMNS

FILE: Final = "weights.safetensors"
LARGEST: Final = 4096
APART: Final = 1_000_003
"""Difference between the seeds of two members. It is large, so that models of seeds 1, 2 and 3 have no member in
common."""
CLOSE: Final = 1e-5
"""Largest allowed difference between a probability computed by NumPy and by torch."""

TRAINING: Final[Params] = MappingProxyType(
    {
        "epochs": 6,
        "patience": 3,
        "batch": 256,
        "rate": 1e-3,
        "clip": 1.0,
        "smoothing": 0.0,
        "seeds": 1,
        "auxiliary": 1.0,
    }
)
"""How a network is trained. ``patience``: epochs without gain on the validation part after which a fit stops; ``rate``:
the highest learning rate; ``clip``: the largest norm of a gradient; ``smoothing``: the share of each label that is
given to all classes (it distorts probabilities, so leave it at 0 unless you calibrate); ``seeds``: networks that are
averaged; ``auxiliary``: the weight of a second loss, that of the volatility over the label's horizon, which is learned
from the same inner state as the class and is not served (0: none)."""


class Serving(Protocol):
    """One network in its served form."""

    @property
    def weights(self) -> Mapping[str, NDArray[np.float32]]:
        """Return the weights by their names in torch."""

    def logits(self, windows: Windows) -> Logits:
        """See ``base.FittedModel``."""


class Members:
    """Networks of one architecture, whose probabilities are averaged (Lakshminarayanan et al. 2017)."""

    def __init__(self, nets: tuple[Serving, ...]) -> None:
        self.nets = nets

    def logits(self, windows: Windows) -> Logits:
        """Return the log of the mean of the members' probabilities [N, 3], or the logits of a single member."""
        logits = [net.logits(windows) for net in self.nets]
        if len(logits) == 1:
            return logits[0]
        total = functools.reduce(np.add, map(_softmax, logits))
        return np.asarray(np.log(total / len(logits)))


def _softmax(logits: Logits) -> Logits:
    """Return probabilities [N, 3] of at least the smallest positive number, so that their logs are finite."""
    e = np.exp(logits - np.maximum(np.maximum(logits[:, 0], logits[:, 1]), logits[:, 2])[:, None])
    return np.asarray(np.maximum(e / (e[:, 0] + e[:, 1] + e[:, 2])[:, None], np.finfo(np.float64).tiny))


def _learning() -> Any:
    library("torch")
    return importlib.import_module("shared.families.learning")


class SequenceFamily:
    """A family of networks over windows of ``params["window"]`` vectors. A subclass defines the trained and the served
    form."""

    name: str
    scaled = True
    constant = False
    batch_rows: int | None = None
    defaults: Params
    presets: Mapping[str, Params]
    sizes: tuple[str, ...]
    """The parameters that are whole numbers from 1 to 4096."""

    def further(self, params: Params) -> int:
        """Return the number of outputs that are trained and not served. Artifacts from before there were any have no
        such parameter."""
        return COLUMNS if params.get("auxiliary", 0) > 0 else 0

    def network(self, features: int, params: Params) -> Any:
        """Return an untrained network in torch. Raises ``ValueError`` for sizes that do not fit together."""
        raise NotImplementedError

    def serving(self, weights: Mapping[str, NDArray[Any]], features: int, params: Params) -> Serving:
        """Return a network in NumPy. Raises ``WeightsError`` where names or shapes of the weights differ from the
        expected ones."""
        raise NotImplementedError

    def window(self, params: Params) -> int:
        """See ``Family.window``."""
        self.check(params)
        return int(params["window"])

    def fit(self, train: Sample, held: Sample, seed: int, params: Params, watch: Watch | None = None) -> Fitted:
        """See ``Family.fit``. ``steps`` of the result: the largest number of epochs that a member kept.

        ``watch`` receives the progress of the member in training, with epochs counted over all members. Raises
        ``ValueError`` for parameters that are not valid, and where NumPy and torch disagree on a held-out row."""
        self.check(params)
        learning = _learning()
        count, epochs, features = int(params["seeds"]), int(params["epochs"]), train.x.shape[2]
        served: list[Serving] = []
        kept = 0
        for member in range(count):
            net, number = learning.learn(
                functools.partial(self.network, features, params),
                train,
                held,
                seed + APART * member,
                params,
                _counted(watch, member * epochs, count * epochs),
            )
            served.append(self.serving(learning.arrays_of(net), features, params))
            _agree(_cut(held.x).each(served[-1].logits), learning.predict(net, held.x), self.name)
            kept = max(kept, number)
        return Fitted(Members(tuple(served)), kept, {"torch": str(library("torch").__version__)})

    def check(self, params: Params) -> None:
        """Raise ``ValueError`` for parameters that are not valid."""
        for name in (*self.sizes, "window", "epochs", "patience", "batch", "seeds"):
            largest = LONGEST_WINDOW if name == "window" else LARGEST
            if not (params[name] == int(params[name]) and 1 <= params[name] <= largest):
                raise ValueError(
                    f"family {self.name!r}: {name} is {params[name]}, expected a whole number from 1 to {largest}"
                )
        for name in ("dropout", "head_dropout", "smoothing"):
            if not 0 <= params.get(name, 0) < 1:
                raise ValueError(f"family {self.name!r}: {name} is {params[name]}, expected at least 0 and below 1")
        for name in ("rate", "clip"):
            if not 0 < params[name] < math.inf:
                raise ValueError(f"family {self.name!r}: {name} is {params[name]}, expected above 0")
        for name in ("decay", "auxiliary"):
            if not 0 <= params.get(name, 0) < math.inf:
                raise ValueError(f"family {self.name!r}: {name} is {params[name]}, expected at least 0")

    def save(self, model: Members) -> dict[str, bytes]:
        """Return one safetensors file. The tensors of member 0 are named ``0.<name>``."""
        return {
            FILE: written(
                {f"{at}.{name}": array for at, net in enumerate(model.nets) for name, array in net.weights.items()}
            )
        }

    def load(self, files: Files, features: int, params: Params) -> Members:
        """See ``Family.load``."""
        arrays = arrays_in(only_file(files, FILE, self.name), FILE)
        try:
            self.check(params)
        except ValueError as error:
            raise WeightsError(f"{FILE}: the manifest's parameters are not valid: {error}") from None
        count = int(params["seeds"])
        members: list[dict[str, NDArray[Any]]] = [{} for _ in range(count)]
        for name, array in arrays.items():
            at, _, own = name.partition(".")
            if at not in map(str, range(count)):
                raise WeightsError(
                    f"{FILE}: {name}: expected a tensor of one of the manifest's {count} members, as 0.head.bias"
                )
            members[int(at)][own] = array
        return Members(tuple(self.serving(weights, features, params) for weights in members))

    def libraries(self) -> dict[str, str]:
        """Return NumPy alone: torch is needed to fit, not to predict."""
        return {"numpy": np.__version__}


def _cut(x: Windows | CutWindows) -> CutWindows:
    return x if isinstance(x, CutWindows) else CutWindows.separate(x)


def _agree(served: Logits, trained: Logits, family: str) -> None:
    off = float(np.abs(_softmax(served) - _softmax(trained)).max())
    if not off <= CLOSE:
        raise ValueError(
            f"family {family!r}: served in NumPy, a probability differs by {off:.2g} from torch's on the held rows, "
            f"at most {CLOSE:g} is allowed: the two forms of the network are not the same, or it diverged"
        )


def _counted(watch: Watch | None, before: int, of: int) -> Watch | None:
    if watch is None:
        return None
    return lambda epoch: watch(epoch._replace(number=before + epoch.number, of=of))
