"""Simulate 10,000 installations in which things go wrong, and compare the speed with that of real processes.

Each seed is a plan (``tests.simulation.plan``): bars, commands of operators, and what goes wrong. The invariants of
``tests.simulation.invariants`` are checked after every step and at the end. The story of a seed that fails is printed.

The speed is that of whole stories, from the start of the services to the end of ``verify``, in bars a second of wall
time. Some plans that can be carried out on real processes (kills, suspensions, halts) are run on an installation too:
the same number of bars and symbols at the same rate, two models with a shadow each, and the same steps at the same
times. Its models are trained before that. The simulation runs these plans one after another on one core, each right
after its run on processes.
"""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from bench.evidence import caught_up, finished
from bench.harness import Figure
from bench.installation import TREES, Installation, running, wait_until
from schemas.control import Halt, Resume
from tests.simulation.plan import READERS, Issue, Kill, Plan, Suspend, drawn
from tests.simulation.shrinking import shrink, story
from tests.simulation.world import simulate

SYMBOLS: Final = 2
TRAINED: Final = 2000
SOURCE: Final = ("--synthetic", "sequence", "--symbols", str(SYMBOLS), "--count", str(TRAINED + 500))
EXTRA: Final = "\n[training]\nfree_gb = 0.0\n"
MODELS: Final = {
    "model-worker.alpha": f"model-worker.{TREES[0]}",
    "model-worker.beta": f"model-worker.{TREES[1]}",
}
SIGNALS: Final = {Kill: signal.SIGKILL, Suspend: signal.SIGSTOP}


class Run(NamedTuple):
    """What one worker simulated: the seeds that failed, and how many bars and seconds there were."""

    failed: tuple[int, ...]
    bars: int
    simulated_s: float
    took_s: float


def block(seeds: range) -> Run:
    """Simulate some seeds."""
    began, failed, bars, seconds = time.perf_counter(), [], 0, 0.0
    for seed in seeds:
        outcome = simulate(drawn(seed))
        bars, seconds = bars + outcome.bars, seconds + outcome.seconds
        if outcome.violation:
            failed.append(seed)
    return Run(tuple(failed), bars, seconds, time.perf_counter() - began)


def comparable(count: int) -> Iterator[Plan]:
    """Yield plans whose steps can be carried out on processes of an installation."""
    found = 0
    for seed in range(1_000_000):
        plan = drawn(seed, ("kill", "suspend"))
        fits = all(_fits(step) for step in plan.steps)
        if plan.steps and fits and not (plan.history or plan.missing or plan.doubled):
            yield plan
            found += 1
        if found == count:
            return


def _fits(step: object) -> bool:
    match step:
        case Kill(who=who, moved=False) | Suspend(who=who, replaced=False):
            return who in READERS
        case Issue(command=Halt() | Resume(), steps=-1):
            return True
        case _:
            return False


def prepare(folder: Path) -> None:
    """Create an installation with two voting models, each with a shadow, and stop it."""
    installation = Installation(folder, extra=EXTRA)
    with running(installation):
        installation.train_all(*SOURCE)
        for model in TREES:
            words = ("--seed", "2", "--shadow", "--reason", "a shadow")
            installation.conclave("train", "files", "--model", model, "--family", model, *SOURCE, *words)


def on_processes(folder: Path, plan: Plan) -> float:
    """Carry a plan out on an installation, and return how long that took (s)."""
    installation = Installation(folder, extra=EXTRA)
    began = time.perf_counter()
    with running(installation):
        groups = {MODELS.get(name, name) for name in READERS}
        wait_until(lambda: groups <= installation.owners().keys())
        started = time.perf_counter()
        words = ("--skip", str(SYMBOLS * TRAINED), "--limit", str(SYMBOLS * plan.bars), "--speed", str(plan.speed))
        feed = installation.start("feed", *SOURCE, *words)
        for step in plan.steps:
            time.sleep(max(started + step.at - time.perf_counter(), 0.0))
            _carry_out(installation, step)
        finished(feed)
        wait_until(lambda: groups <= installation.owners().keys() and caught_up(installation))
        installation.conclave("verify", "--jobs", "1")
    return time.perf_counter() - began


def _carry_out(installation: Installation, step: object) -> None:
    match step:
        case Issue(command=command):
            verb = "halt" if isinstance(command, Halt) else "resume"
            process = installation.start(verb, "--reason", "a simulation")
            process.communicate()  # a resume without a halt is refused, as in the simulation
        case Kill(who=who) | Suspend(who=who):
            pid = installation.owners().get(MODELS.get(who, who))
            if pid is not None:
                with suppress(ProcessLookupError):  # a lease outlives its owner that was killed a moment ago
                    os.kill(pid, SIGNALS[type(step)])
                    if isinstance(step, Suspend):
                        time.sleep(step.for_s)
                        os.kill(pid, signal.SIGCONT)
        case _:
            raise TypeError(f"{step} cannot be carried out on processes")


def run(quick: bool) -> dict[str, Figure]:
    """Run the benchmark; see the docstring of the module."""
    seeds, plans = (200, 2) if quick else (10_000, 6)
    workers = os.cpu_count() or 1
    blocks = [range(first, first + 50) for first in range(0, seeds, 50)]
    began = time.perf_counter()
    with ProcessPoolExecutor(workers) as pool:
        runs = list(pool.map(block, blocks))
    took_s = time.perf_counter() - began
    failed = [seed for each in runs for seed in each.failed]
    for seed in failed[:3]:
        shrunk = shrink(drawn(seed))
        print(story(shrunk.plan, shrunk.outcome))
    chosen = list(comparable(plans))
    real_s, simulated_s, violated = 0.0, 0.0, 0
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name) / "base")
        for number, plan in enumerate(chosen):
            folder = shutil.copytree(Path(name) / "base", Path(name) / str(number))
            real_s += on_processes(folder, plan)
            before = time.perf_counter()
            violated += simulate(plan).violation != ""
            simulated_s += time.perf_counter() - before
            shutil.rmtree(folder)
    bars = SYMBOLS * sum(plan.bars for plan in chosen)
    return {
        "violations": Figure(len(failed), f"seeds of {seeds:,}", "<= 0", ", ".join(map(str, failed[:10]))),
        "speed": Figure(sum(each.bars for each in runs) / took_s, f"bars/s of wall time, {workers} processes"),
        "days": Figure(sum(each.simulated_s for each in runs) / 86_400, "days simulated"),
        "stories": Figure(seeds / took_s, f"stories/s, {workers} processes"),
        "same plans": Figure(bars / simulated_s, "bars/s of wall time, simulated, one core"),
        "processes": Figure(bars / real_s, f"bars/s of wall time, real, {len(chosen)} stories, {real_s:.0f} s"),
        "faster": Figure(real_s / simulated_s, "x", ">= 50", "real processes, the same plans in this run"),
        "same plans violated": Figure(violated, "stories", "<= 0"),
    }
