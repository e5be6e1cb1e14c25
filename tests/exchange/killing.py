"""An executor in a process of its own, killed between an order and its answer, at a local exchange in another process.

``python -m tests.exchange.killing PORT SEED`` is that exchange: a share of its orders has a fault, unless SEED is 0."""

import asyncio
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, Final

import anyio

from schemas.codec import Encoded
from schemas.control import SetExecutionPolicy
from schemas.orders import OrderPlaced
from services.executor.core import GROUP
from services.executor.desk import Desk, Timing
from services.executor.exchange import Account
from services.executor.settlement import Settled
from services.executor.state import State
from shared.control import State as Control
from shared.exchanges import Credentials
from shared.log import SupersededError, UnavailableError
from shared.log.redis import RedisLog
from shared.runtime.clock import ServerClock
from shared.runtime.host import Host
from shared.runtime.process import owner
from tests.exchange.executing import Quick, now_ms
from tests.exchange.local import LocalExchange, Market
from tests.exchange.trading import KEY, SECRET, Trading
from tests.exchange.wording import PASSWORD
from tests.services.executor.killing import FENCED, Doomed, Slow, drained
from tests.services.executor.world import story

BASES: Final = ("BTC", "ETH", "XRP")
POLICY: Final = SetExecutionPolicy(
    venue="binance", notional=1_000.0, symbol_cap=3_000.0, total_cap=1_000_000.0, cooldown_bars=2
)
TRY_AGAIN: Final = 75
TIMING: Final = Timing(window_ms=700, margin_ms=500, check_ms=500)
STEPS: Final = ("before", "within", "after", "looking", "commit before", "commit within", "commit after", "suspended")
"""When a process is killed: before an order is sent, while it is under way, after its answer, after it was looked up;
before, within or after a commit. Or it is suspended before it sends an order, and goes on when another process has
taken over and traded."""


async def serve(port: int, seed: int) -> None:
    markets = [Market(f"{base}USDT", base) for base in BASES]
    exchange = LocalExchange(markets, now_ms)
    exchange.trading = Trading([(each.id, each.base, each.quote) for each in markets], exchange.now)
    exchange.trading.late_s = 0.3
    exchange.trading.seeded = random.Random(seed) if seed else None
    async with exchange.serving(port):
        print("ready", flush=True)  # noqa: T201  # the other process waits for it
        await asyncio.Event().wait()


def market(seed: int, state: Control, bars: int, first: int) -> list[Encoded]:
    """Live bars of several symbols from ``first`` on, whose price is near 100, and decisions about them that stay valid
    for hours."""
    told = []
    for number, base in enumerate(BASES):
        draw = random.Random(seed + number)
        for at in range(bars):
            price = 100.0 + draw.uniform(-0.1, 0.1)
            move = (price, price, draw.choice(["BUY", "SELL", "HOLD", ""]))
            about: dict[str, Any] = {"interval_ms": 1000, "open_time": first + at * 1000, "origin": "live"}
            about |= {"version": state.version, "head": state.head, "valid_ms": 3 * 3_600_000}
            told += story(f"{base}/USDT", [move], **about)
    return sorted(told, key=lambda each: each.envelope.event.open_time)


class DoomedAccount(Account):
    """An account whose process is killed or suspended at one of its orders (``STEPS``)."""

    draw: random.Random
    step = ""
    left = 0

    async def send(self, order: OrderPlaced, market: str, *, at: int, window_ms: int) -> None:
        self.left -= 1
        if self.left == 0 and self.step in {"before", "suspended"}:
            os.kill(os.getpid(), signal.SIGKILL if self.step == "before" else signal.SIGSTOP)
        if self.left == 0 and self.step == "within":
            signal.setitimer(signal.ITIMER_REAL, self.draw.uniform(0.0001, 0.02))
        await super().send(order, market, at=at, window_ms=window_ms)
        if self.left == 0 and self.step == "after":
            os.kill(os.getpid(), signal.SIGKILL)

    async def look_up(self, order: OrderPlaced, market: str) -> Any:
        seen = await super().look_up(order, market)
        if isinstance(seen, Settled) and self.step == "looking":
            os.kill(os.getpid(), signal.SIGKILL)
        return seen


def forked(url: str, address: str, draw: random.Random, step: str = "", *, take_over: bool = False) -> int:
    """Run an executor in a new process until it has decided and traded everything; return its pid. A process that was
    replaced ends with ``FENCED``."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process at once
        code = anyio.run(_trade, url, address, draw, step, take_over)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


async def _trade(url: str, address: str, draw: random.Random, step: str, take_over: bool) -> int:
    at_commit = step.removeprefix("commit ") if step.startswith("commit ") else ""
    log = Doomed(url, draw, at_commit) if at_commit else Slow(url, draw.randint(1, 10))

    def opened(venue: str, now: Callable[[], int]) -> Account:
        account = DoomedAccount(venue, Credentials(KEY, SECRET, PASSWORD), now, local=address, timeout_s=1.0)
        account.draw, account.step, account.left = draw, step, draw.randint(1, 2)
        return account

    core, started, stop, code = Quick(), anyio.Event(), anyio.Event(), 0
    host: Host[State] = Host(core, log, 0, owner(GROUP), take_over=take_over, ready=started.set, clock=ServerClock())

    async def trade() -> None:
        await started.wait()
        await Desk(core, host, RedisLog(url), opened, timing=TIMING).run()

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(host.run, stop)
            tasks.start_soon(trade)
            await started.wait()
            while not await drained(log) or host.state.intents or host.state.working():
                await anyio.sleep(0.02)
            stop.set()
            while host.commits.uncommitted:
                await anyio.sleep(0.02)
            tasks.cancel_scope.cancel()
    except* SupersededError:
        code = FENCED
    except* UnavailableError:
        code = TRY_AGAIN  # a supervisor would start it again
    return code


def finish(url: str, address: str, draw: random.Random, *, take_over: bool = False) -> None:
    """Run an executor until it has traded everything, and start it again if the server does not answer in time."""
    code = TRY_AGAIN
    for _ in range(10):
        _, status = os.waitpid(forked(url, address, draw, take_over=take_over), 0)
        code = os.waitstatus_to_exitcode(status)
        if code != TRY_AGAIN:
            break
    assert code == 0, "the last executor did not trade everything"


def disturb(url: str, address: str, draw: random.Random, step: str) -> str:
    """Run an executor that is killed, and return what became of it: ``killed``, ``fenced`` after it was replaced,
    ``drained`` if it had traded everything before its time, or ``unavailable`` if the server did not answer."""
    pid = forked(url, address, draw, step)
    _, status = os.waitpid(pid, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        finish(url, address, draw, take_over=True)
        os.kill(pid, signal.SIGCONT)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) in (FENCED, TRY_AGAIN), "a process that was replaced went on"
        return "fenced"
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, TRY_AGAIN, -signal.SIGKILL, -signal.SIGALRM), code
    return {0: "drained", TRY_AGAIN: "unavailable"}.get(code, "killed")


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
