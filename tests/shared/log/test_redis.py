"""What the log does on a server beyond the contract: lost replies, lost functions, visible groups."""

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis
from redis.credentials import CredentialProvider

from schemas.codec import Encoded
from schemas.documentation.examples import examples
from shared.log import (
    START,
    Claim,
    Commit,
    Committed,
    Owner,
    Position,
    ReadMark,
    StreamKey,
    TruncatedLogError,
    UnavailableError,
)
from shared.log import redis as redis_module
from shared.log.address import parse_address
from shared.log.connection import Command, Sent, ServerError
from shared.log.durability import UnfitServerError, check_server, reach_server, refused_writes
from shared.log.identity import digest_of
from shared.log.redis import RedisLog, library
from shared.log.topology import topology_of
from shared.server.embedded import EmbeddedServer, find_program
from tests.minute_bars import minute_bars

MARKET, CONTROL = StreamKey("market"), StreamKey("control")
ME = Owner("here", 4_000_001, "me")

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Services run on uvloop, whose transports refuse to write once a server has closed them."""
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
def client(empty_redis_url: str) -> Any:
    with redis.Redis.from_url(empty_redis_url, decode_responses=True) as opened:
        yield opened


@pytest.fixture
async def log(empty_redis_url: str) -> AsyncIterator[RedisLog]:
    opened = RedisLog(empty_redis_url, patience_s=5.0)
    yield opened
    await opened.close()


async def publish(log: RedisLog, outputs: Sequence[Encoded]) -> None:
    claim = await log.claim("feed", [], 0, ME)
    await log.commit(claim, Commit(outputs, {}, {}))


# What standard tools see


async def test_lag_and_owner_show_in_the_consumer_group(log: RedisLog, client: Any) -> None:
    await publish(log, minute_bars(0, 1, 2))
    claim = await log.claim("voter", ["market"], 0, ME)
    assert client.xinfo_groups(MARKET.key)[0]["lag"] == 3
    entries = await log.read({MARKET: START}, count=2, block_ms=0)
    after = {"market": Position(entries[-1].id, 2)}
    await log.commit(claim, Commit([], claim.positions, after))
    (group,) = client.xinfo_groups(MARKET.key)
    assert (group["name"], group["lag"], group["entries-read"], group["pending"]) == ("voter", 1, 2, 0)
    assert group["last-delivered-id"] == entries[-1].id
    assert [each["name"] for each in client.xinfo_consumers(MARKET.key, "voter")] == ["me@here:4000001"]


async def test_a_group_has_one_consumer_its_owner_and_none_after_a_release(log: RedisLog, client: Any) -> None:
    await log.claim("voter", ["market"], 0, ME)
    claim = await log.claim("voter", ["market"], 0, Owner("there", 7, "other"), take_over=True)
    assert [each["name"] for each in client.xinfo_consumers(MARKET.key, "voter")] == ["other@there:7"]
    await log.release(claim)
    assert client.xinfo_consumers(MARKET.key, "voter") == []


async def test_a_lease_that_is_extended_while_groups_are_listed_still_runs(
    log: RedisLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = await log.claim("feature-builder", ("market",), 0, ME)
    ask = log.time

    async def and_extend(partition: int = 0) -> int:
        now = await ask(partition)
        await anyio.sleep(0.005)
        await log.renew(claim)
        return now

    monkeypatch.setattr(log, "time", and_extend)
    assert [view.alive for view in await log.groups(0)] == [True]


async def test_all_keys_of_a_partition_share_a_hash_tag(log: RedisLog, client: Any) -> None:
    claim = await log.claim("voter", ["market"], 3, ME)
    await log.commit(claim, Commit(minute_bars(0), {}, {}))
    assert sorted(client.keys("*")) == [f"conclave:{{p3}}:{name}" for name in ("group:voter", "groups", "market")]


# Lost functions, foreign keys, great batches


async def test_functions_that_the_server_lost_are_loaded_again(log: RedisLog, client: Any) -> None:
    claim = await log.claim("feed", [], 0, ME)
    client.function_flush()
    await log.commit(claim, Commit(minute_bars(0), {}, {}))
    assert client.xlen(MARKET.key) == 1


async def test_the_library_is_named_after_its_source() -> None:
    name, source = library()
    assert source.startswith(f"#!lua name={name}\n")
    assert "@" not in source


async def test_a_foreign_key_in_the_way_is_named_and_nothing_is_written(log: RedisLog, client: Any) -> None:
    claim = await log.claim("voter", ["market"], 0, ME)
    client.set("conclave:{p0}:dead", "mine")
    stray = minute_bars(0)[0]._replace(stream="dead")
    with pytest.raises(UnfitServerError, match=r"conclave:\{p0\}:dead.*holds a string"):
        await log.commit(claim, Commit([*minute_bars(0), stray], {}, {}, b"memo"))
    assert client.xlen(MARKET.key) == 0
    assert client.hget("conclave:{p0}:group:voter", "memo") is None


async def test_many_of_the_newest_entries_are_asked_for_a_page_at_a_time(
    log: RedisLog, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_module, "PAGE", 3)
    await publish(log, minute_bars(*range(8)))
    written = await log.scan(MARKET)
    client.config_resetstat()
    for count in (0, 1, 3, 4, 6, 8, 1_000_000):
        assert await log.tail(MARKET, count) == written[len(written) - min(count, 8) :]
    assert client.info("commandstats")["cmdstat_xrevrange"]["calls"] == 0 + 1 + 1 + 2 + 2 + 3 + 3


async def test_a_great_batch_is_one_commit(log: RedisLog, client: Any) -> None:
    claim = await log.claim("feed", [], 0, ME)
    await log.commit(claim, Commit(minute_bars(*range(20)) * 1000, {}, {}))
    assert client.xlen(MARKET.key) == 20_000


async def test_an_emptied_server_takes_nothing_from_whoever_was_there(log: RedisLog, client: Any) -> None:
    claim = await log.claim("voter", ["market"], 0, ME)
    client.flushall()
    with pytest.raises(TruncatedLogError, match="emptied"):
        await log.commit(claim, Commit(minute_bars(0), {}, {}))
    assert client.keys("*") == []


# Lost replies


class Faulty:
    """A way to the server that can swallow replies: the command arrives, then the line is cut."""

    def __init__(self, url: str) -> None:
        self.server = parse_address(url)
        self.cut = 0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, there = await asyncio.open_connection(*self.server.nodes[0])
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.forth(reader, there))
            while data := await back.read(65536):
                if self.cut and not data.startswith(b"+OK"):  # the greeting goes through
                    self.cut -= 1
                    break
                writer.write(data)
            writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def forth(self, reader: asyncio.StreamReader, there: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                there.write(data)
        there.close()
        await there.wait_closed()


@asynccontextmanager
async def faulty(url: str) -> AsyncIterator[tuple[Faulty, RedisLog]]:
    way, lines = Faulty(url), set[asyncio.Task[None]]()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.add(asyncio.create_task(way.carry(reader, writer)))

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        log = RedisLog(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", patience_s=5.0)
        yield way, log
        await log.close()
        await asyncio.gather(*lines)


async def test_a_commit_whose_reply_was_lost_is_sent_again_and_applied_once(empty_redis_url: str, client: Any) -> None:
    async with faulty(empty_redis_url) as (way, log):
        claim = await log.claim("feed", [], 0, ME)
        for number in range(5):
            way.cut = 2
            assert await log.commit(claim, Commit(minute_bars(number), {}, {}, b"%d" % number)) == Committed()
            assert way.cut == 0
    assert client.xlen(MARKET.key) == 5


async def test_an_append_whose_reply_was_lost_is_found_to_be_ones_own(empty_redis_url: str) -> None:
    async with faulty(empty_redis_url) as (way, log):
        for version in (1, 2):
            way.cut = 1
            assert await log.append_at(CONTROL, f"{version}-0", b"%d" % version)
        assert not await log.append_at(CONTROL, "2-0", b"2")
        assert [entry.id for entry in await log.scan(CONTROL)] == ["1-0", "2-0"]


async def test_a_claim_whose_reply_was_lost_is_still_ones_own(empty_redis_url: str) -> None:
    async with faulty(empty_redis_url) as (way, log):
        way.cut = 1
        claim = await log.claim("voter", ["market"], 0, ME)
        await log.commit(claim, Commit(minute_bars(0), {}, {}))


async def test_a_stale_commit_that_arrives_late_is_refused(log: RedisLog, client: Any) -> None:
    """A command that was stuck on its way, after its repetition and a further commit were applied."""
    claim = await log.claim("feed", [], 0, ME)
    commands: list[Command] = []
    connection = await log._router.connected(0)
    call = connection.call

    async def listen(command: Command, limit_s: float = 10.0, sent: Sent | None = None) -> Any:
        commands.append(command)
        return await call(command, limit_s, sent)

    connection.call = listen  # type: ignore[method-assign]  # spies on words
    await log.commit(claim, Commit(minute_bars(0), {}, {}))
    await log.commit(claim, Commit(minute_bars(1), {}, {}))
    assert (await call(commands[0], 1.0))[0] == b"STALE"
    assert client.xlen(MARKET.key) == 2


@pytest.mark.parametrize("stream", ["alarms", "dead"])
async def test_a_stream_of_reports_that_takes_no_entry_stops_no_commit(
    log: RedisLog, client: Any, stream: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Any client that may write there can append an entry with the greatest id."""
    greatest = 2**64 - 1
    client.xadd(StreamKey(stream).key, {"e": b"x"}, id=f"{greatest}-{greatest}")
    claim = await log.claim("feed", [], 0, ME)
    report = next(each for each in examples() if each.stream == stream)
    committed = await log.commit(claim, Commit([report, *minute_bars(0), report, *minute_bars(1)], {}, {}))
    assert committed == Committed()
    assert (client.xlen(MARKET.key), client.xlen(StreamKey(stream).key)) == (2, 1)
    assert f"conclave:{{p0}}:{stream} takes no entries" in caplog.text
    await log.commit(claim, Commit(minute_bars(2), {}, {}))
    assert client.xlen(MARKET.key) == 3


async def test_a_stream_of_work_that_takes_no_entry_refuses_the_commit(log: RedisLog, client: Any) -> None:
    greatest = 2**64 - 1
    client.xadd(MARKET.key, {"e": b"x"}, id=f"{greatest}-{greatest}")
    claim = await log.claim("feed", [], 0, ME)
    with pytest.raises(ServerError, match="exhausted"):
        await log.commit(claim, Commit(minute_bars(0), {}, {}))


async def test_connections_that_are_killed_all_the_time_lose_and_double_nothing(log: RedisLog, client: Any) -> None:
    claim = await log.claim("feed", [], 0, ME)
    over = anyio.Event()

    async def kill() -> None:
        seen = 0
        while not over.is_set():
            await anyio.lowlevel.checkpoint()
            if client.xlen(MARKET.key) > seen:
                client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                seen = client.xlen(MARKET.key)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(kill)
        for number in range(40):
            await log.commit(claim, Commit(minute_bars(number), {}, {}, b"%d" % number))
        over.set()
    assert [entry.data for entry in await log.scan(MARKET)] == [bar.data for bar in minute_bars(*range(40))]


async def test_the_next_read_goes_with_the_commit_and_outlives_its_connection(log: RedisLog, client: Any) -> None:
    await publish(log, minute_bars(0))
    claim = await log.claim("voter", ["market"], 0, ME)
    first = await log.read({MARKET: START}, count=10, block_ms=60_000, ahead=True)
    await log.commit(claim, Commit([], {}, {}))
    with anyio.fail_after(10):
        while client.info("clients")["blocked_clients"] != 1:
            await anyio.lowlevel.checkpoint()
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await publish(log, minute_bars(1))
        [entry] = await log.read({MARKET: first[-1].id}, count=10, block_ms=60_000)
    assert entry.data == minute_bars(1)[0].data


async def test_a_read_outlives_its_connection(log: RedisLog, client: Any, empty_redis_url: str) -> None:
    async with anyio.create_task_group() as tasks:

        async def cut_then_publish() -> None:
            while not [
                each for each in client.client_list() if each["name"] == "conclave:read" and each["cmd"] == "xread"
            ]:
                await anyio.lowlevel.checkpoint()
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await publish(log, minute_bars(0))

        tasks.start_soon(cut_then_publish)
        with anyio.fail_after(10):
            assert len(await log.read({MARKET: START}, count=10, block_ms=60_000)) == 1


# The server itself


async def test_a_server_that_is_not_there_is_said_to_be_unavailable() -> None:
    log = RedisLog("redis://user:secret@127.0.0.1:1/0", patience_s=0.0)
    with pytest.raises(UnavailableError, match=r"no server at 127\.0\.0\.1:1.*running") as caught:
        await log.tail(MARKET, 1)
    assert "secret" not in str(caught.value) + repr(log._router.address)


async def test_a_url_that_is_none_is_refused() -> None:
    for wrong in (
        "localhost:6379",
        "http://localhost",
        "redis://",
        "redis://localhost?ssl=true",
        "unix://",
        "redis://h?ssl_ca_certs=x",
    ):
        with pytest.raises(ValueError, match="redis://host:port"):
            parse_address(wrong)


@pytest.mark.parametrize(
    ("url", "shown", "options"),
    [
        ("unix:///run/valkey.sock?db=2", "/run/valkey.sock", {"path": "/run/valkey.sock", "db": 2}),
        ("rediss://me:p%40ss@host/3", "host:6379", {"username": "me", "password": "p@ss", "db": 3}),
        ("rediss://host?ssl_ca_certs=%2Fa%20b.crt", "host:6379", {"ssl_ca_certs": "/a b.crt"}),
        ("redis://[::1]:7000/0?protocol=2", "::1:7000", {"db": 0, "protocol": 2}),
        (
            "redis+sentinel://me:x@a:1,b/trading/4",
            "service trading of the Sentinels a:1,b:26379",
            {"username": "me", "password": "x", "db": 4},
        ),
        ("rediss+cluster://a:1,b?ssl_certfile=c", "the cluster of a:1,b:6379", {"ssl_certfile": "c"}),
    ],
)
async def test_an_address_is_taken_apart(url: str, shown: str, options: dict[str, Any]) -> None:
    address = parse_address(url)
    assert (str(address), address.options) == (shown, options)
    assert address.tls == url.startswith("rediss")


@pytest.mark.parametrize(
    "url",
    [
        "redis://me:se/cret@host",
        "redis://me:se?cret@host",
        "redis://me:se#cret@host",
        "redis://me:se@cret@host?what=cret",
        "redis://me:secret@host:no",
        "redis://me:secret@host/0?db=secret",
        "unix://me:secret@",
        "redis+sentinel://me:secret@host",
        "redis+cluster://me:secret@host/3",
        "redis://me:secret@one,two",
        "redis://me:secret@host?credential_provider=os:getcwd",
    ],
)
async def test_the_refusal_of_an_address_shows_no_password(url: str) -> None:
    with pytest.raises(ValueError, match="no server address") as caught:
        parse_address(url)
    assert "cret" not in str(caught.value)
    assert caught.value.__cause__ is None


class Rotating(CredentialProvider):
    """Another password each time, as a provider of short-lived tokens has."""

    asked = 0

    def get_credentials(self) -> tuple[str, str]:
        Rotating.asked += 1
        return "rotating", f"word{Rotating.asked}"

    async def get_credentials_async(self) -> tuple[str, str]:
        return self.get_credentials()


async def test_a_credential_provider_is_asked_at_each_connection(empty_redis_url: str, client: Any) -> None:
    Rotating.asked = 0
    client.execute_command("ACL", "SETUSER", "rotating", "on", ">word1", ">word2", "~*", "+@all")
    log = RedisLog(f"{empty_redis_url}?credential_provider={__name__}:Rotating", patience_s=5.0)
    try:
        for _ in range(2):
            assert await log.tail(MARKET, 1) == []
            assert {each["user"] for each in client.client_list() if each["name"] == "conclave"} == {"rotating"}
            client.client_kill_filter(_type="normal", skipme=True)
    finally:
        await log.close()
        client.acl_deluser("rotating")
    assert Rotating.asked == 2


async def test_a_wrong_password_is_said_at_once(empty_redis_url: str) -> None:
    log = RedisLog(empty_redis_url.replace("redis://", "redis://nobody:wrong@"), patience_s=60.0)
    with anyio.fail_after(5), pytest.raises(ServerError, match="WRONGPASS"):
        await log.tail(MARKET, 1)


async def test_replies_go_to_their_callers_even_if_one_was_abandoned(empty_redis_url: str) -> None:
    connection = await topology_of(empty_redis_url).open(0, "test")
    found: dict[int, bytes] = {}

    async def ask(number: int) -> None:
        with anyio.move_on_after(0 if number % 3 == 0 else 5):
            found[number] = await connection.call(("ECHO", str(number)), 5.0)

    async with anyio.create_task_group() as tasks:
        for number in range(30):
            tasks.start_soon(ask, number)
    await connection.close()
    assert {number for number in range(30) if number % 3} <= found.keys()
    assert all(answer == b"%d" % number for number, answer in found.items())


async def test_a_caller_that_is_cancelled_while_it_waits_leaves_the_connection_usable(empty_redis_url: str) -> None:
    connection = await topology_of(empty_redis_url).open(0, "test")
    with anyio.move_on_after(0.01):
        await connection.call(("BLPOP", "nothing", "0.1"))
    assert [await connection.call(("ECHO", word)) for word in ("a", "b")] == [b"a", b"b"]
    await connection.close()


async def test_an_answer_that_does_not_come_closes_the_connection() -> None:
    """The shorter limit counts, though it began to wait later."""

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"test\r\n")
        writer.write(b"+OK\r\n")
        await reader.read()  # until it hangs up
        writer.close()

    async with await asyncio.start_server(mute, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        connection = await topology_of(f"redis://127.0.0.1:{port}/0?protocol=2").open(0, "test")
        with anyio.fail_after(10):
            answers = await asyncio.gather(
                connection.call(("PING",), 60.0), connection.call(("PING",), 0.05), return_exceptions=True
            )
    assert [type(answer) for answer in answers] == [UnavailableError] * 2
    assert "did not answer in time" in str(answers[1])
    assert "closed the connection" in str(answers[0])
    assert connection.closed


async def test_a_good_server_is_fit_and_a_check_writes_nothing(client: Any, empty_redis_url: str) -> None:
    before = client.info("persistence")["rdb_changes_since_last_save"]
    report = await check_server(empty_redis_url, ephemeral=False)
    assert (report.append_only, report.faults) == (True, ())
    assert await reach_server(empty_redis_url) is None
    assert client.info("persistence")["rdb_changes_since_last_save"] == before


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"maxmemory": "1gb", "maxmemory-policy": "allkeys-lru"}, "maxmemory-policy is allkeys-lru"),
        ({"maxmemory": "1gb", "maxmemory-policy": "volatile-ttl"}, "maxmemory-policy is volatile-ttl"),
        ({"appendonly": "no"}, "appendonly is off"),
    ],
)
async def test_a_server_that_may_drop_entries_is_refused(
    client: Any, empty_redis_url: str, changes: dict[str, str], fault: str
) -> None:
    before = {name: client.config_get(name)[name] for name in changes}
    try:
        for name, value in changes.items():
            client.config_set(name, value)
        with pytest.raises(UnfitServerError, match=fault):
            await check_server(empty_redis_url, ephemeral=False)
        (accepted,) = (await check_server(empty_redis_url, ephemeral=True)).faults
        assert fault in accepted
    finally:
        for name, value in before.items():
            client.config_set(name, value)


async def test_a_limit_that_never_evicts_is_fit(client: Any, empty_redis_url: str) -> None:
    client.config_set("maxmemory", "1gb")
    try:
        assert (await check_server(empty_redis_url, ephemeral=False)).memory_limit == 2**30
    finally:
        client.config_set("maxmemory", "0")


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"role": "slave", "slave_read_only": 1, "master_host": "10.0.0.5", "master_port": 6379}, "10.0.0.5:6379"),
        ({"maxmemory": 100, "used_memory": 101, "maxmemory_policy": "noeviction"}, "101 bytes of 100"),
        ({"aof_last_write_status": "err"}, "append-only file"),
        ({"role": "slave", "slave_read_only": 0}, None),
        ({"maxmemory": 100, "used_memory": 101, "maxmemory_policy": "allkeys-lru"}, None),
        ({"maxmemory": 0, "used_memory": 101, "maxmemory_policy": "noeviction"}, None),
        ({}, None),
    ],
)
def test_what_a_server_says_about_its_writes(facts: dict[str, Any], why: str | None) -> None:
    for form in (facts, {name: str(value) for name, value in facts.items()}):
        refused = refused_writes(form)
        assert (refused is None) if why is None else (refused is not None and why in refused.why)


async def test_a_full_server_is_waited_for(client: Any, log: RedisLog) -> None:
    claim: Claim = await log.claim("feed", [], 0, ME)
    client.config_set("maxmemory", "1")
    try:
        log._router._patience = 0.0
        with pytest.raises(UnavailableError, match="OOM"):
            await log.commit(claim, Commit(minute_bars(0), {}, {}))
    finally:
        client.config_set("maxmemory", "0")
    await log.commit(claim, Commit(minute_bars(0), {}, {}))
    assert client.xlen(MARKET.key) == 1


# A server that reads its file


@contextmanager
def loading(server: EmbeddedServer, data: Path) -> Iterator[None]:
    """Start the server of this folder again, so that it takes a second to read its file, and answers LOADING meanwhile.

    It pauses for 10 ms after each key of a file that was rewritten, and answers every 1,024 bytes of it."""
    with redis.Redis.from_url(server.url) as client:
        port = client.connection_pool.connection_kwargs["port"]
        for number in range(100):
            client.set(f"filler:{number}", os.urandom(100))
        client.bgrewriteaof()
        while client.info("persistence")["aof_rewrite_in_progress"]:
            time.sleep(0.01)
    server.stop()
    slow = {"key-load-delay": 10_000, "loading-process-events-interval-bytes": 1024}
    options = {"port": port, "dir": data, "appendonly": "yes", "save": "", **slow}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    process = subprocess.Popen([find_program(), *words], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        with redis.Redis(port=port) as client:
            while not _loads(client):
                assert time.monotonic() < deadline
        yield
    finally:
        process.kill()
        process.wait()


def _loads(client: Any) -> bool:
    try:
        return bool(client.info("persistence")["loading"])
    except redis.ConnectionError:
        return False


async def test_a_server_that_reads_its_file_is_waited_for(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server:
        log = RedisLog(server.url)
        await publish(log, minute_bars(1))
        claim = await log.claim("voter", ["market"], 0, ME)
        [read] = await log.read({MARKET: START}, count=10, block_ms=0)
        after = {"market": Position(read.id, 1, digest_of(read.data))}
        with loading(server, tmp_path):
            await log.check([ReadMark(MARKET, after["market"])])
            await log.commit(claim, Commit([], {"market": Position()}, after))
        await log.close()


async def test_a_server_that_reads_its_file_is_checked_when_it_has(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server:
        url = server.url
        with loading(server, tmp_path):
            assert (await check_server(url, ephemeral=False)).append_only
