"""Measure the time until a halt is accepted, and check that no intent is written after it.

The voter runs on the embedded server as in production. Another process writes some hundred rounds a second, on which
the voter decides BUY. An operator halts and resumes repeatedly. A halt is accepted when the command returns; after that
the stream ``intents`` must not grow, even if the voter has computed decisions already. This is repeated with a voter
that is suspended in the middle of its work (SIGSTOP), halted, and continued: its commit is refused, and the bars are
decided again. The ballots have the version from before all halts, so only the fence stops the intents.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import anyio
import numpy as np

from bench.harness import Figure
from bench.installation import free_port
from schemas.codec import Encoded, decode, encode
from schemas.common import ACTIONS
from schemas.control import Command, Found, Halt, Promote, RegisterArtifact, Resume, SetVotingPolicy
from schemas.decisions import DecisionMade
from schemas.predictions import PredictionMade
from services.console.run.processes import console_command
from shared.control.issuing import ControlWriter, current
from shared.log import Commit, Log, StreamKey
from shared.log.redis import RedisLog
from shared.runtime.process import owner
from shared.server.embedded import EmbeddedServer

MINUTE = 60_000
ARTIFACTS = {"a": "aa" * 32, "b": "bb" * 32}
THIRD = (-1.1, -1.1, -1.1)
INTENTS, DECISIONS = StreamKey("intents"), StreamKey("decisions")
SYMBOLS = ("S0", "S1")
TRIPS = 7
"""Round trips of a halt: read control, read and set the fence, append the entry, read the fence and control again."""
PAUSE_S = 0.005
"""Pause between two bars of every symbol (s)."""
AFTER_S = 0.02
"""Minimum time for which intents are observed after a halt (s). It continues until decisions have the status
``halted``."""


async def found(log: Log) -> None:
    """Create an installation with two voting models."""
    commands: list[Command] = [Found(1, "log-of-a-bench")]
    for (model, artifact), weight in zip(ARTIFACTS.items(), (1.0, 0.5), strict=True):
        registered = RegisterArtifact(
            model=model,
            artifact=artifact,
            family="prior",
            feature_set="f" * 64,
            feature_set_name="user-8",
            interval_ms=MINUTE,
            classes=ACTIONS,
            centre=THIRD,
            prior=(0.25, 0.5, 0.25),
        )
        commands += [registered, Promote(model, artifact, forced=True, weight=weight)]
    writer = ControlWriter(log)
    for command in (*commands, SetVotingPolicy(quorum_count=2, edge=0.05)):
        await writer.issue(command, actor="bench", reason="begin")


def ballots(bar: int, version: int, head: bytes) -> list[Encoded]:
    """Return the ballots of one bar: both models predict BUY for every symbol."""
    sealed = []
    for number, symbol in enumerate(SYMBOLS):
        root = (bar * len(SYMBOLS) + number + 1).to_bytes(16)
        for model, artifact in ARTIFACTS.items():
            event = PredictionMade(
                symbol=symbol,
                interval_ms=MINUTE,
                open_time=bar * MINUTE,
                origin="replay",
                model=model,
                artifact=bytes.fromhex(artifact),
                probabilities=(0.1, 0.2, 0.7),
                vector=root,
                control_version=version,
                control_head=head,
            )
            sealed.append(encode("predictions", event, causation=root, correlation=root))
    return sealed


async def pump(url: str) -> None:
    """Write ballots until the process is ended."""
    log = RedisLog(url)
    state = await current(log)
    claim = await log.claim("bench", (), 0, owner("bench"))
    bar = 0
    while True:
        bar += 1
        await log.commit(claim, Commit(ballots(bar, state.version, bytes.fromhex(state.head)), {}, {}))
        await anyio.sleep(PAUSE_S)


class Floor(NamedTuple):
    """The server, the process of the voter, and the process that writes ballots."""

    url: str
    voter: "subprocess.Popen[bytes]"


@contextmanager
def trading(folder: Path) -> Iterator[Floor]:
    """Run server, voter and writer until the end of the block."""
    port = free_port()
    with EmbeddedServer(folder / "var" / "redis", port=port, die_with_parent=True) as server:
        settings = folder / "conclave.toml"
        settings.write_text(f'[redis]\nurl = "{server.url}"\n\n[installation]\nstate = "{folder / "var"}"\n')
        anyio.run(_prepare, server.url)
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
        voter = console_command("--settings", str(settings), "run", "ensemble-voter")
        processes = [
            subprocess.Popen(command, env=environment)
            for command in (voter, [sys.executable, "-m", "bench.halt", server.url])
        ]
        try:
            yield Floor(server.url, processes[0])
        finally:
            for process in processes:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()


async def _prepare(url: str) -> None:
    log = RedisLog(url)
    await found(log)
    await log.close()


async def added(log: Log, place: StreamKey) -> int:
    """Return the number of entries that were ever added to a stream."""
    return (await log.extent(place)).added


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a condition holds. Raises ``TimeoutError`` after 30 s."""
    with anyio.fail_after(30):
        while not await condition():
            await anyio.sleep(0.002)


class Round(NamedTuple):
    """The measurements of one halt, in this order: the time until it was accepted (ms); the time of as many plain round
    trips just before it (ms); the number of intents between acceptance and resume; the number of decisions with the
    status ``halted`` in that time; and the number of intents between the call and its acceptance."""

    accepted_ms: float
    floor_ms: float
    after: int
    halted: int
    during: int


class Operator:
    """Halts and resumes."""

    def __init__(self, log: Log, voter: "subprocess.Popen[bytes]") -> None:
        self.log, self.voter, self.writer = log, voter, ControlWriter(log)

    async def round(self, *, suspended: bool) -> Round:
        """Halt and resume once. ``suspended``: the voter is suspended during the halt, and continued afterwards."""
        await self._more(INTENTS, 10)
        if suspended:
            self.voter.send_signal(signal.SIGSTOP)
            await self._more(StreamKey("predictions"), 100)
        before = await added(self.log, INTENTS)
        begun = time.perf_counter()
        for _ in range(TRIPS):
            await self.log.fence(0)
        floor = 1000 * (time.perf_counter() - begun)
        begun = time.perf_counter()
        await self.writer.issue(Halt(), actor="bench", reason="a halt")
        took = 1000 * (time.perf_counter() - begun)
        accepted, mark = await added(self.log, INTENTS), (await self.log.extent(DECISIONS)).last
        if suspended:
            self.voter.send_signal(signal.SIGCONT)
        await self._more(DECISIONS, 20)
        await anyio.sleep(AFTER_S)
        after, last = await added(self.log, INTENTS), (await self.log.extent(DECISIONS)).last
        decided = [
            decode("decisions", entry.data).event
            for entry in await self.log.scan(DECISIONS, after=mark, until=last, count=10_000)
        ]
        halted = sum(isinstance(event, DecisionMade) and event.intent == "halted" for event in decided)
        assert halted == len(decided), f"{len(decided) - halted} of {len(decided)} decisions after a halt do not say so"
        await self.writer.issue(Resume(), actor="bench", reason="its end")
        return Round(took, floor, after - accepted, halted, accepted - before)

    async def _more(self, place: StreamKey, count: int) -> None:
        """Wait until a stream has ``count`` more entries."""
        wanted = await added(self.log, place) + count

        async def there() -> bool:
            return await added(self.log, place) >= wanted

        await until(there)


async def measure(floor: Floor, running: int, suspended: int) -> tuple[list[Round], list[Round]]:
    """Return the rounds with a running voter, and those with a suspended one."""
    log = RedisLog(floor.url)
    operator = Operator(log, floor.voter)
    try:
        return (
            [await operator.round(suspended=False) for _ in range(running)],
            [await operator.round(suspended=True) for _ in range(suspended)],
        )
    finally:
        await log.close()


def run(quick: bool) -> dict[str, Figure]:
    """Run the benchmark; see the docstring of the module."""
    with tempfile.TemporaryDirectory() as folder, trading(Path(folder)) as floor:
        running, suspended = anyio.run(measure, floor, *((200, 50) if quick else (1000, 1000)))
    took = [each.accepted_ms for each in running]
    least = float(np.percentile([each.floor_ms for each in running], 99))
    return {
        "accepted_p50": Figure(float(np.percentile(took, 50)), "ms", "", f"{len(took)} halts, voter at work"),
        "accepted_p99": Figure(
            float(np.percentile(took, 99)), "ms", "< 20", f"{TRIPS} plain round trips {least:.1f} ms"
        ),
        "accepted_worst": Figure(max(took), "ms"),
        "intents_while_accepting": Figure(float(np.mean([each.during for each in running])), "intents a halt"),
        "intents_after": Figure(
            sum(each.after for each in running), "intents", "<= 0", f"{sum(each.halted for each in running)} halted"
        ),
        "intents_after_suspended": Figure(
            sum(each.after for each in suspended),
            "intents",
            "<= 0",
            f"{len(suspended)} halts of a suspended voter, {sum(each.halted for each in suspended)} halted",
        ),
    }


if __name__ == "__main__":
    anyio.run(pump, sys.argv[1])
