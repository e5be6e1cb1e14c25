"""Signs of life: who hears them, and when their absence counts."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared import notify
from shared.notify import Supervised, check


def heard(listener: socket.socket) -> list[bytes]:
    found = []
    listener.setblocking(False)
    while True:
        try:
            found.append(listener.recv(100))
        except BlockingIOError:
            return found


@pytest.fixture
def listener(tmp_path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(str(tmp_path / "socket"))
    return made


def test_systemd_is_told_ready_alive_and_stopping(listener: socket.socket) -> None:
    supervised = Supervised({"NOTIFY_SOCKET": listener.getsockname()})
    supervised.ready()
    supervised.stopping()
    assert heard(listener) == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]
    listener.close()


def test_a_loop_that_turns_fast_is_heard_once_a_second(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    supervised = Supervised({"NOTIFY_SOCKET": listener.getsockname()})
    for _ in range(30):
        supervised.alive()
        now += 0.1
    assert heard(listener) == [b"WATCHDOG=1"] * 3
    listener.close()


def test_a_supervisor_that_does_not_listen_is_nobody(tmp_path: Path) -> None:
    Supervised({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready()
    Supervised({}).ready()


def test_a_loop_that_turned_lately_is_well_and_one_that_did_not_is_not(tmp_path: Path) -> None:
    file = tmp_path / "heartbeat"
    environ = {"CONCLAVE_HEARTBEAT": str(file)}
    assert "has not begun" in str(check(environ))
    supervised = Supervised(environ)
    supervised.ready()
    assert check(environ) is None
    then = time.time() - notify.STALE_S - 1
    os.utime(file, (then, then))
    assert "the loop turned 46 s ago" in str(check(environ))
    supervised.stopping()
    assert "was drained" in str(check(environ))


def test_without_a_heartbeat_the_check_says_so() -> None:
    assert "CONCLAVE_HEARTBEAT is not set" in str(check({}))


def test_the_check_is_a_command(tmp_path: Path) -> None:
    file = tmp_path / "heartbeat"
    words = [sys.executable, "-m", "shared.notify"]
    environ = {**os.environ, "CONCLAVE_HEARTBEAT": str(file)}
    assert subprocess.run(words, env=environ, check=False, capture_output=True).returncode == 1
    file.touch()
    assert subprocess.run(words, env=environ, check=False).returncode == 0
