"""Child processes of the program run the program, wherever they are started."""

import ast
import os
import subprocess
from pathlib import Path

from services.console.run.processes import console_command

ROOT = Path(__file__).parents[3]


def test_a_child_runs_the_installed_program_in_a_folder_with_packages_of_the_same_names(tmp_path: Path) -> None:
    for package in ("services", "shared", "schemas"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise SystemExit('not this one')\n")
    (tmp_path / "anyio.py").write_text("raise SystemExit('nor this one')\n")
    done = subprocess.run(console_command("--help"), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "promote" in done.stdout


def test_every_child_is_started_without_the_working_folder_on_its_path() -> None:
    paths = [*(ROOT / "services").rglob("*.py"), *(ROOT / "shared").rglob("*.py")]
    started = [
        (os.fspath(path.relative_to(ROOT)), ast.unparse(node.elts[1]))
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.List) and node.elts and ast.unparse(node.elts[0]) == "sys.executable"
    ]
    assert len(started) >= 4
    assert [child for child in started if child[1] not in {"'-P'", "'-I'"}] == []
