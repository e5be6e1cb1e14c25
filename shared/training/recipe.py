"""Derive from an artifact's manifest the recipe by which it can be trained again."""

from schemas.training import Recipe
from shared.artifacts.manifest import Manifest
from shared.families import FAMILIES
from shared.features.installed import FEATURE_SETS


def recipe_of(manifest: Manifest) -> Recipe | str:
    """Return the recipe of an artifact, or the reason why it cannot be trained here. The result depends on the families
    and feature sets that are installed, so no core may call this."""
    if manifest.family not in FAMILIES:
        return f"family {manifest.family!r} is not trained here"
    if manifest.feature_set.name not in FEATURE_SETS:
        return f"this release has no feature set {manifest.feature_set.name!r}"
    return Recipe(
        family=manifest.family,
        feature_set=manifest.feature_set.name,
        params=manifest.params,
        horizon=manifest.label.horizon,
        hold=manifest.label.hold,
        seed=manifest.seed,
        imbalance=manifest.imbalance,
    )
