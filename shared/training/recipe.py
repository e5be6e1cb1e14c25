"""How an artifact was made, as the recipe by which it is made again."""

from schemas.training import Recipe
from shared.artifacts.manifest import Manifest
from shared.families import FAMILIES
from shared.features.installed import FEATURE_SETS


def recipe_of(manifest: Manifest) -> Recipe | str:
    """Return how an artifact was made, or why it cannot be made again here. Depends on what is installed, so that no
    core may ask it."""
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
