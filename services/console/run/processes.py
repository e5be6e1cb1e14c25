"""Supervise a set of processes: start them, restart those that crash, end all of them together.

A service runs until the supervisor stops it. If it ends by itself it is restarted after 0.1 s; the delay doubles, up to
ten seconds, while the process lives for less than ten seconds. That holds for exit code 0 too: this process alone
was sent SIGTERM, and the installation should still be complete. Only a process that ``finishes`` (a feed, at the end of
its source) is not restarted after exit code 0.

A process that cannot even be started (no descriptor or no memory is left, its program is being replaced) is tried again
in the same way.

A process that ends with exit code 2 cannot run and printed the reason: a gap, a second copy, a control log that
contradicts its records. The reason may disappear without an action on this process. So it is restarted too, after
delays up to a minute, and each reason is reported once.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

import anyio
from anyio.abc import Process, TaskGroup

from shared.processes import module_command
from shared.runtime.process import ONE_THREAD

SHORTEST_DELAY_S: Final = 0.1
LONGEST_DELAY_S: Final = 10.0
FIRST_REFUSAL_S: Final = 1.0
LONGEST_REFUSAL_S: Final = 60.0
"""The delays before a process that cannot run is started again."""
GRACE_S: Final = 10.0
NICE: Final = 10
DONE: Final = 0
CANNOT_RUN: Final = 2


@dataclass
class Child:
    """One process. ``low_priority``: it gets a low scheduling priority when all are up. ``finishes``: it has an end,
    and exit code 0 says that it got there. ``code``: its exit code, set when it will not be restarted. ``refusal``: why
    it cannot run, if it ended with that exit code the last time."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    low_priority: bool = False
    finishes: bool = False
    pid: int | None = None
    starts: int = 0
    code: int | None = None
    refusal: str = ""


class Supervisor:
    """Runs children until cancelled or stopped. Their output is appended to ``<logs>/<name>.log``. ``report`` gets a
    line for each restart and each child that cannot run."""

    def __init__(self, children: Sequence[Child], logs: Path, report: Callable[[str], None]) -> None:
        self.children = list(children)
        self._logs = logs
        self._report = report
        self._stopping = False
        self._lowered = False
        self._without_logs = False
        self._processes: dict[str, Process] = {}
        self._tasks: TaskGroup | None = None

    async def run(self) -> None:
        """Run the children. Returns when all have ended and none will be restarted."""
        async with anyio.create_task_group() as self._tasks:
            for child in self.children:
                self._tasks.start_soon(self._supervise, child)

    def add(self, child: Child) -> None:
        """Run one more child, while ``run`` runs."""
        assert self._tasks is not None
        self.children.append(child)
        self._tasks.start_soon(self._supervise, child)

    def lower_priorities(self) -> None:
        """Run children with ``low_priority`` from now on only when no other process wants the processor. Call it when
        all are up: with a low priority they would not start on a busy machine."""
        self._lowered = True
        for child in self.children:
            if child.low_priority and child.pid is not None:
                _lower_priority(child.pid)

    def stop(self) -> None:
        """Send every child SIGTERM, so that it drains, and restart none. ``run`` returns when all have ended."""
        self._stopping = True
        for process in self._running():
            process.terminate()

    def kill(self) -> None:
        """Kill every child immediately, and restart none."""
        self._stopping = True
        for process in self._running():
            process.kill()

    async def _supervise(self, child: Child) -> None:
        delay = 0.0
        while not self._stopping:
            started = time.monotonic()
            try:
                code = await self._once(child)
            except OSError as error:
                delay = min(max(2 * delay, SHORTEST_DELAY_S), LONGEST_DELAY_S)
                if child.refusal != str(error):
                    self._report(f"{child.name} cannot be started, and is tried again: {error}")
                child.refusal = str(error)
                await anyio.sleep(delay)
                continue
            if self._stopping or (code == DONE and child.finishes):  # type: ignore[redundant-expr]  # set while awaiting
                child.code = code
                return
            lived = time.monotonic() - started
            if code == CANNOT_RUN:
                delay = min(max(2 * delay, FIRST_REFUSAL_S), LONGEST_REFUSAL_S)
                reason = self._last_line(child)
                if reason != child.refusal:
                    self._report(
                        f"{child.name} cannot run, and is tried again after longer and longer delays: {reason}"
                    )
                child.refusal = reason
            else:
                child.refusal = ""
                longest = min(max(2 * delay, SHORTEST_DELAY_S), LONGEST_DELAY_S)
                delay = SHORTEST_DELAY_S if lived > LONGEST_DELAY_S else longest
                self._report(f"{child.name} ended with code {code} after {lived:.1f} s; restarting it")
            await anyio.sleep(delay)

    async def _once(self, child: Child) -> int:
        """Run a child once and return its exit code. The process is ended when this task ends, for whatever reason."""
        with self._output(child) as output:
            process = await anyio.open_process(
                list(child.arguments),
                stdin=None,
                stdout=output,
                stderr=output,
                env={**os.environ, **ONE_THREAD, **child.environment},
            )
        if child.low_priority and self._lowered:
            _lower_priority(process.pid)
        child.pid = process.pid
        child.starts += 1
        self._processes[child.name] = process
        try:
            return await process.wait()
        finally:
            with anyio.CancelScope(shield=True):
                await _end(process)
            del self._processes[child.name]
            child.pid = None

    def _output(self, child: Child) -> IO[bytes]:
        """Open the log of a child. If the disk does not allow it, its output goes where that of this process goes: a
        service must not be kept from starting by its log."""
        try:
            self._logs.mkdir(parents=True, exist_ok=True)
            return (self._logs / f"{child.name}.log").open("ab")
        except OSError as error:
            if not self._without_logs:
                self._report(f"{self._logs} cannot be written, so services write to this terminal: {error}")
            self._without_logs = True
            return os.fdopen(os.dup(sys.stderr.fileno()), "wb")

    def _running(self) -> list[Process]:
        return [process for process in self._processes.values() if process.returncode is None]

    def _last_line(self, child: Child) -> str:
        try:
            lines = (self._logs / f"{child.name}.log").read_text(errors="replace").strip().splitlines()
        except OSError as error:
            return f"its log cannot be read: {error}"
        return lines[-1] if lines else "its log is empty"


def _lower_priority(pid: int) -> None:
    """Give a process the scheduling policy SCHED_IDLE: other processes of the session preempt it at once, which a nice
    value does not achieve (sched(7)). On systems other than Linux only the nice value is set. A process that has ended
    is ignored."""
    with suppress(ProcessLookupError, FileNotFoundError):
        if sys.platform != "linux":
            os.setpriority(os.PRIO_PROCESS, pid, NICE)
            return
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(thread.name), NICE)
            os.sched_setscheduler(int(thread.name), os.SCHED_IDLE, os.sched_param(0))


async def _end(process: Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    with anyio.move_on_after(GRACE_S):
        await process.wait()
        return
    process.kill()
    await process.wait()


def console_command(*words: str) -> list[str]:
    """Return the command that runs this console as a child process, with the same interpreter, from any folder."""
    return module_command("services.console.cli", *words)
