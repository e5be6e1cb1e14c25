"""Several servers: a failover that Sentinel decides, and slots of a cluster that move."""

from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis

from schemas.codec import Encoded, encode
from schemas.market import BarClosed
from shared.log import START, Commit, Owner, StreamKey
from shared.log.admin import opened_whole
from shared.log.connection import ServerError
from shared.log.durability import UnfitServerError, check_server
from shared.log.redis import RedisLog, library
from shared.log.topology import slot_of, topology_of
from shared.server.security import in_force
from tests.shared.log.servers import Node, free_port, until, watched

MARKET, CONTROL = StreamKey("market"), StreamKey("control")
ME = Owner("here", 4_000_001, "me")
SLOT = slot_of(MARKET.key)

pytestmark = pytest.mark.anyio


def bars(*numbers: int) -> list[Encoded]:
    return [
        encode(
            "market",
            BarClosed(
                symbol="BTC",
                interval_ms=60_000,
                open_time=number * 60_000,
                open=1.0,
                high=2.0,
                low=0.5,
                close=1.5,
                volume=10.0,
                origin="synthetic",
            ),
        )
        for number in numbers
    ]


def execute(client: redis.Redis, *words: Any) -> Any:
    return client.execute_command(*words)  # type: ignore[no-untyped-call]  # has none


def promoted(sentinel: redis.Redis) -> bool:
    """Whether Sentinel begins a failover now; it first has to see that the replica is in order."""
    with suppress(redis.exceptions.ResponseError):
        return bool(execute(sentinel, "SENTINEL", "FAILOVER", "trading"))
    return False


@pytest.fixture
async def log(cluster_url: str) -> AsyncIterator[RedisLog]:
    opened = RedisLog(cluster_url, patience_s=20.0)
    yield opened
    await opened.close()


# Sentinel


async def test_a_failover_is_followed_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    """The first Sentinel of the address is not there: the next one is asked."""
    with watched(tmp_path, "trading") as ([master, replica], sentinel):
        log = RedisLog(f"redis+sentinel://127.0.0.1:{free_port()},{sentinel}/trading", patience_s=60.0)
        try:
            claim = await log.claim("feed", [], 0, ME)
            await log.commit(claim, Commit(bars(0), {}, {}))
            [first] = await log.read({MARKET: START}, count=10, block_ms=0)
            until(lambda: replica.client.xlen(MARKET.key) == 1)
            async with anyio.create_task_group() as tasks:

                async def wait() -> None:
                    [entry] = await log.read({CONTROL: START, MARKET: first.id}, count=10, block_ms=60_000)
                    assert entry.data == bars(1)[0].data

                tasks.start_soon(wait)
                await anyio.sleep(0.1)
                master.process.kill()
                await log.commit(claim, Commit(bars(1), {}, {}, b"after"))
            assert [entry.data for entry in await log.scan(MARKET)] == [bar.data for bar in bars(0, 1)]
            assert replica.client.role()[0] == "master"
        finally:
            await log.close()


async def test_a_service_that_sentinel_does_not_know_is_named(tmp_path: Path) -> None:
    with watched(tmp_path, "trading") as (_, sentinel):
        log = RedisLog(f"redis+sentinel://me:secret@{sentinel}/treading", patience_s=0.0)
        with pytest.raises(ConnectionError, match="service treading of the Sentinels") as caught:
            await log.tail(MARKET, 1)
        assert "secret" not in str(caught.value)
        await log.close()


async def test_a_master_that_lives_on_as_a_replica_is_left_for_the_new_one(tmp_path: Path) -> None:
    with watched(tmp_path, "trading") as ([master, replica], sentinel):
        log = RedisLog(f"redis+sentinel://{sentinel}/trading", patience_s=60.0)
        try:
            claim = await log.claim("feed", [], 0, ME)
            until(lambda: replica.client.exists("conclave:{p0}:group:feed"))
            connection = await log._router.connected(0)
            with redis.Redis(port=int(sentinel.rpartition(":")[2])) as client:
                until(lambda: promoted(client))
            until(lambda: master.client.role()[0] == "slave")
            await log.commit(claim, Commit(bars(0), {}, {}))
            assert connection.closed
            assert replica.client.xlen(MARKET.key) == 1
        finally:
            await log.close()


# Cluster


async def test_the_functions_are_loaded_into_every_master(log: RedisLog, masters: list[Node]) -> None:
    for node in masters:
        node.client.function_flush()
    await log.claim("feed", [], 0, ME)
    for node in masters:
        [found] = node.client.function_list()
        assert library()[0] in found


async def test_each_key_is_at_the_server_of_its_slot(log: RedisLog, masters: list[Node]) -> None:
    claim = await log.claim("voter", ["market"], 0, ME)
    await log.commit(claim, Commit(bars(0), {}, {}))
    await log.append_at(CONTROL, "1-0", b"first")
    names = ("group:voter", "groups", "market")
    assert [sorted(node.client.keys("*")) for node in masters] == [
        [],
        [CONTROL.key],
        [f"conclave:{{p0}}:{name}" for name in names],
    ]


async def test_a_slot_that_moves_under_traffic_is_followed(log: RedisLog, masters: list[Node]) -> None:
    """Key by key, as ``redis-cli --cluster reshard`` does: ASK and TRYAGAIN meanwhile, MOVED afterwards."""
    giver, taker = masters[2], masters[0]
    id_of = {node: execute(node.client, "CLUSTER", "MYID") for node in (giver, taker)}
    claim = await log.claim("feed", [], 0, ME)
    written = 0

    async def write() -> None:
        nonlocal written
        await log.commit(claim, Commit(bars(written), {}, {}, b"%d" % written))
        written += 1

    def assign(to: Node) -> None:
        for node in (to, *masters):
            execute(node.client, "CLUSTER", "SETSLOT", SLOT, "NODE", id_of[to])

    async def move(source: Node, to: Node) -> None:
        execute(to.client, "CLUSTER", "SETSLOT", SLOT, "IMPORTING", id_of[source])
        execute(source.client, "CLUSTER", "SETSLOT", SLOT, "MIGRATING", id_of[to])
        for key in execute(source.client, "CLUSTER", "GETKEYSINSLOT", SLOT, 100):
            await anyio.sleep(0.05)
            execute(source.client, "MIGRATE", "127.0.0.1", to.port, key, 0, 5000)

    async with anyio.create_task_group() as tasks:
        over = anyio.Event()

        async def traffic() -> None:
            while not over.is_set():
                await write()

        tasks.start_soon(traffic)
        await anyio.sleep(0.1)
        await move(giver, taker)
        before = written
        with anyio.fail_after(20):
            while written < before + 3:  # answered through ASK: the slot is still the giver's
                await anyio.sleep(0.001)
        await anyio.to_thread.run_sync(assign, taker)
        before = written
        with anyio.fail_after(20):
            while written < before + 3:
                await anyio.sleep(0.001)
        over.set()
    entries = await log.read({CONTROL: START, MARKET: START}, count=100_000, block_ms=1000)
    assert [entry.data for entry in entries] == [bar.data for bar in bars(*range(written))]
    assert taker.client.exists(MARKET.key)
    await move(taker, giver)
    assign(giver)
    await write()


async def test_a_node_named_as_one_server_is_refused_with_the_address_to_write(masters: list[Node]) -> None:
    log = RedisLog(masters[0].url, patience_s=20.0)
    with anyio.fail_after(5), pytest.raises(ServerError, match=r"redis\+cluster://"):
        await log.tail(MARKET, 1)
    await log.close()


async def test_every_master_must_be_fit(cluster_url: str, masters: list[Node]) -> None:
    assert (await check_server(cluster_url, ephemeral=False)).faults == ()
    masters[0].client.config_set("appendonly", "no")
    try:
        with pytest.raises(UnfitServerError, match="appendonly is off"):
            await check_server(cluster_url, ephemeral=False)
    finally:
        masters[0].client.config_set("appendonly", "yes")


async def test_the_doctor_looks_at_every_master(cluster_url: str) -> None:
    names = {check.what for check in await in_force(cluster_url)}
    assert {f"memory ({number} of 3)" for number in (1, 2, 3)} <= names


async def test_a_cut_and_a_restore_reach_every_server(log: RedisLog, cluster_url: str, masters: list[Node]) -> None:
    claim = await log.claim("feed", [], 0, ME)
    await log.commit(claim, Commit(bars(0, 1), {}, {}))
    await log.append_at(CONTROL, "1-0", b"first")
    entries = {place: await log.scan(place) for place in (MARKET, CONTROL)}
    async with opened_whole(cluster_url, "test") as whole:
        cut, control = await whole.cut(0), await whole.end(CONTROL)
        for node in masters:
            node.client.flushall()
        await whole.refuse_unless_empty(2)
        await whole.restore(MARKET, [entries[MARKET]], cut.ends["market"])
        await whole.restore(CONTROL, [entries[CONTROL]], control)
        await whole.restore_group("feed", 0, cut.groups["feed"])
        assert await whole.end(MARKET) == cut.ends["market"]
    assert {place: await log.scan(place) for place in (MARKET, CONTROL)} == entries
    assert (await log.groups(0))[0].epoch == claim.epoch + 1


async def test_a_cluster_that_is_not_there_is_unavailable_and_its_password_not_shown() -> None:
    topology = topology_of(f"redis+cluster://me:secret@127.0.0.1:{free_port()}")
    with pytest.raises(ConnectionError, match="no server at the cluster of") as caught:
        await topology.open(SLOT, "test")
    assert "secret" not in str(caught.value)
    await topology.close()
