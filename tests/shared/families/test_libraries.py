import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from shared.distribution import install_command
from shared.families.libraries import EXTRAS, Library, LibraryMissingError, absent, library

PROJECT = Path(__file__).parents[3] / "pyproject.toml"


def modules_after(code: str) -> set[str]:
    script = f"{code}\nimport sys\nprint(' '.join(name for name in sys.modules if '.' not in name))"
    return set(
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    )


def test_naming_the_families_loads_no_model_library() -> None:
    loaded = modules_after("import shared.artifacts, shared.families")
    assert not {"xgboost", "lightgbm", "sklearn", "scipy", "torch"} & loaded


def test_serving_a_network_loads_no_torch() -> None:
    loaded = modules_after(
        "import shared.families.patchtst.forward, shared.families.nhits.forward, shared.families.tensors as t\n"
        "from shared.families import FAMILIES\n"
        "assert t.arrays_in(t.written({}), 'w') == {}\n"
        "[FAMILIES[name].libraries() for name in ('patchtst', 'nhits')]"
    )
    assert "safetensors" in loaded
    assert "torch" not in loaded


@pytest.mark.parametrize(("name", "other"), [("xgboost", "lightgbm"), ("lightgbm", "xgboost")])
def test_a_worker_loads_its_own_library_and_not_its_wrappers(name: str, other: str) -> None:
    loaded = modules_after(f"from shared.families import FAMILIES\nFAMILIES[{name!r}].libraries()")
    assert name in loaded
    assert not {other, "sklearn", "pandas"} & loaded


def test_what_was_hidden_can_be_imported_afterwards() -> None:
    assert "sklearn" in modules_after(
        "from shared.families.libraries import library\nlibrary('xgboost')\nimport sklearn"
    )


def test_what_was_imported_before_is_left_alone() -> None:
    before = sys.modules["pytest"]
    with absent("pytest"):
        assert sys.modules["pytest"] is before
    assert sys.modules["pytest"] is before


@pytest.mark.parametrize("name", get_args(Library))
def test_a_missing_library_names_the_extra_that_installs_it(name: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    package = name.partition(".")[0]
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(LibraryMissingError, match=re.escape(f"{package}: {install_command(EXTRAS[package])}")):
        library(name)


@pytest.mark.parametrize("package", EXTRAS)
def test_an_extra_installs_what_it_is_named_for(package: str) -> None:
    extras = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    wheels = {"sklearn": "scikit-learn", "xgboost": "xgboost-cpu"}
    assert any(re.match(rf"{wheels.get(package, package)}\b", line) for line in extras[EXTRAS[package]])


@pytest.mark.parametrize("extra", ["train", "ml"])
def test_each_extra_that_trains_has_the_libraries_of_calibration_and_baseline(extra: str) -> None:
    listed = " ".join(tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"][extra])
    assert all(wheel in listed for wheel in ("scikit-learn", "scipy"))
