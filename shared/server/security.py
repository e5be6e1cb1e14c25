"""Check how the server protects the log: network access, encryption, users, writes, memory, persistence, functions.

The checks read the configuration of the running server. A server that only this machine can reach (loopback, or a Unix
socket) may lack users and encryption, with the verdict ``open``: any program on this machine could read the passwords
anyway. A server that other machines can reach must use TLS and have a user for each service.
"""

import ssl
import time
from collections.abc import Awaitable, Iterator, Mapping
from ipaddress import ip_address
from typing import Any, Final, Literal

from msgspec import Struct
from msgspec.structs import replace
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from shared.log.address import Address
from shared.log.connection import server_errors
from shared.log.durability import refused_writes
from shared.log.redis import library
from shared.log.topology import TlsConnection, topology_of
from shared.server import users

Verdict = Literal["good", "open", "wrong", "unknown"]
"""``good``: as it should be. ``open``: a choice that gives up some protection. ``wrong``: must be changed. ``unknown``:
this user has no permission to check it."""
SETTINGS: Final = ("bind", "port", "tls-port", "appendfsync", "maxmemory", "maxmemory-policy")
SECTIONS: Final = ("persistence", "memory", "replication")
SOON_S: Final = 30 * 86_400


class SecurityCheck(Struct, frozen=True):
    """The result of one check.

    ``what`` is the subject, ``found`` the state of the server, ``do`` the remedy (empty if nothing need be done)."""

    what: str
    verdict: Verdict
    found: str
    do: str = ""


class Seen(Struct, frozen=True):
    """The answers of a server, from which it is judged. None: this user has no permission to ask.

    ``settings`` are those of ``SETTINGS``. ``users`` are the lines of ``ACL LIST``. ``function`` is the source of the
    log's function library, empty if it is not loaded. ``info`` has the sections of ``SECTIONS``. ``peer`` is the
    certificate of the server, empty without TLS."""

    address: Address
    settings: Mapping[str, str] | None
    users: list[str] | None
    function: bytes | None
    info: Mapping[str, str]
    peer: Mapping[str, Any]

    @property
    def me(self) -> str:
        """The user that asked."""
        return self.address.user or "default"


async def in_force(url: str, ephemeral: bool = False) -> list[SecurityCheck]:
    """Return all checks of the server at ``url``; for a cluster those of every master, with its number.

    ``ephemeral`` is True if the log may be lost; persistence is not checked then. Raises ``UnavailableError``,
    ``WrongAddressError``."""
    topology, checks = topology_of(url), list[SecurityCheck]()
    try:
        with server_errors(str(topology.address)):
            masters = await topology.masters()
            for number, server in enumerate(masters, start=1):
                async with await topology.client(server, "conclave:doctor") as client:
                    await topology.check_kind(client)
                    found = judged(await _look(client, topology.address), ephemeral)
                of = f" ({number} of {len(masters)})" if len(masters) > 1 else ""
                checks += [replace(check, what=check.what + of) for check in found]
    finally:
        await topology.close()
    return checks


def judged(seen: Seen, ephemeral: bool) -> Iterator[SecurityCheck]:
    """Return the checks that follow from the answers of one server."""
    private = _private(seen)
    yield _reach(seen, private)
    yield _encryption(seen, private)
    yield from _users(seen, private)
    yield _writes(seen)
    yield _eviction(seen)
    yield _persistence(seen, ephemeral)
    yield _functions(seen)


async def _look(client: Redis, address: Address) -> Seen:
    async def allowed(answer: Awaitable[Any]) -> Any:
        try:
            return await answer
        except ResponseError:
            return None

    name, _ = library()
    link = await client.connection_pool.get_connection()  # type: ignore[no-untyped-call]  # has none
    peer = link.peer if isinstance(link, TlsConnection) else {}
    await client.connection_pool.release(link)
    return Seen(
        address,
        await allowed(client.config_get(*SETTINGS)),
        await allowed(client.acl_list()),
        _code(await allowed(client.function_list(library=name, withcode=True))),
        {fact: str(value) for name in SECTIONS for fact, value in (await allowed(client.info(name)) or {}).items()},
        peer,
    )


def _private(seen: Seen) -> bool | None:
    """Return whether only this machine can reach the server; None if its settings could not be read."""
    if seen.settings is None:
        return None
    if seen.settings.get("port") == "0" and seen.settings.get("tls-port", "0") == "0":
        return True
    return all(_loopback(place) for place in seen.settings.get("bind", "*").split() or ["*"])


def _loopback(place: str) -> bool:
    try:
        return ip_address(place.removeprefix("-")).is_loopback
    except ValueError:
        return place == "localhost"


def _reach(seen: Seen, private: bool | None) -> SecurityCheck:
    if private is None or seen.settings is None:
        return _hidden("reached from", seen)
    if private:
        return SecurityCheck("reached from", "good", "this machine alone")
    return SecurityCheck(
        "reached from",
        "open",
        f"other machines: bound to {seen.settings.get('bind') or '*'}",
        "a network that holds nothing but Conclave; else bind 127.0.0.1",
    )


def _encryption(seen: Seen, private: bool | None) -> SecurityCheck:
    plain = seen.settings is not None and seen.settings.get("port") != "0"
    if seen.address.tls:
        left = ssl.cert_time_to_seconds(str(seen.peer["notAfter"])) - time.time()
        found = f"TLS; certificate until {seen.peer['notAfter']}"
        if left < SOON_S:
            return SecurityCheck(
                "encryption", "wrong", found, "make another: delete it, `conclave access --tls`, restart"
            )
        if plain and not private:
            return SecurityCheck("encryption", "wrong", f"{found}; but plain text is spoken too", "port 0")
        return SecurityCheck("encryption", "good", found)
    if private:
        return SecurityCheck("encryption", "good", "none, and nothing leaves this machine")
    if private is None and all(map(_loopback, seen.address.hosts)):  # a Unix socket has none
        return _hidden("encryption", seen)
    return SecurityCheck("encryption", "wrong", "none", "port 0, tls-port 6379, rediss:// and `ca` in [redis]")


def _users(seen: Seen, private: bool | None) -> Iterator[SecurityCheck]:
    if seen.users is None:
        yield _hidden("default user", seen)
        yield _hidden("users", seen)
        return
    if users.is_off("default", seen.users):
        yield SecurityCheck("default user", "good", "off: every client needs a user name")
    else:
        word: Verdict = "open" if private else "wrong"
        yield SecurityCheck("default user", word, "on", "`conclave access`, and aclfile in the server's configuration")
    if private and {users.name_of(line) for line in seen.users} == {"default"}:
        yield SecurityCheck("users", "open", "none: every program of this machine may do everything")
        return
    wrong = users.differences(seen.users)
    todo = "`conclave access`, then restart the server"
    yield (
        SecurityCheck("users", "wrong", "; ".join(wrong), todo)
        if wrong
        else SecurityCheck(
            "users", "good", f"{len(users.USERS)}, each with the rights of the catalogue; this is {seen.me}"
        )
    )


def _writes(seen: Seen) -> SecurityCheck:
    if not seen.info:
        return _hidden("writes", seen)
    refused = refused_writes(seen.info)
    if refused is None:
        return SecurityCheck("writes", "good", "taken")
    # Looking at a replica is a choice. Its master tells whether something is wrong.
    return SecurityCheck("writes", "open" if refused.replica else "wrong", f"refused: {refused.why}", refused.do)


def _eviction(seen: Seen) -> SecurityCheck:
    if seen.settings is None:
        return _hidden("memory", seen)
    limit, policy = int(seen.settings.get("maxmemory", "0")), seen.settings.get("maxmemory-policy", "unknown")
    found = f"{f'at most {limit:,} bytes' if limit else 'without a limit'}, {policy}"
    if policy == "noeviction":
        return SecurityCheck("memory", "good", found)
    if limit:
        return SecurityCheck("memory", "wrong", f"{found}: entries may be dropped", "maxmemory-policy noeviction")
    return SecurityCheck(
        "memory", "open", f"{found}: a limit would have entries dropped", "maxmemory-policy noeviction"
    )


def _persistence(seen: Seen, ephemeral: bool) -> SecurityCheck:
    if ephemeral:
        return SecurityCheck("persistence", "open", "the log was declared ephemeral: it may be lost")
    kept = seen.info.get("aof_enabled")
    if kept is None:
        return _hidden("persistence", seen)
    if kept != "1":
        return SecurityCheck("persistence", "wrong", "no append-only file", "appendonly yes")
    if seen.info.get("aof_last_write_status", "ok") != "ok":
        return SecurityCheck(
            "persistence", "wrong", "the last write to its file failed", "look at the server's disk and log"
        )
    when = (seen.settings or {}).get("appendfsync", "unknown")
    if when == "always":
        return SecurityCheck("persistence", "good", "append-only file, on disk before a commit is answered")
    lost = {"everysec": "the last second", "no": "what the system had not written"}.get(when, "something")
    return SecurityCheck("persistence", "open", f"{when}: a power failure loses {lost}", "appendfsync always")


def _functions(seen: Seen) -> SecurityCheck:
    name, source = library()
    if seen.function is None:
        return _hidden("functions", seen)
    if not seen.function:
        return SecurityCheck("functions", "open", f"{name} is not loaded yet", "`conclave prepare`")
    if seen.function != source.encode():
        todo = "find out who loaded it; FUNCTION DELETE and `conclave prepare` as an administrator"
        return SecurityCheck("functions", "wrong", f"{name} is not what this release has under that name", todo)
    return SecurityCheck("functions", "good", f"{name}, as this release has it")


def _hidden(what: str, seen: Seen) -> SecurityCheck:
    return SecurityCheck(what, "unknown", f"{seen.me} may not look", "ask as the operators' user, console")


def _code(found: Any) -> bytes | None:
    """Return the source of the library in an answer to FUNCTION LIST; empty if no library is loaded, None without an
    answer."""
    if not found:
        return None if found is None else b""
    facts = dict(zip(found[0][::2], found[0][1::2], strict=True))
    code: bytes = facts[b"library_code"]
    return code
