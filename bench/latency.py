"""Bar to decision with two tree models: one symbol at 50 bars a second, and 100 symbols that close at once.

The one symbol is measured twice, with nothing else traded, and among 100 others whose history every process then
holds (the caches of the processor see the difference).

Everything runs as in production: each service a process of its own, the embedded server, the runtime, and bars
and decisions on the event loop that a service has.
A bar's latency is from just before it is sent to the moment a reader has its decision in hand. The
floor, measured in the same run, is the same journey without us: the smallest write-and-read through
the server, once for each of the four hops.
"""

import tempfile
import time
from pathlib import Path
from statistics import median

import anyio
import numpy as np

from bench.harness import Figure
from bench.installation import Installation, running
from schemas.codec import Encoded, decode, encode
from schemas.market import BarClosed
from schemas.operations import DeadLetter
from shared.log import START, Claim, Commit, Log, StreamKey
from shared.runtime.process import owner
from shared.synthetic import SyntheticMarket

SYMBOLS = 100
WARM = 700
"""Bars of a symbol before anything is measured: more than any window holds."""
HOPS = 4
DECISIONS = StreamKey("decisions")
MARKET = StreamKey("market")


def bars_by_time(symbols: tuple[str, ...], bars: int, scenario: str = "sequence") -> list[list[Encoded]]:
    """All bars of a market, those that close together in one list."""
    moments: dict[int, list[Encoded]] = {}
    for row in SyntheticMarket(symbols, scenario, 7, bars).rows():
        bar = row.bar  # type: ignore[union-attr]  # synthetic rows are good
        assert isinstance(bar, BarClosed)
        moments.setdefault(bar.open_time, []).append(encode("market", bar))
    return [moments[moment] for moment in sorted(moments)]


class Market:
    """Sends bars as the feed does, and waits for their decisions."""

    def __init__(self, log: Log, claim: Claim) -> None:
        self.log, self.claim = log, claim
        self.after = START

    async def send(self, bars: list[Encoded]) -> None:
        await self.log.commit(self.claim, Commit(bars, {}, {}))

    async def decided(self, wanted: set[bytes]) -> dict[bytes, float]:
        """When each of these bars was seen decided."""
        seen: dict[bytes, float] = {}
        while not wanted <= seen.keys():
            for entry in await self.log.read({DECISIONS: self.after}, count=1000, block_ms=500):
                self.after = entry.id
                seen[decode("decisions", entry.data).correlation] = time.perf_counter()
        return seen

    async def warm(self, history: list[list[Encoded]]) -> None:
        """Sends what the windows need, as fast as it is taken."""
        for first in range(0, len(history), 20):
            chunk = [bar for moment in history[first : first + 20] for bar in moment]
            await self.send(chunk)
            await self.decided({bar.envelope.id for bar in chunk})


async def paced(market: Market, moments: list[list[Encoded]], rate: float) -> list[float]:
    """Latencies (ms) of single bars at a steady rate."""
    sent: dict[bytes, float] = {}
    seen: dict[bytes, float] = {}

    async def follow() -> None:
        seen.update(await market.decided({moment[0].envelope.id for moment in moments}))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow)
        begun = time.perf_counter()
        for number, moment in enumerate(moments):
            await anyio.sleep(max(begun + number / rate - time.perf_counter(), 0))
            sent[moment[0].envelope.id] = time.perf_counter()
            await market.send(moment)
    return [1000 * (seen[bar] - sent[bar]) for bar in sent]


async def burst(market: Market, moments: list[list[Encoded]]) -> list[float]:
    """For each moment, when the last of its decisions was there (ms)."""
    latencies = []
    for moment in moments:
        begun = time.perf_counter()
        await market.send(moment)
        seen = await market.decided({bar.envelope.id for bar in moment})
        latencies.append(1000 * (max(seen.values()) - begun))
        await anyio.sleep(0.1)
    return latencies


async def floor(log: Log, rounds: int) -> float:
    """Milliseconds of one write and one read of a small entry, the median."""
    claim = await log.claim("floor", (), 0, owner("floor"))
    took = []
    after = (await log.extent(StreamKey("dead"))).last
    for number in range(rounds):
        entry = encode("dead", DeadLetter(service="bench", source=str(number), reason="bad_row", detail="", raw=""))
        begun = time.perf_counter()
        await log.commit(claim, Commit([entry], {}, {}))
        after = (await log.read({StreamKey("dead"): after}, count=1, block_ms=1000))[-1].id
        took.append(1000 * (time.perf_counter() - begun))
    await log.release(claim)
    return median(took)


async def caught_up(log: Log) -> None:
    """Until no group has anything left to read: what stands beside the way is behind it after so much history."""
    while any(any(view.lag.values()) for view in await log.groups(0)):
        await anyio.sleep(0.1)


async def measure(installation: Installation, quick: bool) -> dict[str, list[float]]:
    """One symbol, with nothing else traded; then the same symbol among 100 others that have a history, and these at
    once. Milliseconds, one of each for a run."""
    runs, each, moments = (3, 160, 6) if quick else (5, 500, 12)
    singles = bars_by_time(("SOLO",), WARM + 2 * runs * each)
    many = bars_by_time(tuple(f"S{number:03}" for number in range(SYMBOLS)), WARM + runs * moments)
    log, sender = installation.log(), installation.log()
    market = Market(log, await sender.claim("bench", (), 0, owner("bench")))
    market_sender = Market(sender, market.claim)
    market.send = market_sender.send  # type: ignore[method-assign]  # reading and writing on own connections
    found: dict[str, list[float]] = {"floor": [], "p50": [], "p99": [], "among_p50": [], "among_p99": [], "burst": []}
    await market.warm(singles[:WARM])
    for run in range(2 * runs):
        if run == runs:
            await market.warm(many[:WARM])
        await caught_up(log)
        where = "among_" if run >= runs else ""
        latencies = await paced(market, singles[WARM + run * each : WARM + (run + 1) * each], 50)
        for name, part in (("p50", 50), ("p99", 99)):
            found[where + name].append(float(np.percentile(latencies, part)))
        found["floor"].append(HOPS * await floor(sender, 200))
    for run in range(runs):
        found["burst"].append(max(await burst(market, many[WARM + run * moments : WARM + (run + 1) * moments])))
    await log.close()
    await sender.close()
    return found


def figures_of(found: dict[str, list[float]], at_once: str) -> dict[str, Figure]:
    """Medians over the runs; ``at_once`` is the goal for 100 symbols at once."""
    of = {name: median(values) for name, values in found.items()}
    against = f"{HOPS} smallest hops {of['floor']:.2f} ms"
    return {
        "bar_to_decision_p50": Figure(of["p50"], "ms", "< 5", against),
        "bar_to_decision_p99": Figure(of["p99"], "ms", "< 15", against),
        "among_100_others_p50": Figure(of["among_p50"], "ms", "", against),
        "among_100_others_p99": Figure(of["among_p99"], "ms", "", against),
        "burst_of_100_last_decision": Figure(of["burst"], "ms", at_once, against),
        "p50_of_floor": Figure(of["p50"] / of["floor"], "times", "", against),
    }


def run(quick: bool) -> dict[str, Figure]:
    """See the module."""
    with tempfile.TemporaryDirectory() as folder:
        installation = Installation(Path(folder))
        with running(installation):
            installation.train_all("--synthetic", "sequence", "--symbols", "4", "--count", "4000")
            found = anyio.run(measure, installation, quick, backend_options={"use_uvloop": True})
    return figures_of(found, "< 150")
