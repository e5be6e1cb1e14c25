"""Measure the latency from bar to decision with two tree models, for one symbol and for 100 that close at once.

The one symbol gets 50 bars a second. It is measured twice: alone, and together with 100 others whose history every
process then holds in memory, which fills the processor's caches.

Everything runs as in production: each service as a process, the embedded server, the runtime, and bars and decisions on
the event loop of a service. The latency of a bar is the time from just before it is sent until a reader has its
decision. The floor, measured in the same run, is the time of a minimal write and read through the server, once for each
of the four hops.
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
"""Bars of a symbol before the measurement: more than the longest window."""
HOPS = 4
DECISIONS = StreamKey("decisions")
MARKET = StreamKey("market")


def bars_by_time(symbols: tuple[str, ...], bars: int, scenario: str = "sequence") -> list[list[Encoded]]:
    """Return all bars of a market, in lists of bars that close at the same time."""
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
        """Wait for the decisions of these bars, and return the time at which each was read."""
        seen: dict[bytes, float] = {}
        while not wanted <= seen.keys():
            for entry in await self.log.read({DECISIONS: self.after}, count=1000, block_ms=500):
                self.after = entry.id
                seen[decode("decisions", entry.data).correlation] = time.perf_counter()
        return seen

    async def warm(self, history: list[list[Encoded]]) -> None:
        """Send the bars that fill the windows, as fast as they are processed."""
        for first in range(0, len(history), 20):
            chunk = [bar for moment in history[first : first + 20] for bar in moment]
            await self.send(chunk)
            await self.decided({bar.envelope.id for bar in chunk})


async def paced(market: Market, moments: list[list[Encoded]], rate: float) -> list[float]:
    """Return the latencies (ms) of single bars sent at a constant rate."""
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
    """Return for each moment the latency (ms) of its last decision."""
    latencies = []
    for moment in moments:
        begun = time.perf_counter()
        await market.send(moment)
        seen = await market.decided({bar.envelope.id for bar in moment})
        latencies.append(1000 * (max(seen.values()) - begun))
        await anyio.sleep(0.1)
    return latencies


async def floor(log: Log, rounds: int) -> float:
    """Return the median time (ms) of one write and one read of a small entry."""
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
    """Wait until no group has a lag. Groups that are not on the path to a decision lag after a long history."""
    while any(any(view.lag.values()) for view in await log.groups(0)):
        await anyio.sleep(0.1)


async def measure(installation: Installation, quick: bool) -> dict[str, list[float]]:
    """Return latencies (ms), one for each run: of one symbol alone, of the same symbol together with 100 others that
    have a history, and of these 100 at once."""
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
    """Return the medians over the runs as figures. ``at_once`` is the goal for 100 symbols at once."""
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
    """Run the benchmark; see the docstring of the module."""
    with tempfile.TemporaryDirectory() as folder:
        installation = Installation(Path(folder))
        with running(installation):
            installation.train_all("--synthetic", "sequence", "--symbols", "4", "--count", "4000")
            found = anyio.run(measure, installation, quick, backend_options={"use_uvloop": True})
    return figures_of(found, "< 150")
