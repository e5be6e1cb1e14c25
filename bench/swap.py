"""Measure the latency from bar to decision while a serving worker loads an artifact, against that without a load.

The models are XGBoost, LightGBM, N-HiTS and PatchTST in their default sizes; each service is a process. For each family
in turn a shadow is started, bars are sent one after the other until it is loaded and a little longer, and it is
stopped. In every second round the shadow is a former champion that its worker kept in memory: commands, folds, the
additional ballot and the number of bars are the same, but nothing is loaded. So the ratio is the cost of loading.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import anyio
import numpy as np

from bench.ensemble import MODELS, train_all, train_one
from bench.harness import Figure
from bench.installation import Installation, running
from bench.latency import Market, bars_by_time
from schemas.codec import Encoded, decode
from schemas.control import Promote, StartShadow, StopShadow
from schemas.readiness import ArtifactReady
from shared.control.issuing import ControlWriter
from shared.log import START, StreamKey
from shared.log.redis import RedisLog
from shared.runtime.process import owner

WARM = 700
BARS = 6
"""The minimum number of bars sent after a shadow is started."""
MOST = 200
"""The maximum number of bars during a load."""
READINESS = StreamKey("readiness")


class Pair(NamedTuple):
    """A former champion of a model, which its worker keeps in memory, and an artifact that never was champion."""

    model: str
    warm: str
    cold: str


class Swaps:
    """Starts and stops shadows, and times the bars in between."""

    def __init__(self, market: Market, writer: ControlWriter, log: RedisLog, bars: Iterator[list[Encoded]]) -> None:
        self.market, self.writer, self.log = market, writer, log
        self.bars = bars
        self.after = START
        self.loads: list[int] = []

    async def latencies(self, model: str, artifact: str, least: int, *, cold: bool) -> list[float]:
        """Return the latency of each bar (ms) after the command was appended.

        At least ``least`` bars are sent. If ``cold``, bars are sent until the load is announced, at most ``MOST``."""
        await self._issue(StartShadow(model, artifact))
        found: list[float] = []
        announced: list[int] = []
        while len(found) < least or (cold and not announced and len(found) < MOST):
            [bar] = next(self.bars)
            begun = time.perf_counter()
            await self.market.send([bar])
            seen = await self.market.decided({bar.envelope.id})
            found.append(1000 * (seen[bar.envelope.id] - begun))
            announced += await self.loaded(artifact)
        self.loads += announced
        await self._issue(StopShadow(model, artifact))
        await anyio.sleep(0.02)
        return found

    async def _issue(self, command: StartShadow | StopShadow | Promote) -> None:
        await self.writer.issue(command, actor="bench", reason="a swap")

    async def prepare(self, pair: Pair) -> None:
        """Make the warm artifact a former champion that is not in shadow."""
        state = await self.writer.state()
        champion = state.models[pair.model].champion
        assert champion is not None
        for artifact in (pair.warm, champion):
            await self._issue(Promote(pair.model, artifact, forced=True))
        await self._issue(StopShadow(pair.model, pair.warm))

    async def loaded(self, artifact: str) -> list[int]:
        """Return the duration (ms) of each load of an artifact that was announced since the last call."""
        took = []
        while entries := await self.log.scan(READINESS, after=self.after):
            self.after = entries[-1].id
            events = [decode("readiness", entry.data).event for entry in entries]
            ready = [event for event in events if isinstance(event, ArtifactReady)]
            took += [event.took_ms for event in ready if event.artifact == artifact]
        return took


async def measure(installation: Installation, pairs: list[Pair], rounds: int) -> dict[str, tuple[float, float, float]]:
    """Return for each model the p99 latency (ms) with and without a load, and the duration of a load."""
    log, sender = installation.log(), installation.log()
    market = Market(log, await sender.claim("bench", (), 0, owner("bench")))
    market.send = Market(sender, market.claim).send  # type: ignore[method-assign]  # a connection of its own
    bars = bars_by_time(("SOLO",), WARM + 2 * rounds * MOST * len(pairs))
    await market.warm(bars[:WARM])
    swaps = Swaps(market, ControlWriter(log), log, iter(bars[WARM:]))
    figures = {}
    for pair in pairs:
        await swaps.prepare(pair)
        found: dict[str, list[float]] = {pair.warm: [], pair.cold: []}
        for _ in range(rounds):
            during = await swaps.latencies(pair.model, pair.cold, BARS, cold=True)
            found[pair.cold] += during
            found[pair.warm] += await swaps.latencies(pair.model, pair.warm, len(during), cold=False)
        took, swaps.loads = swaps.loads, []
        assert len(took) >= rounds, f"{pair.model}: {len(took)} loads announced, {rounds} expected"
        cold, warm = (float(np.percentile(found[artifact], 99)) for artifact in (pair.cold, pair.warm))
        figures[pair.model] = (cold, warm, median(took))
    await log.close()
    await sender.close()
    return figures


def run(quick: bool) -> dict[str, Figure]:
    """Run the benchmark; see the docstring of the module."""
    with tempfile.TemporaryDirectory() as folder:
        installation = Installation(Path(folder), models=MODELS)
        with running(installation):
            train_all(installation)
            others = {
                model: [train_one(installation, model, "--seed", seed, "--register") for seed in ("2", "3")]
                for model in MODELS
            }
            pairs = [Pair(model, *pair) for model, pair in others.items()]
            rounds = 20 if quick else 100
            found = anyio.run(measure, installation, pairs, rounds, backend_options={"use_uvloop": True})
    figures = {}
    for model, (cold, warm, took) in found.items():
        against = f"{cold:.2f} ms against {warm:.2f} ms; a load takes {took:.0f} ms"
        figures[f"{model}_p99_during_a_load"] = Figure(cold / warm, "times", "<= 1.2", against)
    return figures
