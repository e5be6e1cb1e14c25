"""A wheel of this tree runs from any folder, also from a project that has packages of the same names."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from services.console.run.processes import console_command

ROOT = Path(__file__).parents[1]
SOURCES = ("pyproject.toml", "README.md", "conclave_signals.py", "schemas", "shared", "services")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed wheel; what it depends on is that of this interpreter."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy, so that building leaves nothing in the tree
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source))
    (wheel,) = folder.glob("*.whl")
    pip("install", "--no-deps", "--no-compile", "--target", str(folder / "site"), str(wheel))
    return folder / "site"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A person's project, whose packages must not be imported. Commands run in its folder."""
    for package in ("schemas", "services", "shared"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise SystemError('the package of the project was imported')")
    return tmp_path


@pytest.fixture(params=["in its folder", "on PYTHONPATH"])
def path(request: pytest.FixtureRequest, site: Path, project: Path) -> str:
    return f"{project}{os.pathsep}{site}" if request.param == "on PYTHONPATH" else str(site)


def pip(*words: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *words]
    subprocess.run(command, check=True, capture_output=True, text=True)


def run(command: Sequence[str], path: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def conclave(site: Path, path: str, folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return run([str(site / "bin" / "conclave"), *words], path, folder)


def test_the_wheel_holds_the_three_packages_the_launcher_and_one_command(site: Path) -> None:
    installed = next(each for each in Distribution.discover(path=[str(site)]))
    assert installed.name == "conclave-signals"
    assert [(each.name, each.value) for each in installed.entry_points] == [("conclave", "conclave_signals:main")]
    files = {str(path) for path in (installed.files or ())}
    assert {"shared/log/commit.lua", "shared/py.typed", "schemas/market.py"} <= files
    assert {path.split("/")[0] for path in files if path.endswith(".py")} == {
        "conclave_signals.py",
        "schemas",
        "shared",
        "services",
    }


def test_every_dependency_has_its_reason_and_no_other_is_named() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(each for extra in project["optional-dependencies"].values() for each in extra)]
    names = {re.split(r"[^\w.-]", each)[0] for each in asked} - {project["name"]}
    page = (ROOT / "docs" / "adr" / "0001-one-distribution-three-packages.md").read_text()
    table = page[page.index("| package | for |") :]
    rows = re.findall(r"^\| (?!package|---)([^|]+) \| [^|]+\|$", table, re.MULTILINE)
    reasons = {name for row in rows for name in row.split(", ")}
    assert {name for name in names if name not in reasons and not name.startswith("opentelemetry")} == set()
    assert {name for name in reasons - names if not name.lower().startswith("opentelemetry")} == {"hiredis"}


def test_the_wheels_hold_every_extra_that_an_image_or_a_machine_installs() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]

    def with_those_within(names: Sequence[str]) -> set[str]:
        inner = [
            each for name in names for one in extras[name] for each in re.findall(r"conclave-signals\[(.*)\]", one)
        ]
        return {*names, *(with_those_within([each for one in inner for each in one.split(",")]) if inner else ())}

    def named(file: str, pattern: str) -> set[str]:
        found = re.findall(pattern, (ROOT / file).read_text("utf-8"))
        assert found
        return with_those_within(",".join(found).split(","))

    wheels = named("Makefile", r"'\.\[(\w.*)\]'")
    assert named("Dockerfile", r"'\.\[(.*)\]'") - wheels == set()
    assert named("systemd/install.sh", r"EXTRAS:-(.*)\}") - wheels == set()


def test_the_list_of_rooms_names_every_package() -> None:
    page = (ROOT / "docs" / "README.md").read_text()
    rooms = {path.parent.name for top in ("shared", "services") for path in (ROOT / top).glob("*/__init__.py")}
    assert {room for room in rooms if f"`{room}`" not in page} == set()


def test_commands_run_in_a_project_with_packages_of_the_same_names(site: Path, path: str, project: Path) -> None:
    shown = conclave(site, path, project, "--version")
    assert (shown.returncode, shown.stdout) == (0, "conclave, version 0.1.0\n"), shown.stderr
    assert conclave(site, path, project, "doctor", "--help").stdout.startswith("Usage: conclave doctor")


def test_a_child_process_is_of_the_package_that_started_it(site: Path, path: str, project: Path) -> None:
    (project / "conclave.toml").write_text(f'[redis]\nurl = "unix://{project}/nobody.sock"\n')
    done = conclave(site, path, project, "up", "--detach")
    assert done.returncode == 2, done.stderr
    assert "it did not start" in done.stderr
    assert "no server at" in (project / "var" / "log" / "up.log").read_text()


def test_the_process_of_a_training_job_is_of_the_package_that_started_it(site: Path, path: str, project: Path) -> None:
    code = (
        "import subprocess, sys\n"
        f"sys.path.insert(0, {str(site)!r})\n"
        "from shared.processes import module_command\n"
        "sys.exit(subprocess.run(module_command('services.trainer.child')).returncode)"
    )
    done = run([sys.executable, "-P", "-c", code], path, project)
    assert "IndexError" in done.stderr  # it came as far as its arguments
    assert "the package of the project" not in done.stderr


def test_processes_that_python_starts_itself_are_of_the_same_package(site: Path, path: str, project: Path) -> None:
    """``verify`` has several, by ``multiprocessing``, which hands its import path on."""
    (project / "spawned.py").write_text(
        "import multiprocessing, conclave_signals\n"
        "if __name__ == '__main__':\n"
        "    conclave_signals.prefer_own_packages()\n"
        "    import shared.processes\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.apply(shared.processes.module_command, ['m'])[2])\n"
    )
    done = run([sys.executable, "-P", "spawned.py"], path, project)
    assert done.stdout == f"{site / 'conclave_signals.py'}\n", done.stderr


def test_an_editable_installation_prefers_its_own_packages(path: str, project: Path) -> None:
    """A hook finds its packages, which Python asks after the whole import path."""
    shown = run([*console_command(), "--version"], path, project)
    assert (shown.returncode, shown.stdout) == (0, "conclave, version 0.1.0\n"), shown.stderr


HEEDING_CTRL_C = [
    sys.executable,
    "-c",
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])",
]
"""Begins the command of a process that is sent Ctrl-C: it would ignore it if this process does."""


@pytest.mark.parametrize(
    "library", ["wait()", "class Slow:\n    def __set_name__(*_): wait()\nclass Command:\n    name = Slow()"]
)
def test_ctrl_c_while_the_program_is_imported_is_a_sentence(library: str, site: Path, tmp_path: Path) -> None:
    """A library that takes its time stands for a slow disk. Python turns what ``__set_name__`` raises into an error of
    its own."""
    slow = "import time\ndef wait():\n    print('importing', flush=True)\n    time.sleep(60)\n"
    (tmp_path / "click.py").write_text(slow + library)
    command = [*HEEDING_CTRL_C, str(site / "bin" / "conclave"), "status"]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{site}"}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "conclave: interrupted before it was done\n")


def test_ctrl_c_while_python_ends_is_no_traceback(site: Path, tmp_path: Path) -> None:
    """What a library does at the end may take its time."""
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, time\n@atexit.register\ndef slow():\n    print('ending', flush=True)\n    time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{site}"}
    with subprocess.Popen(
        [*HEEDING_CTRL_C, str(site / "bin" / "conclave"), "--version"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        while (line := process.stdout.readline()) != "ending\n":
            assert line
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
