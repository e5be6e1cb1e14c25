"""Check that a server can be trusted with the log: it must keep acknowledged writes, and evict nothing.

A server is refused if it has no append-only file, or if its memory is limited (``maxmemory`` not 0) under a policy
other than ``noeviction``. Without a limit nothing is evicted, whatever the policy. A server is also refused if its
policy or its persistence is unknown, because ``INFO`` is not allowed to this user.

The checks write nothing: they read ``INFO`` and ``CONFIG GET``. Two functions are no checks:
``rewrite_append_only_file`` asks the server to rewrite its file, and ``fsync_ms`` writes a temporary file on this
machine to time its disk.
"""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile
from typing import Any, Final, NamedTuple

import anyio
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from shared.log import LoadingError, UnavailableError
from shared.log.address import parse_address
from shared.log.connection import server_errors
from shared.log.topology import CLOSE_S, topology_of

SYNCS: Final = 15
LOADING_S: Final = 30.0
LOOK_AGAIN_S: Final = 0.2
FULL_MEMORY: Final = (
    "raise its limit (CONFIG SET maxmemory <bytes>, and in its configuration file), or let the archiver trim what is "
    "sealed (`conclave run archiver`)"
)
FULL_DISK: Final = "make room on the disk of the server's directory (CONFIG GET dir), and look into its log"


class UnfitServerError(ValueError):
    """The server would lose entries, or lacks a feature that the log needs. The message names what to change."""


class ServerReport(NamedTuple):
    """A server, as ``doctor`` shows it.

    ``faults``: what ``check_server`` accepted because the log was declared ephemeral. ``data``: the folder of its
    files; '' if this user may not know."""

    where: str
    server: str
    version: str
    eviction: str
    memory_limit: int
    append_only: bool
    append_fsync: str
    faults: tuple[str, ...]
    data: str = ""


class RefusedWrites(NamedTuple):
    """Why a server takes no writes now, and what to do. ``replica``: because it is a replica."""

    why: str
    do: str
    replica: bool = False


async def check_server(url: str, ephemeral: bool) -> ServerReport:
    """Check each master.

    A server that is still loading its data file was started just now, which is no fault: wait for it, at most
    ``LOADING_S`` seconds.

    Raises ``UnfitServerError`` if a server may lose the log, unless ``ephemeral`` declares that this is acceptable.
    Raises ``WrongAddressError`` if the servers are of another kind than the address says, and ``UnavailableError`` if
    one does not answer."""
    address = parse_address(url)
    facts = await _answers(url)
    faults = tuple(dict.fromkeys(fault for each in facts for fault in _faults(each)))
    if faults and not ephemeral:
        raise UnfitServerError(
            f"the server at {address} may lose the log: {'; '.join(faults)}. Change that (CONFIG SET and its "
            f"configuration file), or say --ephemeral if this log may be lost"
        )
    first = facts[0]
    return ServerReport(
        where=str(address),
        server="valkey" if "valkey_version" in first else "redis",
        version=first.get("valkey_version") or first.get("redis_version", "unknown"),
        eviction=first.get("maxmemory_policy", "unknown"),
        memory_limit=first.get("maxmemory", 0),
        append_only=first.get("aof_enabled") == 1,
        append_fsync=first.get("appendfsync", "unknown"),
        faults=faults,
        data=first.get("dir", ""),
    )


async def reach_server(url: str) -> RefusedWrites | None:
    """Return why a master takes no writes now; None if all take them, as far as this user may know. A server that is
    loading its data file is waited for (see ``check_server``).

    Raises ``UnavailableError`` if a server does not answer."""
    return next(filter(None, map(refused_writes, await _answers(url))), None)


def refused_writes(facts: Mapping[str, Any]) -> RefusedWrites | None:
    """Return why a server takes no writes now, by its ``INFO``; None if it takes them, or the facts are not known."""
    if facts.get("role") == "slave" and str(facts.get("slave_read_only")) == "1":
        master = f"{facts.get('master_host')}:{facts.get('master_port')}"
        return RefusedWrites(f"it is a read-only replica of {master}", "write to the master", replica=True)
    limit, used = int(facts.get("maxmemory", 0)), int(facts.get("used_memory", 0))
    if limit and used > limit and facts.get("maxmemory_policy") == "noeviction":
        return RefusedWrites(f"its memory is full: {used:,} bytes of {limit:,}", FULL_MEMORY)
    if facts.get("aof_last_write_status", "ok") != "ok":
        return RefusedWrites("it cannot write its append-only file", FULL_DISK)
    return None


async def _answers(url: str) -> list[dict[str, Any]]:
    """Return the facts of each master, once all have loaded their data files (at most ``LOADING_S`` seconds)."""
    deadline = time.monotonic() + LOADING_S
    while True:
        try:
            return await _facts_of_all(url)
        except LoadingError:
            if time.monotonic() > deadline:
                raise
        await anyio.sleep(LOOK_AGAIN_S)


async def _facts_of_all(url: str) -> list[dict[str, Any]]:
    topology, found = topology_of(url), list[dict[str, Any]]()
    try:
        with server_errors(str(topology.address)):
            for server in await topology.masters():
                async with await topology.client(server, "conclave:check") as client:
                    await topology.check_kind(client)
                    found.append(await _facts(client))
                if found[-1].get("loading") == 1:  # INFO does not describe its persistence correctly yet
                    raise LoadingError(f"{server} reads its file")
    finally:
        with anyio.move_on_after(CLOSE_S, shield=True):
            await topology.close()
    return found


async def rewrite_append_only_file(url: str) -> None:
    """Have each master rewrite its append-only file, unless it did so since it was started. Call this after a server
    was started again.

    A file that was cut inside a commit (a power failure) has the beginning of a transaction at its end. Redis 7.0.15
    leaves it there: at the next start it runs the beginning together with the transaction that follows, so that entries
    of the lost commit appear after all, or runs neither, so that later writes are lost. Valkey 9.1.2 removes the
    beginning. A rewritten file has what the server has in memory.

    Does nothing if this user may not ask for it, or if the server does not answer."""
    topology = topology_of(url)
    try:
        with suppress(RedisError, UnavailableError, OSError):
            for server in await topology.masters():
                async with await topology.client(server, "conclave:rewrite") as client:
                    facts = await client.info("persistence")
                    if facts.get("aof_enabled") == 1 and facts.get("aof_last_rewrite_time_sec") == -1:
                        await client.bgrewriteaof()
    finally:
        with anyio.move_on_after(CLOSE_S, shield=True):
            await topology.close()


def fsync_ms(directory: Path) -> float:
    """Return the median time to make 4 KiB durable in ``directory``, in milliseconds."""
    times = []
    with TemporaryFile(dir=directory) as file:
        for _ in range(SYNCS):
            file.write(bytes(4096))
            file.flush()
            begun = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - begun)
    return median(times) * 1000


def _faults(facts: Mapping[str, Any]) -> list[str]:
    faults = []
    limit, policy = facts.get("maxmemory", "unknown"), facts.get("maxmemory_policy", "unknown")
    if limit != 0 and policy != "noeviction":
        faults.append(f"maxmemory-policy is {policy} with maxmemory {limit}, expected noeviction")
    if (append_only := facts.get("aof_enabled")) != 1:
        faults.append(f"appendonly is {'off' if append_only == 0 else 'unknown'}, expected yes")
    return faults


async def _facts(client: Redis) -> dict[str, Any]:
    """Return what the server says about itself, as far as this user may ask."""
    await client.ping()
    facts: dict[str, Any] = {}
    for section in ("server", "memory", "persistence", "replication"):
        with suppress(ResponseError):
            facts |= await client.info(section)
    for setting in ("appendfsync", "dir"):
        with suppress(ResponseError):
            facts |= {str(name): str(value) for name, value in (await client.config_get(setting)).items()}
    return facts
