"""Make an artifact from imported weights: recognised, compared with a reference, measured and checked."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from shared.artifacts.manifest import ImportedFrom, Scaler, digest_of
from shared.bars import Bars
from shared.families import complete
from shared.families.base import Params
from shared.families.imported import IMPORTED
from shared.families.imported.onnx import ONNX
from shared.features import BRIDGE, FeatureSet
from shared.importing import comparing, layouts, onnx, reading
from shared.training.fitting import Given, Trained, train

PROBES: Final = 64
NO_LIMIT: Final = 1e6
"""The limit of an imported scaler, in standard deviations. It is so large that nothing is clipped."""


def import_weights(
    weights: Path,
    bars: Mapping[str, Bars],
    feature_set: FeatureSet,
    *,
    classes: tuple[str, ...],
    params: Params,
    scaler: Path | None = None,
    unpickle: bool = False,
    source: str,
    horizon: int,
    hold: float,
    bridge: int = BRIDGE,
) -> Trained:
    """Return an artifact with the state dict, or the ONNX graph (``.onnx``), in ``weights``.

    It is calibrated and measured on ``bars``; prior and centre are computed from them too. ``horizon`` (bars) and
    ``hold``, the share of bars whose label is HOLD, describe the label as in ``shared.training.fitting.train``. A
    network with one output has no HOLD: it gets this share as its probability. Without a ``scaler`` the features are
    not scaled. Raises ``SourceFileError``, ``LayoutError``, ``WeightsError``, ``DiffersError``, and what
    ``shared.training.fitting.train`` raises.
    """
    if weights.suffix == ".onnx":
        graph = onnx.read_graph(reading.opened_first(weights), weights, len(feature_set.names), params, classes)
        family, settings, model, layout, off = ONNX.name, graph.params, graph.model, graph.layout, graph.off
    else:
        family, settings, model, layout, off = _network(weights, len(feature_set.names), params, classes, hold)
    return train(
        bars,
        family,
        feature_set,
        source=source,
        bridge=bridge,
        horizon=horizon,
        hold=hold,
        params=settings,
        given=Given(
            model,
            _scaler(scaler, feature_set.names, unpickle=unpickle),
            ImportedFrom(weights.name, digest_of(weights.read_bytes()), layout, scaler.name if scaler else "", off),
        ),
    )


def _network(
    weights: Path, features: int, params: Params, classes: tuple[str, ...], hold: float
) -> tuple[str, dict[str, int | float], Any, str, float]:
    """Return the family, parameters, model and layout of a state dict, and its difference from the reference."""
    network = layouts.recognise(reading.state_dict(weights), features, params, classes)
    family = IMPORTED[network.family]
    settings = complete(family, {**network.params, **({"hold": hold} if network.params["sigmoid"] else {})})
    model = family.network(network.weights, features, settings)
    probes = np.random.default_rng(0).standard_normal((PROBES, family.window(settings), features))
    off = comparing.compare(network.family, network.weights, settings, model.logits(probes), probes)
    return network.family, settings, model, network.layout, off


def _scaler(path: Path | None, names: Sequence[str], *, unpickle: bool) -> Scaler:
    if path is None:
        return Scaler((0.0,) * len(names), (1.0,) * len(names), NO_LIMIT)
    numbers = reading.scaler(path, unpickle=unpickle)
    if len(numbers.mean) != len(names):
        raise reading.SourceFileError(
            f"{path}: a scaler of {len(numbers.mean)} features, the feature set has {len(names)}"
        )
    for number, (theirs, ours) in enumerate(zip(numbers.names, names, strict=False), 1):
        if theirs != ours:
            raise reading.SourceFileError(
                f"{path}: the scaler was fitted on other features or in another order: number {number} is {theirs!r}, "
                f"in the feature set it is {ours!r}. The weights expect the order of the scaler, so import them with a "
                "set of these features in this order"
            )
    return Scaler(numbers.mean, numbers.scale, NO_LIMIT)
