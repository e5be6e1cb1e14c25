"""Measure the cost of running digests: of a hop with and without them, and of one event of each size.

The hop is that of ``bench.hop`` (49-feature vectors in, predictions out, on one server). Hops with and without digests
alternate, and each pair gives two ratios: of wall time, and of the processor time of service and server together, on
which other work on the machine has less influence. The cost of an event is that of ``shared.log.written.advance`` on
batches of 100.
"""

import functools
import gc
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench import contenders
from bench.contenders import BATCH, Digesting, Raw, answer, inputs, ours, output_of, pack, vectors
from bench.harness import Figure
from schemas.codec import Encoded, encode
from shared.log.written import advance
from shared.server.embedded import EmbeddedServer

DIGESTING = functools.partial(ours, service=Digesting)


class Taken(NamedTuple):
    """Wall time and processor time of one hop (s)."""

    wall: float
    processor: float


def served(raw: Raw) -> float:
    """Return the processor time that the server has used (s)."""
    found = dict(line.split(":", 1) for line in raw.call(pack("INFO", "cpu")).decode().split() if ":" in line)
    return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])


def hop(url: str, events: Sequence[Encoded], *, digests: bool) -> Taken:
    """Return the times of one hop of all events, which were written before, without the start of the service."""
    with Raw(url) as raw:
        raw.call(pack("FLUSHALL"))
        for start in range(0, len(events), 1000):
            part = inputs("ours", events[start : start + 1000])
            raw.call(b"".join(part), len(part))
        begun, used = 0.0, 0.0

        def ready() -> None:
            nonlocal begun, used
            gc.collect()
            begun, used = time.perf_counter(), time.process_time() + served(raw)

        (DIGESTING if digests else contenders.ours)(url, len(events), BATCH, ready)
        taken = Taken(time.perf_counter() - begun, time.process_time() + served(raw) - used)
        if raw.call(pack("XLEN", output_of("ours"))) != len(events):
            raise RuntimeError("the hop did not write all of its predictions")
        held = raw.call(pack("HEXISTS", f"conclave:{{p0}}:group:{Digesting.group}", "wrote:predictions"))
        if bool(held) != digests:
            raise RuntimeError("the digest is not where it should be")
    return taken


def microseconds(group: str, sealed: Sequence[Encoded], turns: int) -> float:
    """Return the cost of one event (us) when all are written in one batch: the minimum over several turns."""
    times = []
    for _ in range(turns):
        begun = time.perf_counter()
        for _ in range(50):
            advance(group, 0, {}, sealed)
        times.append((time.perf_counter() - begun) / 50 / len(sealed) * 1e6)
    return min(times)


def run(quick: bool) -> dict[str, Figure]:
    """Run the benchmark; see the docstring of the module."""
    rounds = 7 if quick else 15
    events = vectors(20_000 if quick else 40_000)
    predictions = [encode("predictions", answer(event.envelope.event, event.envelope.id)) for event in events[:100]]
    decision = predictions[0]._replace(stream="intents", data=bytes(3_000))
    rows: list[tuple[Taken, Taken]] = []
    with tempfile.TemporaryDirectory() as data, EmbeddedServer(Path(data), die_with_parent=True) as server:
        for turn in range(rounds):
            order = (True, False) if turn % 2 else (False, True)
            taken = {digests: hop(server.url, events, digests=digests) for digests in order}
            rows.append((taken[True], taken[False]))

    def figure(of: Callable[[Taken], float]) -> Figure:
        ratios = [of(kept) / of(bare) for kept, bare in rows]
        kept, bare = (median(of(row[side]) for row in rows) / len(events) * 1e6 for side in (0, 1))
        against = f"{kept:.2f} against {bare:.2f} us an event without; ratios {min(ratios):.2f} to {max(ratios):.2f}"
        return Figure(median(ratios), "ratio", "<= 1.1", against)

    return {
        "hop_processor": figure(lambda taken: taken.processor),
        "hop_wall": figure(lambda taken: taken.wall),
        "prediction_us": Figure(
            microseconds("model-worker.bench", predictions, 20), "us", "", f"{len(predictions[0].data)} bytes"
        ),
        "features_us": Figure(
            microseconds("feature-builder", events[:100], 20), "us", "", f"{len(events[0].data)} bytes"
        ),
        "decision_3_kb_us": Figure(microseconds("ensemble-voter", [decision] * 100, 20), "us", "", "3,000 bytes"),
    }
