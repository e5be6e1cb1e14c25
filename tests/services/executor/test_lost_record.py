"""The record of the executor's group is deleted on the server: no intent is traded twice, and none is left out."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from schemas.codec import Encoded, decode
from schemas.control import Found
from schemas.operations import GroupRecreated
from services.executor.core import GROUP, Executor
from shared.control.issuing import current, issue
from shared.log import Commit, Owner, StreamKey
from shared.log.memory import MemoryLog
from shared.runtime.host import Host
from tests.services.executor.killing import POLICY, drained, market, read_all, undisturbed

ME = Owner("here", 4_000_001, "me")
WHY: dict[str, Any] = {"actor": "me", "reason": "test"}
pytestmark = pytest.mark.anyio


async def write(log: MemoryLog, told: Sequence[Encoded]) -> None:
    claim = await log.claim("writer", (), 0, ME)
    await log.commit(claim, Commit(told, {}, {}, fence=await log.fence(0)))


async def trade(log: MemoryLog) -> None:
    stop = anyio.Event()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Host(Executor(), log, 0, ME).run, stop)
            while not await drained(log):
                await anyio.sleep(0.005)
            stop.set()


async def test_an_executor_whose_record_was_deleted_trades_nothing_twice_and_leaves_nothing_out() -> None:
    log = MemoryLog()
    for command in (Found(1, "log-of-a-test"), POLICY):
        await issue(log, command, **WHY)
    told = market(3, await current(log), 30)
    await write(log, told[:80])
    await trade(log)
    log.lose_hash(GROUP)
    await write(log, told[80:])
    await trade(log)
    run = undisturbed(await read_all(log, "control"), await read_all(log, "market", "decisions", "intents"))
    ids = Counter(decode(entry.place.stream, entry.data).id for entry in await read_all(log, "orders", "trades"))
    assert ids == Counter(each.envelope.id for each in run.outputs)
    alarms = [decode("alarms", entry.data).event for entry in await log.scan(StreamKey("alarms"))]
    assert {type(alarm) for alarm in alarms} == {GroupRecreated}
