from collections.abc import Iterator
from pathlib import Path

import pytest

from shared import distribution
from shared.distribution import install_command, version


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
    install(nothing_installed, "conclave-signals", "services.console.cli:main")
    assert (install_command("trees"), version()) == ("pip install 'conclave-signals[trees]'", "3.1")


def test_a_fork_is_found_by_its_command(nothing_installed: Path) -> None:
    install(nothing_installed, "house-signals", "services.console.cli:main")
    assert (install_command("ml"), version()) == ("pip install 'house-signals[ml]'", "3.1")


def test_another_project_with_a_command_of_that_name_is_not_taken_for_it(nothing_installed: Path) -> None:
    install(nothing_installed, "conclave", "conclave.main:run")
    assert (install_command("ml"), version()) == ("pip install 'conclave-signals[ml]'", "unknown")
