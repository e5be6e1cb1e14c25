"""What `conclave doctor` says of a server's protection: of a real one, and of what one may answer."""

import time
from pathlib import Path
from typing import Any

import pytest
import redis
from msgspec.structs import replace

from shared.log.address import parse_address
from shared.log.redis import library
from shared.server import users
from shared.server.embedded import EmbeddedServer
from shared.server.security import SecurityCheck, Seen, in_force, judged

WORD = users.hashed("word")
LATER = time.strftime("%b %d %H:%M:%S %Y GMT", time.gmtime(time.time() + 86_400 * 400))
SOON = time.strftime("%b %d %H:%M:%S %Y GMT", time.gmtime(time.time() + 86_400 * 3))
STACK = Seen(
    parse_address("rediss://console:secret@redis:6379/0"),
    {"bind": "* -::*", "port": "0", "tls-port": "6379", "appendfsync": "always", "maxmemory": "1000",
     "maxmemory-policy": "noeviction"},
    users.lines(dict.fromkeys(users.USERS, WORD)),
    library()[1].encode(),
    {"aof_enabled": "1", "aof_last_write_status": "ok"},
    {"notAfter": LATER},
)  # fmt: skip


def verdicts(seen: Seen, *, ephemeral: bool = False) -> dict[str, str]:
    return {check.what: check.verdict for check in judged(seen, ephemeral)}


def changed(**settings: str) -> Seen:
    return replace(STACK, settings={**(STACK.settings or {}), **settings})


def test_a_server_that_others_reach_is_in_order_with_tls_and_users() -> None:
    assert verdicts(STACK) == {
        "reached from": "open",
        "encryption": "good",
        "default user": "good",
        "users": "good",
        "writes": "good",
        "memory": "good",
        "persistence": "good",
        "functions": "good",
    }


NEAR = parse_address("redis://127.0.0.1:6379/0")
PLAIN = parse_address("redis://redis:6379/0")
STRANGER = "user stranger on #00 ~* +@all"


@pytest.mark.parametrize(
    ("seen", "what", "verdict"),
    [
        (changed(port="6380"), "encryption", "wrong"),
        (replace(STACK, address=PLAIN, peer={}), "encryption", "wrong"),
        (replace(STACK, peer={"notAfter": SOON}), "encryption", "wrong"),
        (replace(STACK, users=["user default on nopass ~* &* +@all"]), "default user", "wrong"),
        (replace(STACK, users=["user default on nopass ~* &* +@all"]), "users", "wrong"),
        (replace(STACK, users=[*(STACK.users or []), STRANGER]), "users", "wrong"),
        (changed(**{"maxmemory-policy": "allkeys-lru"}), "memory", "wrong"),
        (changed(**{"maxmemory-policy": "allkeys-lru", "maxmemory": "0"}), "memory", "open"),
        (changed(appendfsync="everysec"), "persistence", "open"),
        (replace(STACK, info={"aof_enabled": "0"}), "persistence", "wrong"),
        (replace(STACK, info={"aof_enabled": "1", "aof_last_write_status": "err"}), "persistence", "wrong"),
        (replace(STACK, function=b"another"), "functions", "wrong"),
        (replace(STACK, function=b""), "functions", "open"),
        (replace(STACK, settings=None), "reached from", "unknown"),
        (replace(STACK, settings=None), "memory", "unknown"),
        (replace(STACK, settings=None), "encryption", "good"),
        (replace(STACK, settings=None, address=PLAIN), "encryption", "wrong"),
        (replace(STACK, settings=None, address=NEAR), "encryption", "unknown"),
        (replace(STACK, users=None), "users", "unknown"),
        (replace(STACK, function=None), "functions", "unknown"),
        (changed(bind="127.0.0.1 -::1"), "reached from", "good"),
        (changed(bind="127.0.0.1 10.0.0.7"), "reached from", "open"),
        (changed(**{"port": "0", "tls-port": "0"}), "reached from", "good"),
    ],
)
def test_what_is_not_as_it_should_be_is_told(seen: Seen, what: str, verdict: str) -> None:
    assert verdicts(seen)[what] == verdict
    assert all(check.do for check in judged(seen, False) if check.verdict == "wrong")


def test_a_log_that_may_be_lost_needs_no_file() -> None:
    assert verdicts(replace(STACK, info={"aof_enabled": "0"}), ephemeral=True)["persistence"] == "open"


def by_name(checks: list[SecurityCheck]) -> dict[str, Any]:
    return {check.what: (check.verdict, check.found) for check in checks}


@pytest.mark.anyio
async def test_a_server_of_this_machine_alone_is_open_and_in_order(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path, fsync="always") as server:
        found = by_name(await in_force(server.url))
    assert found["reached from"] == ("good", "this machine alone")
    assert found["encryption"][0] == "good"
    assert found["default user"][0] == found["users"][0] == found["functions"][0] == "open"
    assert found["memory"] == ("good", "without a limit, noeviction")
    assert found["persistence"][0] == "good"


@pytest.mark.anyio
async def test_the_operators_user_may_look_at_all_of_it_and_a_service_at_less(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server, redis.Redis.from_url(server.url) as client:
        for line in users.lines(dict.fromkeys((*users.USERS, "admin"), WORD)):
            _, user, rules = line.split(" ", 2)
            if user != "default":
                words = rules.replace("(", "\0(").replace(")", ")\0").split("\0")
                parts = [part for word in words for part in ([word] if word.startswith("(") else word.split())]
                client.execute_command("ACL", "SETUSER", user, *parts)
        client.function_load(library()[1])
        client.execute_command("ACL", "SETUSER", "default", "off")
        console = by_name(await in_force(server.url.replace("//", "//console:word@")))
        feed = by_name(await in_force(server.url.replace("//", "//feed:word@")))
    assert console["default user"] == ("good", "off: every client needs a user name")
    assert console["users"][0] == console["functions"][0] == "good", console
    assert {what for what, (verdict, _) in feed.items() if verdict == "unknown"} >= {"users", "memory", "functions"}
