"""The model families by name. Importing this loads no model library; using a family does.

Each family is one module or package. ``prior`` and ``logistic`` are the baselines that every score is compared with,
``xgboost`` and ``lightgbm`` are tree ensembles, ``patchtst`` and ``nhits`` are networks. ``imported`` has the families
of networks that were trained elsewhere.
"""

from types import MappingProxyType
from typing import Final

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
from shared.families.lightgbm import LightGBM
from shared.families.logistic import Logistic
from shared.families.nhits import NHiTS
from shared.families.patchtst import PatchTST
from shared.families.prior import Prior
from shared.families.xgboost import XGBoost

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
FAMILIES: Final = MappingProxyType({family.name: family for family in _ALL})


def family_named(name: str) -> Family:
    """Return a family by name, one that is trained here or one that is imported. Raises ``UnknownFamilyError``."""
    if name in IMPORTED:
        return IMPORTED[name]
    if name not in FAMILIES:
        raise UnknownFamilyError(f"no model family {name!r}; there are: {', '.join(FAMILIES)}")
    return FAMILIES[name]
