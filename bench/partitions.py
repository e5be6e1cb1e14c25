"""Measure the throughput of 1, 2, 4 and 8 partitions on one server and on a cluster of three masters.

Each partition has a process that commits batches of bars as the feed does, reads them, and commits the position after
them as a service does. All processes and servers share the processor of this machine, so the throughput stops growing
when it is busy, whatever the number of masters. What more machines would give is calculated from the processor time of
an event, in the process and at the server: a partition is handled by one core, and a master is one core.

On a cluster a partition is where its slot is. With few partitions several may be on one master; the calculation uses
the master with most of them.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import anyio

from bench.harness import Figure
from bench.servers import RANGES, Node, addresses, cluster, started
from schemas.codec import encode
from schemas.market import BarClosed
from shared.log import START, Commit, Position, StreamKey
from shared.log.identity import digest_of
from shared.log.redis import RedisLog
from shared.log.topology import slot_of
from shared.runtime.process import owner

BATCH: Final = 100
COUNTS: Final = (1, 2, 4, 8)


async def work(url: str, partition: int, seconds: float) -> tuple[int, float]:
    """Write and read batches in one partition for some seconds. Return the number of events, and the processor time of
    this process (s)."""
    log, place = RedisLog(url), StreamKey("market", partition)
    writer = await log.claim("feed", [], partition, owner("bench"))
    reader = await log.claim("feature-builder", ["market"], partition, owner("bench"))
    at, count, number = Position(), 0, 0
    begun, ends = time.process_time(), time.monotonic() + seconds
    while time.monotonic() < ends:
        bars = [encode("market", _bar(each)) for each in range(number, number + BATCH)]
        number += BATCH
        await log.commit(writer, Commit(bars, {}, {}, b"%d" % number))
        entries = await log.read({place: at.id}, count=BATCH, block_ms=1000)
        after = Position(entries[-1].id, at.seen + len(entries), digest_of(entries[-1].data))
        await log.commit(reader, Commit((), {"market": at}, {"market": after}, since={"market": START}))
        at, count = after, count + len(entries)
    spent = time.process_time() - begun
    await log.close()
    return count, spent


def _bar(number: int) -> BarClosed:
    return BarClosed(
        symbol="BTCUSDT",
        interval_ms=60_000,
        open_time=number * 60_000,
        open=1.0,
        high=2.0,
        low=0.5,
        close=1.5,
        volume=10.0,
        origin="synthetic",
    )


def measured(url: str, servers: Sequence[Node], partitions: int, seconds: float) -> dict[str, float]:
    """Return events a second over all partitions, and the processor time of an event in the process and at the servers
    (µs)."""
    for server in servers:
        server.client.flushall()
    before = sum(map(_processor_s, servers))
    commands = [
        [sys.executable, "-m", "bench.partitions", url, str(number), str(seconds)] for number in range(partitions)
    ]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    done = [json.loads(process.communicate()[0]) for process in processes]
    events = sum(count for count, _ in done)
    server_s = sum(map(_processor_s, servers)) - before
    return {
        "events": events / seconds,
        "process": sum(spent for _, spent in done) / events * 1e6,
        "server": server_s / events * 1e6,
    }


def _processor_s(server: Node) -> float:
    facts: Any = server.client.info("cpu")
    return float(facts["used_cpu_user"]) + float(facts["used_cpu_sys"])


@contextmanager
def _arranged(kind: str, folder: Path) -> Iterator[tuple[str, Sequence[Node]]]:
    with ExitStack() as stack:
        if kind == "cluster":
            nodes = stack.enter_context(cluster(folder))
            yield f"redis+cluster://{addresses(nodes)}", nodes
        else:
            server = stack.enter_context(started(folder / "one", options={"appendonly": "yes"}))
            yield server.url, [server]


def most_on_one(partitions: int) -> int:
    """Return how many of the first partitions are on the master of the cluster that has most of them."""
    slots = [slot_of(f"conclave:{{p{number}}}:market") for number in range(partitions)]
    masters = Counter(next(index for index, (_, last) in enumerate(RANGES) if slot <= last) for slot in slots)
    return max(masters.values())


def run(quick: bool) -> dict[str, Figure]:
    """Return the figures of both arrangements."""
    seconds, rounds = (2.0, 1) if quick else (10.0, 3)
    figures: dict[str, Figure] = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, name in (("one", "one server"), ("cluster", "three masters")):
            with _arranged(kind, Path(folder) / kind) as (url, servers):
                first = 0.0
                for partitions in COUNTS:
                    rows = [measured(url, servers, partitions, seconds) for _ in range(rounds)]
                    row = sorted(rows, key=lambda each: each["events"])[len(rows) // 2]
                    first = first or row["events"]
                    what = f"{name}, partitions: {partitions}"
                    times = f"{row['events'] / first:.2f} times 1 partition"
                    figures[f"{what}: events"] = Figure(row["events"], "1/s", against=times)
                    figures[f"{what}: processor of a process"] = Figure(row["process"], "us an event")
                    figures[f"{what}: processor of the servers"] = Figure(row["server"], "us an event")
                    masters = 1 if kind == "one" else partitions / most_on_one(partitions)
                    expected = min(partitions * 1e6 / row["process"], masters * 1e6 / row["server"])
                    cause = "a core for each process and server, by calculation"
                    figures[f"{what}: expected elsewhere"] = Figure(expected, "1/s", against=cause)
    return figures


if __name__ == "__main__":
    print(json.dumps(anyio.run(work, sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))))
