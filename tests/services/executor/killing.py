"""An executor in a process of its own, killed at its commits, over a market on Redis."""

import os
import random
import signal
from collections.abc import Mapping, Sequence
from typing import Any, Final

import anyio

from schemas.codec import Encoded, decode
from schemas.control import SetExecutionPolicy
from services.executor.core import GROUP, Executor
from shared.control import State
from shared.log import Claim, Commit, Committed, Entry, Log, StreamKey, SupersededError
from shared.log.redis import RedisLog
from shared.runtime.entries import decoded
from shared.runtime.host import Host
from shared.runtime.process import owner
from tests.services.executor.world import Run, story

SYMBOLS: Final = ("BTC", "ETH", "XRP")
POLICY: Final = SetExecutionPolicy(total_cap=20_000.0, volume_share=0.5, cooldown_bars=1)
STEPS: Final = ("before", "within", "after", "anywhere", "suspended")
"""When a process is killed: before a commit is sent, while it is under way, after it, or at any moment. Or it is
suspended before a commit, and continues when another process has taken over."""
FENCED: Final = 3


def market(seed: int, state: State, bars: int, first: int = 0) -> list[Encoded]:
    """Bars of several symbols, and decisions about them, in the order in which they are written."""
    told = []
    for number, symbol in enumerate(SYMBOLS):
        draw = random.Random(seed + number)
        price, moves = 100.0, []
        for _ in range(bars):
            price *= 1 + draw.uniform(-0.01, 0.01)
            moves.append((price, price * (1 + draw.uniform(-0.01, 0.01)), draw.choice(["BUY", "SELL", "HOLD", ""])))
        told += story(symbol, moves, first, volume=150.0, version=state.version, head=state.head)
    return sorted(told, key=lambda each: each.envelope.event.open_time)


async def write(log: Log, told: Sequence[Encoded]) -> None:
    """Write as the services that own the streams would, under the open fence."""
    claim = await log.claim("writer", (), 0, owner("test"), take_over=True)
    await log.commit(claim, Commit(list(told), {}, {}, fence=await log.fence(0)))


async def read_all(log: Log, *streams: str) -> list[Entry]:
    """All entries of these streams."""
    found = []
    for stream in streams:
        after = "0-0"
        while entries := await log.scan(StreamKey(stream), after=after):
            found += entries
            after = entries[-1].id
    return found


async def drained(log: Log) -> bool:
    """Whether the executor has committed all there is to read."""
    views = [view for view in await log.groups(0) if view.group == GROUP]
    return bool(views) and not any(views[0].lag.values())


class Prompt(Executor):
    """An executor that does not pause between reads, so that a log of which little is read at once is soon read."""

    poll_ms = 0


class Slow(RedisLog):
    """A log of which few entries are read at once, so that there are many commits."""

    def __init__(self, url: str, most: int) -> None:
        super().__init__(url)
        self.most = most

    async def read(self, after: Mapping[StreamKey, str], *, count: int, **more: Any) -> list[Entry]:
        return await super().read(after, count=min(count, self.most), **more)


class Doomed(Slow):
    """A log whose process is killed or suspended at one of its commits (``STEPS``)."""

    def __init__(self, url: str, draw: random.Random, step: str) -> None:
        super().__init__(url, draw.randint(1, 10))
        self.left, self.step = draw.randint(1, 3), step
        self.within_s = draw.uniform(0.0001, 0.003) if step == "within" else draw.uniform(0.001, 0.1)

    async def commit(self, claim: Claim, commit: Commit) -> Committed:
        self.left -= 1
        if self.left == 0 and self.step in {"before", "suspended"}:
            os.kill(os.getpid(), signal.SIGKILL if self.step == "before" else signal.SIGSTOP)
        if self.left == 0 and self.step == "within":
            signal.setitimer(signal.ITIMER_REAL, self.within_s)
        done = await super().commit(claim, commit)
        if self.left == 0 and self.step == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return done


def forked(log: RedisLog, *, take_over: bool = False) -> int:
    """Run an executor in a new process until it has read everything; return its pid. A process that was replaced ends
    with ``FENCED``."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process at once
        if isinstance(log, Doomed) and log.step == "anywhere":
            signal.setitimer(signal.ITIMER_REAL, log.within_s)
        code = anyio.run(_serve, log, take_over)
    finally:
        os._exit(code)


async def _serve(log: RedisLog, take_over: bool) -> int:
    stop = anyio.Event()
    code = 0
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Host(Prompt(), log, 0, owner(GROUP), take_over=take_over).run, stop)
            while not await drained(log):
                await anyio.sleep(0.01)
            stop.set()
    except* SupersededError:
        code = FENCED
    return code


def disturb(url: str, draw: random.Random, step: str) -> str:
    """Run an executor that is killed, and return what became of it: ``killed``, ``fenced`` after it was replaced, or
    ``drained`` if it had read everything before its time."""
    pid = forked(Doomed(url, draw, step))
    _, status = os.waitpid(pid, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        successor = forked(RedisLog(url), take_over=True)
        _, ended = os.waitpid(successor, 0)
        assert os.waitstatus_to_exitcode(ended) == 0
        os.kill(pid, signal.SIGCONT)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == FENCED, "a process that was replaced wrote"
        return "fenced"
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -signal.SIGKILL, -signal.SIGALRM), code
    return "killed" if code else "drained"


def undisturbed(control: Sequence[Entry], read: Sequence[Entry]) -> Run:
    """A run of the core alone over the same entries."""
    run = Run([decode("control", entry.data) for entry in control])
    run.take(decoded(read, GROUP)[0])
    return run
