"""Features: finite-memory functions of the last bars of one symbol, the same bits live and in training.

``table`` holds every formula, ``sets`` the feature sets, ``terms`` and ``kernels`` what formulas are made of.
``history.compute`` and ``history.history`` evaluate recorded bars, ``engine.Engine`` a stream of them.
"""

from shared.features.bars import BRIDGE, BarArrays
from shared.features.history import FeatureHistory, compute, history
from shared.features.sets import DEFAULT, SETS, FeatureSet, feature_set
from shared.features.table import FEATURES, Feature

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
