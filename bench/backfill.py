"""Measure a sustained backfill through the whole pipeline: bars a second, and the memory of each process.

The floor is measured in the same run: the same bars are written to one stream, read back and decoded.
"""

import tempfile
import time
from pathlib import Path
from statistics import median

import anyio

from bench.harness import Figure
from bench.installation import Installation, all_decisions, running
from bench.latency import bars_by_time
from schemas.codec import decode
from shared.log import START, Commit, Log, StreamKey
from shared.processes import resident_mb
from shared.runtime.process import owner

SYMBOLS = 10


async def floor(log: Log, bars: int) -> float:
    """Return the bars a second that one process writes, reads back and decodes."""
    sealed = [bar for moment in bars_by_time(("FLOOR",), bars) for bar in moment]
    claim = await log.claim("floor", (), 1, owner("floor"))
    begun = time.perf_counter()
    for first in range(0, len(sealed), 1000):
        await log.commit(claim, Commit(sealed[first : first + 1000], {}, {}))
    place, after = StreamKey("market", 1), START
    while entries := await log.read({place: after}, count=1000, block_ms=0):
        after = entries[-1].id
        for entry in entries:
            decode("market", entry.data)
    await log.release(claim)
    return bars / (time.perf_counter() - begun)


async def decided(installation: Installation) -> int:
    log = installation.log()
    count = len(await all_decisions(log))
    await log.close()
    return count


async def measured_floor(installation: Installation) -> float:
    log = installation.log()
    rates = [await floor(log, 10_000) for _ in range(3)]
    await log.close()
    return median(rates)


def run(quick: bool) -> dict[str, Figure]:
    """Run the benchmark; see the docstring of the module."""
    runs, bars = (3, 1_000) if quick else (5, 4_000)
    rates = []
    with tempfile.TemporaryDirectory() as folder:
        installation = Installation(Path(folder))
        with running(installation):
            source = ("--synthetic", "sequence", "--symbols", str(SYMBOLS))
            installation.train_all("--synthetic", "sequence", "--symbols", "4", "--count", "4000")
            for number in range(1, runs + 1):
                before = anyio.run(decided, installation)
                begun = time.perf_counter()
                installation.conclave(
                    "feed", *source, "--count", str(bars * runs), "--limit", str(number * bars * SYMBOLS)
                )
                while anyio.run(lag, installation):
                    time.sleep(0.02)
                rates.append(bars * SYMBOLS / (time.perf_counter() - begun))
                assert anyio.run(decided, installation) - before == bars * SYMBOLS
            memory = {group: resident_mb(pid) for group, pid in installation.owners().items()}
            least = anyio.run(measured_floor, installation)
    rate = median(rates)
    figures = {
        "backfill": Figure(rate, "bars/s", "", f"one write and one read {least:,.0f} bars/s"),
        "backfill_of_floor": Figure(rate / least, "times", "", f"one write and one read {least:,.0f} bars/s"),
    }
    return figures | {f"resident_{group}": Figure(mb, "MB") for group, mb in sorted(memory.items())}


async def lag(installation: Installation) -> int:
    """Return the lag: the number of entries that the groups have not committed yet."""
    log = installation.log()
    total = sum(sum(view.lag.values()) for view in await log.groups(0))
    await log.close()
    return total
