"""All processes of an installation, or its server, with a clock that is an hour off (libfaketime)."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import anyio
import pytest

from bench.installation import Installation, all_entries, running, wait_until
from schemas.codec import decode
from schemas.operations import ClockApart
from shared.log import StreamKey
from shared.server.embedded import EmbeddedServer

pytestmark = [pytest.mark.stack, pytest.mark.skipif(shutil.which("faketime") is None, reason="needs libfaketime")]
BARS = ("--synthetic", "sequence", "--symbols", "2", "--count", "1000")
SERVICES = {
    "feature-builder",
    "model-worker.logistic",
    "ensemble-voter",
    "executor",
    "shadow-recorder",
    "gate-evaluator",
}
LOOPS = {"feed", "trainer", "archiver"}


def shifted(hours: str) -> Mapping[str, str]:
    """The variables that shift the clock of a process and of its children."""
    shown = subprocess.run(["faketime", "-f", hours, "env"], capture_output=True, text=True, check=True).stdout
    wanted = ("LD_PRELOAD=", "FAKETIME")
    return dict(line.split("=", 1) for line in shown.splitlines() if line.startswith(wanted))


@pytest.fixture(params=["processes", "server"])
def whose(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["-1h", "+1h"])
def installation(
    request: pytest.FixtureRequest, whose: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Installation]:
    made = Installation(tmp_path, models=("logistic",))
    port = int(made.url.rpartition(":")[2].partition("/")[0])
    variables = shifted(request.param)
    for name, value in variables.items() if whose == "server" else ():
        monkeypatch.setenv(name, value)
    with EmbeddedServer(tmp_path / "var" / "redis", port=port, die_with_parent=True):
        for name, value in variables.items():
            if whose == "server":
                monkeypatch.delenv(name)
            else:
                monkeypatch.setenv(name, value)
        with running(made):
            made.train("logistic", *BARS)
            yield made


def apart(installation: Installation) -> list[str]:
    async def read() -> list[str]:
        log = installation.log()
        try:
            events = [decode("alarms", entry.data).event for entry in await all_entries(log, StreamKey("alarms"))]
        finally:
            await log.close()
        return sorted(event.group for event in events if isinstance(event, ClockApart))

    return anyio.run(read)


def test_given_clocks_that_are_an_hour_off_then_every_bar_is_decided_and_each_process_reports_it_once(
    installation: Installation,
) -> None:
    installation.conclave("feed", *BARS)
    wait_until(lambda: len(installation.decisions()) == 2_000)
    wait_until(lambda: set(apart(installation)) >= SERVICES | LOOPS)
    assert apart(installation) == sorted(SERVICES | LOOPS)
    verified = json.loads(installation.conclave("verify", "-o", "json"))
    assert verified["differences"] == 0
    installation.conclave("doctor", code=1)
