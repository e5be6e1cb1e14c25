"""Measure how long an event takes from its append to the patch of an open page that shows it.

All symbols close a bar at once, as they do: their bars and decisions, with 40 ballots each, are appended as fast as the
server takes them, in a new order each time. Ten of them are on the open page. The delay of each is the time from just
before its decision is sent to the server until the patch with that decision has arrived at the client. What a browser
takes to show it is not in it."""

import random
import time
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import anyio
import redis
from anyio import to_thread

from schemas.codec import Encoded
from shared.log import StreamKey

SEARCH: Final = "S00"
"""What the open page is filtered by: ten symbols."""
CHUNK: Final = 50
"""Symbols whose events are sent in one round trip."""
TAIL: Final = 64
"""Bytes that are kept of a chunk, in case an id is cut in two."""
LONGEST_S: Final = 60.0


class Close(NamedTuple):
    """What follows from a closed bar: the events of one symbol. ``watched``: it is on the open page."""

    bar: Encoded
    decision: Encoded
    watched: bool


async def delays(url: str, port: int, closes: Sequence[Sequence[Close]], seed: int) -> list[float]:
    """Return the delays (s) of all watched decisions. ``closes``: the events of each round. Raises ``TimeoutError`` if
    one is not shown in ``LONGEST_S``."""
    draw, client, found = random.Random(seed), redis.Redis.from_url(url), list[float]()
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        words = f"GET /live?screen=now&search={SEARCH} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
        await stream.send(words.encode())
        seen = _Seen(stream)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(seen.follow)
            for close in closes:
                await anyio.sleep(draw.uniform(1.0, 3.0))
                wanted = {each.decision.envelope.id.hex() for each in close if each.watched}
                shown = seen.wait_for(wanted)
                sent = await to_thread.run_sync(append, client, draw.sample(close, len(close)))
                with anyio.fail_after(LONGEST_S):
                    await shown.wait()
                found += [seen.at[name] - sent[name] for name in wanted]
            tasks.cancel_scope.cancel()
    client.close()
    return found


def append(client: "redis.Redis", closes: Sequence[Close]) -> dict[str, float]:
    """Append the events of all symbols, and return when each watched decision was sent."""
    sent: dict[str, float] = {}
    for chunk in _chunks(closes):
        pipe = client.pipeline(transaction=False)
        for close in chunk:
            pipe.xadd(StreamKey("market").key, {"e": close.bar.data})
            pipe.xadd(StreamKey("decisions").key, {"e": close.decision.data})
        sent |= dict.fromkeys((each.decision.envelope.id.hex() for each in chunk if each.watched), time.perf_counter())
        pipe.execute()
    return sent


def _chunks(closes: Sequence[Close]) -> Iterator[Sequence[Close]]:
    for first in range(0, len(closes), CHUNK):
        yield closes[first : first + CHUNK]


class _Seen:
    """When each decision that is waited for arrived, by its id."""

    def __init__(self, stream: anyio.abc.ByteStream) -> None:
        self.at: dict[str, float] = {}
        self._stream = stream
        self._wanted: set[str] = set()
        self._all = anyio.Event()

    def wait_for(self, wanted: set[str]) -> anyio.Event:
        """Return the event that is set when all of these have arrived."""
        self._wanted, self._all = set(wanted), anyio.Event()
        return self._all

    async def follow(self) -> None:
        """Read the updates of the page."""
        tail = b""
        while True:
            part = tail + await self._stream.receive(1 << 20)
            now = time.perf_counter()
            for name in [name for name in self._wanted if name.encode() in part]:
                self.at[name] = now
                self._wanted.discard(name)
            if not self._wanted:
                self._all.set()
            tail = part[-TAIL:]
