"""The units, on a booted systemd (``machine.py``): what must hold on a server without Docker."""

import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, get_args

import pytest
from machine import ROOT, TREE, Machine, booted, say

from bench.installation import wait_until
from schemas.catalogue import Service
from services.console.run.service import SERVICES

UNITS = ROOT / "systemd"
BARS: Final = ("--synthetic", "sequence", "--symbols", "2", "--count", "3000", "--source-seed", "2")
INSTANCES: Final = {"model-worker": ("lightgbm:0", "xgboost:0")}


def instances() -> list[str]:
    """Every unit of an installation with one partition and two models, templates by their instances."""
    found = []
    for file in sorted(UNITS.glob("conclave-*.service")):
        name, template, _ = file.stem.partition("@")
        of = INSTANCES.get(name.removeprefix("conclave-"), ("0",)) if template else ("",)
        found += [f"{name}{template}{instance}" for instance in of]
    return found


ALL: Final = instances()
SERVER: Final = "conclave-redis"
RUNNING: Final = [unit for unit in ALL if unit not in {SERVER, "conclave-prepare", "conclave-phone"}]
"""What has a loop of Conclave's own. Without a token there is no bot."""


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


def test_each_unit_says_when_it_is_restarted_what_it_may_use_and_how_its_loop_shows_life() -> None:
    for unit in UNITS.glob("*.service"):
        text = unit.read_text()
        assert re.search(r"^Restart=(always|on-failure)$", text, re.MULTILINE), unit.name
        assert re.search(r"^MemoryMax=\d+[MG]$", text, re.MULTILINE), unit.name
        if unit.stem != "conclave-prepare":
            assert "Type=notify\n" in text, unit.name
            assert "WatchdogSec=60\n" in text, unit.name


def test_no_unit_stays_down_that_a_person_did_not_stop() -> None:
    common = (UNITS / "conclave-.service.d" / "10-common.conf").read_text()
    assert "StartLimitIntervalSec=0\n" in common
    for unit in UNITS.glob("*.service"):
        assert "RestartPreventExitStatus" not in unit.read_text(), unit.name
    [waits] = re.findall(r"^ExecStopPost=-/bin/sh -c '(.*)'$", common, re.MULTILINE)
    begun = re.sub(r"sleep \d+", "echo waits", waits.replace("$$", "$"))
    for status, printed in (("2", "waits\n"), ("1", ""), ("75", ""), ("TERM", "")):
        done = subprocess.run(
            ["sh", "-c", begun], env={"EXIT_STATUS": status}, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (0, printed), status


def test_only_who_makes_artifacts_and_sealed_files_may_write_them() -> None:
    for unit in UNITS.glob("*.service"):
        closed = " ".join(re.findall(r"^ReadOnlyPaths=(.*)$", unit.read_text(), re.MULTILINE))
        for folder, writer in (("artifacts", "conclave-trainer"), ("archive", "conclave-archiver")):
            own = unit.stem in {writer, SERVER}
            assert (f"-/var/lib/conclave/{folder}" in closed) != own, unit.name


def running(machine: Machine) -> bool:
    return all(machine.of(unit, "ActiveState") == "active" for unit in RUNNING)


@pytest.fixture(scope="module")
def machine(pytestconfig: pytest.Config) -> Iterator[Machine]:
    begun = time.monotonic()
    with booted() as found:
        found.install(release="one")
        installed = time.monotonic()
        for model, weight in (("xgboost", "1"), ("lightgbm", "0.5")):
            found.conclave(
                "train", "files", "--model", model, "--family", model, *BARS,
                "--promote", "--weight", weight, "--reason", "a first model",
            )  # fmt: skip
        found.run("systemctl", "start", "conclave-feed")
        wait_until(found.decided)
        decided = time.monotonic()
        say(
            pytestconfig,
            f"systemd: installed after {installed - begun:.0f} s, first decision after {decided - begun:.0f} s",
        )
        yield found


@pytest.mark.stack
def test_verify_finds_nothing_to_say(machine: Machine) -> None:
    units = "/etc/systemd/system/conclave*.service /etc/systemd/system/conclave.target"
    assert machine.run("sh", "-c", f"systemd-analyze verify {units} 2>&1").strip() == ""


@pytest.mark.stack
def test_doctor_finds_nothing_to_say(machine: Machine) -> None:
    """Raises where it ends with another code than 0: a right too many, a way in, a file that may be lost."""
    assert "chain intact" in machine.conclave("doctor")


@pytest.mark.stack
@pytest.mark.parametrize("unit", ALL)
def test_a_unit_is_exposed_to_little(machine: Machine, unit: str) -> None:
    shown = machine.run("systemd-analyze", "security", "--no-pager", f"{unit}.service", check=False)
    assert float(re.findall(r"exposure level for \S+: ([0-9.]+)", shown)[0]) <= 2.0


PROBE: Final = """
import ctypes, mmap, os, socket

def attempt(name, act):
    try: act(); print("done", name, flush=True)
    except (OSError, ValueError): print("refused", name, flush=True)

for path in ("/opt/conclave", "/etc", "/etc/conclave", "/var/lib", "/var/log", "/usr", "/root", "/home",
             "/var/lib/conclave/artifacts", "/var/lib/conclave/archive", "/var/lib/conclave/checkpoints"):
    attempt(path, lambda: open(path + "/probe", "w").close())
for name in ("AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_UNIX"):
    attempt(name, lambda: socket.socket(getattr(socket, name), socket.SOCK_DGRAM).close())
attempt("password of another", lambda: open("/etc/conclave/keys/admin/password").close())
attempt("keys", lambda: os.listdir("/var/lib/conclave/keys"))
attempt("be root", lambda: os.setuid(0))
attempt("code", lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC))
attempt("suid", lambda: (open("/tmp/probe", "w").close(), os.chmod("/tmp/probe", 0o4755)))
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *words):
    if libc.syscall(number, *words) < 0: raise OSError(ctypes.get_errno(), "refused")
attempt("namespace", lambda: call(272, 0x10000000))
attempt("mount", lambda: call(165, b"none", b"/tmp", b"tmpfs", 0, None))
attempt("trace", lambda: call(101, 16, os.getppid(), 0, 0))
attempt("others", lambda: os.stat("/proc/1/status"))
"""


def probe(machine: Machine, unit: Path) -> dict[str, str]:
    """What a process can do under the settings of a unit: those of the file and its drop-ins, with another program."""
    program_and_what_it_needs = "Condition|Exec|LoadCredential=token|RuntimeDirectory|Requires|After|Wants"
    other = rf"^({program_and_what_it_needs}|Type|Remain|Restart|Watchdog|Notify).*\n"
    own = re.sub(other, "", unit.read_text(), flags=re.MULTILINE)
    program = "Type=oneshot\nExecStart=/usr/bin/python3 /run/probe.py\nStandardOutput=append:/run/probed\n"
    named = "/run/systemd/system/conclave-probe.service"
    machine.write("/run/probe.py", PROBE)
    machine.write(named, own.replace("[Service]\n", f"[Service]\n{program}"))
    machine.run("sh", "-c", f"rm -rf {named}.d; mkdir {named}.d")
    for file in (UNITS / f"{unit.name}.d").glob("*.conf"):
        machine.write(f"{named}.d/{file.name}", file.read_text())
    machine.run("systemctl", "daemon-reload")
    machine.run("rm", "-f", "/run/probed")  # what runs after the program would truncate it
    machine.run("systemctl", "start", "conclave-probe")
    said = machine.run("cat", "/run/probed")
    return {name: what for what, _, name in (line.partition(" ") for line in said.splitlines())}


@pytest.mark.stack
@pytest.mark.parametrize("file", sorted(UNITS.glob("conclave-*.service")), ids=lambda file: file.stem)
def test_what_is_not_a_units_own_is_refused_to_it(machine: Machine, file: Path) -> None:
    found = probe(machine, file)
    allowed = {"AF_UNIX"}
    if file.stem != SERVER:
        allowed.add("/var/lib/conclave/checkpoints")
    allowed |= {
        "conclave-archiver": {"/var/lib/conclave/archive"},
        "conclave-trainer": {"/var/lib/conclave/artifacts", "keys", "code"},
        "conclave-gate-evaluator@": {"keys"},
        "conclave-feed": {"AF_INET", "AF_INET6"},
        "conclave-watcher": {"AF_INET", "AF_INET6"},
        "conclave-observatory": {"AF_INET", "AF_INET6"},
        "conclave-phone": {"AF_INET", "AF_INET6"},
    }.get(file.stem, set())
    assert len(found) == 25
    assert {name for name, what in found.items() if what == "done"} == allowed


@pytest.mark.stack
@pytest.mark.parametrize("signal_name", ["KILL", "TERM"])
def test_every_process_that_ends_is_restarted_and_decisions_go_on(machine: Machine, signal_name: str) -> None:
    """By whatever hand it ended, but for a feed that was asked to end."""
    units = [unit for unit in RUNNING if signal_name == "KILL" or unit != "conclave-feed"]
    before = {unit: (machine.pid(unit), int(machine.of(unit, "NRestarts"))) for unit in units}
    machine.run("systemctl", "kill", "-s", signal_name, *units)
    wait_until(lambda: all(machine.pid(unit) not in {"0", before[unit][0]} for unit in units))
    wait_until(lambda: running(machine))
    assert all(int(machine.of(unit, "NRestarts")) == before[unit][1] + 1 for unit in units)
    machine.go_on()


@pytest.mark.stack
def test_every_loop_that_stopped_is_noticed_by_the_watchdog(machine: Machine) -> None:
    """Shown with ten seconds; the units say sixty."""
    units = [*RUNNING, SERVER]
    assert [machine.of(unit, "WatchdogUSec") for unit in units] == ["1min"] * len(units)
    undo = machine.drop_in("conclave-", "[Service]\nWatchdogSec=10")
    machine.run("systemctl", "restart", SERVER, *RUNNING)
    restarts = {unit: int(machine.of(unit, "NRestarts")) for unit in units}
    machine.run("systemctl", "kill", "--kill-whom=main", "-s", "STOP", *units)
    wait_until(lambda: all(int(machine.of(unit, "NRestarts")) > restarts[unit] for unit in units), 240)
    machine.run("sh", "-c", undo)
    assert all("Watchdog timeout" in machine.journal(unit) for unit in units)
    machine.run("systemctl", "restart", SERVER, *RUNNING)
    machine.go_on()


HANGING: Final = """
import anyio
from shared.runtime.host import Host

turn, count = Host._turn, [0]

async def hanging(self):
    count[0] += 1
    if count[0] > 20:
        await anyio.sleep_forever()
    return await turn(self)

Host._turn = hanging
"""


@pytest.mark.stack
def test_a_loop_that_hangs_in_a_process_that_lives_is_noticed_too(machine: Machine) -> None:
    unit = "conclave-ensemble-voter@0"
    machine.run("mkdir", "-p", "/opt/hanging")
    machine.write("/opt/hanging/sitecustomize.py", HANGING)
    undo = machine.drop_in(unit, "[Service]\nWatchdogSec=10\nEnvironment=PYTHONPATH=/opt/hanging")
    machine.run("systemctl", "restart", unit)
    wait_until(lambda: int(machine.of(unit, "NRestarts")) > 0, 180)
    machine.run("sh", "-c", undo)
    machine.run("systemctl", "restart", unit)
    assert "Watchdog timeout" in machine.journal(unit)
    machine.go_on()


@pytest.mark.stack
def test_what_crashes_is_started_again_however_often_and_a_flood_of_lines_is_cut_and_counted(machine: Machine) -> None:
    undo = machine.drop_in("conclave-probe-crash", "[Service]\nRestart=always\nRestartSec=20ms")
    machine.run("systemd-run", "--quiet", "--unit", "conclave-probe-crash", "sh", "-c", "exit 1")
    wait_until(lambda: int(machine.of("conclave-probe-crash", "NRestarts")) > 30)
    machine.run("systemctl", "stop", "conclave-probe-crash")
    machine.run("sh", "-c", undo)
    machine.run("systemd-run", "--quiet", "--wait", "--unit", "conclave-probe-flood", "seq", "100000")
    machine.run("journalctl", "--sync")
    machine.run("sleep", "1")
    kept = machine.journal("conclave-probe-flood").splitlines()
    assert 500 <= len(kept) < 10_000


@pytest.mark.stack
def test_the_target_stops_and_starts_everything(machine: Machine) -> None:
    machine.run("systemctl", "stop", "conclave.target")
    wait_until(lambda: {machine.of(unit, "ActiveState") for unit in ALL} == {"inactive"})
    machine.run("systemctl", "start", "conclave.target", "conclave-feed")
    wait_until(lambda: running(machine))
    machine.go_on()


@pytest.mark.stack
@pytest.mark.parametrize("how", [("systemctl", "kill", "-s", "KILL"), ("systemctl", "restart")])
def test_a_server_that_comes_back_has_lost_nothing(machine: Machine, how: tuple[str, ...]) -> None:
    history, decisions = machine.conclave("history", "-o", "json"), machine.decisions()
    before = machine.pid(SERVER)
    machine.run(*how, SERVER)
    # Active it still is until systemd has seen that the process ended.
    wait_until(lambda: machine.pid(SERVER) not in {"0", before} and machine.of(SERVER, "ActiveState") == "active")
    assert machine.conclave("history", "-o", "json") == history
    assert machine.decisions()[: len(decisions)] == decisions
    assert "CRITICAL" not in machine.journal(SERVER)
    wait_until(lambda: running(machine))
    machine.go_on()


@pytest.mark.stack
def test_a_password_that_was_rotated_is_refused_and_the_new_one_is_known(machine: Machine) -> None:
    def pinged(password: str) -> str:
        words = ("-s", "/run/conclave-redis/redis.sock", "--user", "ensemble-voter", "--pass", password)
        said: str = machine.run("redis-cli", "--no-auth-warning", *words, "ping", check=False)
        return said

    file = "/etc/conclave/keys/ensemble-voter/password"
    old = machine.run("cat", file)
    others = machine.run("cat", "/etc/conclave/keys/console/password")
    assert "PONG" in pinged(old)
    machine.install("rotate", "ensemble-voter", release="one")
    assert "PONG" not in pinged(old)
    assert "PONG" in pinged(machine.run("cat", file))
    assert machine.run("cat", "/etc/conclave/keys/console/password") == others
    machine.go_on()


def releases(machine: Machine, units: Sequence[str] = RUNNING) -> set[str]:
    """Those whose code running units were started from."""
    lines = [machine.run("cat", f"/proc/{machine.pid(unit)}/cmdline") for unit in units]
    return {found for line in lines for found in re.findall(r"/opt/conclave/releases/(\w+)/", line)}


@pytest.mark.stack
def test_upgrade_and_rollback_lose_no_event(machine: Machine) -> None:
    """The release that is installed beside the first one lacks a unit, as an older one does."""
    history, decisions = machine.conclave("history", "-o", "json"), machine.decisions()
    assert releases(machine) == {"one"}
    machine.run("sh", "-c", f"cp -r {TREE} /srv/other && rm -r /srv/other/systemd/conclave-watcher.*")
    machine.run("env", "PIP_NO_INDEX=1", "RELEASE=two", "/srv/other/systemd/install.sh")
    others = [unit for unit in RUNNING if unit != "conclave-watcher"]
    assert releases(machine, others) == {"two"}
    assert machine.of("conclave-watcher", "LoadState") == "not-found"
    assert machine.of("conclave-watcher", "ActiveState") == "inactive"
    machine.go_on()
    machine.install("rollback", release="two")
    assert releases(machine) == {"one"}
    machine.go_on()
    machine.install(release="one")  # once more changes nothing
    machine.go_on()
    after = machine.decisions()
    assert machine.conclave("history", "-o", "json") == history
    assert after[: len(decisions)] == decisions
    bars = [(one["symbol"], one["open_time"]) for one in after]
    assert len(bars) == len(set(bars))
    counted = {symbol: sorted(time for one, time in bars if one == symbol) for symbol, _ in bars}
    steps = {later - earlier for times in counted.values() for earlier, later in pairwise(times)}
    assert len(steps) == 1, "a bar without a decision"


@pytest.mark.stack
def test_a_release_that_does_not_run_says_so_and_how_to_go_back(machine: Machine) -> None:
    others = "--exclude=./.* --exclude=./build --exclude=./bench --exclude=./wheels"
    machine.run("sh", "-ec", f"mkdir /srv/broken; tar -C {TREE} {others} -c . | tar -C /srv/broken -x")
    machine.run("ln", "-s", f"{TREE}/wheels", "/srv/broken/wheels")
    machine.run("sh", "-c", "echo 'raise SystemExit(2)' > /srv/broken/services/model_worker/main.py")
    said = machine.run(
        "sh", "-c", 'PIP_NO_INDEX=1 RELEASE=three /srv/broken/systemd/install.sh 2>&1; echo "ended $?"', check=False
    )
    assert "release three does not run" in said
    assert "goes back to one" in said
    assert said.splitlines()[-1] == "ended 1"
    machine.install("rollback", release="three")
    assert releases(machine) == {"one"}
    machine.go_on()


@pytest.mark.stack
def test_a_log_that_is_gone_comes_back_from_the_archive(machine: Machine) -> None:
    """As "Run on a VPS" says, in its very words. What was not sealed yet is decided again, to the same bytes."""
    machine.run("systemctl", "stop", "conclave-feed")
    history, decisions = machine.conclave("history", "-o", "json"), machine.decisions()
    rounds = machine.journal("conclave-archiver").count("sealed")
    machine.run("systemctl", "restart", "conclave-archiver")  # its first round is at once
    wait_until(lambda: machine.journal("conclave-archiver").count("sealed") > rounds)
    page = (ROOT / "docs" / "how-to" / "run-on-a-vps.md").read_text()
    words = page.partition("## Restore it")[2].partition("```\n")[2].partition("```")[0]
    machine.run("sh", "-ec", words)
    wait_until(lambda: running(machine))
    assert machine.conclave("history", "-o", "json") == history
    wait_until(lambda: len(machine.decisions()) > len(decisions))
    assert machine.decisions()[: len(decisions)] == decisions


@pytest.mark.stack
def test_uninstalled_leaves_the_log_and_nothing_that_runs(machine: Machine) -> None:
    machine.install("uninstall", release="one")
    assert machine.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "conclave*").strip() == ""
    left = machine.run("sh", "-c", "ls -d /opt/conclave /etc/systemd/system/conclave* /var/lib/conclave*", check=False)
    assert left.split() == ["/var/lib/conclave", "/var/lib/conclave-redis", "/var/lib/conclave-redis.lost"]
