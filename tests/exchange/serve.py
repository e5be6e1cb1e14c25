"""Run a local exchange on loopback in real time: ``python -m tests.exchange.serve --port 8090 --interval 1m``.

``local = "http://127.0.0.1:8090"`` in ``[exchange]`` turns the feed to it. It has BTC, ETH, SOL and XRP against USDT,
as much history as is asked for, and accounts of a million USDT. ``--faults`` ends connections and mutes streams now
and then."""

import argparse
import asyncio
import random
import time
from decimal import Decimal

from tests.exchange.local import INTERVALS, LocalExchange, Market
from tests.exchange.trading import KEY, SECRET, Trading

BASES = ("BTC", "ETH", "SOL", "XRP")
PUSH_S = 0.2


async def serve(port: int, interval: str, faults: float) -> None:
    markets = [Market(f"{base}USDT", base, interval=INTERVALS[interval]) for base in BASES]
    exchange = LocalExchange(markets, lambda: time.time_ns() // 10**6)
    exchange.trading = Trading([(each.id, each.base, each.quote) for each in markets], exchange.now)
    exchange.trading.follow = lambda name: price_of(exchange, name)
    chance = random.Random(1)
    async with exchange.serving(port):
        print(f"a local exchange answers at {exchange.url}", flush=True)  # noqa: T201  # it is a command
        print(f"its accounts have the key {KEY} and the secret {SECRET}", flush=True)  # noqa: T201
        while True:
            await asyncio.sleep(PUSH_S)
            await exchange.push()
            if faults and chance.random() < PUSH_S / faults:
                await (exchange.disconnect() if chance.random() < 0.5 else asyncio.sleep(0))
                exchange.mute(f"{chance.choice(markets).id.lower()}@kline_{interval}")


def price_of(exchange: LocalExchange, name: str) -> Decimal:
    """The price of a market now, within its open bar."""
    market = exchange.markets[name]
    n, into = divmod(exchange.now(), market.interval)
    first, last = market.price(n - 1), market.price(n)
    return Decimal(str(round(first + (last - first) * into / market.interval, 4)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--interval", choices=sorted(INTERVALS), default="1m")
    parser.add_argument("--faults", type=float, default=0.0, help="seconds between two faults on average; 0: none")
    chosen = parser.parse_args()
    asyncio.run(serve(chosen.port, chosen.interval, chosen.faults))


if __name__ == "__main__":
    main()
