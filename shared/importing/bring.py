"""Makes an artifact of weights from elsewhere: recognised, compared with a reference, measured, checked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from shared.artifacts.manifest import ImportedFrom, Scaler, digest_of
from shared.bars import Bars
from shared.families import complete
from shared.families.base import Params
from shared.families.imported import IMPORTED
from shared.features import BRIDGE, FeatureSet
from shared.importing import layouts, reading, reference
from shared.training.fitting import Given, Trained, train

PROBES: Final = 64
FAR: Final = 1e6
"""The limit of a scaler that came without one (deviations): nothing is cut."""


def bring(
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
    """An artifact of the state dict in ``weights``. ``bars`` are what it is calibrated and measured on, and what its
    prior and centre are taken from; a network with one output gives HOLD the share ``hold``.
    Without a ``scaler`` it takes features as they are.

    Raises ``SourceFileError``, ``LayoutError``, ``WeightsError``, ``DiffersError``, and what
    ``shared.training.train`` raises."""
    state = reading.state_dict(weights)
    found = layouts.recognise(state, len(feature_set.names), params, classes)
    family = IMPORTED[found.family]
    settings = complete(family, {**found.params, **({"hold": hold} if found.params["sigmoid"] else {})})
    model = family.network(found.weights, len(feature_set.names), settings)
    probes = np.random.default_rng(0).standard_normal((PROBES, family.window(settings), len(feature_set.names)))
    off = reference.compare(found.family, found.weights, settings, model.logits(probes), probes)
    return train(
        bars,
        found.family,
        feature_set,
        source=source,
        bridge=bridge,
        horizon=horizon,
        hold=hold,
        params=settings,
        given=Given(
            model,
            _scaler(scaler, len(feature_set.names), unpickle=unpickle),
            ImportedFrom(
                weights.name, digest_of(weights.read_bytes()), found.layout, scaler.name if scaler else "", off
            ),
        ),
    )


def _scaler(path: Path | None, features: int, *, unpickle: bool) -> Scaler:
    if path is None:
        return Scaler((0.0,) * features, (1.0,) * features, FAR)
    found = reading.scaler(path, unpickle=unpickle)
    if len(found.mean) != features:
        raise reading.SourceFileError(f"{path}: numbers of {len(found.mean)} features, the feature set has {features}")
    return Scaler(found.mean, found.scale, FAR)
