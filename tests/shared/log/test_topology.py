"""Several servers: a failover that Sentinel decides, and slots of a cluster that move."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis
from redis.asyncio.connection import AbstractConnection

from bench.servers import Node, free_port, started, watched
from shared.log import START, Commit, Owner, StreamKey, UnavailableError
from shared.log.admin import opened_whole
from shared.log.connection import ServerError
from shared.log.durability import UnfitServerError, check_server
from shared.log.redis import RedisLog, library
from shared.log.topology import WrongAddressError, slot_of, topology_of
from shared.server.replication import arranged
from shared.server.security import in_force
from tests.minute_bars import minute_bars

MARKET, CONTROL = StreamKey("market"), StreamKey("control")
ME = Owner("here", 4_000_001, "me")
SLOT = slot_of(MARKET.key)

pytestmark = pytest.mark.anyio


def execute(client: redis.Redis, *words: Any) -> Any:
    return client.execute_command(*words)  # type: ignore[no-untyped-call]  # has none


@pytest.fixture
async def log(cluster_url: str) -> AsyncIterator[RedisLog]:
    opened = RedisLog(cluster_url, patience_s=20.0)
    yield opened
    await opened.close()


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
    await log.commit(claim, Commit(minute_bars(0), {}, {}))
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
        await log.commit(claim, Commit(minute_bars(written), {}, {}, b"%d" % written))
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
    assert [entry.data for entry in entries] == [bar.data for bar in minute_bars(*range(written))]
    assert taker.client.exists(MARKET.key)
    await move(taker, giver)
    assign(giver)
    await write()


async def test_a_server_that_lost_the_functions_gets_them_again_from_whoever_may(
    log: RedisLog, masters: list[Node]
) -> None:
    """As one that joins the cluster: the others have them."""
    claim = await log.claim("feed", [], 0, ME)
    owner = masters[2]
    owner.client.function_flush()
    await log.commit(claim, Commit(minute_bars(0), {}, {}))
    assert library()[0] in owner.client.function_list()[0]
    owner.client.acl_setuser("clerk", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-function|load"])
    url = owner.url.replace("redis://", "redis+cluster://clerk:x@").removesuffix("/0")
    clerk = RedisLog(url, patience_s=0.0)
    owner.client.function_flush()
    with pytest.raises(UnavailableError, match="conclave prepare"):  # to be tried again, when somebody has done that
        await clerk.claim("clerk", [], 0, ME)
    await log.load()
    await clerk.claim("clerk", [], 0, ME)
    await clerk.close()


async def test_a_node_named_as_one_server_is_refused_with_the_line_to_write(masters: list[Node]) -> None:
    log = RedisLog(masters[0].url, patience_s=20.0)
    line = rf'mode = "cluster" and url = "redis\+cluster://127.0.0.1:{masters[0].port}"'
    with anyio.fail_after(5), pytest.raises(WrongAddressError, match=line):
        await log.tail(MARKET, 1)
    await log.close()
    for ask in (lambda url: check_server(url, ephemeral=True), in_force, arranged):
        with pytest.raises(WrongAddressError, match=line):
            await ask(masters[0].url)


async def test_one_server_named_as_a_cluster_is_refused_with_the_line_to_write(empty_redis_url: str) -> None:
    log = RedisLog(empty_redis_url.replace("redis://", "redis+cluster://").removesuffix("/0"), patience_s=20.0)
    with anyio.fail_after(5), pytest.raises(WrongAddressError, match='mode = "single"'):
        await log.tail(MARKET, 1)
    await log.close()


async def test_a_user_who_may_not_ask_for_slots_is_named(masters: list[Node]) -> None:
    for node in masters:
        node.client.acl_setuser("guest", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-cluster|slots"])
    topology = topology_of(masters[0].url.replace("redis://", "redis+cluster://guest:x@").removesuffix("/0"))
    with pytest.raises(ServerError, match="NOPERM"):
        await topology.masters()
    await topology.close()


async def test_the_arrangement_of_a_cluster_is_judged(cluster_url: str, masters: list[Node]) -> None:
    checks = {check.what: check for check in await arranged(cluster_url)}
    assert checks["mode"].found.startswith("cluster: 3 masters")
    assert checks["slots"].verdict == "good"
    assert {check.verdict for what, check in checks.items() if what.startswith("replicas of")} == {"wrong"}
    assert checks["control"].verdict == "wrong"  # no replica has it


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
    await log.commit(claim, Commit(minute_bars(0, 1), {}, {}))
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
    with pytest.raises(ConnectionError, match="no node of the cluster of") as caught:
        await topology.open(SLOT, "test")
    assert "secret" not in str(caught.value)
    await topology.close()


# Sentinel. Failovers are in tests/cluster.


@pytest.fixture(scope="module")
def watched_master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, Node]]:
    """A master without replicas, and a Sentinel that asks for a password."""
    folder = tmp_path_factory.mktemp("watched")
    with watched(folder, "trading", replicas=0, sentinel_password="secret") as ([master], [sentinel]):
        yield master, sentinel


def address(sentinel: Node, service: str = "trading", password: str = "secret") -> str:
    dead = f"127.0.0.1:{free_port()}"  # the first one does not answer: the next one is asked
    return f"redis+sentinel://{dead},127.0.0.1:{sentinel.port}/{service}?sentinel_password={password}"


async def test_the_master_of_a_service_is_found_by_sentinels_that_ask_for_a_password(
    watched_master: tuple[Node, Node],
) -> None:
    master, sentinel = watched_master
    log = RedisLog(address(sentinel), patience_s=5.0)
    claim = await log.claim("feed", [], 0, ME)
    await log.commit(claim, Commit(minute_bars(0), {}, {}))
    assert master.client.xlen(MARKET.key) == 1
    await log.close()
    with pytest.raises(ServerError, match="CONCLAVE_SENTINEL_PASSWORD"):
        await topology_of(address(sentinel, password="guess")).node(0)


async def test_a_service_that_sentinel_does_not_know_is_named(watched_master: tuple[Node, Node]) -> None:
    log = RedisLog(address(watched_master[1], "treading").replace("://", "://me:hidden@"), patience_s=0.0)
    with pytest.raises(ConnectionError, match="service treading of the Sentinels") as caught:
        await log.tail(MARKET, 1)
    assert not {"hidden", "secret"} & set(str(caught.value).replace(":", " ").split())
    await log.close()


async def test_a_replica_that_a_sentinel_still_names_is_not_read(
    watched_master: tuple[Node, Node], tmp_path: Path
) -> None:
    master, sentinel = watched_master
    topology, options = topology_of(address(sentinel)), {"replicaof": f"127.0.0.1 {master.port}"}
    with (
        started(tmp_path / "replica", options=options) as replica,
        pytest.raises(UnavailableError, match="is a replica now"),
    ):
        await topology.open_at("127.0.0.1", replica.port, "test")
    await topology.close()


def left_open() -> list[AbstractConnection]:
    """The connections of redis-py that were not closed. Some objects of other libraries answer ``isinstance`` with a
    warning, so their types are looked at."""
    gc.collect()
    return [each for each in gc.get_objects() if issubclass(type(each), AbstractConnection) and each.is_connected]


async def test_what_is_cancelled_at_any_moment_leaves_no_connection_open(
    watched_master: tuple[Node, Node], cluster_url: str, empty_redis_url: str
) -> None:
    """Opening, looking up, a command, a read that waits and one that is sent in advance are cancelled early or late,
    and then the log is closed."""

    async def work(log: RedisLog) -> None:
        claim = await log.claim("feed", [], 0, ME, take_over=True)
        await log.read({CONTROL: START, MARKET: START}, count=1, block_ms=0)
        await log.commit(claim, Commit(minute_bars(0), {}, {}))
        await log.read({CONTROL: START, MARKET: START}, count=1, block_ms=1, ahead=True)
        await log.read({CONTROL: START, MARKET: "9-0"}, count=1, block_ms=60_000)

    for url in (address(watched_master[1]), cluster_url, empty_redis_url):
        for tenths in range(0, 90, 5):
            log = RedisLog(url, patience_s=5.0)
            task = asyncio.create_task(work(log))
            await asyncio.wait([task], timeout=tenths / 10_000)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await log.close()
        assert not left_open(), url


async def test_a_read_that_goes_on_although_it_was_cancelled_loses_its_connection_with_the_log(
    empty_redis_url: str,
) -> None:
    """As when a library swallows the cancellation."""
    log = RedisLog(empty_redis_url, patience_s=5.0)
    await log.read({CONTROL: START, MARKET: START}, count=1, block_ms=1)
    reader = log._reader
    [(slot, aside)] = reader._aside.items()
    reader._aside[slot] = aside._replace(rows=asyncio.shield(aside.rows))
    await log.close()
    assert not left_open()
    with pytest.raises(UnavailableError):
        await aside.rows


async def test_a_client_closes_its_connections_although_its_task_was_cancelled(masters: list[Node]) -> None:
    topology = topology_of(masters[0].url)
    with anyio.CancelScope() as scope:
        async with await topology.client(0, "test") as client:
            await client.ping()
            scope.cancel()
            await client.ping()
    assert scope.cancelled_caught
    assert not left_open()


async def test_a_client_loses_no_cancellation(masters: list[Node]) -> None:
    """One that comes at any step of the event loop."""
    topology = topology_of(masters[0].url)
    async with await topology.client(0, "test") as client:

        async def ask() -> None:
            while True:
                await client.dbsize()

        for steps in range(60):
            task = asyncio.create_task(ask())
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task], timeout=1.0)
            assert task.cancelled(), f"{steps} steps"
    await topology.close()


async def test_a_master_that_does_not_tell_its_role_is_left(watched_master: tuple[Node, Node]) -> None:
    master, sentinel = watched_master
    master.client.acl_setuser("clerk", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-info"])
    topology = topology_of(address(sentinel).replace("://", "://clerk:x@"))
    with pytest.raises(ServerError, match="NOPERM"):
        await topology.open(0, "test")
    await topology.close()
    assert not left_open()


async def test_a_sentinel_named_as_a_server_and_the_reverse_are_refused_with_the_line_to_write(
    watched_master: tuple[Node, Node],
) -> None:
    master, sentinel = watched_master
    url = sentinel.url.replace("://", "://:secret@")
    line = rf'it watches: trading. .*mode = "sentinel" and url = "redis\+sentinel://127.0.0.1:{sentinel.port}/trading"'
    for ask in (lambda url: check_server(url, ephemeral=True), in_force, arranged):
        with pytest.raises(WrongAddressError, match=line):
            await ask(url)
    log = RedisLog(f"redis+sentinel://127.0.0.1:{master.port}/trading", patience_s=20.0)
    with anyio.fail_after(5), pytest.raises(WrongAddressError, match="one of these is no Sentinel"):
        await log.tail(MARKET, 1)
    await log.close()


async def test_the_arrangement_under_sentinels_is_judged(watched_master: tuple[Node, Node]) -> None:
    checks = {check.what: check for check in await arranged(address(watched_master[1]))}
    assert checks["mode"].found == f"sentinel: service trading, its master is 127.0.0.1:{watched_master[0].port}"
    assert checks["sentinels"].verdict == "wrong"  # one of the two that are named does not answer
    assert checks["replicas"].found == "none: nothing takes over"
