"""What a supervisor sees of ``run``, ``guard`` and ``prepare`` when they cannot run."""

import subprocess
from pathlib import Path

import pytest

from services.console.run.processes import console_command


@pytest.mark.parametrize("words", [("run", "ensemble-voter"), ("run", "gate-evaluator"), ("guard",), ("prepare",)])
def test_a_server_that_does_not_answer_is_a_line_and_the_code_to_try_again(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    settings = tmp_path / "conclave.toml"
    settings.write_text(f'[redis]\nurl = "unix://{tmp_path}/nobody.sock"\n')
    done = subprocess.run(
        [*console_command("--settings", str(settings)), *words], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 75
    assert done.stderr.splitlines() == [done.stderr.strip()]
    assert "no server at" in done.stderr
