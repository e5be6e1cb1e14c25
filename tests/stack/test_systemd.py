"""The units, on a booted systemd: a throw-away container of systemd-nspawn, all writes to memory.

``CONCLAVE_SYSTEMD_ROOT`` names a root filesystem with systemd, dbus, python3-venv, redis-server and libgomp1;
without it one is made by mmdebstrap. Memory limits are not enforced inside."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, get_args

import pytest

from schemas.catalogue import Service
from services.console.run import SERVICES

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "systemd"
TREE: Final = "/srv/conclave"
PACKAGES: Final = "systemd,systemd-sysv,dbus,python3,python3-venv,redis-server,libgomp1"
BARS: Final = ("--synthetic", "sequence", "--symbols", "2", "--count", "3000", "--source-seed", "2")
RUNNING: Final = (
    "conclave-ensemble-voter@0",
    "conclave-feature-builder@0",
    "conclave-model-worker@lightgbm:0",
    "conclave-model-worker@xgboost:0",
    "conclave-feed",
    "conclave-guard",
)


def test_there_is_a_unit_for_every_service_that_can_be_run_and_no_other() -> None:
    found = [re.findall(r"conclave run ([a-z-]+)", unit.read_text()) for unit in UNITS.glob("*.service")]
    assert {name for names in found for name in names} == set(SERVICES) <= set(get_args(Service))


def test_each_unit_is_given_its_own_password_alone() -> None:
    for unit in UNITS.glob("*.service"):
        text = unit.read_text()
        for user in re.findall(r"CONCLAVE_REDIS_USER=(\S+)", text):
            assert re.findall(r"^LoadCredential=password:/etc/conclave/keys/(\S+)/password$", text, re.MULTILINE) == [
                user
            ]


class Machine:
    """A booted systemd."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.leader = ""

    def boot(self, limit_s: float = 30.0) -> None:
        deadline = time.monotonic() + limit_s
        while self.state() not in {"running", "degraded"}:
            assert time.monotonic() < deadline, "systemd did not come up"
            assert self.process.poll() is None, "systemd-nspawn ended"
            time.sleep(0.1)

    def state(self) -> str:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        self.leader = children[0] if children else ""
        return self.run("systemctl", "is-system-running", check=False).strip() if self.leader else ""

    def run(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            ["nsenter", "-t", self.leader, "-m", "-u", "-i", "-n", "-p", "--", *words],
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"[-4000:])
        return done.stdout

    def install(self, *words: str, release: str) -> str:
        setting = ("env", "PIP_NO_INDEX=1", f"RELEASE={release}")
        return self.run(*setting, f"{TREE}/systemd/install.sh", *words)

    def conclave(self, *words: str) -> str:
        return self.run("conclave", *words)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.conclave("status", "-o", "json"))
        return found

    def decisions(self, last: int = 1_000_000) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.conclave("decisions", "-n", str(last), "-o", "json").splitlines()]

    def of(self, unit: str, what: str) -> str:
        return self.run("systemctl", "show", "--value", "-p", what, f"{unit}.service").strip()

    def go_on(self) -> None:
        """Waits for a decision about a bar later than any so far."""
        newest = self.decisions(1)[0]["open_time"]
        wait_until(lambda: bool(self.decisions(1)[0]["open_time"] > newest))


def wait_until(condition: Callable[[], bool], limit_s: float = 90.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not get there"
        time.sleep(0.3)


def filesystem() -> Path:
    """The root filesystem to boot; a skip where there is none and none can be made."""
    if os.geteuid() != 0 or shutil.which("systemd-nspawn") is None:
        pytest.skip("booting a systemd needs root and systemd-nspawn")
    named = os.environ.get("CONCLAVE_SYSTEMD_ROOT")
    root = Path(named) if named else Path.home() / ".cache" / "conclave" / "systemd-root"
    if not (root / "etc" / "os-release").exists():
        if named or shutil.which("mmdebstrap") is None:
            pytest.skip(f"no root filesystem at {root}, and no mmdebstrap to make one")
        root.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["mmdebstrap", "-q", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(root)], check=True
        )
        for enabled in (root / "etc/systemd/system/multi-user.target.wants").glob("redis*"):
            enabled.unlink()
    return root


@pytest.fixture(scope="module")
def machine(pytestconfig: pytest.Config) -> Iterator[Machine]:
    root = filesystem()
    begun = time.monotonic()
    if not any((ROOT / "wheels").glob("*.whl")):
        subprocess.run(["make", "wheels", f"PYTHON={sys.executable}"], cwd=ROOT, check=True, capture_output=True)
    process = subprocess.Popen(
        [
            "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot", "--directory", str(root),
            "--volatile=overlay", "--machine", f"conclave-{os.getpid()}", "--private-network", "--console=passive",
            f"--bind-ro={ROOT}:{TREE}",
        ],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    booted = Machine(process)
    try:
        booted.boot()
        booted.install(release="one")
        installed = time.monotonic()
        for model, weight in (("xgboost", "1"), ("lightgbm", "0.5")):
            booted.conclave(
                "train", "--model", model, "--family", model, *BARS,
                "--promote", "--weight", weight, "--reason", "a first model",
            )  # fmt: skip
        booted.run("systemctl", "start", "conclave-feed")
        wait_until(lambda: any(one["status"] == "decided" for one in booted.decisions(20)))
        decided = time.monotonic()
        capture = pytestconfig.pluginmanager.getplugin("capturemanager")
        assert capture is not None
        with capture.global_and_fixture_disabled():
            print(f"\nsystemd: installed after {installed - begun:.0f} s, first decision after {decided - begun:.0f} s")  # noqa: T201  # a figure to keep
        yield booted
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()
        process.wait()


@pytest.mark.stack
def test_verify_finds_nothing_to_say(machine: Machine) -> None:
    units = "/etc/systemd/system/conclave*.service /etc/systemd/system/conclave.target"
    assert machine.run("sh", "-c", f"systemd-analyze verify {units} 2>&1").strip() == ""


@pytest.mark.stack
@pytest.mark.parametrize("unit", [*RUNNING, "conclave-redis", "conclave-prepare"])
def test_a_unit_is_exposed_to_little(machine: Machine, unit: str) -> None:
    shown = machine.run("systemd-analyze", "security", "--no-pager", f"{unit}.service", check=False)
    assert float(re.findall(r"exposure level for \S+: ([0-9.]+)", shown)[0]) <= 2.0


@pytest.mark.stack
def test_writes_outside_the_state_and_networks_are_refused(machine: Machine) -> None:
    attempt = (
        "import socket\n"
        "for path in ('/opt/conclave/x', '/etc/x', '/var/lib/x', '/usr/x'):\n"
        "    try: open(path, 'w'); print('written', path)\n"
        "    except OSError: print('refused')\n"
        "try: socket.socket(socket.AF_INET); print('a network')\n"
        "except OSError: print('refused')\n"
    )
    words = (
        "systemd-run",
        "--quiet",
        "--wait",
        "--pipe",
        "--unit",
        "conclave-probe",
        "-p",
        "User=root",
        "python3",
        "-c",
    )
    assert machine.run(*words, attempt).split() == ["refused"] * 5


@pytest.mark.stack
def test_every_killed_process_is_restarted_and_decisions_go_on(machine: Machine) -> None:
    before = {unit: machine.of(unit, "MainPID") for unit in RUNNING}
    machine.run("systemctl", "kill", "-s", "KILL", *RUNNING)
    wait_until(lambda: all(machine.of(unit, "MainPID") not in {"0", before[unit]} for unit in RUNNING))
    wait_until(lambda: all(machine.of(unit, "ActiveState") == "active" for unit in RUNNING))
    assert [machine.of(unit, "NRestarts") for unit in RUNNING] == ["1"] * len(RUNNING)
    machine.go_on()


@pytest.mark.stack
def test_a_loop_that_stopped_is_noticed_by_the_watchdog(machine: Machine) -> None:
    """Shown with three seconds; the units say sixty."""
    unit = "conclave-ensemble-voter@0"
    assert [machine.of(one, "WatchdogUSec") for one in RUNNING] == ["1min"] * len(RUNNING)
    drop_in = f"/run/systemd/system/{unit}.service.d"
    machine.run("sh", "-c", f"mkdir -p {drop_in}; printf '[Service]\\nWatchdogSec=3\\n' > {drop_in}/50-test.conf")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", unit)
    restarts = int(machine.of(unit, "NRestarts"))
    machine.run("systemctl", "kill", "-s", "STOP", unit)
    wait_until(lambda: int(machine.of(unit, "NRestarts")) > restarts)
    machine.run("sh", "-c", f"rm -r {drop_in}; systemctl daemon-reload")
    assert "Watchdog timeout" in machine.run("journalctl", "--no-pager", "-u", unit)
    wait_until(lambda: machine.of(unit, "ActiveState") == "active")
    machine.go_on()


@pytest.mark.stack
@pytest.mark.parametrize("how", [("systemctl", "kill", "-s", "KILL"), ("systemctl", "restart")])
def test_a_server_that_comes_back_has_lost_nothing(machine: Machine, how: tuple[str, ...]) -> None:
    history, decisions = machine.conclave("history", "-o", "json"), machine.decisions()
    machine.run(*how, "conclave-redis")
    wait_until(lambda: machine.of("conclave-redis", "ActiveState") == "active")
    assert machine.conclave("history", "-o", "json") == history
    assert machine.decisions()[: len(decisions)] == decisions
    assert "CRITICAL" not in machine.run("journalctl", "--no-pager", "-u", "conclave-redis")
    wait_until(lambda: all(machine.of(unit, "ActiveState") == "active" for unit in RUNNING))
    machine.go_on()


@pytest.mark.stack
def test_upgrade_and_rollback_lose_no_event(machine: Machine) -> None:
    history, decisions = machine.conclave("history", "-o", "json"), machine.decisions()
    machine.install(release="two")
    assert machine.run("readlink", "/opt/conclave/current").strip() == "releases/two"
    machine.go_on()
    machine.install("rollback", release="two")
    assert machine.run("readlink", "/opt/conclave/current").strip() == "releases/one"
    machine.go_on()
    machine.install(release="one")  # once more changes nothing
    machine.go_on()
    after = machine.decisions()
    assert machine.conclave("history", "-o", "json") == history
    assert after[: len(decisions)] == decisions
    bars = [(one["symbol"], one["open_time"]) for one in after]
    assert len(bars) == len(set(bars))


@pytest.mark.stack
def test_uninstalled_leaves_the_log_and_nothing_that_runs(machine: Machine) -> None:
    machine.install("uninstall", release="one")
    assert machine.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "conclave*").strip() == ""
    left = machine.run("sh", "-c", "ls -d /opt/conclave /etc/systemd/system/conclave* /var/lib/conclave*", check=False)
    assert left.split() == ["/var/lib/conclave", "/var/lib/conclave-redis"]
