"""The installed feature sets: those of this release, and those that other distributions add."""

from collections.abc import Iterable
from typing import Final

from shared.features.sets import SETS, FeatureSet
from shared.inputs.kinds import Kind
from shared.plugins import Plugins


def _fault(name: str, loaded: object) -> str | None:
    if not isinstance(loaded, FeatureSet):
        return f"expected a FeatureSet, as shared.features.feature_set returns it; found {type(loaded).__name__}"
    return None if loaded.name == name else f"the set is named {loaded.name!r}; the two names must be equal"


FEATURE_SETS: Final[Plugins[FeatureSet]] = Plugins("conclave.feature_sets", SETS, _fault)


def references_in(names: Iterable[str]) -> frozenset[str]:
    """Return the symbols whose bars the named sets read for all symbols. A name without a set has none."""
    return frozenset(symbol for name in names if name in FEATURE_SETS for symbol in FEATURE_SETS[name].references)


def inputs_in(names: Iterable[str]) -> frozenset[Kind]:
    """Return the kinds of inputs that the named sets read. A name without a set has none."""
    return frozenset(kind for name in names if name in FEATURE_SETS for kind in FEATURE_SETS[name].inputs)
