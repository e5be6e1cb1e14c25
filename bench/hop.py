"""Measure one hop (read a batch, decode, fold, encode, commit) against a raw socket and against FastStream.

Every contender reads vectors of 49 features from one stream, counts them by symbol, and writes one prediction for each
to another stream, atomically with its offset where it can. All use the same server.

ours        ``shared.runtime.host`` on ``RedisLog``, as in every service.
floor       a blocking socket, RESP packed by hand, msgspec decoding and encoding, and no checks: no event
            ids, no decoding after encoding. Measured with XREADGROUP and MULTI .. EXEC, and with XREAD and the
            commit function; the faster one is the floor.
faststream  its usual style, with one handler call and one publication a message; and its batch mode, which
            requires JSON, with one pipeline a batch. Neither is atomic.
"""

import contextlib
import gc
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from bench.contenders import BATCH, CONTENDERS, Raw, inputs, output_of, pack, vectors
from bench.harness import Figure
from schemas.codec import Encoded
from shared.server.embedded import EmbeddedServer


def throughput(url: str, contender: str, events: Sequence[Encoded], batch: int) -> float:
    """Return the events a second of one hop, whose input was written before."""
    with Raw(url) as raw:
        raw.call(pack("FLUSHALL"))
        for start in range(0, len(events), 1000):
            part = inputs(contender, events[start : start + 1000])
            raw.call(b"".join(part), len(part))
        begun = 0.0

        def ready() -> None:
            nonlocal begun
            gc.collect()
            gc.freeze()  # keeps the inputs out of the contender's garbage collections
            begun = time.perf_counter()

        CONTENDERS[contender](url, len(events), batch, ready)
        seconds = time.perf_counter() - begun
        gc.unfreeze()
        written = raw.call(pack("XLEN", output_of(contender)))
        if written < len(events) - 1:  # faststream publishes the last after its handler
            raise RuntimeError(f"{contender} wrote {written} of {len(events)}")
    return len(events) / seconds


@contextlib.contextmanager
def running(url: str, contender: str) -> Iterator[None]:
    """Run a contender in its own process, where it waits for events."""
    command = [sys.executable, "-m", "bench.contenders", contender, url]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def latencies(url: str, contender: str, size: int, turns: int) -> list[float]:
    """Return the times (ms) from sending ``size`` events at once until all their outputs are read."""
    commands = inputs(contender, vectors(size))
    burst, out, last, times = b"".join(commands), output_of(contender), b"0-0", []
    with Raw(url) as writer, Raw(url) as reader:
        writer.call(pack("FLUSHALL"))
        with running(url, contender):
            for turn in range(turns + turns // 10 + 2):
                begun, got = time.perf_counter(), 0
                writer.call(burst, size)
                while got < size:
                    reply = reader.call(pack("XREAD", "BLOCK", "5000", "STREAMS", out, last))
                    if reply is None:
                        raise RuntimeError(f"{contender}: {got} of {size} outputs after 5 s")
                    got += len(reply[0][1])
                    last = reply[0][1][-1][0]
                if turn > turns // 10:
                    times.append((time.perf_counter() - begun) * 1000)
    return times


def p99(times: Sequence[float]) -> float:
    """Return the 99th percentile."""
    return float(np.percentile(times, 99))


def run(quick: bool) -> dict[str, Figure]:
    """Run the benchmark; see the docstring of the module."""
    rounds, turns = (3, 60) if quick else (5, 200)
    sizes = {"faststream": 1_500, "faststream_batch": 6_000}
    events = vectors(20_000 if quick else 40_000)
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as data, EmbeddedServer(Path(data), die_with_parent=True) as server:
        for _ in range(rounds):
            row = {name: throughput(server.url, name, events[: sizes.get(name)], BATCH) for name in CONTENDERS}
            for name in ("ours", "floor_multi", "floor_function", "faststream"):
                row[f"{name}_p99"] = p99(
                    latencies(server.url, name, BATCH, turns if name != "faststream" else turns // 2)
                )
                row[f"{name}_one"] = median(latencies(server.url, name, 1, turns))
            rows.append(row)

    def middle(value: Callable[[dict[str, float]], float]) -> float:
        return median(value(row) for row in rows)

    def floor(row: dict[str, float]) -> float:
        return max(row["floor_multi"], row["floor_function"])

    def floor_one(row: dict[str, float]) -> float:
        return min(row["floor_multi_one"], row["floor_function_one"])

    multi, function = middle(lambda row: row["floor_multi"]), middle(lambda row: row["floor_function"])
    peer, peer_batch = middle(lambda row: row["faststream"]), middle(lambda row: row["faststream_batch"])
    return {
        "hop_100_events_per_s": Figure(middle(lambda row: row["ours"]), "events/s"),
        "hop_100_of_floor": Figure(
            middle(lambda row: row["ours"] / floor(row)),
            "ratio",
            ">= 0.4",
            f"raw socket: MULTI {multi:,.0f}, function {function:,.0f} events/s",
        ),
        "hop_100_vs_faststream": Figure(
            middle(lambda row: row["ours"] / row["faststream"]), "ratio", ">= 20", f"FastStream {peer:,.0f} events/s"
        ),
        "hop_100_vs_faststream_batch": Figure(
            middle(lambda row: row["ours"] / row["faststream_batch"]),
            "ratio",
            ">= 3",
            f"FastStream, batches {peer_batch:,.0f} events/s",
        ),
        "burst_100_p99_ms": Figure(
            middle(lambda row: row["ours_p99"]),
            "ms",
            "",
            f"raw socket {middle(lambda row: row['floor_multi_p99']):.2f} ms",
        ),
        "burst_p99_ratio": Figure(
            middle(lambda row: row["ours_p99"] / row["faststream_p99"]),
            "ratio",
            "<= 0.125",
            f"FastStream {middle(lambda row: row['faststream_p99']):.1f} ms",
        ),
        "hop_1_p50_ms": Figure(
            middle(lambda row: row["ours_one"]),
            "ms",
            "",
            f"raw socket {middle(floor_one):.3f}, FastStream {middle(lambda row: row['faststream_one']):.3f} ms",
        ),
    }
