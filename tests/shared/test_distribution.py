import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from shared import distribution
from shared.distribution import NAME, install_command, version

ROOT: Final = Path(__file__).parents[2]
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TEXTS: Final = sorted(
    path
    for folder in ("deploy", "docs", "schemas", "services", "shared", "systemd")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".md", ".py", ".sh", ".html", ".yaml", ".toml", ".service", ".json"}
) + [ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "Dockerfile", "README.md", "compose.yaml")]
WITH_EXTRAS: Final = re.compile(r"([\w.-]+)\[([a-z,]+)\]'")
"""A distribution with extras, as an installation names it."""
INSTALLED: Final = re.compile(r"pip install\b[^\n]*?(?<![\w./-])(conclave(?!-signals)[\w-]*)")


@pytest.fixture
def nothing_installed(tmp_path: Path) -> Iterator[Path]:
    """A folder that is the whole import path: what is written there is what is installed."""
    distribution._installed.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.path", [str(tmp_path)])
        yield tmp_path
    distribution._installed.cache_clear()


def install(folder: Path, name: str, command: str) -> None:
    info = folder / f"{name}-3.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 3.1\n")
    (info / "entry_points.txt").write_text(f"[console_scripts]\nconclave = {command}\n")


def test_a_message_names_the_extra_of_what_is_installed(nothing_installed: Path) -> None:
    install(nothing_installed, "conclave-signals", "conclave_signals:main")
    assert (install_command("trees"), version()) == ("pip install 'conclave-signals[trees]'", "3.1")


def test_a_fork_is_found_by_its_command(nothing_installed: Path) -> None:
    install(nothing_installed, "house-signals", "conclave_signals:main")
    assert (install_command("ml"), version()) == ("pip install 'house-signals[ml]'", "3.1")


def test_another_project_with_a_command_of_that_name_is_not_taken_for_it(nothing_installed: Path) -> None:
    install(nothing_installed, "conclave", "conclave.main:run")
    assert (install_command("ml"), version()) == ("pip install 'conclave-signals[ml]'", "unknown")


def test_every_page_and_message_installs_this_distribution_and_an_extra_that_it_has() -> None:
    named: list[tuple[str, str]] = []
    for path in TEXTS:
        text = path.read_text(encoding="utf-8")
        assert INSTALLED.findall(text) == [], path
        lines = [line for line in text.splitlines() if "pip install" in line]
        named += [found for line in lines for found in WITH_EXTRAS.findall(line) if found[0] != "."]
        named += [(NAME, extra) for extra in re.findall(r"""install_command\(['"](\w+)['"]\)""", text)]
    assert PROJECT["name"] == NAME
    assert {name for name, _ in named} == {NAME}
    assert {extra for _, extras in named for extra in extras.split(",")} <= set(PROJECT["optional-dependencies"])
    assert len(named) > 10, "the pattern finds what pages and messages say"


def test_only_one_function_makes_the_command_that_a_message_shows() -> None:
    made = re.compile(rf"pip install|{NAME}\[")
    code = [path for path in TEXTS if path.suffix == ".py" and made.search(path.read_text(encoding="utf-8"))]
    assert code == [ROOT / "shared" / "distribution.py"]


@pytest.mark.parametrize("wrong", ["pip install 'conclave[report]'", "pip install -U conclave", "pip install conclave"])
def test_the_name_of_another_project_is_found(wrong: str) -> None:
    assert INSTALLED.findall(wrong) == ["conclave"]
    assert not INSTALLED.findall(wrong.replace("conclave", NAME))
