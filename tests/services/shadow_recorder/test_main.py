"""The recorder over a log on Redis: what an executor reports long after, past a restart."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest
from world import TWO, Builder

from schemas.codec import decode, encode
from schemas.scores import TradeJoined
from services.shadow_recorder.core import GROUP, Recorder
from shared.control.issuing import issue
from shared.log import Commit, Log, StreamKey
from shared.log.redis import RedisLog
from shared.runtime.host import Host
from shared.runtime.process import owner
from shared.runtime.service import Received

pytestmark = pytest.mark.anyio
BULL = (0.1, 0.2, 0.7)
BARS = 120


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def write(log: Log, stream: str, events: Sequence[Received]) -> None:
    """Write as the service that owns the stream would: with the same ids."""
    claim = await log.claim(f"writer-of-{stream}", (), 0, owner("test"), take_over=True)
    found = [one.envelope for one in events]
    roots = [bytes(16) if one.correlation == one.id else one.correlation for one in found]
    sealed = [
        encode(stream, one.event, causation=one.causation, correlation=root)
        for one, root in zip(found, roots, strict=True)
    ]
    assert [one.envelope.id for one in sealed] == [one.id for one in found]
    await log.commit(claim, Commit(sealed, {}, {}))


@asynccontextmanager
async def recording(log: Log) -> AsyncIterator[None]:
    stop = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Host(Recorder(), log, 0, owner(GROUP)).run, stop)
        yield
        stop.set()


async def scores(log: Log) -> list[object]:
    return [decode("scores", entry.data).event for entry in await log.scan(StreamKey("scores"), count=1000)]


async def installed(log: Log) -> Builder:
    """A builder under the commands of the log."""
    for command in TWO:
        await issue(log, command, actor="ada", reason="a test")
    builder = Builder(())
    for entry in await log.scan(StreamKey("control")):
        builder.follow(decode("control", entry.data))
    return builder


async def test_a_trade_that_closes_after_a_restart_is_joined_with_its_decision(empty_redis_url: str) -> None:
    log = RedisLog(empty_redis_url)
    try:
        builder = await installed(log)
        for number in range(BARS):
            builder.bar(number, 100.0 + number % 7)
        for artifact in ("a2", "c", "a", "b"):
            builder.predict(artifact, 100, BULL)
        decision = builder.streams["decisions"][0].envelope
        assert decision.event.intent == "issued"
        builder.close_trade(decision)
        with anyio.fail_after(60):
            async with recording(log):
                for stream in ("market", "features", "predictions", "decisions"):
                    await write(log, stream, builder.streams[stream])
                while not await scores(log):
                    await anyio.sleep(0.02)
            async with recording(log):
                await write(log, "trades", builder.streams["trades"])
                while not any(isinstance(one, TradeJoined) for one in await scores(log)):
                    await anyio.sleep(0.02)
        (joined,) = [one for one in await scores(log) if isinstance(one, TradeJoined)]
        assert joined.joined, joined.detail
        assert joined.decision == decision.id
        assert joined.net == pytest.approx(0.008)
    finally:
        await log.close()
