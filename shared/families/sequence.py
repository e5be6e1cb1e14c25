"""What the torch families share: members of one architecture, trained from several seeds, as one model.

Trained in torch, served in NumPy from the same weights (ADR 50); torch is imported by ``fit`` alone.
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

FILE: Final = "weights.safetensors"
LARGEST: Final = 4096
APART: Final = 1_000_003
"""Between the seeds of two members, so that the members of seeds 1, 2, 3 are not the same networks."""
CLOSE: Final = 1e-5
"""How far a probability in NumPy may lie from torch's."""

TRAINING: Final[Params] = MappingProxyType(
    {
        "epochs": 6,
        "patience": 3,
        "batch": 256,
        "rate": 1e-3,
        "clip": 1.0,
        "smoothing": 0.0,
        "seeds": 1,
    }
)
"""How a network is trained. ``patience``: epochs without gain on the validation part before it stops;
``clip``: the largest norm of a gradient; ``smoothing``: share of each label given to all classes (it
distorts probabilities: leave it at 0 unless you calibrate); ``seeds``: networks that are averaged."""


class Serving(Protocol):
    """One network as it is served."""

    @property
    def weights(self) -> Mapping[str, NDArray[np.float32]]:
        """By name, as torch has them."""

    def logits(self, windows: Windows) -> Logits:
        """See ``base.Model``."""


class Members:
    """Networks of one architecture; their probabilities are averaged (Lakshminarayanan et al. 2017)."""

    def __init__(self, nets: tuple[Serving, ...]) -> None:
        self.nets = nets

    def logits(self, windows: Windows) -> Logits:
        """The log of the mean of the members' probabilities; of one member, its logits."""
        answers = [net.logits(windows) for net in self.nets]
        if len(answers) == 1:
            return answers[0]
        total = functools.reduce(np.add, (_softmax(one) for one in answers))
        return np.asarray(np.log(total / len(answers)))


def _softmax(logits: Logits) -> Logits:
    """[N, 3], kept above the smallest positive number: its log is finite."""
    e = np.exp(logits - np.maximum(np.maximum(logits[:, 0], logits[:, 1]), logits[:, 2])[:, None])
    return np.asarray(np.maximum(e / (e[:, 0] + e[:, 1] + e[:, 2])[:, None], np.finfo(np.float64).tiny))


def _learning() -> Any:
    library("torch")
    return importlib.import_module("shared.families.learning")


class SequenceFamily:
    """A family of networks over windows of ``params["window"]`` vectors; a subclass gives both forms."""

    name: str
    scaled = True
    constant = False
    batch_rows: int | None = None
    defaults: Params
    presets: Mapping[str, Params]
    sizes: tuple[str, ...]
    """Parameters that are whole numbers of at least 1 and at most 4096."""

    def network(self, features: int, params: Params) -> Any:
        """An untrained network in torch. Raises ``ValueError`` where the sizes do not fit together."""
        raise NotImplementedError

    def serving(self, weights: Mapping[str, NDArray[Any]], features: int, params: Params) -> Serving:
        """A network in NumPy. Raises ``WeightsError`` where the weights are not exactly those."""
        raise NotImplementedError

    def window(self, params: Params) -> int:
        """See ``Family.window``."""
        self.check(params)
        return int(params["window"])

    def fit(self, train: Sample, held: Sample, seed: int, params: Params, watch: Watch | None = None) -> Fitted:
        """``steps`` of the result: epochs kept, of the member that was given most. Epochs are counted over
        all members; what ``watch`` is told is of the member in training. Raises ``ValueError`` for
        parameters that give no network, or where NumPy and torch disagree about a held row."""
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
            _agree(served[-1].logits(held.x), learning.answer(net, held.x), self.name)
            kept = max(kept, number)
        return Fitted(Members(tuple(served)), kept, {"torch": str(library("torch").__version__)})

    def check(self, params: Params) -> None:
        """Raises ``ValueError`` for parameters that give no network."""
        for name in (*self.sizes, "window", "epochs", "patience", "batch", "seeds"):
            largest = LONGEST_WINDOW if name == "window" else LARGEST
            if not (params[name] == int(params[name]) and 1 <= params[name] <= largest):
                raise ValueError(
                    f"family {self.name!r}: {name} is {params[name]}, expected a whole number from 1 to {largest}"
                )
        for name in ("dropout", "head_dropout", "smoothing"):
            if not 0 <= params.get(name, 0) < 1:
                raise ValueError(f"family {self.name!r}: {name} is {params[name]}, expected at least 0 and below 1")
        for name in ("rate", "clip", "decay"):
            if not 0 <= params[name] < math.inf or (name != "decay" and not params[name]):
                raise ValueError(f"family {self.name!r}: {name} is {params[name]}, expected above 0 (decay: or 0)")

    def save(self, model: Members) -> dict[str, bytes]:
        """One safetensors file; the tensors of member 0 are called ``0.<name>``."""
        return {
            FILE: written(
                {f"{at}.{name}": array for at, net in enumerate(model.nets) for name, array in net.weights.items()}
            )
        }

    def load(self, files: Files, features: int, params: Params) -> Members:
        """See ``Family.load``."""
        found = arrays_in(only_file(files, FILE, self.name), FILE)
        try:
            self.check(params)
        except ValueError as error:
            raise WeightsError(f"{FILE}: the manifest's parameters give no network: {error}") from None
        count = int(params["seeds"])
        members: list[dict[str, NDArray[Any]]] = [{} for _ in range(count)]
        for name, array in found.items():
            at, _, own = name.partition(".")
            if at not in map(str, range(count)):
                raise WeightsError(f"{FILE}: {name}: not of one of the {count} members that the manifest names")
            members[int(at)][own] = array
        return Members(tuple(self.serving(weights, features, params) for weights in members))

    def libraries(self) -> dict[str, str]:
        """NumPy alone: torch has part in the weights, not in the answers."""
        return {"numpy": np.__version__}


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
