"""A booted systemd for tests: a throw-away container of systemd-nspawn, all writes to memory.

``CONCLAVE_SYSTEMD_ROOT`` names a root filesystem with systemd, dbus, python3-venv, redis-server and libgomp1;
without it one is made by mmdebstrap. Memory limits are not enforced inside."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from bench.installation import wait_until

ROOT = Path(__file__).parents[2]
TREE: Final = "/srv/conclave"
PACKAGES: Final = "systemd,systemd-sysv,dbus,python3,python3-venv,redis-server,libgomp1"


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

    def run(self, *words: str, check: bool = True, limit_s: float = 180.0) -> str:
        done = subprocess.run(
            ["nsenter", "-t", self.leader, "-m", "-u", "-i", "-n", "-p", "--", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=limit_s,
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

    def pid(self, unit: str) -> str:
        return self.of(unit, "MainPID")

    def journal(self, unit: str) -> str:
        self.run("journalctl", "--sync")
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit)

    def write(self, path: str, text: str) -> None:
        self.run("sh", "-c", 'printf %s "$2" > "$1"', "sh", path, text)

    def drop_in(self, unit: str, text: str) -> str:
        """Adds settings to a unit, or to all whose names begin so; returns what undoes it."""
        folder = f"/run/systemd/system/{unit}.service.d"
        self.run("mkdir", "-p", folder)
        self.write(f"{folder}/50-test.conf", text)
        self.run("systemctl", "daemon-reload")
        return f"rm -r {folder}; systemctl daemon-reload"

    def decided(self) -> bool:
        return any(one["status"] == "decided" for one in self.decisions(20))

    def go_on(self) -> None:
        """Waits for a decision about a bar later than any so far."""
        newest = self.decisions(1)[0]["open_time"]
        wait_until(lambda: bool(self.decisions(1)[0]["open_time"] > newest))


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


@contextmanager
def booted() -> Iterator[Machine]:
    """A machine with this tree at ``TREE`` and the wheels to install it from."""
    root = filesystem()
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
    machine = Machine(process)
    try:
        machine.boot()
        yield machine
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()
        process.wait()


def say(config: pytest.Config, words: str) -> None:
    """Prints a figure to keep, whatever is captured."""
    capture = config.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():
        print(f"\n{words}")  # noqa: T201  # a figure to keep
