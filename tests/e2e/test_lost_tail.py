"""A server that lost the end of its append-only file while its clients live, as after a power failure, and a replica
that is promoted while it lags. Nothing is lost that can be made again, nothing is there twice, and the loss is named.

Real servers, and real services in this process; ``bench/lost_tail.py`` runs a whole installation."""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis

from schemas.codec import decode
from schemas.control import Found
from schemas.operations import LogTruncated
from services.feature_builder.core import FeatureBuilder
from services.feed.main import feed
from shared.control.issuing import issue
from shared.features.sets import feature_set
from shared.log import Log, StreamKey
from shared.log.durability import rewrite_append_only_file
from shared.log.redis import RedisLog
from shared.runtime.host import Host
from shared.runtime.loop import Loop
from shared.runtime.process import owner
from shared.server import embedded
from shared.server.embedded import EmbeddedServer
from shared.synthetic import SyntheticMarket

pytestmark = pytest.mark.anyio
MARKET, FEATURES, ALARMS = StreamKey("market"), StreamKey("features"), StreamKey("alarms")
SET = feature_set("tiny", "close", "price_change")
ROWS, SYMBOLS = 600, ("A", "B", "C", "D")
ROOT = Path(__file__).parents[2]
REDIS = shutil.which("redis-server")
PROGRAMS = ["embedded", pytest.param("redis", marks=pytest.mark.skipif(REDIS is None, reason="no redis-server"))]


def cut(data: Path, size: int) -> None:
    """Remove the last bytes of the append-only file."""
    file = max((data / "appendonlydir").glob("*.incr.aof"), key=lambda file: int(file.name.split(".")[-3]))
    os.truncate(file, max(file.stat().st_size - size, 0))


async def until(condition: Callable[[], Any], limit_s: float = 30.0) -> None:
    with anyio.fail_after(limit_s):
        while not await condition():
            await anyio.sleep(0.01)


async def events_of(log: Log, place: StreamKey) -> list[Any]:
    return [decode(place.stream, entry.data) for entry in await log.scan(place, count=10_000)]


class Site:
    """A feed and a feature-builder over one server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.log = RedisLog(url, name="test")

    def service(self) -> tuple[RedisLog, Callable[[], Any]]:
        return RedisLog(self.url), partial(rewrite_append_only_file, self.url)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[anyio.Event]:
        """Run both. The event is set when all bars are sent."""
        stop, sent = anyio.Event(), anyio.Event()
        (first, rewrite), (second, _) = self.service(), self.service()
        host = Host(FeatureBuilder([SET]), first, 0, owner("feature-builder"), reconnected=rewrite)

        async def send() -> None:
            source = SyntheticMarket(SYMBOLS, bars=ROWS // len(SYMBOLS))
            await feed(Loop(second, "feed", reconnected=rewrite), source, speed=600.0)
            sent.set()

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(host.run, stop)
                tasks.start_soon(send)
                yield sent
                stop.set()
        finally:
            for log in (first, second, self.log):
                await log.close()

    async def features(self) -> int:
        return (await self.log.extent(FEATURES)).length

    async def check(self) -> None:
        """Each bar is there once, and so is what follows from it."""
        bars = [event.event for event in await events_of(self.log, MARKET)]
        assert len({(bar.symbol, bar.open_time) for bar in bars}) == len(bars) == ROWS
        features = await events_of(self.log, FEATURES)
        assert len({event.id for event in features}) == len(features)
        made = {(event.event.symbol, event.event.open_time) for event in features}
        assert made == {(bar.symbol, bar.open_time) for bar in bars}


async def found(log: Log) -> None:
    await issue(log, Found(1, "log-of-a-test"), actor="me", reason="a test")


@pytest.mark.parametrize("size", [1, 100, 5_000, 200_000])
@pytest.mark.parametrize("program", PROGRAMS)
async def test_an_append_only_file_without_its_end_costs_nothing_and_doubles_nothing(
    program: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if program == "redis":
        monkeypatch.setattr(embedded, "find_program", lambda: Path(REDIS or ""))
    port = embedded._free_port()
    server = EmbeddedServer(tmp_path, port=port, die_with_parent=True)
    site = Site(server.start())
    client = redis.Redis(port=port)
    try:
        await found(site.log)

        async def rewritten() -> bool:
            facts = client.info("persistence")
            return facts["aof_last_rewrite_time_sec"] != -1 and not facts["aof_rewrite_in_progress"]

        async with site.running() as sent:
            await until(rewritten)

            async def well_on_the_way() -> bool:
                return await site.features() > 150

            await until(well_on_the_way)
            server.kill()
            cut(tmp_path, size)
            server.start()
            await until(rewritten)
            with anyio.fail_after(30):
                await sent.wait()

            async def complete() -> bool:
                return await site.features() == ROWS

            await until(complete)
            await site.check()
            # What the first start left in the file must not appear at the second.
            server.kill()
            server.start()
            await site.check()
            alarms = [event.event for event in await events_of(site.log, ALARMS)]
        assert {type(alarm) for alarm in alarms} <= {LogTruncated}
        assert alarms or size < 5_000, "a commit that was in flight is simply sent again, a lease is extended again"
        assert all(alarm.stream in {"market", "features"} and alarm.detail for alarm in alarms)
    finally:
        client.close()
        server.stop()


@pytest.mark.skipif(shutil.which("redis-check-aof") is None, reason="no redis-check-aof")
@pytest.mark.parametrize("damage", ["inside a commit", "nowhere", "in the middle"])
def test_the_file_of_a_server_with_users_is_repaired_at_its_end_alone_before_it_is_read(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an access-control file no service may have it rewritten: those who start the server repair it."""
    monkeypatch.setattr(embedded, "find_program", lambda: Path(REDIS or ""))
    server = EmbeddedServer(tmp_path, die_with_parent=True)
    commit = "for n = 1, 4 do redis.call('XADD', KEYS[1], '*', 'e', n) end"
    with redis.Redis.from_url(server.start()) as client:
        for _ in range(3):
            client.eval(commit, 1, "s")
    server.kill()
    [file] = (tmp_path / "appendonlydir").glob("*.incr.aof")
    if damage == "inside a commit":
        cut(tmp_path, 1)
    elif damage == "in the middle":
        data = file.read_bytes()
        file.write_bytes(data.replace(b"\r\n", b"\0\0", 40).replace(b"\0\0", b"\r\n", 39))
    before = file.read_bytes()
    subprocess.run([ROOT / "systemd" / "redis-repair", tmp_path], check=True, stdout=subprocess.DEVNULL)
    if damage != "inside a commit":
        assert file.read_bytes() == before
        return
    for expected in (8, 12, 12):
        with redis.Redis.from_url(server.start()) as client:
            assert client.xlen("s") == expected
            if expected == 8:
                client.eval(commit, 1, "s")
        server.kill()


async def test_a_replica_that_is_promoted_while_it_lags_loses_nothing_that_can_be_made_again(tmp_path: Path) -> None:
    """The replica takes the address of the master over, without its last writes."""
    port = embedded._free_port()
    master, replica = (EmbeddedServer(tmp_path / name, port=at) for name, at in (("master", port), ("replica", 0)))
    site = Site(master.start())
    replica.start()
    promoted = redis.Redis.from_url(replica.url)
    try:
        await found(site.log)
        master_client = redis.Redis(port=port)
        master_client.config_set("repl-diskless-sync-delay", 0)
        promoted.replicaof("127.0.0.1", port)

        async def linked() -> bool:
            return promoted.info("replication").get("master_link_status") == "up"

        await until(linked)
        async with site.running() as sent:

            async def well_on_the_way(more: int = 150) -> bool:
                return await site.features() > more

            await until(well_on_the_way)
            promoted.replicaof("NO", "ONE")  # it gets nothing any more: what follows is lost
            kept = promoted.xinfo_stream(FEATURES.key)["length"]
            await until(partial(well_on_the_way, kept + 50))
            master.kill()
            promoted.close()
            replica.stop()
            shutil.rmtree(tmp_path / "master" / "appendonlydir")
            shutil.copytree(tmp_path / "replica" / "appendonlydir", tmp_path / "master" / "appendonlydir")
            master.start()
            with anyio.fail_after(30):
                await sent.wait()

            async def complete() -> bool:
                return await site.features() == ROWS

            await until(complete)
            await site.check()
            alarms = [event.event for event in await events_of(site.log, ALARMS)]
        assert {(alarm.group, alarm.stream) for alarm in alarms} >= {("feed", "market"), ("feature-builder", "market")}
    finally:
        master.stop()
        replica.stop()
