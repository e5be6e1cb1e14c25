"""Imports the libraries of training and of the families when they are used.

XGBoost and LightGBM import scikit-learn and pandas where they are installed, for wrappers that nothing here uses. That
costs 126 MB of resident memory and over a second, instead of 60 MB and 0.2 seconds. While one of the two is imported,
scikit-learn and pandas are marked as absent, as Python itself marks a module (``None`` in ``sys.modules``); then the
mark is removed.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import Final, Literal

from shared.distribution import install_command

TREES: Final = ("xgboost", "lightgbm")
OPTIONAL: Final = ("sklearn", "pandas")
"""What the packages of ``TREES`` import only where it is installed."""


class LibraryMissingError(ImportError):
    """A library is not installed. The message names the extra that installs it."""


@contextmanager
def absent(*names: str) -> Iterator[None]:
    """Make ``import name`` fail inside the block, for names that are not imported yet."""
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # Python's mark of an absent module
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


Library = Literal[
    "distributed",
    "joblib",
    "lightgbm",
    "onnx",
    "onnx.reference",
    "onnxruntime",
    "optuna",
    "ray.util.joblib",
    "safetensors",
    "safetensors.numpy",
    "scipy.optimize",
    "scipy.special",
    "sklearn",
    "sklearn.exceptions",
    "sklearn.linear_model",
    "torch",
    "xgboost",
]
EXTRAS: Final = {
    "distributed": "dask",
    "joblib": "train",
    "lightgbm": "trees",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "optuna": "search",
    "ray": "ray",
    "safetensors": "networks",
    "scipy": "train",
    "sklearn": "train",
    "torch": "ml",
    "xgboost": "trees",
}
"""The extra that installs each package."""


def library(name: Library) -> ModuleType:
    """Return the library, imported once. Raises ``LibraryMissingError``."""
    if (module := sys.modules.get(name)) is not None:
        return module
    package = name.partition(".")[0]
    try:
        with absent(*(OPTIONAL if package in TREES else ())):
            return importlib.import_module(name)
    except ImportError as error:
        raise LibraryMissingError(
            f"this needs the library {package}: {install_command(EXTRAS[package])} ({error})"
        ) from error


def require(*packages: str) -> None:
    """Raise ``LibraryMissingError`` if one of the packages is not installed, without importing any."""
    if missing := [package for package in packages if find_spec(package) is None]:
        extras = ",".join(sorted({EXTRAS[package] for package in missing}))
        raise LibraryMissingError(f"this needs {' and '.join(missing)}: {install_command(extras)}")


def network_module(family: str) -> ModuleType:
    """Return ``shared.families.<family>.net``, which imports torch. Raises ``LibraryMissingError``."""
    library("torch")
    return importlib.import_module(f"shared.families.{family}.net")
