"""Processes and servers that are killed: nothing acknowledged is lost, nothing is written twice."""

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis

from schemas.codec import decode
from shared.log import Commit, Owner, StreamKey
from shared.log.redis import RedisLog
from shared.server.embedded import EmbeddedServer
from tests.minute_bars import minute_bars

MARKET, FEATURES = StreamKey("market"), StreamKey("features")
ME = Owner("elsewhere", 4_000_001, "me")
COPIER = Path(__file__).with_name("copier.py")

pytestmark = pytest.mark.anyio


@contextmanager
def copier(url: str, label: str, batch: int = 20) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(COPIER), url, label, str(batch)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


async def until(condition: Any) -> None:
    with anyio.fail_after(30):
        while not condition():
            await anyio.sleep(0.001)


def numbers(url: str) -> list[int]:
    """The bars that were answered, in the order of the answers."""
    with redis.Redis.from_url(url) as client:
        rows: Any = client.xrange(FEATURES.key)
    return [decode("features", fields[b"e"]).event.open_time // 60_000 for _, fields in rows]


async def test_a_server_killed_between_commits_keeps_all_it_acknowledged(tmp_path: Path) -> None:
    """With ``everysec`` a server whose disk is slow holds back its writes while an fsync runs, and loses those when it
    is killed: seen here once, under load."""
    server = EmbeddedServer(tmp_path, fsync="always", die_with_parent=True)
    url = server.start()
    log = RedisLog(url, patience_s=30.0)
    try:
        claim = await log.claim("feed", [], 0, ME)
        for turn in range(5):
            for part in range(10):
                start = 100 * turn + 10 * part
                await log.commit(claim, Commit(minute_bars(*range(start, start + 10)), {}, {}, b"%d" % start))
            server.kill()
            port = int(url.rpartition(":")[2][:-2])
            server = EmbeddedServer(tmp_path, port=port, fsync="always", die_with_parent=True)
            server.start()
        assert [entry.data for entry in await log.scan(MARKET)] == [bar.data for bar in minute_bars(*range(500))]
        assert (await log.claim("feed", [], 0, ME)).memo == b"490"
    finally:
        await log.close()
        server.stop()


@pytest.mark.long
async def test_a_process_killed_twenty_times_leaves_no_gap_and_no_double(empty_redis_url: str) -> None:
    total, rounds = 4000, 20
    log = RedisLog(empty_redis_url)
    claim = await log.claim("feed", [], 0, ME)
    await log.commit(claim, Commit(minute_bars(*range(total)), {}, {}))
    await log.close()
    with redis.Redis.from_url(empty_redis_url) as client:
        for turn in range(rounds):
            goal = client.xlen(FEATURES.key) + 20 + turn
            with copier(empty_redis_url, f"copier-{turn}", batch=7) as process:
                await until(lambda goal=goal: client.xlen(FEATURES.key) >= goal)
                process.send_signal(signal.SIGKILL)
                process.wait()
        assert 0 < client.xlen(FEATURES.key) < total, "killed too late to show anything"
        with copier(empty_redis_url, "last", batch=500):
            await until(lambda: client.xlen(FEATURES.key) >= total)
    assert numbers(empty_redis_url) == list(range(total))


async def test_an_owner_that_was_suspended_and_replaced_ends_fenced_and_doubles_nothing(empty_redis_url: str) -> None:
    log = RedisLog(empty_redis_url)
    feed = await log.claim("feed", [], 0, ME)
    published = itertools.count(0, 50)

    async def publish() -> None:
        start = next(published)
        await log.commit(feed, Commit(minute_bars(*range(start, start + 50)), {}, {}, b"%d" % start))

    with redis.Redis.from_url(empty_redis_url) as client, copier(empty_redis_url, "suspended") as first:
        await publish()
        await until(lambda: client.xlen(FEATURES.key) >= 50)
        first.send_signal(signal.SIGSTOP)
        await publish()
        client.hset("conclave:{p0}:group:copier", "lease", "1")
        with copier(empty_redis_url, "successor"):
            await until(lambda: client.xlen(FEATURES.key) >= 100)
            first.send_signal(signal.SIGCONT)
            assert await anyio.to_thread.run_sync(first.wait) == 3
            assert first.stderr is not None
            assert "belongs to successor" in first.stderr.read()
            await publish()
            await until(lambda: client.xlen(FEATURES.key) >= 150)
    await log.close()
    assert numbers(empty_redis_url) == list(range(150))


async def test_a_second_copy_of_a_living_process_is_refused(empty_redis_url: str) -> None:
    with redis.Redis.from_url(empty_redis_url) as client, copier(empty_redis_url, "first") as first:
        await until(lambda: client.exists("conclave:{p0}:group:copier"))
        with copier(empty_redis_url, "second") as second:
            assert second.stderr is not None
            said = await anyio.to_thread.run_sync(second.stderr.read)
            assert second.wait() == 1
        assert f"belongs to first (pid {first.pid} on here)" in said
        assert first.poll() is None
        os.kill(first.pid, 0)
