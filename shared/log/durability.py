"""Check that a server can be trusted with the log: it must keep acknowledged writes, and evict nothing.

A server is refused if it has no append-only file, or if its memory is limited (``maxmemory`` not 0) under a policy
other than ``noeviction``. Without a limit nothing is evicted, whatever the policy. A server is also refused if its
policy or its persistence is unknown, because ``INFO`` is not allowed to this user.
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
from redis.exceptions import ResponseError

from shared.log import LoadingError
from shared.log.connection import server_errors
from shared.log.routing import CLOSE_S
from shared.log.topology import topology_of

PROBES: Final = 15
PROBE: Final = "conclave:{probe}:"
"""The prefix of the keys that are written to measure a server. The users of Conclave have a permission for them."""
LOADING_S: Final = 30.0
LOOK_AGAIN_S: Final = 0.2


class UnfitServerError(ValueError):
    """The server would lose entries, or lacks a feature that the log needs. The message names what to change."""


class ServerReport(NamedTuple):
    """A server, as ``doctor`` shows it.

    ``write_ms``: the median round trip of a write to the server, in milliseconds. It includes the disk only under
    ``appendfsync always``.
    ``fsync_ms``: the median time to write 4 KiB durably to the server's disk, in milliseconds. None if the server's
    directory is not one of this machine, or may not be written to.
    ``faults``: what ``check_server`` accepted because the log was declared ephemeral."""

    where: str
    server: str
    version: str
    eviction: str
    memory_limit: int
    append_only: bool
    append_fsync: str
    write_ms: float
    fsync_ms: float | None
    faults: tuple[str, ...]


async def check_server(url: str, ephemeral: bool) -> ServerReport:
    """Check each master, and measure the one that has the probe's key.

    A server that is still loading its data file was started just now, which is no fault: wait for it, at most
    ``LOADING_S`` seconds.

    Raises ``UnfitServerError`` if a server may lose the log, unless ``ephemeral`` declares that this is acceptable.
    Raises ``WrongAddressError`` if the servers are of another kind than the address says, and ``UnavailableError`` if
    one does not answer."""
    deadline = time.monotonic() + LOADING_S
    while True:
        try:
            return await _checked(url, ephemeral)
        except LoadingError:
            if time.monotonic() > deadline:
                raise
        await anyio.sleep(LOOK_AGAIN_S)


async def _checked(url: str, ephemeral: bool) -> ServerReport:
    topology, faults = topology_of(url), dict[str, None]()
    address = topology.address
    try:
        with server_errors(str(address)):
            for server in await topology.masters():
                async with await topology.client(server, "conclave:check") as client:
                    await topology.check_kind(client)
                    facts = await _facts(client)
                if facts.get("loading") == 1:  # INFO does not describe its persistence correctly yet
                    raise LoadingError(f"{server} reads its file")
                faults |= dict.fromkeys(_faults(facts))
            async with await topology.client(topology.server_of(PROBE), "conclave:check") as client:
                facts, settings = await _facts(client), await _settings(client)
                write_ms = await _write_ms(client)
    finally:
        with anyio.move_on_after(CLOSE_S, shield=True):
            await topology.close()
    if faults and not ephemeral:
        raise UnfitServerError(
            f"the server at {address} may lose the log: {'; '.join(faults)}. Change that (CONFIG SET and its "
            f"configuration file), or say --ephemeral if this log may be lost"
        )
    local = bool(address.path) or {"localhost", "127.0.0.1", "::1"}.issuperset(address.hosts)
    process = facts.get("process_id")
    where = settings.get("dir", "") if local and process else ""
    same = bool(where) and os.access(where, os.W_OK) and Path(f"/proc/{process}").exists()
    return ServerReport(
        where=str(address),
        server="valkey" if "valkey_version" in facts else "redis",
        version=facts.get("valkey_version") or facts.get("redis_version", "unknown"),
        eviction=facts.get("maxmemory_policy", "unknown"),
        memory_limit=facts.get("maxmemory", 0),
        append_only=facts.get("aof_enabled") == 1,
        append_fsync=settings.get("appendfsync", "unknown"),
        write_ms=write_ms,
        fsync_ms=fsync_ms(Path(where)) if same else None,
        faults=tuple(faults),
    )


def fsync_ms(directory: Path) -> float:
    """Return the median time to make 4 KiB durable in ``directory``, in milliseconds."""
    times = []
    with TemporaryFile(dir=directory) as file:
        for _ in range(PROBES):
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
    facts: dict[str, Any] = {}
    for section in ("server", "memory", "persistence"):
        with suppress(ResponseError):
            facts |= await client.info(section)
    return facts


async def _settings(client: Redis) -> dict[str, str]:
    try:
        return {str(name): str(value) for name, value in (await client.config_get("appendfsync", "dir")).items()}
    except ResponseError:
        return {}


async def _write_ms(client: Redis) -> float:
    times = []
    for _ in range(PROBES):
        begun = time.perf_counter()
        await client.set(f"{PROBE}{os.getpid()}", "x", px=1000)
        times.append(time.perf_counter() - begun)
    return median(times) * 1000
