"""A feed that reads a local exchange through ccxt, on a log in memory, with a clock that the test advances."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any

import anyio

from schemas.codec import decode
from schemas.market import BarClosed
from schemas.venue import BarsAbsent
from services.feed.live.client import open_client
from services.feed.live.main import Plan, feed_exchanges
from services.feed.live.state import LiveSeries, Rules
from shared.inputs.kinds import Kind
from shared.log import StreamKey
from shared.log.memory import MemoryLog
from shared.runtime.clock import ProcessClock, ServerClock
from shared.runtime.loop import Loop
from tests.exchange.local import START, LocalExchange, Market

WAIT_S = 30.0
"""How long a test waits for a condition. The machine may be busy; nothing here takes longer than a second otherwise."""


class ManualClock:
    """The time of a test, in milliseconds."""

    def __init__(self) -> None:
        self.ms = START + 30_000

    def now(self) -> int:
        return self.ms

    def process(self) -> ProcessClock:
        return ProcessClock(lambda: self.ms * 10**6, lambda: self.ms * 10**6)


class Installation:
    """One feed, started and stopped at will, and what it has written."""

    def __init__(self, exchange: LocalExchange, clock: ManualClock, plan: Plan) -> None:
        self.exchange = exchange
        self.clock = clock
        self.plan = plan
        self.log = MemoryLog(now=clock.now)
        self.counts: Counter[str] = Counter()
        self.end_stamped = False

    @asynccontextmanager
    async def running(self, *, killed: bool = False) -> AsyncIterator[None]:
        """The feed runs in the body. It is stopped after it, or ``killed``: cancelled wherever it is, without a word to
        the log."""
        stop = anyio.Event()
        loop = Loop(self.log, "feed", clock=ServerClock(self.clock.process()))

        async def run() -> None:
            self.counts += await feed_exchanges(
                loop,
                self.plan,
                lambda name: open_client(
                    name,
                    [each.market for each in self.plan.series],
                    local=self.exchange.url,
                    end_stamped=self.end_stamped,
                ),
                stop=stop,
            )

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            yield
            if killed:
                tasks.cancel_scope.cancel()
            stop.set()

    async def written(self, stream: str) -> list[Any]:
        entries = await self.log.scan(StreamKey(stream), count=100_000)
        return [decode(stream, entry.data).event for entry in entries]

    async def bars(self, symbol: str = "") -> list[BarClosed]:
        bars = [event for event in await self.written("market") if isinstance(event, BarClosed)]
        return [bar for bar in bars if not symbol or bar.symbol == symbol]

    async def numbers(self, symbol: str = "") -> list[int]:
        return [bar.open_time // bar.interval_ms for bar in await self.bars(symbol)]

    async def events(self, kind: type) -> list[Any]:
        return [event for event in await self.written("venue") if isinstance(event, kind)]

    async def until(self, condition: Callable[[], Any], *, step: int = 0, what: str = "") -> None:
        """Wait for a condition, and advance the time by ``step`` ms between two looks."""
        with anyio.move_on_after(WAIT_S) as scope:
            while not await condition():
                if step:
                    self.clock.ms += step
                    await self.exchange.push()
                await anyio.sleep(0.01)
        if scope.cancelled_caught:
            seen = [str(event)[:300] for event in await self.written("venue")]
            numbers = await self.numbers()
            raise AssertionError(f"{what or condition}: not within {WAIT_S} s; {numbers[-9:]}, {seen[-9:]}")

    async def subscribed(self, count: int = 1, *, step: int = 0) -> None:
        """Wait until so many streams are asked for."""

        async def there() -> bool:
            return len(self.exchange.streams()) >= count

        await self.until(there, step=step, what=f"{count} subscriptions")

    async def to(self, n: int, *, late: int = 600, symbol: str = "") -> None:
        """Advance to ``late`` ms after the close of bar ``n``, showing each bar on the stream, and wait for it. If the
        time is past it already, wait for it alone."""
        size = self.plan.series[0].interval_ms

        async def written(number: int) -> None:
            async def there() -> bool:
                found = await self.numbers(symbol)
                return bool(found) and found[-1] >= number

            await self.until(there, what=f"bar {number} of {symbol or 'any'}")

        await self.exchange.push()
        for number in range(self.clock.ms // size, n + 1):
            self.clock.ms = max(self.clock.ms, (number + 1) * size - size // 2)
            await self.exchange.push()
            await anyio.sleep(0)
            self.clock.ms = (number + 1) * size + late
            await self.exchange.push()
            await written(number)
        await written(n)


@asynccontextmanager
async def installed(
    *symbols: str,
    rules: Rules | None = None,
    history: int = 0,
    exchange: str = "binance",
    inputs: Collection[Kind] = (),
    contracts: bool = False,
    **faults: Any,
) -> AsyncIterator[Installation]:
    """A local exchange and a feed that is not running yet. ``contracts``: its markets are perpetual. ``faults`` are
    attributes of the exchange."""
    clock = ManualClock()
    suffix = ":USDT" if contracts or exchange == "binanceusdm" else ""
    markets = [Market(f"{base}USDT", base) for base in symbols or ("BTC",)]
    local = LocalExchange(markets, clock.now)
    for name, value in faults.items():
        setattr(local, name, value)
    chosen = rules or Rules(page=50)
    series = tuple(
        LiveSeries(exchange, f"{m.base}/USDT{suffix}", f"{m.base}/USDT{suffix}", m.interval) for m in markets
    )
    async with local.serving():
        yield Installation(local, clock, Plan(series, {exchange: chosen}, history, inputs=frozenset(inputs)))


def holes(events: list[Any]) -> set[int]:
    """The numbers of the bars in named holes."""
    return {
        hole.first // hole.interval_ms + n for hole in events if isinstance(hole, BarsAbsent) for n in range(hole.count)
    }
