"""Imports the libraries of the families when they are used, each with no more than it needs.

XGBoost and LightGBM look for scikit-learn and pandas and load both where they find them, for
wrappers that nothing here uses: 126 MB of resident memory and over a second, instead of 60 MB and
0.2 seconds. While one of them is imported these two names are shown as absent, the way Python
itself marks a module that must not be imported (``None`` in ``sys.modules``), and then forgotten.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Final, Literal

from shared.distribution import install_command

OPTIONAL: Final = ("sklearn", "pandas")


class LibraryMissingError(ImportError):
    """A family's library is not installed. Says which extra brings it."""


@contextmanager
def absent(*names: str) -> Iterator[None]:
    """Makes ``import name`` fail inside the block, for names that are not imported yet."""
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # Python's own marker
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


EXTRAS: Final = {"xgboost": "trees", "lightgbm": "trees", "safetensors": "networks", "safetensors.numpy": "networks"}
"""The extra that brings a library, where it is not ``ml``."""


def library(name: Literal["xgboost", "lightgbm", "torch", "safetensors", "safetensors.numpy"]) -> ModuleType:
    """The library, imported once. Raises ``LibraryMissingError``."""
    if name in sys.modules:
        return sys.modules[name]
    try:
        with absent(*OPTIONAL):
            return importlib.import_module(name)
    except ImportError as error:
        raise LibraryMissingError(
            f"this family needs the library {name}: {install_command(EXTRAS.get(name, 'ml'))} ({error})"
        ) from error


def network_module(family: str) -> ModuleType:
    """``shared.families.<family>.net``, which imports torch. Raises ``LibraryMissingError``."""
    library("torch")
    return importlib.import_module(f"shared.families.{family}.net")
