"""Whether a server may be trusted with the log: it must keep what it acknowledged, and drop nothing.

Refused: a server without an append-only file, and one whose memory is limited (``maxmemory`` not 0)
under any policy but ``noeviction``. With no limit nothing is ever evicted, whatever the policy says.
A server of unknown policy or persistence (``INFO`` not allowed to this user) is refused too.
"""

import os
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile
from typing import Any, Final, NamedTuple

import anyio

from shared.log import LoadingError
from shared.log.connection import Connection, ServerError, pack, parse_address

PROBES: Final = 15
ANSWER_S: Final = 10.0
LOADING_S: Final = 30.0
LOOK_AGAIN_S: Final = 0.2


class UnfitServerError(ValueError):
    """A server that would lose entries, or lacks what the log needs. Says what to change."""


class ServerReport(NamedTuple):
    """What ``doctor`` shows of a server. ``fsync_ms``: median of writing 4 KiB to the disk that the
    server writes to, where that is a directory of this machine; ``write_ms``: median round trip
    of a write to the server, which holds the disk's part only under ``appendfsync always``.
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
    """Looks at a server and measures it. Raises ``UnfitServerError`` unless it is fit, or
    ``ephemeral`` says that the log may be lost; ``UnavailableError`` if it does not answer.

    Waits for a server that reads its file, at most ``LOADING_S``: it was just started, and nothing is wrong with it."""
    deadline = time.monotonic() + LOADING_S
    while True:
        try:
            return await _checked(url, ephemeral)
        except LoadingError:
            if time.monotonic() > deadline:
                raise
        await anyio.sleep(LOOK_AGAIN_S)


async def _checked(url: str, ephemeral: bool) -> ServerReport:
    address = parse_address(url)
    wire = await Connection.open(address, "conclave:check")
    try:
        facts = await _facts(wire)
        settings = {name: await _setting(wire, name) for name in ("appendfsync", "dir")}
        write_ms = await _write_ms(wire)
    finally:
        wire.close()
    faults = _faults(facts)
    if faults and not ephemeral:
        raise UnfitServerError(
            f"the server at {address} may lose the log: {'; '.join(faults)}. Change that (CONFIG SET and its "
            f"configuration file), or say --ephemeral if this log may be lost"
        )
    local = address.path or address.host in {"localhost", "127.0.0.1", "::1"}
    where = settings["dir"] if local and facts.get("process_id", "").isdigit() else ""
    same = bool(where) and os.access(where, os.W_OK) and Path(f"/proc/{facts['process_id']}").exists()
    return ServerReport(
        where=str(address),
        server="valkey" if "valkey_version" in facts else "redis",
        version=facts.get("valkey_version") or facts.get("redis_version", "unknown"),
        eviction=facts.get("maxmemory_policy", "unknown"),
        memory_limit=int(facts.get("maxmemory", "0")),
        append_only=facts.get("aof_enabled") == "1",
        append_fsync=settings["appendfsync"] or "unknown",
        write_ms=write_ms,
        fsync_ms=fsync_ms(Path(where)) if same else None,
        faults=tuple(faults),
    )


def fsync_ms(directory: Path) -> float:
    """Median time to make 4 KiB durable in ``directory``, in milliseconds."""
    times = []
    with TemporaryFile(dir=directory) as file:
        for _ in range(PROBES):
            file.write(bytes(4096))
            file.flush()
            begun = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - begun)
    return median(times) * 1000


def _faults(facts: dict[str, str]) -> list[str]:
    faults = []
    limit, policy = facts.get("maxmemory", "unknown"), facts.get("maxmemory_policy", "unknown")
    if limit != "0" and policy != "noeviction":
        faults.append(f"maxmemory-policy is {policy} with maxmemory {limit}, expected noeviction")
    if facts.get("aof_enabled") != "1":
        faults.append(f"appendonly is {'off' if facts.get('aof_enabled') == '0' else 'unknown'}, expected yes")
    return faults


async def _facts(wire: Connection) -> dict[str, str]:
    facts: dict[str, str] = {}
    for section in ("server", "memory", "persistence"):
        try:
            text = (await wire.call(pack("INFO", section), ANSWER_S)).decode()
        except ServerError:
            continue
        facts |= dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return facts


async def _setting(wire: Connection, name: str) -> str:
    try:
        reply: list[Any] = await wire.call(pack("CONFIG", "GET", name), ANSWER_S)
    except ServerError:
        return ""
    return reply[1].decode() if reply else ""


async def _write_ms(wire: Connection) -> float:
    probe, times = f"conclave:probe:{os.getpid()}", []
    for _ in range(PROBES):
        begun = time.perf_counter()
        await wire.call(pack("SET", probe, "x", "PX", "1000"), ANSWER_S)
        times.append(time.perf_counter() - begun)
    return median(times) * 1000
