"""Signs of life: who hears them, and when their absence counts."""

import os
import socket
import time
from pathlib import Path

import pytest

from shared.runtime import supervision
from shared.runtime.supervision import Supervised


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


def test_the_heartbeat_is_as_old_as_the_loops_last_turn_and_gone_when_it_drains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, file = 100.0, tmp_path / "heartbeat"
    monkeypatch.setattr(time, "monotonic", lambda: now)
    supervised = Supervised({"CONCLAVE_HEARTBEAT": str(file)})
    assert not file.exists()
    supervised.ready()
    os.utime(file, (1.0, 1.0))
    now += supervision.EVERY_S
    supervised.alive()
    assert file.stat().st_mtime > 1.0
    supervised.stopping()
    assert not file.exists()


def test_a_heartbeat_that_cannot_be_written_ends_nothing_and_is_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    (tmp_path / "file").write_text("a file where a folder should be")
    supervised = Supervised({"CONCLAVE_HEARTBEAT": str(tmp_path / "file" / "heartbeat")})
    supervised.ready()
    for _ in range(3):
        now += supervision.EVERY_S
        supervised.alive()
    supervised.stopping()
    assert ["cannot be written" in record.message for record in caplog.records] == [True]
