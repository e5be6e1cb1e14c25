"""Features: finite-memory functions of the last bars of one symbol, the same bits live and in training.

``table`` has every formula and ``sets`` the feature sets. Formulas are built from ``expressions`` and ``kernels``.
``history.compute`` and ``history.history`` evaluate recorded bars; ``engine.Engine`` evaluates a stream of bars.
"""

from shared.features.bars import BRIDGE, BarArrays
from shared.features.feature import Feature
from shared.features.history import FeatureHistory, compute, history
from shared.features.sets import DEFAULT, SETS, FeatureSet, feature_set
from shared.features.table import FEATURES

__all__ = [
    "BRIDGE",
    "DEFAULT",
    "FEATURES",
    "SETS",
    "BarArrays",
    "Feature",
    "FeatureHistory",
    "FeatureSet",
    "compute",
    "feature_set",
    "history",
]
