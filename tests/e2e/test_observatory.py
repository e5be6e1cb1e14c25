"""The observatory of a running installation is killed, and shows the same afterwards."""

import json
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from bench.installation import ONE_PROCESS, Installation, free_port, kill, running, wait_until

MARKET = ("--synthetic", "sequence", "--symbols", "2")
TIMELESS = ("conditions", "series", "count", "money")


@pytest.mark.long
def test_a_killed_observatory_shows_the_same_again_and_what_happened_meanwhile(tmp_path: Path) -> None:
    port = free_port()
    installation = Installation(tmp_path, models=("prior",), extra=f"\n[observatory]\nport = {port}\n")

    def ask(path: str) -> Any:
        with urlopen(f"http://127.0.0.1:{port}/api/v1/{path}", timeout=30) as answer:
            return json.load(answer)

    def answers() -> bool:
        try:
            return bool(ask("status")["caught_up"])
        except OSError:
            return False

    def shown() -> dict[str, Any]:
        now = ask("now")
        return {name: now[name] for name in TIMELESS} | {"history": ask("history")}

    with running(installation, ONE_PROCESS):
        installation.train("prior", *MARKET, "--count", "2000")
        installation.conclave("policy", "voting", "quorum_count=1", "--reason", "one model votes")
        observatory = installation.start("observatory")
        assert observatory.stdout is not None
        assert f"http://127.0.0.1:{port}/" in observatory.stdout.readline()
        wait_until(answers)
        installation.conclave("feed", *MARKET, "--count", "200")
        wait_until(lambda: sum(ask("now")["conditions"].values()) == 2)
        wait_until(lambda: ask(f"versions/{ask('status')['version']}")["decisions"] == len(installation.decisions()))
        before = shown()
        kill(observatory.pid)
        observatory.communicate()
        observatory = installation.start("run", "observatory")
        wait_until(answers)
        wait_until(lambda: shown() == before)
        kill(observatory.pid)
        observatory.communicate()
        installation.conclave("halt", "--reason", "while it was away")
        observatory = installation.start("run", "observatory")
        wait_until(answers)
        assert ask("status")["halted"]
        observatory.terminate()
        observatory.communicate(timeout=30)
        assert observatory.returncode == 0
        assert (tmp_path / "var" / "observatory.bin").exists()
