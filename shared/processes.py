"""Identify processes by their pid, their start time and the namespace of the pid, end them, and start modules as
processes.

A pid alone does not identify a process: it is given to another one after the process has ended, and a restarted
container has the pids that it had before. A file or a record that outlives a process must contain all three.

Where there is no ``/proc``, the start time and the namespace are not known, and a process is identified by its pid.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

DEAD: Final = frozenset({"Z", "X", "x"})
"""The states of a process that has ended, in ``/proc/<pid>/stat``: it was killed, and its parent has not read its exit
code yet. Its pid is not free."""
LAUNCHER: Final = Path(__file__).parents[1] / "conclave_signals.py"
"""The file that runs a module of this installation."""


class ProcessIdentity(NamedTuple):
    """A process. ``born``: its start time (``process_start_time``), 0 if it is not known. ``namespace``: the namespace
    of its pid (``pid_namespace``), '' if it is not known."""

    pid: int
    born: int = 0
    namespace: str = ""


def identity_of(pid: int) -> ProcessIdentity:
    """Return the identity of a process that runs now, such as this one or its child."""
    return ProcessIdentity(pid, process_start_time(pid), pid_namespace())


def runs(process: ProcessIdentity) -> bool:
    """Return whether a process of this namespace still runs. A zombie does not; a stopped process does.

    A process of another namespace, as of an earlier run of a container or of the machine, cannot be reached from here:
    return false."""
    if process.pid <= 0 or process.namespace != pid_namespace():
        return False
    with suppress(PermissionError):
        try:
            os.kill(process.pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
    state, start = state_and_start(process.pid)
    return state not in DEAD and start == process.born


def end(process: ProcessIdentity, number: int = signal.SIGTERM) -> bool:
    """Send a signal to a process, and return whether it was sent. Nothing is sent to another process, even if the pid
    is given to one meanwhile. Raises ``PermissionError`` for a process of another user."""
    if not runs(process):
        return False
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    except (AttributeError, OSError):  # not Linux, or a kernel without it
        os.kill(process.pid, number)
        return True
    try:
        if not runs(process):
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def pid_namespace() -> str:
    """Return what identifies the pids that this process sees: the boot of the machine, and the namespace of the pids
    (``pid_namespaces(7)``). '' if the system does not have it. Hosts may have the same name; containers that share the
    network of their host do."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""  # hidden, for example by ProcSubset=pid of systemd
    return f"{boot} {namespace}".strip()


def process_start_time(pid: int) -> int:
    """Return the start time of a process, in clock ticks since boot (``proc(5)``); 0 if it cannot be read."""
    return state_and_start(pid)[1]


def state_and_start(pid: int) -> tuple[str, int]:
    """Return the state of a process and its start time; '' and 0 if they cannot be read."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return fields[0].decode(), int(fields[19])
    except (OSError, IndexError, ValueError):
        return "", 0


def module_command(module: str, *words: str) -> list[str]:
    """Return the command that runs an installed module as a child, with the interpreter of this process.

    A package ``services`` of a person's project must not be run in place of the installed one: ``-P`` keeps the working
    folder off the import path, and the launcher prefers its own installation to ``PYTHONPATH``."""
    return [sys.executable, "-P", os.fspath(LAUNCHER), module, *words]


@contextmanager
def without_ctrl_c() -> Iterator[None]:
    """Ignore Ctrl-C, so that processes started in this context ignore it for ever: they inherit it, and the one that
    started them ends them. Has no effect outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process on this machine (MB); 0 if the system does not report it."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as status:
            line = next(line for line in status if line.startswith("VmRSS:"))
    except (OSError, StopIteration):
        return 0.0
    return int(line.split()[1]) / 1024
