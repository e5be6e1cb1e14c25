"""Networks that were trained elsewhere and brought in by ``conclave import``: served, and never trained here.

``imported-encoder`` is a transformer encoder over vectors or patches of them, with layers as torch's
``nn.TransformerEncoderLayer``; ``imported-stacks`` a perceptron of residual stacks. Their widths are those
of the weights; what weights do not show stands in the parameters. Weights are safetensors.
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
    """A network as it is served."""

    @property
    def weights(self) -> Mapping[str, NDArray[np.float32]]:
        """By name."""

    def logits(self, windows: Windows) -> Logits:
        """See ``base.Model``."""


class Imported:
    """A family without training (``base.Family``)."""

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
        """Raises ``ValueError``: there is nothing here to train it with."""
        raise ValueError(f"family {self.name!r} is imported, not trained; see `conclave import`")

    def network(self, weights: Mapping[str, NDArray[Any]], features: int, params: Params) -> Network:
        """From weights by name. Raises ``WeightsError`` where they are not exactly those of the parameters."""
        return self._network(weights, features, params, FILE)

    def save(self, model: Network) -> dict[str, bytes]:
        """One safetensors file."""
        return {FILE: written(model.weights)}

    def load(self, files: Files, features: int, params: Params) -> Network:
        """See ``Family.load``."""
        return self.network(arrays_in(only_file(files, FILE, self.name), FILE), features, params)

    def libraries(self) -> dict[str, str]:
        """NumPy alone."""
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
"""``patch``: vectors joined into one token, 0 for none; ``gelu`` 1: that activation, else ReLU; ``last`` 1: the
head sees the last token, else the mean of all; ``channels_first`` 1: a patch lists feature by feature, else
vector by vector; ``sigmoid`` 1: one output, the log odds of BUY against SELL, and ``hold`` the share that HOLD
is given."""
STACKS = Imported(
    "imported-stacks",
    {"window": 1, "sigmoid": 0, "hold": 0.0},
    lambda weights, features, params, file: Stacks(
        weights, features, {**params, "window": _window(params, file)}, file
    ),
)
IMPORTED = MappingProxyType({family.name: family for family in (ENCODER, STACKS)})
