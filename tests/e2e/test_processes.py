"""The installation as a person meets it: up and down, a second copy, one process, Ctrl-C in the demo."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from bench.installation import Installation, all_decisions, running, wait_until
from services.console.demo.command import LEAST_ROWS
from services.console.run.processes import console_command
from shared.bars import Good
from shared.synthetic.market import SyntheticMarket

ROOT = Path(__file__).parents[2]
BARS = ("--synthetic", "sequence", "--symbols", "2", "--count", "2000")


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    installation = Installation(tmp_path_factory.mktemp("installation"), models=("logistic", "prior"))
    with running(installation):
        installation.train("logistic", *BARS)
        installation.train("prior", *BARS, weight=0.2)
        yield installation


def decided(installation: Installation) -> int:
    async def count() -> int:
        log = installation.log()
        try:
            return len(await all_decisions(log))
        finally:
            await log.close()

    return anyio.run(count)


def status(installation: Installation) -> dict[str, object]:
    found: dict[str, object] = json.loads(installation.conclave("status", "-o", "json"))
    return found


def test_a_second_copy_of_a_service_stops_and_says_why(up: Installation) -> None:
    said = up.conclave("run", "ensemble-voter", code=2)
    assert "ensemble-voter" in said
    assert "second" in said or "belongs to" in said
    assert f"pid {up.owners()['ensemble-voter']}" in said


def test_a_second_up_is_refused(up: Installation) -> None:
    assert "already up" in up.conclave("up", "--detach", code=2)


def test_a_feed_goes_on_where_it_stood_and_sends_nothing_twice(up: Installation) -> None:
    up.conclave("feed", *BARS, "--limit", "1500")
    assert up.conclave("feed", *BARS, "--limit", "1500").startswith("0 bars sent")
    up.conclave("feed", *BARS, "--limit", "3000")
    wait_until(lambda: decided(up) == 3000)
    lines = up.conclave("decisions", "-n", "5", "-o", "json").splitlines()
    assert len(lines) == 5
    newest = json.loads(lines[-1])
    assert newest["total_models"] == 2
    shown = up.conclave("decisions", "-n", "1")
    assert shown.split()[0] == newest["id"][:12]
    assert newest["id"] in up.run("blame", newest["id"][:12]).stdout  # audits begin with the id


@pytest.mark.skipif(sys.platform != "linux", reason="scheduling classes are Linux's")
def test_what_nobody_waits_for_is_idle_to_the_scheduler_in_the_session_of_the_others(up: Installation) -> None:
    owners = up.owners()
    classes = {group: os.sched_getscheduler(pid) for group, pid in owners.items() if group != "feed"}
    aside = {group for group, scheduler in classes.items() if scheduler == os.SCHED_IDLE}
    assert aside == {"shadow-recorder", "gate-evaluator", "archiver", "trainer"}
    assert len({os.getsid(owners[group]) for group in classes}) == 1


def test_doctor_finds_nothing_wrong(up: Installation) -> None:
    report = json.loads(up.conclave("doctor", "-o", "json"))
    assert "chain intact" in report["control"]
    assert report["dead letters/0"] == 0


def test_an_unknown_feature_set_is_refused_by_name(tmp_path: Path) -> None:
    installation = Installation(tmp_path, extra='\n[features]\nsets = ["core-29"]\n')
    installation.conclave("up", "--detach", code=2)
    log = (tmp_path / "var" / "log" / "feature-builder.log").read_text()
    assert "no set core-29" in log


@pytest.mark.long
def test_all_services_run_in_one_process_too_and_a_model_that_votes_is_served_whatever_the_settings_list(
    tmp_path: Path,
) -> None:
    """Bars from files would wait without end for a voting model that was taken out of the settings."""
    installation = Installation(tmp_path, models=("prior",))
    with running(installation):
        installation.train("prior", *BARS)
        digest = status(installation)["models"]
    settings = tmp_path / "conclave.toml"
    settings.write_text(settings.read_text().replace('["prior"]', '["logistic"]'))
    process = installation.start("up", "--one-process")
    try:
        wait_until(lambda: len(set(installation.owners().values())) == 1)
        installation.conclave("feed", *BARS, "--limit", "200")
        wait_until(lambda: decided(installation) == 200)
        assert status(installation)["models"] == digest
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_up_in_the_background_has_the_settings_of_its_command_and_is_found_by_down(tmp_path: Path) -> None:
    installation = Installation(tmp_path / "there", models=("prior",))
    elsewhere = tmp_path / "here"
    elsewhere.mkdir()

    def conclave(*words: str) -> str:
        chosen = ("--settings", "../there/conclave.toml")
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            console_command(*chosen, *words), cwd=elsewhere, env=environment, check=True, capture_output=True, text=True
        ).stdout

    assert conclave("up", "--one-process", "--detach").startswith("up, as pid ")
    try:
        assert set(installation.owners()) >= {"ensemble-voter", "model-worker.prior"}
        assert list(elsewhere.iterdir()) == []
    finally:
        assert conclave("down") == "down\n"
    assert processes_under(tmp_path) == []


@pytest.fixture(scope="module")
def few_bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of as few bars as the demo takes, on which its models are trained in seconds."""
    file = tmp_path_factory.mktemp("bars") / "BTCUSDT-5m.csv"
    market = (row.bar for row in SyntheticMarket(("BTCUSDT",), bars=LEAST_ROWS).rows() if isinstance(row, Good))
    rows = [f"{b.open_time},{b.open},{b.high},{b.low},{b.close},{b.volume}" for b in market]
    file.write_text("\n".join(["open_time,open,high,low,close,volume", *rows]) + "\n")
    return file


@pytest.mark.long
@pytest.mark.parametrize(
    "moment", ["server:", "services:", pytest.param("trained:", marks=pytest.mark.stack), "weights:"]
)
def test_ctrl_c_ends_the_demo_and_leaves_no_process(moment: str, few_bars: Path, tmp_path: Path) -> None:
    """At any moment: while the server starts, a training, a promotion, the stream. A training and a promotion are
    commands of one runner, so that the second, for which four models are trained on the market of the demo, is left to
    ``make test-stack``."""
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    bars = ("--bars", str(few_bars)) if moment == "weights:" else ()
    demo = subprocess.Popen(
        console_command("demo", *bars),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    )
    assert demo.stdout is not None
    seen = ""
    while moment not in seen:
        line = demo.stdout.readline()
        assert line, f"the demo ended before {moment!r}: {seen}"
        seen += line
    if moment == "weights:":  # the last words before the stream
        wait_until(lambda: any(" feed " in words for words in processes_under(tmp_path)))
    demo.send_signal(signal.SIGINT)
    demo.communicate(timeout=30)
    assert demo.returncode == 0
    assert processes_under(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def processes_under(folder: Path) -> list[str]:
    """Command lines of processes that mention ``folder``, or work in it."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            where = os.readlink(entry / "cwd")
        except OSError:
            continue
        if str(folder).encode() in words or str(folder) in where:
            found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found
