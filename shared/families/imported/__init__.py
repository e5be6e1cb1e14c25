"""Networks that were trained elsewhere and imported by ``conclave import``. They are served, and never trained here.

``imported-encoder`` is a transformer encoder over vectors or patches, with the layers of torch's
``nn.TransformerEncoderLayer``. ``imported-stacks`` is a perceptron of residual stacks. Widths are read from the
weights; what weights do not show is a parameter. Weights are safetensors.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

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
from shared.families.imported.forward import ImportedEncoder, Stacks
from shared.families.tensors import arrays_in, written

FILE = "weights.safetensors"


class Network(Protocol):
    """A network in its served form."""

    @property
    def weights(self) -> Mapping[str, NDArray[np.float32]]:
        """Return the weights by name."""

    def logits(self, windows: Windows) -> Logits:
        """See ``base.FittedModel``."""


class Imported:
    """A ``base.Family`` that cannot be trained."""

    scaled = True
    constant = False
    batch_rows: int | None = None
    presets: Mapping[str, Params] = MappingProxyType({})

    def __init__(self, name: str, defaults: Params, network: Callable[..., Network]) -> None:
        self.name = name
        self.defaults: Params = MappingProxyType(dict(defaults))
        self._network = network

    def window(self, params: Params) -> int:
        """See ``Family.window``."""
        return int(params["window"])

    def fit(self, train: Sample, held: Sample, seed: int, params: Params, watch: Watch | None = None) -> Fitted:
        """Raise ``ValueError``: an imported network cannot be trained."""
        raise ValueError(f"family {self.name!r} is imported, not trained; see `conclave import`")

    def network(self, weights: Mapping[str, NDArray[Any]], features: int, params: Params) -> Network:
        """Return the network with the given weights. Raises ``WeightsError`` where names or shapes differ from the
        expected ones."""
        return self._network(weights, features, params, FILE)

    def save(self, model: Network) -> dict[str, bytes]:
        """Return one safetensors file."""
        return {FILE: written(model.weights)}

    def load(self, files: Files, features: int, params: Params) -> Network:
        """See ``Family.load``."""
        return self.network(arrays_in(only_file(files, FILE, self.name), FILE), features, params)

    def libraries(self) -> dict[str, str]:
        """Return NumPy alone."""
        return {"numpy": np.__version__}


def _window(params: Params, file: str) -> int:
    window = params["window"]
    if window != int(window) or not 1 <= window <= LONGEST_WINDOW:
        raise WeightsError(
            f"{file}: the manifest's window is {window}, expected a whole number from 1 to {LONGEST_WINDOW}"
        )
    return int(window)


ENCODER = Imported(
    "imported-encoder",
    {"window": 1, "patch": 0, "heads": 4, "gelu": 0, "last": 0, "channels_first": 0, "sigmoid": 0, "hold": 0.0},
    lambda weights, features, params, file: ImportedEncoder(
        weights, features, {**params, "window": _window(params, file)}, file
    ),
)
"""``patch``: vectors that are joined into one token, 0 for one vector a token. ``gelu`` 1: GELU instead of ReLU.
``last`` 1: the head gets the last token instead of the mean of all. ``channels_first`` 1: a patch is laid out feature
by feature instead of vector by vector. ``sigmoid`` 1: there is one output, the log odds of BUY against SELL, and HOLD
has probability ``hold``."""
STACKS = Imported(
    "imported-stacks",
    {"window": 1, "sigmoid": 0, "hold": 0.0},
    lambda weights, features, params, file: Stacks(
        weights, features, {**params, "window": _window(params, file)}, file
    ),
)
IMPORTED = MappingProxyType({family.name: family for family in (ENCODER, STACKS)})
