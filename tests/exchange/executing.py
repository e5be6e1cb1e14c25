"""An executor that trades at a local exchange through ccxt, on a log in memory or on Redis."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.codec import Encoded, decode
from schemas.control import Found, SetExecutionPolicy, TrustKey
from schemas.orders import IntentRefused, OrderEnded, OrderFilled
from services.executor.core import GROUP
from services.executor.desk import Desk, Timing
from services.executor.exchange import Account
from services.executor.main import Trading as Core
from services.executor.state import State
from shared.control.issuing import ControlWriter, current
from shared.control.signing import Signer
from shared.exchanges import Credentials
from shared.log import Commit, Log, StreamKey
from shared.runtime.clock import ServerClock
from shared.runtime.host import Host
from shared.runtime.process import owner
from tests.exchange.local import LocalExchange, Market
from tests.exchange.trading import KEY, SANDBOX, SECRET, Trading
from tests.exchange.wording import PASSWORD
from tests.services.executor.world import story

WHY: Final[dict[str, Any]] = {"actor": "me", "reason": "a test"}
SECOND: Final = 1_000
WAIT_S: Final = 30.0
QUICK: Final = Timing(window_ms=200, margin_ms=200, check_ms=200)
POLICY: Final = SetExecutionPolicy(venue="binance", notional=1_000.0, symbol_cap=2_000.0, total_cap=10_000.0)
SYMBOL: Final = "BTC/USDT"


def signer() -> Signer:
    """A new key."""
    return Signer("ada", Ed25519PrivateKey.generate())


class Quick(Core):
    """An executor that reads without pauses."""

    poll_ms = 0


def now_ms() -> int:
    return time.time_ns() // 10**6


def accounts(url: str, credentials: Credentials = Credentials(KEY, SECRET, PASSWORD)) -> Callable[..., Account]:  # noqa: B008
    """What opens an account at a local exchange."""
    return lambda venue, now: Account(venue, credentials, now, local=url, timeout_s=1.5)


@asynccontextmanager
async def exchange(*bases: str) -> AsyncIterator[Trading]:
    """A local exchange with accounts. Its address is ``url``."""
    markets = [Market(f"{base}USDT", base) for base in bases or ("BTC",)]
    trading = Trading([(each.id, each.base, each.quote) for each in markets], now_ms)
    local = LocalExchange(markets, trading.now)
    local.trading = trading
    async with local.serving():
        trading.url = local.url
        yield trading


class Installation:
    """A log with a signed control stream, and an executor that is started and stopped at will."""

    def __init__(self, log: Log, trading: Trading) -> None:
        self.log = log
        self.trading = trading
        self.key = signer()
        self.core = Quick()
        self.first = (now_ms() // SECOND - 600) * SECOND
        self.bars = 0

    async def found(self, policy: SetExecutionPolicy = POLICY) -> None:
        """Found the installation, and let orders go to the exchange."""
        writer = ControlWriter(self.log)
        await writer.issue(Found(1, "log-of-a-test"), **WHY)
        await writer.issue(TrustKey("ada", self.key.public_key, "Ada"), **WHY)
        await self.issue(policy)

    async def issue(self, command: Any) -> None:
        await ControlWriter(self.log, self.key).issue(command, **WHY)

    async def decide(self, *actions: str, symbol: str = SYMBOL, price: float = 100.0, **about: Any) -> list[Encoded]:
        """Write one bar after the other, each with the decision about it."""
        state = await current(self.log)
        told: list[Encoded] = []
        for action in actions:
            stamped = {"version": state.version, "head": state.head, "valid_ms": 3_600_000, "origin": "live", **about}
            opened = self.first + self.bars * SECOND
            bar = {"interval_ms": SECOND, "open_time": opened}
            told += story(symbol, [(price, price, action)], **{**stamped, **bar})
            self.bars += 1
        claim = await self.log.claim("writer", (), 0, owner("test"), take_over=True)
        await self.log.commit(claim, Commit(told, {}, {}, fence=await self.log.fence(0)))
        return told

    @asynccontextmanager
    async def running(self, *, timing: Timing = QUICK, **account: Any) -> AsyncIterator[Host[State]]:
        """The executor runs in the body, and is killed after it: cancelled wherever it is."""
        self.core = Quick()
        started = anyio.Event()
        clock = ServerClock()
        host: Host[State] = Host(self.core, self.log, 0, owner(GROUP), take_over=True, ready=started.set, clock=clock)
        opened = account.get("opened", accounts(self.trading.url))
        desk = Desk(self.core, host, self.log, opened, timing=timing)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(host.run, anyio.Event())
            await started.wait()
            tasks.start_soon(desk.run)
            yield host
            tasks.cancel_scope.cancel()

    async def events(self, *kinds: type) -> list[Any]:
        """The events on ``orders`` and ``trades``, of these kinds."""
        found = [
            decode(stream, entry.data).event
            for stream in ("orders", "trades")
            for entry in await self.log.scan(StreamKey(stream), count=10_000)
        ]
        return [event for event in found if isinstance(event, kinds)]

    async def until(self, count: int, *kinds: type) -> list[Any]:
        """Wait for so many events of these kinds, and return them."""
        with anyio.move_on_after(WAIT_S):
            while len(found := await self.events(*kinds)) < count:
                await anyio.sleep(0.01)
            return found
        raise AssertionError(
            f"{len(found)} of {count} {kinds}; {[str(each)[:300] for each in await self.events(object)]}"
        )

    async def settled(self, count: int) -> list[Any]:
        """Wait until so many intents and orders have come to an end, and return all outcomes."""
        with anyio.move_on_after(WAIT_S):
            while True:
                found = await self.events(OrderFilled, OrderEnded, IntentRefused)
                ended = {each.intent if isinstance(each, IntentRefused) else each.order for each in found}
                if len(ended) >= count:
                    return found
                await anyio.sleep(0.01)
        raise AssertionError(f"{len(ended)} of {count}; {[str(each)[:300] for each in await self.events(object)]}")

    def placed(self, host: str = SANDBOX) -> Sequence[Any]:
        """The orders at the exchange."""
        return self.trading.orders[host]
