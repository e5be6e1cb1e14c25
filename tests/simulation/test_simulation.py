"""The simulation itself: it is deterministic, it finds faults, and it tells them shortly."""

import asyncio
import random
import time

import anyio
import pytest
from msgspec import structs

from schemas.control import Halt, SetGatePolicy
from shared.control import stamps
from shared.log import memory
from shared.log.memory import MemoryLog
from shared.runtime import follower, losses, replay
from tests.simulation.loop import Process, SimulatedLoop, StuckError, run, simulated
from tests.simulation.plan import KINDS, DeleteRecord, Issue, Kill, Plan, Restart, Step, Suspend, drawn
from tests.simulation.shrinking import read, shrink, story, written
from tests.simulation.world import simulate

VOTER = "ensemble-voter"


def plan(*steps: Step, seed: int = 1, bars: int = 5, speed: float = 20.0, history: int = 0) -> Plan:
    return Plan(seed=seed, bars=bars, speed=speed, steps=steps, history=history)


# The loop


async def sleeper(name: str, said: list[str]) -> None:
    for number in range(3):
        said.append(f"{name}{number}")
        await anyio.sleep(0)


def order_of(seed: int) -> list[str]:
    loop, said = SimulatedLoop(seed), list[str]()

    async def main() -> None:
        tasks = [
            loop.create_task(sleeper(name, said), context=loop.context_of(Process(name))) for name in ("a", "b", "c")
        ]
        await asyncio.gather(*tasks)

    with simulated(loop):
        run(loop, main)
    return said


def test_a_seed_decides_the_order_of_processes_and_none_overtakes_itself() -> None:
    assert order_of(1) == order_of(1)
    assert len({tuple(order_of(seed)) for seed in range(10)}) > 1
    for seed in range(10):
        said = order_of(seed)
        assert all([each for each in said if each[0] == name] == [f"{name}{n}" for n in range(3)] for name in "abc")


def test_time_jumps_to_the_next_timer_and_nobody_waits() -> None:
    loop = SimulatedLoop(1)

    async def main() -> tuple[float, float]:
        before = time.monotonic()
        await anyio.sleep(3600)
        return time.monotonic() - before, time.time()

    with simulated(loop):
        waited, wall = run(loop, main)
    assert waited == 3600
    assert wall == pytest.approx(1_767_225_600 + 3600)


def test_a_suspended_process_does_nothing_and_its_clock_may_be_wrong() -> None:
    loop, said = SimulatedLoop(1), list[float]()
    process = Process("a")

    async def ticks() -> None:
        while True:
            said.append(round(time.time() - 1_767_225_600, 3))
            await anyio.sleep(1)

    async def main() -> None:
        task = loop.create_task(ticks(), context=loop.context_of(process))
        await anyio.sleep(1.5)
        loop.suspend(process)
        await anyio.sleep(10)
        process.offset_s = 100.0
        loop.resume(process)
        await anyio.sleep(1)
        task.cancel()

    with simulated(loop):
        run(loop, main)
    assert said == [0.0, 1.0, 111.5, 112.5][: len(said)]
    assert len(said) >= 3


def test_processes_that_wait_for_ever_are_found() -> None:
    loop = SimulatedLoop(1)

    async def main() -> None:
        await asyncio.Event().wait()

    with simulated(loop), pytest.raises(StuckError):
        run(loop, main)


def test_work_in_a_thread_is_refused() -> None:
    loop = SimulatedLoop(1)

    async def main() -> None:
        await asyncio.to_thread(time.sleep, 0)

    with simulated(loop), pytest.raises(RuntimeError, match="would run in a thread"):
        run(loop, main)


# Plans


def test_a_seed_replays_exactly() -> None:
    for seed in (3, 8):
        assert simulate(drawn(seed)).digest == simulate(drawn(seed)).digest


def test_a_plan_can_be_written_down_and_everything_is_drawn() -> None:
    plans = [drawn(seed) for seed in range(200)]
    assert [read(written(each)) for each in plans] == plans
    steps = {type(step).__name__ for each in plans for step in each.steps}
    assert steps == {
        "Kill", "Stop", "Suspend", "Lose", "Slow", "Cut", "Restart", "SetClock", "DeleteRecord", "Issue"
    }  # fmt: skip
    assert any(isinstance(step, Restart) and step.lost for each in plans for step in each.steps)
    assert any(each.history for each in plans)


def test_a_run_scores_predictions_writes_intents_and_judges_gates() -> None:
    outcome = simulate(plan(bars=12, history=104))
    assert outcome.violation == ""
    assert outcome.bars == 2 * (104 + 12)
    assert outcome.counts["intents"]
    assert outcome.counts["scores"] > 24


# It can fail. Each fault is one of those that were found by experiment before; see docs/explanation/simulation.md.


def test_a_lost_record_that_is_begun_anew_decides_bars_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryLog, "_visible", lambda *_: {})
    outcome = simulate(plan(DeleteRecord(0.5, VOTER)))
    assert outcome.violation.endswith("is decided twice")


def test_a_log_that_is_known_by_ids_alone_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "fault", lambda *_: None)
    for module in (stamps, follower, losses, replay):
        monkeypatch.setattr(module, "holds", lambda state, stamp: stamp[0] <= state.version)
    command, halt = Issue(0.3, SetGatePolicy("classic")), Issue(1.7, Halt())
    runs = [simulate(plan(command, Restart(0.6, 0.1, lost), halt, bars=3, speed=1.0)) for lost in range(1, 6)]
    assert any("the head of" in run.violation for run in runs)


def test_a_halt_that_is_only_a_message_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryLog, "_refuse_halted", lambda *_: None)
    outcome = simulate(plan(Suspend(0.3, VOTER, 1, 1.0, False), Issue(0.7, Halt()), bars=8))
    assert outcome.violation.endswith("an intent while the fence is closed")


def test_a_failing_plan_is_made_short_and_its_story_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryLog, "_visible", lambda *_: {})
    draw = random.Random(1)
    noise = [step for seed in range(4) for step in drawn(seed).steps if isinstance(step, Issue)][:6]
    steps: list[Step] = [*noise, Kill(0.4, "guard", 3, 0.1, False), DeleteRecord(0.5, VOTER)]
    draw.shuffle(steps)
    shrunk = shrink(plan(*sorted(steps, key=lambda step: step.at)))
    assert shrunk.plan.steps == (DeleteRecord(0.5, VOTER),)
    assert shrunk.plan.bars == 3
    told = story(shrunk.plan, shrunk.outcome)
    assert "the record of ensemble-voter is deleted" in told
    assert "is decided twice" in told
    assert len(told.splitlines()) < 10
    assert simulate(read(written(shrunk.plan))).violation == shrunk.outcome.violation


def test_kinds_can_be_chosen() -> None:
    assert not [
        step for seed in range(50) for step in drawn(seed, ("kill",)).steps if not isinstance(step, Kill | Issue)
    ]
    assert "hour" not in KINDS
    assert structs.replace(drawn(1), steps=()).over_s == 0.0
