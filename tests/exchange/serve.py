"""Run a local exchange on loopback in real time: ``python -m tests.exchange.serve --port 8090 --interval 1m``.

``local = "http://127.0.0.1:8090"`` in ``[exchange]`` turns the feed to it. It has BTC, ETH, SOL and XRP against USDT,
and as much history as is asked for. ``--faults`` ends connections and mutes streams now and then."""

import argparse
import asyncio
import random
import time

from tests.exchange.local import INTERVALS, LocalExchange, Market

BASES = ("BTC", "ETH", "SOL", "XRP")
PUSH_S = 0.2


async def serve(port: int, interval: str, faults: float) -> None:
    markets = [Market(f"{base}USDT", base, interval=INTERVALS[interval]) for base in BASES]
    exchange = LocalExchange(markets, lambda: time.time_ns() // 10**6)
    chance = random.Random(1)
    async with exchange.serving(port):
        print(f"a local exchange answers at {exchange.url}", flush=True)  # noqa: T201  # it is a command
        while True:
            await asyncio.sleep(PUSH_S)
            await exchange.push()
            if faults and chance.random() < PUSH_S / faults:
                await (exchange.disconnect() if chance.random() < 0.5 else asyncio.sleep(0))
                exchange.mute(f"{chance.choice(markets).id.lower()}@kline_{interval}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--interval", choices=sorted(INTERVALS), default="1m")
    parser.add_argument("--faults", type=float, default=0.0, help="seconds between two faults on average; 0: none")
    chosen = parser.parse_args()
    asyncio.run(serve(chosen.port, chosen.interval, chosen.faults))


if __name__ == "__main__":
    main()
