"""The record of the voter's group is deleted on the server: no bar is decided twice, and none is left out."""

import math

import anyio
import pytest

from schemas.codec import Encoded, decode, encode
from schemas.common import ACTIONS
from schemas.control import Command, Found, Promote, RegisterArtifact
from schemas.decisions import DecisionMade
from schemas.operations import GroupRecreated
from schemas.predictions import PredictionMade
from services.ensemble_voter.core import Voter
from shared.control.issuing import issue
from shared.log import Commit, Owner, StreamKey
from shared.log.memory import MemoryLog
from shared.runtime.host import Host

MINUTE = 60_000
ME = Owner("here", 4_000_001, "me")
ART = {"a": "aa" * 32, "b": "bb" * 32}


def register(model: str) -> RegisterArtifact:
    third = (math.log(1 / 3),) * 3
    return RegisterArtifact(
        model=model,
        artifact=ART[model],
        family="prior",
        feature_set="f" * 64,
        feature_set_name="user-8",
        interval_ms=MINUTE,
        classes=ACTIONS,
        centre=third,
        prior=(0.25, 0.5, 0.25),
    )


COMMANDS: tuple[Command, ...] = (
    Found(1, "log-of-a-test"),
    register("a"),
    register("b"),
    Promote("a", ART["a"], forced=True, weight=1.0),
    Promote("b", ART["b"], forced=True, weight=0.5),
)

pytestmark = pytest.mark.anyio


def ballot(model: str, bar: int) -> Encoded:
    bar_id = bar.to_bytes(16)
    event = PredictionMade(
        symbol="BTCUSDT",
        interval_ms=MINUTE,
        open_time=bar * MINUTE,
        origin="replay",
        model=model,
        artifact=bytes.fromhex(ART[model]),
        probabilities=(0.1, 0.3, 0.6),
        vector=bytes(16),
        control_version=len(COMMANDS),
    )
    return encode("predictions", event, causation=bar_id, correlation=bar_id)


async def publish(log: MemoryLog, *ballots: Encoded) -> None:
    claim = await log.claim("model-worker", (), 0, ME)
    await log.commit(claim, Commit(ballots, {}, {}))


async def decided(log: MemoryLog) -> list[int]:
    events = [decode("decisions", entry.data).event for entry in await log.scan(StreamKey("decisions"))]
    return [event.open_time // MINUTE for event in events if isinstance(event, DecisionMade)]


async def vote(log: MemoryLog, until: int) -> None:
    stop = anyio.Event()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Host(Voter(), log, 0, ME).run, stop)
            while until not in await decided(log):
                await anyio.sleep(0.005)
            stop.set()


async def test_a_voter_whose_record_was_deleted_decides_nothing_twice_and_leaves_nothing_out() -> None:
    log = MemoryLog()
    for command in COMMANDS:
        await issue(log, command, actor="me", reason="test")
    await publish(log, *(ballot(model, bar) for bar in range(1, 6) for model in "ab"), ballot("a", 6))
    await vote(log, until=5)
    log.lose_hash("ensemble-voter")
    await publish(log, ballot("b", 6), ballot("a", 7), ballot("b", 7))
    await vote(log, until=7)
    assert await decided(log) == [1, 2, 3, 4, 5, 6, 7]
    alarms = [decode("alarms", entry.data).event for entry in await log.scan(StreamKey("alarms"))]
    assert [type(alarm) for alarm in alarms] == [GroupRecreated]
