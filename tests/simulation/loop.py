"""An event loop on which a seed decides in which order processes run, and on which time jumps.

A ``Process`` stands for an operating-system process: the tasks that it starts, and their callbacks, belong to it. Its
callbacks run in their order, as on any asyncio loop. Between processes the order is drawn. Nothing waits: if no process
can run, the clock jumps to the next timer.

While a loop runs under ``simulated``, the functions of ``time`` return its time, each process with the offset of its
own wall clock, and work that would run in a thread runs at once.
"""

import asyncio
import gc
import heapq
import itertools
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from typing import Any, Final, TypeVar, TypeVarTuple

from anyio import to_thread

from shared.log import memory

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

EPOCH_MS: Final = 1_767_225_600_000
"""The wall clock at the start of a simulation (ms since 1970)."""


class Process:
    """Callbacks that run in their order. ``suspended``: they wait. ``dead``: its calls of the log fail.

    ``offset_s`` is how far its wall clock is ahead. ``steps`` counts the callbacks that ran; when it reaches
    ``breakpoint``, ``reached`` is called before the next one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready = deque[asyncio.Handle]()
        self.suspended = False
        self.dead = False
        self.offset_s = 0.0
        self.steps = 0
        self.breakpoint = -1
        self.reached: Callable[[], None] | None = None


CURRENT: ContextVar[Process] = ContextVar("CURRENT")


class _Task(asyncio.Task[Any]):
    """A task whose hash is its number, so that the order of a set of tasks does not depend on addresses."""

    def __init__(self, number: int, coroutine: Coroutine[Any, Any, Any], **options: Any) -> None:
        self._number = number
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class StuckError(RuntimeError):
    """Nothing can run, and no timer is set."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """See the module. ``outside`` is the process of whatever belongs to no process: the network, the supervisor."""

    def __init__(self, seed: object) -> None:
        super().__init__()
        self._draw = random.Random(f"{seed}/order")
        self._at = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = itertools.count(1)
        self._runnable: list[Process] = []
        self.outside = Process("outside")
        self.context = copy_context()
        self.context.run(CURRENT.set, self.outside)
        self.handled = 0
        self.set_task_factory(self._task)
        self._failure: BaseException | None = None
        self.set_exception_handler(self._note_failure)

    def time(self) -> float:
        """Return the simulated seconds since the start."""
        return self._at

    def context_of(self, process: Process) -> Context:
        """Return a context in which whatever is started belongs to ``process``."""
        context = self.context.copy()
        context.run(CURRENT.set, process)
        return context

    def suspend(self, process: Process) -> None:
        """Run nothing of a process until ``resume``."""
        process.suspended = True
        if process in self._runnable:
            self._runnable.remove(process)

    def resume(self, process: Process) -> None:
        """Run a process again that was suspended."""
        process.suspended = False
        if process.ready and process not in self._runnable:
            self._runnable.append(process)

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """See ``asyncio``."""
        handle = asyncio.Handle(callback, args, self, context)
        self._queue(handle)
        return handle

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See ``asyncio``. Timers of one moment run in the order in which they were set."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """See ``asyncio``."""
        return self.call_at(self._at + delay, callback, *args, context=context)

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Refuse: a thread would not be deterministic."""
        raise RuntimeError(f"{func} would run in a thread")

    def _queue(self, handle: asyncio.Handle) -> None:
        process = handle._context.get(CURRENT, self.outside)  # type: ignore[attr-defined]  # not in its stub
        if not process.ready and not process.suspended:
            self._runnable.append(process)
        process.ready.append(handle)

    def _run_once(self) -> None:
        """Run one callback; before that, jump to the next timer if nothing is ready."""
        timers, runnable = self._timers, self._runnable
        while not runnable:
            if not timers:
                raise StuckError("every process waits, and no timer is set")
            self._at = max(self._at, timers[0][0])
            while timers and timers[0][0] <= self._at:
                timer = heapq.heappop(timers)[2]
                if not timer.cancelled():
                    self._queue(timer)
        process = runnable[self._draw.randrange(len(runnable)) if len(runnable) > 1 else 0]
        if process.steps == process.breakpoint and process.reached is not None:
            reached, process.reached = process.reached, None
            reached()
            return
        handle = process.ready.popleft()
        if not process.ready:
            runnable.remove(process)
        if not handle.cancelled():
            process.steps += 1
            self.handled += 1
            handle._run()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _note_failure(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Note an error that nothing awaits, for ``_run_once`` to raise: it is a fault of the simulation."""
        self.fail(context.get("exception") or RuntimeError(context["message"]))

    def fail(self, error: BaseException) -> None:
        """Let the run end with an error after the present callback."""
        self._failure = error

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Ignore: a cancelled timer is left out when it is due."""

    def _write_to_self(self) -> None:
        """Do nothing: there is no other thread to wake."""

    def _task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        return _Task(next(self._numbers), coroutine, loop=loop, **options)


def current_process() -> Process | None:
    """Return the process of the running callback."""
    return CURRENT.get(None)


async def _at_once(function: Callable[..., T], *args: Any, **_: Any) -> T:
    return function(*args)


async def _no_checkpoint() -> None:
    """Stand for ``checkpoint`` in the log: requests are carried out by the server at one moment."""


@contextmanager
def simulated(loop: SimulatedLoop) -> Iterator[None]:
    """Let time be that of ``loop``, and threads be calls, while the body runs. Log lines are dropped."""

    def wall_ns() -> int:
        process = current_process()
        offset_s = process.offset_s if process is not None else 0.0
        return EPOCH_MS * 1_000_000 + int((loop._at + offset_s) * 1e9)

    replaced: list[tuple[Any, str, Any]] = [
        (time, "time_ns", wall_ns),
        (time, "time", lambda: wall_ns() / 1e9),
        (time, "monotonic", loop.time),
        (time, "monotonic_ns", lambda: int(loop.time() * 1e9)),
        (time, "perf_counter", loop.time),
        (time, "thread_time", lambda: 0.0),
        (to_thread, "run_sync", _at_once),
        (memory, "checkpoint", _no_checkpoint),
    ]
    former = [(module, name, getattr(module, name)) for module, name, _ in replaced]
    disabled, collects = logging.root.manager.disable, gc.isenabled()
    logging.disable(logging.CRITICAL)
    gc.disable()  # a run is short, and nothing may be finalized at a moment that no seed decides
    try:
        for module, name, function in replaced:
            setattr(module, name, function)
        yield
    finally:
        for module, name, function in former:
            setattr(module, name, function)
        logging.disable(disabled)
        if collects:
            gc.enable()


def run(loop: SimulatedLoop, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run ``main`` on the loop to its end."""
    try:
        return loop.run_until_complete(loop.create_task(main(), context=loop.context))
    finally:
        loop.close()
