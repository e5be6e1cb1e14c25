"""What each user may do, asked of a server that has the file in force."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest
import redis

from schemas.catalogue import STREAMS
from schemas.codec import encode
from schemas.control import Found, Halt, Resume
from schemas.decisions import FenceOpened
from schemas.documentation.examples import examples
from schemas.operations import PhoneAnswers
from services.guard.main import Guard
from services.observatory.projection import Projection
from services.phone.main import SHOWN
from shared.commands.retrying import RETRIED, may_append
from shared.control.issuing import ControlWriter, issue
from shared.log import Commit, HaltedError, Owner, StreamKey
from shared.log.appending import append_next
from shared.log.connection import ServerError
from shared.log.leases import is_open
from shared.log.redis import RedisLog
from shared.runtime.reported import reported_of_phone
from shared.server import users
from shared.server.embedded import EmbeddedServer, find_program
from tests.services.guard.world import SIGNER, compared, differs, trading

WORD = users.hashed("word")
HANDS = ("console", "ensemble-voter", "executor", "model-worker")
[INTENT] = [each for each in examples() if each.stream == "intents"]
ORDER = next(each for each in examples() if each.stream == "orders")
WRITES = (
    "XADD {key} * e x",
    "XDEL {key} 1-1",
    "XTRIM {key} MAXLEN 0",
    "DEL {key}",
    "XSETID {key} 9-9",
    "RENAME {key} {key}",
)
NEVER = (
    "FLUSHALL", "FLUSHDB", "CONFIG SET appendonly no", "ACL SETUSER x", "FUNCTION FLUSH", "SHUTDOWN", "DEBUG RELOAD",
    "GET other", "SET other x", "XADD other * e x", "XREAD STREAMS other 0", "HGETALL other", "PUBLISH news x",
    "SUBSCRIBE news", "WATCH conclave:control", "COPY conclave:control other", "DUMP conclave:control",
    "RESTORE other 0 x", "MIGRATE h 1 conclave:control 0 1", "ACL LOAD", "ACL DELUSER feed", "MODULE LIST",
    "SCRIPT LOAD x", "BGREWRITEAOF", "FAILOVER", "CLUSTER RESET", "SLOWLOG GET", "OBJECT ENCODING conclave:control",
    "EVAL return 0", "KEYS *", "SCAN 0", "MONITOR", "REPLICAOF NO ONE", "SAVE", "CLIENT KILL ID 1",
)  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    with EmbeddedServer(tmp_path_factory.mktemp("acl"), die_with_parent=True) as running:
        client = redis.Redis.from_url(running.url, decode_responses=True)
        for line in users.lines(dict.fromkeys((*users.USERS, "admin"), WORD)):
            if line != users.DEFAULT:  # it would lock this client out
                client.execute_command("ACL", "SETUSER", *_words(line)[1:])  # type: ignore[no-untyped-call]  # stub has none
        yield client
        client.close()


def _words(line: str) -> list[str]:
    """An access-control line as its words; a selector in brackets is one."""
    words: list[str] = []
    for part in line.split():
        if words and words[-1].startswith("(") and not words[-1].endswith(")"):
            words[-1] += " " + part
        else:
            words.append(part)
    return words


def may(server: redis.Redis, user: str, command: str) -> bool:
    answer = server.execute_command("ACL", "DRYRUN", user, *command.split())  # type: ignore[no-untyped-call]  # stub has none
    return bool(answer == "OK")


@pytest.mark.parametrize("user", users.USERS)
def test_a_user_appends_to_the_streams_it_writes_and_changes_no_other_way(server: redis.Redis, user: str) -> None:
    for spec in STREAMS.values():
        allowed = [word for word in WRITES if may(server, user, word.format(key=spec.key()))]
        trims = [WRITES[2]] if user == "archiver" and spec.retention_ms is not None else []
        assert allowed == [*(WRITES[:1] if user in spec.writers else []), *trims], spec.name


@pytest.mark.parametrize("user", users.USERS)
def test_a_user_reads_its_own_streams_and_the_configuration(server: redis.Redis, user: str) -> None:
    for spec in STREAMS.values():
        own = user in spec.readers or user in spec.writers or spec.name == "control"
        assert may(server, user, f"XRANGE {spec.key()} - +") == own, spec.name
        assert may(server, user, f"XREAD STREAMS {spec.key()} 0") == own, spec.name


@pytest.mark.parametrize("user", users.USERS)
def test_nobody_but_the_administrator_changes_the_server(server: redis.Redis, user: str) -> None:
    assert [command for command in NEVER if may(server, user, command)] == []
    assert [command for command in NEVER if not may(server, "admin", command)] == []


@pytest.mark.parametrize("user", sorted(users.ONLOOKERS))
def test_an_onlooker_sees_where_everything_stands_and_writes_nothing(server: redis.Redis, user: str) -> None:
    for group in (*users.USERS, "model-worker.xgboost"):
        key = f"conclave:{{p0}}:group:{group}"
        assert may(server, user, f"HGETALL {key}")
        assert not may(server, user, f"HSET {key} memo x")
        assert not may(server, user, f"FCALL conclave_commit 1 {key}")
    assert may(server, user, "SMEMBERS conclave:{p0}:groups")
    assert not may(server, user, "SADD conclave:{p0}:groups x")
    assert all(may(server, user, f"XINFO STREAM {spec.key()}") for spec in STREAMS.values() if spec.partitioned)
    assert not any(may(server, user, f"XADD {spec.key()} * e x") for spec in STREAMS.values())


@pytest.mark.parametrize("user", [user for user in users.USERS if user not in {"console", *users.ONLOOKERS}])
def test_a_service_holds_its_own_group_alone_and_loads_no_function(server: redis.Redis, user: str) -> None:
    mine = "model-worker.xgboost" if user == "model-worker" else user
    for other in (mine, *users.USERS):
        key = f"conclave:{{p0}}:group:{other}"
        held = other == mine and user not in {"guard", "observatory", "phone"}
        assert may(server, user, f"HSET {key} memo x") == held, other
    assert not may(server, user, "FUNCTION LOAD x")


def test_operators_and_the_services_that_issue_commands_alone_append_to_control(server: redis.Redis) -> None:
    assert {user for user in users.USERS if may(server, user, "XADD conclave:control * e x")} == {
        "console",
        "gate-evaluator",
        "trainer",
        "guard",
        "observatory",
        "phone",
    }
    trains = {user for user in users.USERS if may(server, user, "XADD conclave:training * e x")}
    assert trains == {"console", "trainer", "observatory"}


def test_the_pages_retry_a_request_and_neither_a_bar_nor_a_trade(server: redis.Redis) -> None:
    allowed = {name for name in RETRIED if may(server, "observatory", f"XADD {STREAMS[name].key()} * e x")}
    assert allowed == {"training"}
    assert allowed == {name for name in RETRIED if may_append("observatory", name)}
    assert may(server, "observatory", f"XADD {STREAMS['dead'].key()} * e x")
    assert not any(may(server, "phone", f"XADD {STREAMS[name].key()} * e x") for name in (*RETRIED, "dead"))


def test_the_voter_and_those_that_halt_alone_move_a_fence(server: redis.Redis) -> None:
    key = "conclave:{p0}:fence"
    movers = {"console", "ensemble-voter", "guard", "observatory", "phone"}
    assert {user for user in users.USERS if may(server, user, f"HSET {key} mark x")} == movers
    # The executor commits under the fence, so it may name it in a call. The commands inside are checked one by one.
    call = f"FCALL f 2 {key} conclave:{{p0}}:decisions"
    assert {user for user in users.USERS if may(server, user, call)} == {*movers, "executor"}
    assert not may(server, "executor", "XADD conclave:{p0}:decisions * e x")
    assert [user for user in users.USERS if may(server, user, f"DEL {key}")] == []


@pytest.mark.anyio
async def test_the_user_of_the_phone_can_do_what_a_look_a_halt_and_a_resume_need(tmp_path: Path) -> None:
    with started(tmp_path) as admin:
        place = tmp_path / "socket"

        def connected(user: str) -> RedisLog:
            return RedisLog(f"unix://{user}:word@{place}", patience_s=2.0)

        owner, phone = connected("admin"), connected("phone")
        await owner.load()
        await issue(owner, Found(2, "log-of-a-test"), actor="owner", reason="begin")
        projection = Projection(phone, 2, tmp_path / "file", streams=SHOWN)
        await projection.begin()
        await projection.turn()
        assert not projection.error
        writer = ControlWriter(phone)
        for command, halted in ((Halt(), True), (Resume(), False)):
            issued = await writer.issue(command, actor="ada", reason="test")
            assert issued.state.halted == halted
            assert [is_open(await owner.fence(partition)) for partition in range(2)] == [not halted] * 2
        alarm = encode("alarms", PhoneAnswers("a", 1_700_000_000_000))
        assert await append_next(phone, StreamKey("alarms"), alarm.data, 1_700_000_000_000)
        assert isinstance(await reported_of_phone(phone), PhoneAnswers)
        assert admin.acl_log() == []
        await owner.close()
        await phone.close()


@pytest.mark.anyio
async def test_the_user_of_the_guard_can_halt_for_an_account_that_differs(tmp_path: Path) -> None:
    with started(tmp_path) as admin:
        place = tmp_path / "socket"
        owner = RedisLog(f"unix://admin:word@{place}", patience_s=2.0)
        await owner.load()
        await trading(owner)
        await compared(owner, differs("a transfer"), partition=1)
        log = RedisLog(f"unix://guard:word@{place}", patience_s=2.0)
        assert [version for _, version in await Guard(ControlWriter(log, SIGNER)).halt()] == [4]
        assert [is_open(await owner.fence(partition)) for partition in range(2)] == [False, False]
        assert admin.acl_log() == []
        await owner.close()
        await log.close()


def test_a_console_loads_the_functions_and_skips_a_group(server: redis.Redis) -> None:
    assert may(server, "console", "FUNCTION LOAD x")
    assert may(server, "console", "FCALL f 2 conclave:{p0}:group:feed conclave:{p0}:market")


@contextmanager
def started(data: Path) -> Iterator[redis.Redis]:
    """A server over ``data`` with the file in force, and its administrator."""
    file = data / "users.acl"
    file.write_text("\n".join(users.lines(dict.fromkeys((*users.USERS, "admin"), WORD))) + "\n")
    place = str(data / "socket")
    options = {"dir": str(data), "port": "0", "unixsocket": place, "aclfile": str(file), "appendonly": "yes"}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    program = shutil.which("redis-server") or find_program()  # Redis, where it is: the one that forgot
    process = subprocess.Popen([str(program), *words], stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(unix_socket_path=place, username="admin", password="word") as admin:
            until(admin, place)
            yield admin
    finally:
        process.terminate()
        process.wait()


def until(client: redis.Redis, place: str, limit_s: float = 20.0) -> None:
    deadline = time.monotonic() + limit_s
    while True:
        try:
            client.ping()
        except redis.exceptions.ConnectionError:  # loading is one, too
            assert time.monotonic() < deadline, place
            time.sleep(0.01)
        else:
            return


def test_nobody_is_let_in_without_a_name_and_the_file_is_read_back_whole(tmp_path: Path) -> None:
    """Redis replays its append-only file as the user ``default``: it is off, and may do everything."""
    with started(tmp_path) as admin:
        both = admin.pipeline(transaction=True)
        both.set("a", 1)
        both.set("b", 2)
        both.execute()
        stranger = redis.Redis(unix_socket_path=str(tmp_path / "socket"))
        with stranger, pytest.raises(redis.exceptions.AuthenticationError):
            stranger.ping()
    with started(tmp_path) as admin:
        assert admin.mget("a", "b") == [b"1", b"2"]


def test_a_password_stands_in_the_file_as_its_digest_alone() -> None:
    text = "\n".join(users.lines({user: users.hashed("secret") for user in users.USERS}))
    assert "secret" not in text
    assert text.count(f"#{users.hashed('secret')}") == len(users.USERS)
    assert "user admin" not in text


def listed(server: redis.Redis) -> list[str]:
    found: list[str] = server.execute_command("ACL", "LIST")  # type: ignore[no-untyped-call]  # stub has none
    return [line for line in found if users.name_of(line) != "default"]  # here this client is it


def set_user(server: redis.Redis, *words: str) -> None:
    server.execute_command("ACL", "SETUSER", *words)  # type: ignore[no-untyped-call]  # stub has none


def test_what_a_server_lists_is_what_the_catalogue_says(server: redis.Redis) -> None:
    assert users.differences(listed(server)) == []
    assert users.differences([*listed(server), "user default on nopass ~* &* +@all"]) == ["default is on"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("feed", "+get"), "feed has"),
        (("feed", "~x"), "feed has"),
        (("feed", "&news"), "feed has"),
        (("feed", "(~conclave:control +xadd)"), "feed has (+xadd ~conclave:control)"),
        (("feed", "clearselectors"), "feed lacks"),
        (("feed", "nopass"), "feed is nopass, on"),
        (("feed", "off"), "feed is off"),
        (("health", "+@all"), "health has (+@all)"),
        (("stranger", "on", "+get"), "stranger is not of the catalogue"),
    ],
)
def test_a_right_too_many_or_too_few_is_told(server: redis.Redis, change: tuple[str, ...], told: str) -> None:
    try:
        set_user(server, *change)
        assert told in "; ".join(users.differences(listed(server)))
    finally:
        server.execute_command("ACL", "DELUSER", change[0])  # type: ignore[no-untyped-call]  # stub has none
        for line in users.lines(dict.fromkeys((*users.USERS, "admin"), WORD)):
            if users.name_of(line) == change[0]:
                set_user(server, *_words(line)[1:])


def test_a_user_that_is_missing_is_told(server: redis.Redis) -> None:
    assert users.differences([line for line in listed(server) if users.name_of(line) != "feed"]) == [
        "feed is not there"
    ]


@pytest.mark.anyio
async def test_with_the_file_in_force_the_console_moves_fences_and_others_commit_under_them(tmp_path: Path) -> None:
    with started(tmp_path):
        place = f"unix://{tmp_path / 'socket'}"
        users = {user: RedisLog(place.replace("unix://", f"unix://{user}:word@"), patience_s=1.0) for user in HANDS}
        async with AsyncExitStack() as closing:
            for log in users.values():
                closing.push_async_callback(log.close)
            await _halt_and_try(*users.values())


async def _halt_and_try(console: RedisLog, voter: RedisLog, executor: RedisLog, worker: RedisLog) -> None:
    await issue(console, Found(1, "log-of-a-test"), actor="ada", reason="test", command_id="f")
    claim = await voter.claim("ensemble-voter", ["predictions"], 0, Owner("here", 1, "voter"))
    await voter.commit(claim, Commit([INTENT], {}, {}, fence="open f"))
    trading = await executor.claim("executor", ["intents"], 0, Owner("here", 2, "executor"))
    await executor.commit(trading, Commit([ORDER], {}, {}, fence=await executor.fence(0)))
    await issue(console, Halt(), actor="ada", reason="test", command_id="h")
    with pytest.raises(HaltedError, match="closed h"):
        await voter.commit(claim, Commit([INTENT], {}, {}, b"the next", fence="open f"))
    with pytest.raises(HaltedError, match="closed h"):
        await executor.commit(trading, Commit([ORDER], {}, {}, b"the next", fence="open f"))
    with pytest.raises(ServerError, match=r"can't access|No permissions to access"):  # of Redis, of Valkey
        await executor.set_fence(0, "open w", encode("decisions", FenceOpened("w", "an executor", "", 0)))
    with pytest.raises(ServerError, match="NOPERM"):
        await worker.set_fence(0, "open w", encode("decisions", FenceOpened("w", "a worker", "", 0)))
    assert await console.fence(0) == "closed h"
