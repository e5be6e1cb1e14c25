"""A master that fails under Sentinels: the log and the services follow to the new one."""

import socket
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
import redis

from bench.servers import Node, addresses, free_port, until
from shared.log import START, Commit, Owner, StreamKey
from shared.log.redis import RedisLog
from tests.cluster.conftest import SERVICE
from tests.cluster.load import FOLLOWED_S, loaded, measured
from tests.minute_bars import minute_bars

MARKET, CONTROL = StreamKey("market"), StreamKey("control")
ME = Owner("here", 4_000_001, "me")

Servers = tuple[list[Node], list[Node]]


def master_of(nodes: list[Node]) -> Node | None:
    """The server that is master now, among those that answer."""
    for node in nodes:
        with suppress(redis.exceptions.ConnectionError):
            if node.client.role()[0] == "master":
                return node
    return None


def named(sentinel: Node) -> int:
    """The port of the server that a Sentinel names as the master."""
    return int(sentinel.execute("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])


@pytest.mark.anyio
async def test_a_failover_is_followed_and_nothing_is_lost_or_doubled(sentinels: Servers) -> None:
    """The first Sentinel of the address is not there: the next one is asked."""
    [master, *replicas], watchers = sentinels
    log = RedisLog(f"redis+sentinel://127.0.0.1:{free_port()},{addresses(watchers)}/{SERVICE}", patience_s=60.0)
    try:
        claim = await log.claim("feed", [], 0, ME)
        await log.commit(claim, Commit(minute_bars(0), {}, {}))
        [first] = await log.read({MARKET: START}, count=10, block_ms=0)
        until(lambda: all(replica.client.xlen(MARKET.key) == 1 for replica in replicas))
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                [entry] = await log.read({CONTROL: START, MARKET: first.id}, count=10, block_ms=60_000)
                assert entry.data == minute_bars(1)[0].data

            tasks.start_soon(wait)
            await anyio.sleep(0.1)
            master.kill()
            await log.commit(claim, Commit(minute_bars(1), {}, {}, b"after"))
        assert [entry.data for entry in await log.scan(MARKET)] == [bar.data for bar in minute_bars(0, 1)]
        assert master_of(replicas) is not None
    finally:
        await log.close()


@pytest.mark.anyio
async def test_a_master_that_lives_on_as_a_replica_is_left_for_the_new_one(
    sentinels: Servers, sentinel_url: str
) -> None:
    [master, *replicas], watchers = sentinels
    log = RedisLog(sentinel_url, patience_s=60.0)
    try:
        claim = await log.claim("feed", [], 0, ME)
        until(lambda: all(replica.client.exists("conclave:{p0}:group:feed") for replica in replicas))
        connection = await log._router.connected(0)

        def asked() -> bool:
            """Whether Sentinel begins a failover now; it first has to see that a replica is in order."""
            with suppress(redis.exceptions.ResponseError):
                return bool(watchers[0].execute("SENTINEL", "FAILOVER", SERVICE))
            return False

        until(asked)
        until(lambda: master.client.role()[0] == "slave")
        await log.commit(claim, Commit(minute_bars(0), {}, {}))
        assert connection.closed
        new = master_of(replicas)
        assert new is not None
        assert new.client.xlen(MARKET.key) == 1
    finally:
        await log.close()


def test_decisions_go_on_after_a_master_was_killed_under_load(
    sentinels: Servers, sentinel_url: str, tmp_path: Path
) -> None:
    """Nothing is lost, nothing is decided twice, and no server is started in place of the one that is down."""
    [master, *replicas], watchers = sentinels
    with loaded(tmp_path / "installation", sentinel_url, partitions=2) as load:
        here = load.installation
        with load.fed(2400):
            until(lambda: master.client.xlen("conclave:{p0}:decisions") > 50)
            master.kill()
            until(lambda: any(named(watcher) != master.port for watcher in watchers))  # the failover is over
            new = master_of(replicas)
            assert new is not None
            assert measured(new, "conclave:{p0}:decisions") < FOLLOWED_S
        assert load.checks()["mode"]["found"] == f"sentinel: service {SERVICE}, its master is 127.0.0.1:{new.port}"
        here.conclave("status")
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", master.port)) != 0
        master.start()
        until(lambda: master.client.role()[0] == "slave")
        here.conclave("verify")
