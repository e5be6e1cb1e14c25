"""Offer an installation ten times the bars that its slowest service can take.

First a feed offers far more bars a second than were measured as the capacity. It must wait for the slowest group, so
the lag of every group stays within the feed's window, and no process grows. The time to recover is measured from the
end of the feed until no group lags. Nothing may be lost.

Then live bars arrive unthrottled, all at once, as after an outage of a market's connection: all but the newest lie
in the past. An intent of the past must not be written.

The memory of a process is its proportional set size at the end of the overload, divided by that at the first tenth.
"""

import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import anyio
from msgspec import structs

from bench.harness import Figure
from bench.installation import Installation, all_decisions, all_entries, running, wait_until
from bench.latency import bars_by_time
from schemas.codec import Encoded, decode, encode
from schemas.decisions import IntentIssued
from schemas.market import BarClosed
from shared.log import Commit, StreamKey
from shared.runtime.process import owner

OVERLOAD_S: Final = 600.0
QUICK_S: Final = 20.0
TIMES: Final = 10
SYMBOLS: Final = 4
LEARNED: Final = 4000
"""Bars of each symbol that the models are trained on."""
LATE_BARS: Final = 20_000
CHUNK: Final = 1000


class Sample(NamedTuple):
    """The largest lag of a group (entries), and the memory of each process (bytes)."""

    lag: int
    memory: Mapping[int, int]


async def _lag(installation: Installation) -> int:
    log = installation.log()
    try:
        return max((max(view.lag.values(), default=0) for view in await log.groups(0)), default=0)
    finally:
        await log.close()


def _memory(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return 1024 * int(line.split()[1])
    return 0


def sample(installation: Installation) -> Sample:
    """Return the lag and the memory now."""
    return Sample(anyio.run(_lag, installation), {pid: _memory(pid) for pid in installation.owners().values()})


def _feed(installation: Installation, skip: int, speed: float, seconds: float) -> tuple[float, list[Sample], float]:
    """Offer bars for so many seconds. Return the decisions a second, the samples, and the seconds until no group
    lagged."""
    before = len(installation.decisions())
    feed = installation.start(
        "feed", "--synthetic", "sequence", "--symbols", str(SYMBOLS), "--count", "5000000",
        "--skip", str(skip), "--speed", str(speed),
    )  # fmt: skip
    begun, samples = time.monotonic(), []
    while time.monotonic() < begun + seconds:
        time.sleep(seconds / 20)
        assert feed.poll() is None, "the feed ended"
        samples.append(sample(installation))
    lasted = time.monotonic() - begun
    decided = len(installation.decisions()) - before
    feed.terminate()
    feed.communicate(timeout=60)
    ended = time.monotonic()
    wait_until(lambda: anyio.run(_lag, installation) == 0, 300, 0.1, "it does not recover")
    return decided / lasted, samples, time.monotonic() - ended


async def _late(installation: Installation) -> list[Encoded]:
    """Write live bars at once, of which all but the newest lie in the past, and return them."""
    moments = bars_by_time(("LATE",), LATE_BARS)
    now = int(time.time() * 1000)
    bars = []
    for number, moment in enumerate(moments):
        bar = moment[0].envelope.event
        at = now // bar.interval_ms * bar.interval_ms - (len(moments) - number) * bar.interval_ms
        bars.append(encode("market", structs.replace(bar, open_time=at, origin="live")))
    log = installation.log()
    try:
        claim = await log.claim("bench", (), 0, owner("bench"))
        for first in range(0, len(bars), CHUNK):
            await log.commit(claim, Commit(bars[first : first + CHUNK], {}, {}))
        await log.release(claim)
    finally:
        await log.close()
    return bars


async def _outcome(installation: Installation) -> tuple[int, int, int, int]:
    """Return the numbers of bars, of decisions, of intents, and of intents that were issued after they had expired."""
    log = installation.log()
    try:
        bars = [decode("market", entry.data).event for entry in await all_entries(log, StreamKey("market"))]
        decisions = await all_decisions(log)
        intents = await all_entries(log, StreamKey("intents"))
    finally:
        await log.close()
    late = 0
    for entry in intents:
        intent = decode("intents", entry.data).event
        assert isinstance(intent, IntentIssued)
        late += intent.origin == "live" and int(entry.id.partition("-")[0]) > intent.valid_until
    return sum(isinstance(bar, BarClosed) for bar in bars), len(decisions), len(intents), late


def run(quick: bool) -> dict[str, Figure]:
    """Return the capacity, what the overload did to lag and memory, and what became of bars of the past."""
    seconds = float(os.environ.get("SECONDS", QUICK_S if quick else OVERLOAD_S))
    with tempfile.TemporaryDirectory(prefix="conclave-overload-") as name:
        installation = Installation(Path(name))
        with running(installation):
            installation.train_all("--synthetic", "sequence", "--symbols", str(SYMBOLS), "--count", str(LEARNED))
            capacity, _, _ = _feed(installation, LEARNED, 0, 10)
            rate, samples, recovery = _feed(installation, LEARNED, TIMES * capacity, seconds)
            early, last = samples[1], samples[-1]
            growth = max(last.memory[pid] / early.memory[pid] for pid in early.memory.keys() & last.memory.keys())
            anyio.run(_late, installation)
            wait_until(lambda: anyio.run(_lag, installation) == 0, 300, 0.1, "it does not recover")
            bars, decisions, intents, late = anyio.run(_outcome, installation)
    return {
        "capacity": Figure(capacity, "decisions/s"),
        "rate_under_overload": Figure(rate / capacity, "of capacity", ">= 0.8", f"capacity {capacity:,.0f}"),
        "largest_lag": Figure(max(each.lag for each in samples), "entries"),
        "memory_growth": Figure(growth, "times", "< 1.3"),
        "recovery": Figure(recovery, "s"),
        "bars": Figure(bars, "bars"),
        "undecided": Figure(bars - decisions, "bars", "<= 0"),
        "intents": Figure(intents, "intents"),
        "intents_of_the_past": Figure(late, "intents", "<= 0"),
    }
