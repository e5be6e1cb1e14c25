"""Servers in other arrangements than one by itself: a cluster, and replicas under a Sentinel. Loopback only."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import redis

from shared.server.embedded import find_program

RANGES: Final = ((0, 5460), (5461, 11600), (11601, 16383))
"""Slots of the three masters: `training` and partition 3, `control`, partitions 0 and 1."""


class Node(NamedTuple):
    """A server process."""

    port: int
    bus: int
    process: "subprocess.Popen[bytes]"
    client: redis.Redis

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"


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
def started(folder: Path, *words: str, options: dict[str, str] | None = None) -> Iterator[Node]:
    """A server over ``folder``, with a client that connects anew by itself."""
    folder.mkdir()
    port, bus = free_port(), free_port()
    program = shutil.which("redis-server") or find_program()
    chosen = {"port": str(port), "bind": "127.0.0.1", "dir": str(folder), "save": "", **(options or {})}
    command = [str(program), *words, *(word for name, value in chosen.items() for word in (f"--{name}", value))]
    if chosen.get("cluster-enabled"):
        command += ["--cluster-port", str(bus)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    client = redis.Redis(port=port, decode_responses=True)
    try:
        until(client.ping)
        yield Node(port, bus, process, client)
    finally:
        client.close()
        process.kill()
        process.wait()


@contextmanager
def cluster(folder: Path) -> Iterator[list[Node]]:
    """Three masters that have all slots between them."""
    options = {"cluster-enabled": "yes", "appendonly": "yes"}
    with ExitStack() as stack:
        nodes = [stack.enter_context(started(folder / str(number), options=options)) for number in range(len(RANGES))]
        for node, (first, last) in zip(nodes, RANGES, strict=True):
            node.client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)  # type: ignore[no-untyped-call]  # has none
            if node is not nodes[0]:
                words = ("CLUSTER", "MEET", "127.0.0.1", nodes[0].port, nodes[0].bus)
                node.client.execute_command(*words)  # type: ignore[no-untyped-call]  # has none
        until(lambda: all(node.client.cluster("info")["cluster_state"] == "ok" for node in nodes))
        until(lambda: all(len(node.client.cluster("slots")) == len(nodes) for node in nodes))
        yield nodes


@contextmanager
def watched(folder: Path, name: str) -> Iterator[tuple[list[Node], str]]:
    """A master and its replica under a Sentinel that calls them ``name``, and the Sentinel's host and port."""
    with ExitStack() as stack:
        master = stack.enter_context(started(folder / "master", options={"appendonly": "yes"}))
        options = {"appendonly": "yes", "replicaof": f"127.0.0.1 {master.port}"}
        replica = stack.enter_context(started(folder / "replica", options=options))
        until(lambda: replica.client.info("replication")["master_link_status"] == "up")
        file = folder / "sentinel.conf"
        file.write_text(
            f"sentinel monitor {name} 127.0.0.1 {master.port} 1\n"
            f"sentinel down-after-milliseconds {name} 1000\nsentinel failover-timeout {name} 3000\n"
        )
        sentinel = stack.enter_context(started(folder / "sentinel", str(file), "--sentinel"))
        asked: Any = sentinel.client
        until(lambda: asked.sentinel_masters()[name]["num-slaves"] == 1)
        yield [master, replica], f"127.0.0.1:{sentinel.port}"
