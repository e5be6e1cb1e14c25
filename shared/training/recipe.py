"""The recipe by which an artifact can be trained again."""

from schemas.training import Recipe
from shared.artifacts.manifest import Manifest
from shared.families import FAMILIES
from shared.features.installed import FEATURE_SETS


def recipe_of(manifest: Manifest) -> Recipe | str:
    """Return the recipe of an artifact, or why it cannot be trained again here. Depends on what is installed, so cores
    must not call it."""
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
