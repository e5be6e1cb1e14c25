"""Look at an observatory as many people do: ``python -m bench.viewers PORT COUNT SECONDS``, until its input ends.

Each holds one stream of updates, and loads a page every so many seconds on average (0: never). It prints a line when
all are connected."""

import random
import sys

import anyio

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


async def view(port: int, number: int, every_s: float) -> None:
    """Look as one person."""
    draw = random.Random(number)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look, port, f"/live?screen={VIEWS[number % len(VIEWS)]}")
        while every_s:
            await anyio.sleep(draw.uniform(0.0, 2 * every_s))
            await look(port, draw.choice(PAGES))


async def main(port: int, count: int, every_s: float) -> None:
    """Look until standard input ends."""
    async with anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(view, port, number, every_s)
            await look(port, "/healthz")
        print("connected", flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read)
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
