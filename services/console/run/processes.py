"""Keeps a set of processes running: starts them, restarts what crashes, ends all of them together.

A process that ends with exit code 0 or 2 is not started again: it was drained, or it cannot run and
said why (a second copy, a gap). Anything else is a crash; it is started again at once the first time,
then after a delay that doubles up to ten seconds while it keeps crashing within as long.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import anyio
from anyio.abc import Process

from shared.runtime.process import ONE_THREAD, module_command

SHORTEST_DELAY_S: Final = 0.1
LONGEST_DELAY_S: Final = 10.0
GRACE_S: Final = 10.0
NICE: Final = 10
FINAL: Final = (0, 2)


@dataclass
class Child:
    """One process: what to run, whether it stands aside for the others once all are up, and how it fares. ``code`` is
    set once it is not started again."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    aside: bool = False
    pid: int | None = None
    starts: int = 0
    code: int | None = None


class Supervisor:
    """Runs children until cancelled or told to stop. Their output goes to ``<logs>/<name>.log``."""

    def __init__(self, children: Sequence[Child], logs: Path, tell: Callable[[str], None]) -> None:
        self.children = list(children)
        self._logs = logs
        self._tell = tell
        self._stopping = False
        self._aside = False
        self._processes: dict[str, Process] = {}

    async def run(self) -> None:
        """Returns when no child is left to run."""
        self._logs.mkdir(parents=True, exist_ok=True)
        async with anyio.create_task_group() as tasks:
            for child in self.children:
                tasks.start_soon(self._keep, child)

    def stand_aside(self) -> None:
        """From now on, children that stand aside run only when no other one wants the processor. To be called once
        all are up: until then they run as the others do, or they would not come up on a busy machine."""
        self._aside = True
        for child in self.children:
            if child.aside and child.pid is not None:
                _stand_aside(child.pid)

    def stop(self) -> None:
        """Asks every child to drain; ``run`` returns when they have. Nothing is started any more."""
        self._stopping = True
        for process in self._running():
            process.terminate()

    def kill(self) -> None:
        """Ends every child at once."""
        self._stopping = True
        for process in self._running():
            process.kill()

    async def _keep(self, child: Child) -> None:
        delay = 0.0
        while not self._stopping:
            started = time.monotonic()
            code = await self._once(child)
            if self._stopping or code in FINAL:  # type: ignore[redundant-expr]  # set while awaiting
                child.code = code
                if code == 2 and not self._stopping:
                    self._tell(f"{child.name} cannot run and is not started again: {self._last_words(child)}")
                return
            lived = time.monotonic() - started
            delay = SHORTEST_DELAY_S if lived > LONGEST_DELAY_S else min(max(2 * delay, SHORTEST_DELAY_S), 10.0)
            self._tell(f"{child.name} ended with code {code} after {lived:.1f} s; starting it again")
            await anyio.sleep(delay)

    async def _once(self, child: Child) -> int:
        """One life of a child; it does not outlive this task, however that ends."""
        with (self._logs / f"{child.name}.log").open("ab") as output:
            process = await anyio.open_process(
                list(child.arguments),
                stdin=None,
                stdout=output,
                stderr=output,
                env={**os.environ, **ONE_THREAD, **child.environment},
            )
        if child.aside and self._aside:
            _stand_aside(process.pid)
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

    def _running(self) -> list[Process]:
        return [process for process in self._processes.values() if process.returncode is None]

    def _last_words(self, child: Child) -> str:
        lines = (self._logs / f"{child.name}.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


def _stand_aside(pid: int) -> None:
    """Whoever else of the session wakes has the processor at once, which no niceness gives (sched(7)). Elsewhere
    than on Linux niceness has to do. A process that ended meanwhile needs neither."""
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
    """Return the command that runs this console as a child process, by the same interpreter, from any folder."""
    return module_command("services.console.cli", *words)
