"""Faults of all kinds, drawn from a seed, against one truth: nothing missing, twice or half, and every hole named."""

import random

import pytest

from schemas.venue import BarRevised, BarsAbsent
from tests.exchange.installation import Installation, holes, installed
from tests.exchange.local import MINUTE

pytestmark = pytest.mark.anyio

BARS = 40


async def disturb(feed: Installation, chance: random.Random, n: int) -> None:
    """One fault, drawn by chance."""
    exchange = feed.exchange
    market = exchange.markets[chance.choice(sorted(exchange.markets))]
    match chance.randrange(12):
        case 0:
            await exchange.disconnect(chance.choice([1001, 1006, 1012]))
        case 1:
            exchange.mute(f"{market.id.lower()}@kline_1m")
        case 2:
            exchange.mute()
        case 3:
            exchange.pages += [chance.choice(["oldest", "newest", "cut", "empty"])] * chance.randint(1, 2)
        case 4:
            exchange.refusals.append((429, {"Retry-After": "3"}, "{}"))
        case 5:
            exchange.refusals.append((503, {}, "{}"))
        case 6:
            market.absent |= {n + chance.randint(1, 3)}
        case 7:
            market.quiet |= {n + 1, n + 2}
        case 8:
            market.off_grid.add(n + 1)
        case 9:
            exchange.again = not exchange.again
        case 10:
            market.revised[n] = ((n + 1) * MINUTE + chance.choice([1_000, 61_000]), 500.0 + n)
        case _:
            exchange.lagging = chance.choice([0, 400, 3_000])


async def check(feed: Installation, first: int, last: int) -> None:
    """The log against what the exchange has."""
    named = await feed.events(BarsAbsent)
    revised = {(event.symbol, event.open_time): event.first.volume for event in reversed(await feed.events(BarRevised))}
    for market in feed.exchange.markets.values():
        symbol = f"{market.base}/USDT"
        numbers = [n for n in await feed.numbers(symbol) if n <= last]
        absent = {n for n in holes([event for event in named if event.symbol == symbol]) if n <= last}
        assert numbers == sorted(set(numbers)), f"{symbol}: a bar twice, or out of order"
        assert sorted([*numbers, *absent]) == list(range(first, last + 1)), f"{symbol}: a bar missing, or in a hole"
        assert absent == {n for n in market.absent | market.off_grid if first <= n <= last}, symbol
        for bar in await feed.bars(symbol):
            n = bar.open_time // MINUTE
            row = [float(cell) for cell in market.row(n, 0)[1:6]]
            if n in market.revised:
                row[4] = revised.get((symbol, bar.open_time), market.revised[n][1])
            assert [bar.open, bar.high, bar.low, bar.close, bar.volume] == row, f"{symbol} {n}: a half bar"


@pytest.mark.parametrize("seed", range(4))
async def test_nothing_is_missing_twice_or_half_and_every_hole_is_named(seed: int) -> None:
    chance = random.Random(seed)
    async with installed("BTC", "ETH", "SOL") as feed:
        first = feed.clock.ms // MINUTE
        last = first + BARS
        while feed.clock.ms // MINUTE <= last:
            async with feed.running(killed=chance.random() < 0.5):  # stopped or killed, and started again
                for _ in range(chance.randint(8, 20)):
                    if chance.random() < 0.5:
                        await disturb(feed, chance, feed.clock.ms // MINUTE)
                    await feed.subscribed(3, step=250)
                    for _ in range(4):
                        feed.clock.ms += MINUTE // 4
                        await feed.exchange.push()

                    async def in_time() -> bool:
                        counts = [len(await feed.numbers(f"{base}/USDT")) for base in ("BTC", "ETH", "SOL")]
                        return min(counts) > 0

                    await feed.until(in_time, step=100)
        feed.exchange.lagging, feed.exchange.pages, feed.exchange.refusals = 0, [], []
        end = feed.clock.ms // MINUTE + 3
        for market in feed.exchange.markets.values():
            market.absent = {n for n in market.absent if n < end - 2}
            market.off_grid = {n for n in market.off_grid if n < end - 2}
        async with feed.running():

            async def done() -> bool:
                found = [await feed.numbers(f"{base}/USDT") for base in ("BTC", "ETH", "SOL")]
                return all(numbers and numbers[-1] >= end for numbers in found)

            await feed.until(done, step=1_000)
        await check(feed, first, min([(await feed.numbers(f"{base}/USDT"))[-1] for base in ("BTC", "ETH", "SOL")]))
