"""PatchTST over windows of feature vectors: patches as tokens, one encoder shared by all channels.

From Nie et al. (ICLR 2023). ``net`` has the network in torch: one body with two heads, the classifier and the paper's
forecaster. ``forward`` has the classifier in NumPy, which is the one that is served.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from numpy.typing import NDArray

from shared.families.base import Params
from shared.families.libraries import network_module
from shared.families.patchtst.body import PatchTSTBody
from shared.families.patchtst.forward import PatchTSTForward
from shared.families.sequence import FILE, TRAINING, SequenceFamily

PAPER: Final[Params] = MappingProxyType(
    {
        "patch": 16,
        "stride": 8,
        "pad": 1,
        "classic": 1,
        "heads": 4,
        "layers": 3,
        "feedforward": 128,
        "dropout": 0.3,
        "head_dropout": 0.0,
    }
)


class PatchTST(SequenceFamily):
    """The family ``patchtst``.

    ``window``: vectors of the input. ``patch``, ``stride``: steps of a patch, and from one patch to the next. ``pad``
    1: the newest vector is repeated for one more patch, as in the paper. ``width``, ``heads``, ``layers``,
    ``feedforward``, ``dropout``: sizes of the encoder. ``classic`` 1: encoder layers as in the paper (batch
    normalisation, residual attention scores) instead of pre-layer normalisation. ``mixed`` 1: a token is a patch of all
    channels, not of one. ``instance`` 1: each window is normalised by its own mean and deviation, which the head gets
    as inputs. ``head_dropout``, ``decay``: regularisation."""

    name = "patchtst"
    defaults: Params = MappingProxyType(
        {
            "window": 64,
            "patch": 8,
            "stride": 8,
            "pad": 0,
            "width": 16,
            "heads": 2,
            "layers": 2,
            "feedforward": 32,
            "dropout": 0.0,
            "classic": 0,
            "mixed": 0,
            "instance": 0,
            "head_dropout": 0.3,
            "decay": 0.1,
            **TRAINING,
        }
    )
    presets: Mapping[str, Params] = MappingProxyType(
        {
            "steps-128": MappingProxyType({"window": 128, "patch": 16, "stride": 16}),
            "mixed": MappingProxyType({"mixed": 1, "width": 32, "feedforward": 64}),
            "paper": PAPER,
        }
    )
    sizes = ("patch", "stride", "width", "heads", "layers", "feedforward")

    def check(self, params: Params) -> None:
        """See ``SequenceFamily.check``."""
        super().check(params)
        if params["width"] % params["heads"]:
            raise ValueError(f"a width of {params['width']} does not divide into {params['heads']} heads")
        if params["patch"] > params["window"]:
            raise ValueError(f"a patch of {params['patch']} steps does not fit into a window of {params['window']}")

    def network(self, features: int, params: Params) -> Any:
        """See ``SequenceFamily.network``."""
        return network_module(self.name).Classifier(
            self._body(features, params),
            instance=bool(params["instance"]),
            head_dropout=float(params["head_dropout"]),
            further=self.further(params),
        )

    def serving(self, weights: Mapping[str, NDArray[Any]], features: int, params: Params) -> PatchTSTForward:
        """See ``SequenceFamily.serving``."""
        return PatchTSTForward(weights, self._body(features, params), instance=bool(params["instance"]), file=FILE)

    def _body(self, features: int, params: Params) -> PatchTSTBody:
        return PatchTSTBody(
            channels=features,
            window=int(params["window"]),
            patch=int(params["patch"]),
            stride=int(params["stride"]),
            width=int(params["width"]),
            heads=int(params["heads"]),
            layers=int(params["layers"]),
            feedforward=int(params["feedforward"]),
            dropout=float(params["dropout"]),
            pad=bool(params["pad"]),
            classic=bool(params["classic"]),
            mixed=bool(params["mixed"]),
        )
