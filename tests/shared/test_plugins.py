"""What another distribution adds by entry points is there by its name; what cannot be used is one sentence."""

import os
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType

import pytest

from services.console.run.processes import console_command
from shared.bars import SourceError
from shared.bars.feeds import FEEDS, open_bars
from shared.families import FAMILIES
from shared.features.installed import FEATURE_SETS
from shared.plugins import PluginError, Plugins

ROOT = Path(__file__).parents[2]
OWN = MappingProxyType({"ours": 1})
ADDS_ALL = """
[conclave.families]
ridge = their_models:RIDGE
[conclave.feature_sets]
pair-2 = their_models:PAIR
[conclave.feeds]
lab = their_models:open_lab
"""
MODULE = """
from shared.families.logistic import Logistic
from shared.features import feature_set
from shared.synthetic import SyntheticMarket

class Ridge(Logistic):
    name = "ridge"

RIDGE = Ridge()
PAIR = feature_set("pair-2", "z_return_1", "rsi_14")

def open_lab(address, *, symbol, interval_ms):
    return SyntheticMarket(("LAB1USDT",), "sequence", 1, int(address.removeprefix("lab://")))
"""


def add(folder: Path, distribution: str, entry_points: str, module: str = MODULE, name: str = "their_models") -> None:
    """A distribution, as an installer leaves it in a folder of the import path."""
    info = folder / f"{distribution}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(entry_points)
    (folder / f"{name}.py").write_text(module)


def numbers() -> Plugins[int]:
    """Plug-ins of a group of this test's own, which are to be whole numbers."""
    return Plugins("test.numbers", OWN, lambda _, each: None if isinstance(each, int) else f"{each!r} is no number")


def run(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    command = console_command(*words)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the import path; modules from it are forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("one_number", "two_numbers"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_a_model_of_a_family_and_a_feature_set_of_others_is_trained_on_their_feed(tmp_path: Path) -> None:
    add(tmp_path, "their-models", ADDS_ALL)
    words = ("--model", "m", "--family", "ridge", "--set", "pair-2", "--bars", "lab://1500", "--reason", "a test")
    done = run(tmp_path, "train", "files", *words)
    assert done.returncode == 0, done.stderr
    listed = run(tmp_path, "artifacts", "list")
    assert "ridge" in listed.stdout
    assert "pair-2" in listed.stdout


def test_a_broken_family_is_one_sentence_that_names_its_distribution(tmp_path: Path) -> None:
    add(tmp_path, "their-models", "[conclave.families]\nridge = their_models:RIDGE\n", "import no_such_library\n")
    done = run(tmp_path, "train", "files", "--model", "m", "--family", "ridge", "--count", "1500", "--reason", "a test")
    assert done.returncode == 2
    assert done.stderr == (
        "conclave: their-models 1.2 adds 'ridge' to conclave.families by their_models:RIDGE: "
        "ModuleNotFoundError: No module named 'no_such_library'\n"
    )


def test_a_name_of_this_release_is_not_replaced(tmp_path: Path) -> None:
    add(tmp_path, "their-models", "[conclave.families]\nxgboost = their_models:RIDGE\n")
    done = run(tmp_path, "train", "files", "--help")
    assert done.returncode == 2
    assert done.stderr == (
        "conclave: their-models 1.2 adds 'xgboost' to conclave.families by their_models:RIDGE: "
        "that name belongs to Conclave; rename the entry point or uninstall it\n"
    )


def test_an_object_is_imported_when_its_name_is_asked_for_and_not_before(path: Path) -> None:
    add(path, "one", "[test.numbers]\none = one_number:ONE\n", "ONE = 1\n", "one_number")
    plugins = numbers()
    assert list(plugins) == ["ours", "one"]
    assert "one" in plugins
    assert "one_number" not in sys.modules
    assert plugins["one"] == 1
    assert "one_number" in sys.modules


def test_what_this_release_has_is_found_without_a_look_at_what_is_installed(path: Path) -> None:
    add(path, "one", "[test.numbers]\nours = one_number:ONE\n", "ONE = 1\n", "one_number")
    assert numbers()["ours"] == 1
    with pytest.raises(PluginError, match="that name belongs to Conclave"):
        list(numbers())


def test_a_name_that_two_distributions_add_is_refused_and_both_are_named(path: Path) -> None:
    add(path, "one", "[test.numbers]\nn = one_number:ONE\n", "ONE = 1\n", "one_number")
    add(path, "two", "[test.numbers]\nn = two_numbers:ONE\n", "ONE = 1\n", "two_numbers")
    with pytest.raises(PluginError, match=r"(one|two) 1\.2 adds 'n' .*(one|two) 1\.2 adds the same name"):
        list(numbers())


def test_an_object_of_another_kind_is_refused(path: Path) -> None:
    add(path, "one", "[test.numbers]\none = one_number:ONE\n", "ONE = 'i'\n", "one_number")
    with pytest.raises(PluginError, match=r"one 1\.2 adds 'one' to test\.numbers by one_number:ONE: 'i' is no number"):
        numbers()["one"]


def test_a_name_that_nothing_has_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        numbers()["none"]


@pytest.mark.parametrize("plugins", [FAMILIES, FEATURE_SETS, FEEDS], ids=["families", "feature sets", "feeds"])
def test_an_object_that_is_none_of_its_group_is_refused_with_what_it_lacks(plugins: Plugins[object]) -> None:
    fault = plugins._fault("odd", 7)
    assert fault is not None
    assert "expected" in fault or "has name" in fault


def test_an_address_of_no_feed_says_which_there_are() -> None:
    with pytest.raises(SourceError, match=r"lab://BTC: no feed 'lab' is installed; installed feeds: none"):
        open_bars("lab://BTC")
