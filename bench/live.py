"""Measure what live bars lose, repeat or invent under faults, and how late they are.

The feed reads a local exchange through ccxt on loopback. First in simulated time: 20 symbols with bars of an hour, and
faults drawn from a seed (connections, subscriptions, pages, refusals, holes, revisions, a REST that lags), kills of the
feed wherever it is, and a log that loses its last commits. Then the log is compared with what the exchange has. Then a
real feed process and a real server are killed (``bench.live_kills``). Then in real time, without faults: 20 symbols
with bars of a second, and how long after its close each bar is on the log."""

import random
import time
from collections import Counter
from statistics import median, quantiles

import anyio

from bench.harness import Figure
from bench.live_kills import killed
from schemas.codec import decode
from schemas.venue import BarRevised, BarsAbsent, FeedInterrupted
from services.feed.live.client import open_client
from services.feed.live.main import Plan, feed_exchanges
from services.feed.live.state import LiveSeries, Rules
from shared.log import StreamKey
from shared.log.leases import id_order
from shared.log.memory import MemoryLog
from shared.runtime.loop import Loop
from tests.exchange.installation import Installation, ManualClock, holes
from tests.exchange.local import INTERVALS, START, LocalExchange, Market

BASES = tuple(f"S{n:02}" for n in range(20))
HOUR = INTERVALS["1h"]
SEED = 7


def run(quick: bool) -> dict[str, Figure]:
    days, faults, kills, seconds = (2, 40, 4, 10) if quick else (30, 500, 20, 60)
    figures = anyio.run(simulated, days, faults)
    return figures | anyio.run(killed, kills) | anyio.run(in_real_time, seconds)


async def simulated(days: int, faults: int) -> dict[str, Figure]:
    """Feed ``days`` under ``faults``, and compare the log with the exchange."""
    chance, clock = random.Random(SEED), ManualClock()
    clock.ms = START // HOUR * HOUR + HOUR // 2
    markets = [Market(f"{base}USDT", base, interval=HOUR) for base in BASES]
    exchange = LocalExchange(markets, clock.now)
    series = tuple(LiveSeries("binance", f"{m.base}/USDT", f"{m.base}/USDT", HOUR) for m in markets)
    made: Counter[str] = Counter()
    began = time.monotonic()
    async with exchange.serving():
        feed = Installation(exchange, clock, Plan(series, {"binance": Rules(page=50)}, 6))
        first, hours = clock.ms // HOUR, days * 24
        each_hour = faults / hours
        done = 0
        while done < hours:
            image = feed.log.image() if made["starts"] else None
            made["starts"] += 1
            killed = chance.random() < 0.5
            made["kills"] += killed
            async with feed.running(killed=killed):
                for _ in range(min(chance.randint(6, 18), hours - done)):
                    for _ in range(int(each_hour) + (chance.random() < each_hour % 1)):
                        made[await disturb(exchange, chance, clock.ms // HOUR)] += 1
                    hour = clock.ms // HOUR * HOUR
                    for moment in (HOUR // 4, HOUR // 2, HOUR - 60, HOUR + 60):
                        clock.ms = max(clock.ms, hour + moment)
                        await exchange.push()
                        await anyio.sleep(0.01)
                    done += 1
                    if image is not None and chance.random() < 0.02:
                        feed.log.restore(image)
                        made["lost tails"] += 1
                        image = None
                    await settle(feed)
        end = clock.ms // HOUR + 3
        calm(exchange, end)
        async with feed.running():
            await feed.until(lambda: reached(feed, end), step=HOUR // 4, what=f"bar {end}")
        return await figures_of(feed, first, end, made, time.monotonic() - began)


async def settle(feed: Installation) -> None:
    """Give the feed a few seconds of simulated time, so that retries come due."""
    for _ in range(4):
        feed.clock.ms += 3_000
        await feed.exchange.push()
        await anyio.sleep(0.005)


async def disturb(exchange: LocalExchange, chance: random.Random, n: int) -> str:
    """Make one fault, drawn by chance, and return its name."""
    market = exchange.markets[chance.choice(sorted(exchange.markets))]
    match chance.randrange(11):
        case 0:
            code = chance.choice([1001, 1006, 1012])
            await exchange.disconnect(code)
            return f"disconnect {code}"
        case 1:
            exchange.mute(f"{market.id.lower()}@kline_1h")
            return "subscription lost"
        case 2:
            exchange.mute()
            return "dead connection"
        case 3:
            kind = chance.choice(["oldest", "newest", "cut", "empty"])
            exchange.pages += [kind] * chance.randint(1, 5)
            return f"{kind} page"
        case 4:
            exchange.refusals += [(429, {"Retry-After": "3"}, "{}")] * chance.randint(1, 3)
            return "429"
        case 5:
            exchange.refusals += [(503, {}, "{}")] * chance.randint(1, 10)
            return "503"
        case 6:
            market.absent |= {n + k for k in range(1, chance.randint(2, 4))}
            return "hole"
        case 7:
            market.off_grid.add(n + 1)
            return "off the grid"
        case 8:
            market.revised[n] = ((n + 1) * HOUR + chance.choice([100, 5_000]), 500.0 + n)
            return "revision"
        case 9:
            market.quiet |= {n + 1}
            return "quiet"
        case _:
            exchange.again, exchange.lagging = chance.random() < 0.5, chance.choice([0, 400, 3_000])
            return "older rows, late REST"


def calm(exchange: LocalExchange, end: int) -> None:
    """End all faults before bar ``end``."""
    exchange.lagging, exchange.pages, exchange.refusals = 0, [], []
    for market in exchange.markets.values():
        market.absent = {n for n in market.absent if n < end - 2}
        market.off_grid = {n for n in market.off_grid if n < end - 2}


async def reached(feed: Installation, end: int) -> bool:
    newest: dict[str, int] = {}
    for bar in await feed.bars():
        newest[bar.symbol] = bar.open_time // HOUR
    return len(newest) == len(BASES) and min(newest.values()) >= end


async def figures_of(feed: Installation, first: int, end: int, made: Counter[str], took: float) -> dict[str, Figure]:
    """Compare the log with the exchange."""
    missing = double = half = unnamed = invented = 0
    bars, named = await feed.bars(), await feed.events(BarsAbsent)
    firsts = {(e.symbol, e.open_time): e.first.volume for e in reversed(await feed.events(BarRevised))}
    for market in feed.exchange.markets.values():
        symbol = f"{market.base}/USDT"
        numbers = [
            bar.open_time // HOUR for bar in bars if bar.symbol == symbol and first <= bar.open_time // HOUR <= end
        ]
        absent = {n for n in holes([event for event in named if event.symbol == symbol]) if n <= end}
        truly = {n for n in market.absent | market.off_grid if first <= n <= end}
        double += len(numbers) - len(set(numbers)) + (numbers != sorted(numbers))
        missing += len(set(range(first, end + 1)) - set(numbers) - truly)
        unnamed += len(truly - absent)
        invented += len(set(numbers) & truly) + len(absent - truly)
        for bar in bars:
            n = bar.open_time // HOUR
            if bar.symbol == symbol and n <= end:
                row = [float(cell) for cell in market.row(n, 0)[1:6]]
                allowed = {row[4], market.revised.get(n, (0, row[4]))[1], firsts.get((symbol, bar.open_time), row[4])}
                half += [bar.open, bar.high, bar.low, bar.close] != row[:4] or bar.volume not in allowed
    heal = sorted(event.length_ms / 1000 for event in await feed.events(FeedInterrupted)) or [0.0]
    starts, kills, lost = made.pop("starts"), made.pop("kills"), made.pop("lost tails", 0)
    print(f"  {took:.0f} s; faults: {dict(made)}; {starts} starts, {kills} kills, {lost} lost tails")
    return {
        "bars": Figure(len(bars), "bars"),
        "faults": Figure(sum(made.values()) + kills + lost, "faults"),
        "kills of the feed": Figure(kills, "kills"),
        "losses of the log": Figure(lost, "losses"),
        "missing": Figure(missing, "bars", "<= 0"),
        "double or out of order": Figure(double, "bars", "<= 0"),
        "half": Figure(half, "bars", "<= 0"),
        "holes without a name": Figure(unnamed, "bars", "<= 0"),
        "invented bars or holes": Figure(invented, "bars", "<= 0"),
        "time to heal, median": Figure(median(heal), "s, simulated"),
        "time to heal, p99": Figure(quantiles([*heal, heal[-1]], n=100)[98], "s, simulated"),
    }


async def in_real_time(seconds: int) -> dict[str, Figure]:
    """Feed bars of a second, and measure how late they are."""
    markets = [Market(f"{base}USDT", base, interval=1_000) for base in BASES]
    exchange = LocalExchange(markets, lambda: time.time_ns() // 10**6)
    log, stop = MemoryLog(), anyio.Event()
    series = tuple(LiveSeries("binance", f"{m.base}/USDT", f"{m.base}/USDT", 1_000) for m in markets)

    async def push() -> None:
        while not stop.is_set():
            await exchange.push()
            await anyio.sleep(0.1)

    async def end() -> None:
        await anyio.sleep(seconds + 3)
        stop.set()

    async with exchange.serving(), anyio.create_task_group() as tasks:
        tasks.start_soon(push)
        tasks.start_soon(end)
        await feed_exchanges(
            Loop(log, "feed"),
            Plan(series, {"binance": Rules()}, 0),
            lambda name: open_client(name, [each.market for each in series], local=exchange.url),
            stop=stop,
        )
    entries = await log.scan(StreamKey("market"), count=1_000_000)
    late = []
    for entry in entries[len(BASES) * 2 :]:
        bar = decode("market", entry.data).event
        late.append(id_order(entry.id)[0] - bar.open_time - bar.interval_ms)
    cuts = quantiles(late, n=100)
    return {
        "late after close, p50": Figure(median(late), "ms"),
        "late after close, p99": Figure(cuts[98], "ms", "<= 1000"),
        "bars of a second": Figure(len(late), "bars"),
    }
