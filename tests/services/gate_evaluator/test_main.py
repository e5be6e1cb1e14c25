"""A command that is due is issued once, signed, and only while it still is due."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from msgspec import structs

from bench.recorded import BEFORE, CANDIDATE, CHAMPION, record, two_models, votes, wrong
from schemas.codec import decode, encode
from schemas.control import Command, CommandRecorded, Promote, SetGatePolicy, SetWeights, TrustKey
from schemas.gates import ActionDue, WeightsProposed
from services.gate_evaluator.core import GROUP, Evaluator
from services.gate_evaluator.main import issue_due, issue_for
from shared.control.issuing import ControlWriter, current, history, issue
from shared.control.signing import generate, load_private
from shared.log import Commit, Log, StreamKey
from shared.log.memory import MemoryLog
from shared.log.redis import RedisLog
from shared.runtime.host import Host
from shared.runtime.process import owner
from shared.runtime.service import Batch, Received

pytestmark = pytest.mark.anyio
PROMOTED = (*BEFORE, Promote("xgboost", CANDIDATE.hex(), forced=True))
EVIDENCE = "ab" * 16


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def site(log: Log, *commands: Command) -> ControlWriter:
    for command in commands:
        await issue(log, command, actor="ada", reason="a test")
    return ControlWriter(log)


def due(artifact: bytes = CANDIDATE, *, acts: bool = True) -> ActionDue:
    return ActionDue(
        model="xgboost",
        artifact=artifact.hex(),
        action="rollback",
        acts=acts,
        evidence=EVIDENCE,
        reason="guard harm: 120 of 100",
        control_version=8,
    )


async def test_a_rollback_that_is_due_is_issued_with_its_reason_and_evidence() -> None:
    log = MemoryLog()
    control = await site(log, *PROMOTED)
    assert await issue_for(control, due(), "cd" * 16) == "version 9"
    entry = (await history(log))[-1]
    assert (entry.actor, entry.command_id) == (GROUP, f"gate-{EVIDENCE}")
    assert entry.reason == f"guard harm: 120 of 100; evidence {EVIDENCE}"
    assert (await current(log)).models["xgboost"].champion == CHAMPION.hex()


async def test_an_event_that_is_read_twice_issues_one_command() -> None:
    log = MemoryLog()
    control = await site(log, *PROMOTED, SetGatePolicy("default"))
    assert (
        await issue_for(
            control,
            WeightsProposed(
                weights={"xgboost": 1.0}, blocks=3, until=0, acts=True, last_score=EVIDENCE, control_version=9
            ),
            EVIDENCE,
        )
        == "version 10"
    )
    again = await issue_for(
        ControlWriter(log),
        WeightsProposed(weights={"xgboost": 1.0}, blocks=3, until=0, acts=True, last_score=EVIDENCE, control_version=9),
        EVIDENCE,
    )
    assert again == "version 10, issued before"


async def test_a_command_that_the_policy_does_not_allow_is_not_issued() -> None:
    log = MemoryLog()
    control = await site(log, *PROMOTED)
    assert await issue_for(control, due(acts=False), "cd" * 16) == ""
    assert (
        await issue_for(
            control,
            WeightsProposed(
                weights={"xgboost": 1.0}, blocks=3, until=0, acts=False, last_score=EVIDENCE, control_version=9
            ),
            EVIDENCE,
        )
        == ""
    )
    assert (await current(log)).version == len(PROMOTED)


async def test_what_is_no_longer_champion_is_not_rolled_back() -> None:
    log = MemoryLog()
    control = await site(log, *PROMOTED)
    assert "no longer the champion" in await issue_for(control, due(CHAMPION), "cd" * 16)
    assert (await current(log)).version == len(PROMOTED)


async def test_a_command_that_control_refuses_changes_nothing_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    log = MemoryLog()
    control = await site(log, *PROMOTED)
    said = await issue_for(
        control,
        WeightsProposed(weights={"nobody": 1.0}, blocks=3, until=0, acts=True, last_score=EVIDENCE, control_version=8),
        EVIDENCE,
    )
    assert "nobody" in said
    assert "is refused" in caplog.text
    assert (await current(log)).version == len(PROMOTED)


async def test_weights_are_given_as_control_takes_them() -> None:
    log = MemoryLog()
    control = await site(log, *PROMOTED)
    await issue_for(
        control,
        WeightsProposed(
            weights={"xgboost": 0.9999999}, blocks=3, until=0, acts=True, last_score=EVIDENCE, control_version=8
        ),
        EVIDENCE,
    )
    assert (await history(log))[-1].command == SetWeights({"xgboost": 1.0})


@asynccontextmanager
async def judging(log: Log, other: Log, key: Path) -> AsyncIterator[None]:
    """The evaluator over a log, issuing commands."""
    stop = anyio.Event()
    host = Host(Evaluator(), log, 0, owner(GROUP))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(host.run, stop)
        tasks.start_soon(issue_due, other, load_private(key, key_id=GROUP))
        yield
        stop.set()
        tasks.cancel_scope.cancel()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    with anyio.fail_after(30):
        while not await condition():
            await anyio.sleep(0.02)


async def test_a_promoted_model_that_does_harm_is_rolled_back_by_a_signed_command(
    empty_redis_url: str, tmp_path: Path
) -> None:
    key = tmp_path / "gate-evaluator.pem"
    public = generate(key)
    log, acting = RedisLog(empty_redis_url), RedisLog(empty_redis_url)
    try:
        await site(
            log, *PROMOTED, SetGatePolicy("default", {"act_rollback": True}), TrustKey(GROUP, public, "the evaluator")
        )

        async def back() -> bool:
            return (await current(log)).models["xgboost"].champion == CHAMPION.hex()

        async with judging(log, acting, key):
            await record(log, "scores", wrong(100, control_version=len(PROMOTED) + 2))
            await until(back)
        entry: CommandRecorded = (await history(log))[-1]
        assert (entry.actor, entry.key) == (GROUP, GROUP)
        assert entry.signature
        assert "evidence" in entry.reason
        assert CANDIDATE.hex() in (await current(log)).models["xgboost"].shadows
    finally:
        await acting.close()
        await log.close()


async def test_weights_by_results_are_set_by_a_signed_command_and_follow_from_the_scores(
    empty_redis_url: str, tmp_path: Path
) -> None:
    key = tmp_path / "gate-evaluator.pem"
    public = generate(key)
    log, acting = RedisLog(empty_redis_url), RedisLog(empty_redis_url)
    founding = [*two_models(), SetGatePolicy("default", {"act_weights": True}), TrustKey(GROUP, public, "its key")]
    try:
        await site(log, *founding)

        async def moved() -> bool:
            return (await current(log)).models["xgboost"].weight not in {None, 0.5}

        async with judging(log, acting, key):
            rows = [structs.replace(row, control_version=len(founding)) for row in votes(100)]
            await record(log, "scores", rows)
            await until(moved)
        entries = [entry for entry in await history(log) if isinstance(entry.command, SetWeights)]
        assert all((entry.actor, entry.key) == (GROUP, GROUP) and entry.signature for entry in entries)
        assert "weights by results" in entries[0].reason
        said = [decode("gates", entry.data) for entry in await log.scan(StreamKey("gates"), count=1000)]
        proposed = {one.id.hex(): one.event for one in said if isinstance(one.event, WeightsProposed)}
        for entry in entries:
            assert isinstance(entry.command, SetWeights)
            asked = proposed[entry.command_id.removeprefix("gate-")]
            assert entry.command.weights == pytest.approx(asked.weights)
        again = Evaluator()
        state = again.initial(b"")
        known = [decode("control", entry.data) for entry in await log.scan(StreamKey("control"), count=1000)]
        scores = [
            Received("scores", entry.id, decode("scores", entry.data))
            for entry in await log.scan(StreamKey("scores"), count=10_000)
        ]
        follows = again.handle(state, Batch(known[: len(founding)], scores))
        weights = [one.envelope.event.weights for one in follows if isinstance(one.envelope.event, WeightsProposed)]
        assert weights[: len(entries)] == [proposed[one.command_id.removeprefix("gate-")].weights for one in entries]
    finally:
        await acting.close()
        await log.close()


@pytest.mark.parametrize("ahead", [-3_600_001, 3_600_001])
@pytest.mark.parametrize("whose", ["process", "server"])
async def test_given_a_clock_that_is_an_hour_off_then_new_events_issue_commands_and_old_ones_do_not(
    whose: str, ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, moved = time.time_ns, [0]
    log = MemoryLog(now=lambda: really() // 1_000_000 + (ahead if whose == "server" else 0) + moved[0])
    if whose == "process":
        monkeypatch.setattr(time, "time_ns", lambda: really() + ahead * 1_000_000)
    await site(log, *PROMOTED)
    claim = await log.claim(GROUP, (), 0, owner(GROUP))
    old = structs.replace(due(), reason="too old", evidence="ee" * 16)
    await log.commit(claim, Commit([encode("gates", old)], {}, {}))
    moved[0] += 3_600_001
    await log.commit(claim, Commit([encode("gates", due())], {}, {}))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(issue_due, log)
        await until(lambda: rolled_back(log))
        tasks.cancel_scope.cancel()
    entry = (await history(log))[-1]
    assert entry.command_id == f"gate-{EVIDENCE}"
    assert abs(entry.at - await log.time()) < 30_000


async def rolled_back(log: Log) -> bool:
    return (await current(log)).models["xgboost"].champion == CHAMPION.hex()
