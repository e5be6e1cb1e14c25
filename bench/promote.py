"""Measure the time from a promotion or rollback to the first decision under it, at 50 bars a second.

Everything runs as in production, each service as a process on the embedded server. One artifact of xgboost votes,
another is in shadow. An operator, which is a process too, swaps them at random times, then undoes every swap by
rollbacks, while the artifact store is not available.

The time is measured from just before the command is appended until a reader has the first decision under its version.
Bars are sent every 20 ms, so waiting for the next bar alone takes up to 20 ms. ``beyond_the_bar`` leaves this wait out:
it is measured from the command, or from the sending of the bar if that is later.

A stall is the time by which a gap between successive decisions exceeds 20 ms; it is compared with that of the same rate
without commands. A decision is mixed if its ballots are not exactly those of the champions of its version. ``PEERS=1``
also measures MLServer and MLflow on an XGBoost file: see ``bench/peers/promote.py``.
"""

import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import anyio
import numpy as np
from anyio.streams.text import TextReceiveStream

from bench.harness import Figure
from bench.installation import Installation, running
from bench.latency import DECISIONS, Market, bars_by_time
from schemas.codec import Encoded, decode
from schemas.control import Promote, Rollback
from schemas.decisions import DecisionMade
from shared.control import EMPTY, State, fold
from shared.control.issuing import ControlWriter, current, history
from shared.control.readiness import evidence, with_readiness
from shared.log import ReadMark, StreamKey
from shared.log.redis import RedisLog
from shared.runtime.process import owner

RATE = 50.0
PERIOD_MS = 1000 / RATE
WARM = 700
GAPS_S = (0.06, 0.10)
"""Shortest and longest pause between two commands (s): long enough for a decision under each."""
MODEL = "xgboost"


class Seen(NamedTuple):
    """A decision, and the time at which the reader had it (s)."""

    at: float
    bar: bytes
    decision: DecisionMade


class Outcome(NamedTuple):
    """One phase: when each bar was sent, the decisions, and when each version was appended."""

    sent: Mapping[bytes, float]
    seen: Sequence[Seen]
    commands: Mapping[int, float]


async def operate(url: str, first: str, second: str, kind: str, count: int) -> None:
    """Run in the operator's process: report readiness, wait for a line on standard input, issue ``count`` commands at
    random times, and print when each was appended, by version."""
    log = RedisLog(url)
    append, moments = log.append_at, list[float]()

    async def timed(place: StreamKey, entry_id: str, data: bytes, *, marks: Sequence[ReadMark] = ()) -> bool:
        moments.append(time.perf_counter())
        return await append(place, entry_id, data, marks=marks)

    log.append_at = timed  # type: ignore[method-assign]  # only measures the time
    writer, dice = ControlWriter(log), random.Random(count)
    state = await writer.state()
    print("ready", flush=True)
    sys.stdin.readline()
    appended = {}
    for _ in range(count):
        await anyio.sleep(dice.uniform(*GAPS_S))
        other = second if state.models[MODEL].champion == first else first
        wanted = Rollback() if kind == "rollback" else Promote(MODEL, other, forced=True)
        command, missing = await with_readiness(log, state, wanted)
        assert not missing, missing
        state = (await writer.issue(command, actor="bench", reason="a swap")).state
        appended[state.version] = moments[-1]
    print(json.dumps(appended), flush=True)
    await log.close()


class Operator:
    """Runs ``operate`` in its own process, so that it does not delay the reader's measurements."""

    def __init__(self, *words: str) -> None:
        self.words = [sys.executable, "-m", "bench.promote", *words]

    async def __aenter__(self) -> "Operator":
        self.process = await anyio.open_process(self.words, stderr=None)
        self.said = TextReceiveStream(_pipe(self.process.stdout))
        assert (await self.said.receive()).strip() == "ready"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.process.wait()
        await self.process.aclose()

    async def run(self) -> dict[int, float]:
        """Let the process issue its commands; return when each version was appended."""
        await _pipe(self.process.stdin).send(b"go\n")
        text = "".join([part async for part in self.said])
        return {int(version): at for version, at in json.loads(text).items()}


T = TypeVar("T")


def _pipe(stream: T | None) -> T:
    assert stream is not None
    return stream


async def paced(
    market: Market, moments: list[list[Encoded]], stop: anyio.Event
) -> tuple[dict[bytes, float], list[Seen]]:
    """Send one bar every 20 ms until ``stop`` is set, and read decisions until all bars are decided."""
    sent: dict[bytes, float] = {}
    seen: list[Seen] = []
    done = anyio.Event()

    async def follow() -> None:
        while not (done.is_set() and len(seen) >= len(sent)):
            for entry in await market.log.read({DECISIONS: market.after}, count=1000, block_ms=100):
                market.after = entry.id
                envelope = decode("decisions", entry.data)
                if isinstance(envelope.event, DecisionMade):
                    seen.append(Seen(time.perf_counter(), envelope.correlation, envelope.event))

    with anyio.move_on_after(len(moments) / RATE + 30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            begun = time.perf_counter()
            for number, moment in enumerate(moments):
                if stop.is_set():
                    break
                await anyio.sleep(max(begun + number / RATE - time.perf_counter(), 0))
                sent[moment[0].envelope.id] = time.perf_counter()
                await market.send(moment)
            done.set()
    return sent, seen


class Stage:
    """An installation that gets bars: the rest of its market, from which each phase takes its bars."""

    def __init__(self, installation: Installation, market: Market, bars: list[list[Encoded]]) -> None:
        self.installation, self.market, self.bars = installation, market, bars

    async def quiet(self) -> Outcome:
        """Run a phase of five seconds without a command."""
        return await self._stretch(lambda: anyio.sleep(5))

    async def commanded(self, kind: str, pair: tuple[str, str], count: int) -> Outcome:
        """Run a phase that lasts until ``count`` commands are issued."""
        async with Operator(self.installation.url, *pair, kind, str(count)) as operator:
            return await self._stretch(operator.run)

    async def _stretch(self, act: Callable[[], Awaitable[dict[int, float] | None]]) -> Outcome:
        stop = anyio.Event()
        found: list[tuple[dict[bytes, float], list[Seen]]] = []

        async def bars() -> None:
            found.append(await paced(self.market, self.bars, stop))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bars)
            await anyio.sleep(0.5)
            commands = await act() or {}
            await anyio.sleep(0.5)
            stop.set()
        sent, seen = found[0]
        self.bars = self.bars[len(sent) :]
        return Outcome(sent, seen, commands)


def delays(outcome: Outcome) -> tuple[list[float], list[float]]:
    """Return for each command the time to its first decision (ms), with and without the wait for the next bar."""
    whole, beyond = [], []
    for version, appended in outcome.commands.items():
        first = next(seen for seen in outcome.seen if seen.decision.control_version >= version)
        whole.append(1000 * (first.at - appended))
        beyond.append(1000 * (first.at - max(appended, outcome.sent[first.bar])))
    return whole, beyond


def stall(outcome: Outcome) -> float:
    """Return the longest gap between decisions, less the period of the bars (ms)."""
    return 1000 * float(np.diff([seen.at for seen in outcome.seen]).max()) - PERIOD_MS


def lost(outcome: Outcome) -> int:
    """Return the number of bars without a decision, or decided twice."""
    decided = [seen.bar for seen in outcome.seen]
    return len(outcome.sent.keys() - set(decided)) + len(decided) - len(set(decided))


def mixed(outcome: Outcome, versions: Mapping[int, State]) -> int:
    """Return the number of decisions whose ballots are not those of the champions of their version, or whose head is
    not that of the version."""
    wrong = 0
    for seen in outcome.seen:
        state = versions[seen.decision.control_version]
        champions = {(name, state.models[name].champion) for name in state.voting}
        counted = {(ballot.model, ballot.artifact) for ballot in seen.decision.counted}
        wrong += counted != champions or seen.decision.control_head != state.head
    return wrong


async def all_versions(log: RedisLog) -> dict[int, State]:
    """Return every version of the configuration."""
    state, found = EMPTY, {}
    for entry in await history(log):
        state = found[entry.version] = fold(state, entry)
    return found


async def until_ready(log: RedisLog, artifact: str) -> None:
    with anyio.fail_after(30):
        while (await evidence(log, 1, MODEL, artifact)).missing:
            await anyio.sleep(0.02)


class Measured(NamedTuple):
    """The three phases, and the number of mixed decisions in all of them."""

    quiet: Outcome
    promote: Outcome
    rollback: Outcome
    mixed: int


async def measure(installation: Installation, pair: tuple[str, str], count: int) -> Measured:
    log, sender = installation.log(), installation.log()
    bars = bars_by_time(("SOLO",), WARM + int((2 * count * (GAPS_S[1] + 0.1) + 40) * RATE))
    market = Market(log, await sender.claim("bench", (), 0, owner("bench")))
    market.send = Market(sender, market.claim).send  # type: ignore[method-assign]  # a connection of its own
    await market.warm(bars[:WARM])
    await until_ready(log, pair[1])
    stage = Stage(installation, market, bars[WARM:])
    quiet = await stage.quiet()
    promote = await stage.commanded("promote", pair, count)
    store = installation.folder / "var" / "artifacts"
    store.rename(store.with_name("elsewhere"))
    rollback = await stage.commanded("rollback", pair, count)
    store.with_name("elsewhere").rename(store)
    versions = await all_versions(log)
    await log.close()
    await sender.close()
    return Measured(quiet, promote, rollback, sum(mixed(outcome, versions) for outcome in (quiet, promote, rollback)))


def figures_of(name: str, outcome: Outcome, quiet: Outcome) -> dict[str, Figure]:
    """Return the figures of one kind of command."""
    whole, beyond = delays(outcome)
    alone = f"a bar every {PERIOD_MS:.0f} ms: the wait for the next alone has p99 {0.99 * PERIOD_MS:.1f}"
    return {
        f"{name}_first_decision_p50": Figure(float(np.percentile(whole, 50)), "ms"),
        f"{name}_first_decision_p99": Figure(float(np.percentile(whole, 99)), "ms", "< 20", alone),
        f"{name}_beyond_the_bar_p99": Figure(float(np.percentile(beyond, 99)), "ms", "< 20"),
        f"{name}_worst_stall": Figure(stall(outcome), "ms", "< 20", f"without commands {stall(quiet):.1f} ms"),
        f"{name}_lost": Figure(lost(outcome), "decisions", "<= 0", f"of {len(outcome.sent)}"),
    }


def run(quick: bool) -> dict[str, Figure]:
    """Run the benchmark; see the docstring of the module."""
    count = 40 if quick else 200
    bars = ("--synthetic", "sequence", "--symbols", "4", "--count", "3000")
    with tempfile.TemporaryDirectory() as folder:
        installation = Installation(Path(folder))
        with running(installation):
            installation.train_all(*bars)
            rival = ("--seed", "2", "--shadow", "--reason", "a rival")
            shown = installation.conclave("train", "files", "--model", MODEL, "--family", MODEL, *bars, *rival)
            pair = (anyio.run(champion, installation), next(word for word in shown.split() if len(word) == 64))
            found = anyio.run(measure, installation, pair, count)
        figures = figures_of("promote", found.promote, found.quiet) | figures_of(
            "rollback", found.rollback, found.quiet
        )
        total = sum(len(outcome.seen) for outcome in (found.quiet, found.promote, found.rollback))
        figures["mixed"] = Figure(found.mixed, "decisions", "<= 0", f"of {total}")
        if os.environ.get("PEERS") == "1":
            from bench.peers.promote import peers

            store = Path(folder) / "var" / "artifacts"
            figures |= peers((store / pair[0] / "model.ubj", store / pair[1] / "model.ubj"), Path(folder))
    return figures


async def champion(installation: Installation) -> str:
    """Return the digest of the model's champion."""
    log = installation.log()
    found = (await current(log)).models[MODEL].champion
    await log.close()
    assert found is not None
    return found


if __name__ == "__main__":
    _url, _first, _second, _kind, _count = sys.argv[1:]
    anyio.run(operate, _url, _first, _second, _kind, int(_count))
