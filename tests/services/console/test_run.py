"""What a supervisor sees of ``run``, ``guard`` and ``prepare``, and when ``up`` starts a server."""

import subprocess
from pathlib import Path

import anyio
import pytest

from bench.installation import free_port
from services.console.run.processes import console_command
from services.console.run.server import server_for
from shared.control import State
from shared.log import UnavailableError
from shared.runtime.process import record_of
from shared.settings import load


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


@pytest.mark.parametrize("log", ["none yet", "in the state folder", "elsewhere"])
def test_no_server_is_started_in_place_of_one_that_has_the_log(tmp_path: Path, log: str) -> None:
    """The address may be that of a master that is down: an empty server there would look like the installation's."""
    file = tmp_path / "conclave.toml"
    file.write_text(f'[redis]\nurl = "redis://127.0.0.1:{free_port()}/0"\n')
    settings = load(file, {})
    if log != "none yet":
        record = record_of(settings)
        assert record is not None
        record.note(State(version=1, log_id="a", head="0" * 64), 1)
    if log == "in the state folder":
        (tmp_path / "var" / "redis").mkdir()

    async def started() -> bool:
        async with server_for(settings) as here:
            return here

    if log == "elsewhere":
        with pytest.raises(UnavailableError, match="None is started in its place"):
            anyio.run(started)
        assert not (tmp_path / "var" / "redis").exists()
    else:
        assert anyio.run(started)
