"""N-HiTS over windows of feature vectors: stacks that sample the window at rates from coarse to fine.

From Challu et al. (AAAI 2023). ``net`` has the network in torch: the same stacks for the classifier and for the paper's
forecaster. ``forward`` has the classifier in NumPy, which is the one that is served.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from shared.families.base import Params
from shared.families.libraries import network_module
from shared.families.nhits.body import NHitsBody, Stack
from shared.families.nhits.forward import NHitsForward
from shared.families.sequence import FILE, TRAINING, SequenceFamily

STACKS = ("coarse", "middle", "fine")


class NHiTS(SequenceFamily):
    """The family ``nhits``: three stacks, ``coarse``, ``middle`` and ``fine``.

    ``window``: vectors of the input. ``<stack>_pool``: vectors that max pooling joins into one. ``horizon``: the length
    of a class's trajectory; the label's horizon is the natural choice. ``<stack>_every``: steps of the trajectory for
    each knot. ``hidden``, ``layers``, ``dropout``: the perceptron of each stack. ``decay``: regularisation."""

    name = "nhits"
    defaults: Params = MappingProxyType(
        {
            "window": 64,
            "horizon": 12,
            "coarse_pool": 8,
            "middle_pool": 4,
            "fine_pool": 1,
            "coarse_every": 8,
            "middle_every": 4,
            "fine_every": 1,
            "hidden": 16,
            "layers": 2,
            "dropout": 0.2,
            "decay": 0.05,
            **TRAINING,
        }
    )
    presets: Mapping[str, Params] = MappingProxyType(
        {"steps-128": MappingProxyType({"window": 128, "coarse_pool": 16, "middle_pool": 8, "fine_pool": 2})}
    )
    sizes = ("horizon", "hidden", "layers", *(f"{stack}_{of}" for of in ("pool", "every") for stack in STACKS))

    def network(self, features: int, params: Params) -> Any:
        """See ``SequenceFamily.network``."""
        body = self._body(features, params)
        return network_module(self.name).Classifier(body._replace(outputs=body.outputs + self.further(params)))

    def serving(self, weights: Mapping[str, NDArray[Any]], features: int, params: Params) -> NHitsForward:
        """See ``SequenceFamily.serving``."""
        return NHitsForward(weights, self._body(features, params), file=FILE)

    def _body(self, features: int, params: Params) -> NHitsBody:
        return NHitsBody(
            channels=features,
            outputs=3,
            window=int(params["window"]),
            horizon=int(params["horizon"]),
            hidden=int(params["hidden"]),
            layers=int(params["layers"]),
            dropout=float(params["dropout"]),
            stacks=tuple(Stack(int(params[f"{stack}_pool"]), int(params[f"{stack}_every"])) for stack in STACKS),
        )
