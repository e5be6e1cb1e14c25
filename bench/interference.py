"""Measure the latency from bar to decision during a training job, against that without one.

Two tree models, each service as a process, get 50 bars a second; the trainer runs as ``conclave up`` starts it. All
processes are in one session, as in a terminal: a kernel that divides the processor among sessions first (autogroup)
ignores priorities between sessions, so a reader in another session would wait for the trainer.

Phases during the fit of an N-HiTS job of default size alternate with phases without a job. The ratio is that of their
p99, as medians over the rounds.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import anyio
import numpy as np

from bench.harness import Figure
from bench.installation import Installation, wait_until
from bench.latency import Market, bars_by_time, caught_up, paced
from schemas.training import TrainingProgressed
from shared.runtime.process import owner
from shared.training.ledger import TrainingWriter

WARM = 3000
"""Bars of history, on which models are trained."""
RATE = 50.0
SYMBOLS = ("ONE", "TWO")


async def fitting(ledger: TrainingWriter, asked: str) -> None:
    """Wait until a job is in the middle of its fit."""
    while True:
        job = (await ledger.read())[asked]
        assert job.ended is None, f"nothing was fitted: {job.ended}"
        if isinstance(job.progress, TrainingProgressed) and job.progress.stage == "fitting":
            return
        await anyio.sleep(0.05)


async def idle(ledger: TrainingWriter) -> None:
    """Wait until no job runs."""
    while (await ledger.read()).next() is not None:
        await anyio.sleep(0.05)


async def measure(installation: Installation, rounds: int, bars: int) -> tuple[list[float], list[float]]:
    """Return the p99 latencies (ms) of the phases without a job, and of those with one."""
    log, sender, other = installation.log(), installation.log(), installation.log()
    market = Market(log, await sender.claim("bench", (), 0, owner("bench")))
    market.send = Market(sender, market.claim).send  # type: ignore[method-assign]  # a connection of its own
    await market.warm(bars_by_time(SYMBOLS, WARM))
    singles = bars_by_time(SYMBOLS[:1], WARM + 2 * rounds * bars)  # as many of the first, and what comes after
    await caught_up(log)
    ledger = TrainingWriter(other)
    without: list[float] = []
    beside: list[float] = []
    at = WARM
    for _ in range(rounds):
        await idle(ledger)
        without.append(float(np.percentile(await paced(market, singles[at : at + bars], RATE), 99)))
        asked = request(installation)
        await fitting(ledger, asked)
        beside.append(float(np.percentile(await paced(market, singles[at + bars : at + 2 * bars], RATE), 99)))
        ended = (await ledger.read())[asked].ended
        assert ended is None, f"the job ended before the stretch did: {ended}"
        at += 2 * bars
        await kill(installation)
        await idle(ledger)
    for one in (log, sender, other):
        await one.close()
    return without, beside


def request(installation: Installation) -> str:
    """Request a long job and return its id."""
    words = ("--family", "nhits", "--param", "epochs=4000", "--param", "patience=4000", "--force", "--reason", "bench")
    said = installation.conclave("train", "request", "--model", "nhits", *words)
    return str(re.findall(r"[0-9a-f]{32}", said)[0])


async def kill(installation: Installation) -> None:
    """Kill the process of the job, as in a crash."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout  # a moment
    for line in listed.splitlines():
        if "services.trainer.child" in line and str(installation.folder) in line:
            subprocess.run(["kill", "-KILL", line.split()[0]], check=False)  # a moment


@contextmanager
def in_this_session(installation: Installation) -> Iterator[None]:
    """Run the installation in the foreground, in the session of this process, until the end of the block."""
    up = installation.start("up")
    try:
        wait_until(lambda: "trainer" in installation.owners())
        yield
    finally:
        up.terminate()
        up.communicate()


def run(quick: bool) -> dict[str, Figure]:
    """Run the benchmark; see the docstring of the module."""
    with tempfile.TemporaryDirectory() as folder:
        installation = Installation(Path(folder), extra="\n[training]\nfree_gb = 0.0\n")
        with in_this_session(installation):
            installation.train_all("--synthetic", "sequence", "--symbols", "4", "--count", "4000")
            rounds, bars = (3, 400) if quick else (7, 800)
            without, beside = anyio.run(measure, installation, rounds, bars, backend_options={"use_uvloop": True})
    ratios = [with_job / alone for alone, with_job in zip(without, beside, strict=True)]
    against = f"{median(beside):.2f} ms against {median(without):.2f} ms"
    return {
        "p99_while_training": Figure(median(ratios), "times", "<= 1.2", against),
        "p99_alone": Figure(median(without), "ms", "", ""),
    }
