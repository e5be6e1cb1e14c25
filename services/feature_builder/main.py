"""Make the feature builder that the console runs."""

from collections.abc import Sequence

from services.feature_builder.core import FeatureBuilder
from shared.features.bars import BRIDGE
from shared.features.sets import FeatureSet


def service(feature_sets: Sequence[FeatureSet], bridge: int = BRIDGE) -> FeatureBuilder:
    """Return the service for one partition. Raises ``ValueError`` without a set, or for two sets of one digest."""
    if not feature_sets or len({chosen.digest for chosen in feature_sets}) < len(feature_sets):
        names = ", ".join(chosen.name for chosen in feature_sets) or "none"
        raise ValueError(f"the feature builder needs at least one feature set, none twice; given: {names}")
    if bridge < 0:
        raise ValueError(f"bridge counts missing bars and must not be negative: {bridge}")
    return FeatureBuilder(feature_sets, bridge)
