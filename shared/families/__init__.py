"""The model families by name. Importing this loads no model library and no plug-in; using a family does.

Each family is one module or package. ``prior`` and ``logistic`` are the baselines that every score is compared with,
``xgboost`` and ``lightgbm`` are tree ensembles, ``patchtst`` and ``nhits`` are networks. ``imported`` has the families
of networks that were trained elsewhere.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from shared.families.base import (
    Epoch,
    Family,
    Fitted,
    FittedModel,
    Params,
    Sample,
    Watch,
    WeightsError,
    Windows,
    complete,
)
from shared.families.imported import IMPORTED
from shared.families.imported.onnx import ONNX
from shared.families.lightgbm import LightGBM
from shared.families.logistic import Logistic
from shared.families.nhits import NHiTS
from shared.families.patchtst import PatchTST
from shared.families.prior import Prior
from shared.families.xgboost import XGBoost
from shared.plugins import Plugins

__all__ = [
    "FAMILIES",
    "Epoch",
    "Family",
    "Fitted",
    "FittedModel",
    "Params",
    "Sample",
    "UnknownFamilyError",
    "Watch",
    "WeightsError",
    "Windows",
    "complete",
    "family_named",
]


class UnknownFamilyError(KeyError):
    """This release has no family of that name. The message lists the families."""

    def __str__(self) -> str:
        return str(self.args[0])


_ALL: Final[tuple[Family, ...]] = (Prior(), Logistic(), XGBoost(), LightGBM(), PatchTST(), NHiTS())
ASKED_OF_ALL: Final = (
    *("name", "scaled", "constant", "batch_rows", "defaults", "presets"),
    *("window", "fit", "save", "load", "libraries"),
)


def _fault(name: str, loaded: Any) -> str | None:
    """What keeps an object that was loaded for a name from being a family."""
    if isinstance(loaded, type):
        return "expected an instance of a family, found its class"
    if missing := [member for member in ASKED_OF_ALL if not hasattr(loaded, member)]:
        return f"a family has {', '.join(missing)} too; see Family in shared/families/base.py"
    return None if loaded.name == name else f"that family is named {loaded.name!r}; the two names must be the same"


SERVED_ONLY: Final[Mapping[str, Family]] = MappingProxyType({**IMPORTED, ONNX.name: ONNX})
"""The families of models that were trained elsewhere."""
FAMILIES: Final[Plugins[Family]] = Plugins(
    "conclave.families", {family.name: family for family in _ALL}, _fault, reserved=SERVED_ONLY
)
"""The families that are trained here: those of this release, and those that other distributions add."""


def family_named(name: str) -> Family:
    """Return a family by name, one that is trained here or one that is imported. Raises ``UnknownFamilyError``, and
    ``PluginError`` where another distribution adds the family and it cannot be used."""
    if name in SERVED_ONLY:
        return SERVED_ONLY[name]
    if name not in FAMILIES:
        raise UnknownFamilyError(f"no model family {name!r}; there are: {', '.join(FAMILIES)}")
    return FAMILIES[name]
