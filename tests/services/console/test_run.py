"""What a supervisor sees of ``run``, ``guard`` and ``prepare``, and when ``up`` starts a server."""

import subprocess
from pathlib import Path

import anyio
import pytest

from bench.installation import free_port
from services.console.run.installation import server_for
from services.console.run.processes import console_command
from shared.log import UnavailableError
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


@pytest.mark.parametrize("embedded", [True, False])
def test_a_server_is_started_only_where_the_settings_have_an_embedded_one(tmp_path: Path, embedded: bool) -> None:
    """The address may be that of a master that is down: an empty server there would look like the installation's."""
    file = tmp_path / "conclave.toml"
    own = str(embedded).lower()
    file.write_text(f'[redis]\nurl = "redis://127.0.0.1:{free_port()}/0"\nembedded = {own}\n')
    settings = load(file, {})

    async def started() -> bool:
        async with server_for(settings) as here:
            return here

    if embedded:
        assert anyio.run(started)
    else:
        with pytest.raises(UnavailableError, match="embedded = true"):
            anyio.run(started)
        assert not (tmp_path / "var").exists()
