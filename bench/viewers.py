"""Look at an observatory as many people do: ``python -m bench.viewers PORT COUNT``, until its input ends.

Each holds one stream of updates and loads a page every few seconds. It prints a line when all are connected."""

import random
import sys

import anyio

EVERY_S = 5.0
PAGES = ("/", "/models", "/history", "/training", "/health", "/api/v1/now")
VIEWS = ("now", "now", "now", "models", "health")


async def look(port: int, path: str) -> int:
    """Load a page, or follow a stream to its end. Return the bytes."""
    size = 0
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        words = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n"
        await stream.send(words.encode())
        try:
            while True:
                size += len(await stream.receive())
        except anyio.EndOfStream:
            return size


async def view(port: int, number: int) -> None:
    """Look as one person."""
    draw = random.Random(number)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look, port, f"/live?screen={VIEWS[number % len(VIEWS)]}")
        while True:
            await anyio.sleep(draw.uniform(0.0, 2 * EVERY_S))
            await look(port, draw.choice(PAGES))


async def main(port: int, count: int) -> None:
    """Look until standard input ends."""
    async with anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(view, port, number)
            await look(port, "/healthz")
        print("connected", flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read)
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]), int(sys.argv[2]))
