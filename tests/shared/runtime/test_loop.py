"""One process for the whole installation: what it owns, how long, and what its supervisor sees."""

import os
import time
from pathlib import Path

import anyio
import pytest

from schemas.codec import decode, encode
from schemas.operations import ClockApart, DeadLetter, OwnerReplaced
from shared.log import Claim, Commit, Log, OwnedError, Owner, Position, StreamKey, SupersededError
from shared.log.memory import MemoryLog
from shared.runtime import loop as module
from shared.runtime.clock import ProcessClock, ServerClock
from shared.runtime.loop import Loop, wait
from shared.runtime.supervision import Supervised
from shared.telemetry.reporting import Telemetry

pytestmark = pytest.mark.anyio
OWNER = Owner("here", os.getpid(), "trainer")
NEIGHBOUR = Owner("here", os.getppid(), "trainer")
LETTER = encode("dead", DeadLetter(service="trainer", source="f:1", reason="bad_row", detail="a test", raw="raw"))


def loop_on(log: Log, supervised: Supervised | None = None, telemetry: Telemetry | None = None) -> Loop:
    return Loop(log, "trainer", owner=OWNER, supervised=supervised or Supervised({}), telemetry=telemetry)


async def test_the_group_is_owned_in_every_partition_and_released_at_the_end(log: Log) -> None:
    loop = loop_on(log)
    async with loop.owned(2, ("gates",)):
        assert [claim.partition for claim in loop.claims] == [0, 1]
        for partition in (0, 1):
            with pytest.raises(OwnedError, match="belongs to trainer"):
                await log.claim("trainer", (), partition, NEIGHBOUR)
    assert loop.claims == []
    for partition in (0, 1):
        assert (await log.claim("trainer", (), partition, NEIGHBOUR)).former is None


async def test_a_partition_that_is_owned_elsewhere_gives_the_others_back(log: Log) -> None:
    await log.claim("trainer", (), 1, NEIGHBOUR)
    with pytest.raises(OwnedError):
        async with loop_on(log).owned(2):
            pytest.fail("owns what another process owns")
    await log.claim("trainer", (), 0, NEIGHBOUR)


async def test_a_replaced_owner_is_reported_in_each_of_its_partitions_and_its_memo_is_kept(log: Log) -> None:
    former = await log.claim("trainer", ("gates",), 1, NEIGHBOUR)
    await log.commit(former, Commit([], {}, {}, b"memo", {"gates": "3-0"}))
    async with loop_on(log).owned(2, ("gates",), take_over=True):
        alarms = [[decode("alarms", e.data).event for e in await log.scan(StreamKey("alarms", p))] for p in (0, 1)]
    assert [len(each) for each in alarms] == [0, 1]
    [alarm] = alarms[1]
    assert isinstance(alarm, OwnerReplaced)
    assert (alarm.group, alarm.former, alarm.owner) == ("trainer", str(NEIGHBOUR), str(OWNER))
    claim = await log.claim("trainer", ("gates",), 1, OWNER)
    assert (claim.memo, dict(claim.since), claim.positions) == (b"memo", {"gates": "3-0"}, {"gates": Position()})


async def test_a_loop_that_was_replaced_ends_before_its_next_turn(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEW_S", 0.001)
    loop, turns = loop_on(log), list[int]()

    async def turn() -> None:
        turns.append(1)
        await log.claim("trainer", (), 0, NEIGHBOUR, take_over=True)

    async with loop.owned(1):
        with anyio.fail_after(10), pytest.raises(SupersededError):
            await loop.repeat(turn, 0.002, anyio.Event())
    assert turns == [1]


async def test_turns_follow_each_other_until_stop(log: Log) -> None:
    loop, stop, turns = loop_on(log), anyio.Event(), list[int]()

    async def turn() -> None:
        turns.append(1)
        if len(turns) == 3:
            stop.set()

    with anyio.fail_after(10):
        await loop.repeat(turn, 0.001, stop)
    assert turns == [1, 1, 1]


async def test_between_two_turns_that_are_far_apart_the_group_stays_owned_and_the_loop_alive(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "RENEW_S", 0.001)
    stop, turns, heartbeat = anyio.Event(), list[int](), tmp_path / "heartbeat"

    class Renewed(MemoryLog):
        renewed = 0

        async def renew(self, claim: Claim) -> None:
            await super().renew(claim)
            self.renewed += 1
            if self.renewed > 5:
                stop.set()

    async def turn() -> None:
        turns.append(1)

    loop = loop_on(Renewed(), Supervised({"CONCLAVE_HEARTBEAT": str(heartbeat)}))
    async with loop.owned(1):
        with anyio.fail_after(10):
            await loop.repeat(turn, 3600, stop)
    assert turns == [1]
    assert heartbeat.exists()


async def test_work_that_waits_long_ends_with_the_error_of_the_lost_lease(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RENEW_S", 0.001)
    loop = loop_on(log)
    async with loop.owned(1):
        await log.claim("trainer", (), 0, NEIGHBOUR, take_over=True)
        with anyio.fail_after(10), pytest.raises(SupersededError):
            await loop.alongside(anyio.Event().wait)


async def test_the_result_of_work_comes_back_and_the_renewing_ends(log: Log) -> None:
    async def work() -> int:
        return 7

    with anyio.fail_after(10):
        assert await loop_on(log).alongside(work) == 7


async def test_what_is_written_is_reported_and_a_memo_alone_is_not(log: Log) -> None:
    telemetry = Telemetry()
    loop = loop_on(log, telemetry=telemetry)
    async with loop.owned(1):
        await loop.commit(loop.claims[0], Commit([], {}, {}, b"memo"))
        assert telemetry.produced == {}
        await loop.commit(loop.claims[0], Commit([LETTER], {}, {}))
    assert telemetry.produced == {"dead": 1}


async def test_a_wait_ends_with_stop() -> None:
    stop = anyio.Event()
    stop.set()
    with anyio.fail_after(10):
        await wait(3600, stop)
    await wait(-1, anyio.Event())


@pytest.mark.parametrize("apart_ms", [-3_600_000, 3_600_000])
async def test_a_process_whose_clock_is_wrong_reports_it_once_and_its_memo_is_kept(apart_ms: int) -> None:
    log = MemoryLog()
    clock = ServerClock(ProcessClock(wall_ns=lambda: time.time_ns() + apart_ms * 1_000_000))
    loop = Loop(log, "feed", owner=OWNER, supervised=Supervised({}), clock=clock)
    former = await log.claim("feed", (), 0, OWNER)
    await log.commit(former, Commit([], {}, {}, b"before"))
    async with loop.owned(2):
        await loop.commit(loop.claims[1], Commit([], {}, {}, b"since"))
        await loop.alarm(*[OwnerReplaced(group="feed", former="a", owner="b", epoch=1, at=0)], claim=loop.claims[1])
        for _ in range(3):
            await loop.alive()
    events = [decode("alarms", entry.data).event for entry in await log.scan(StreamKey("alarms"))]
    assert [abs(event.apart_ms - apart_ms) < 1000 for event in events if isinstance(event, ClockApart)] == [True]
    assert [(await log.claim("feed", (), partition, OWNER)).memo for partition in (0, 1)] == [b"before", b"since"]


async def test_two_tasks_do_not_commit_at_the_same_moment(log: Log) -> None:
    loop = loop_on(log)
    async with loop.owned(1), anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(loop.commit, loop.claims[0], Commit([LETTER], {}, {}))
            tasks.start_soon(loop.alarm, OwnerReplaced(group="trainer", former="a", owner="b", epoch=1, at=0))
    assert [(await log.extent(StreamKey(stream))).added for stream in ("dead", "alarms")] == [10, 10]


async def test_what_an_earlier_process_reported_is_not_reported_again_and_its_end_is() -> None:
    log, file = MemoryLog(), Path("var/a")
    for started, apart_ms, fails in ((1, 3_600_000, True), (2, 3_600_000, True), (3, 0, False)):
        clock = ServerClock(ProcessClock(wall_ns=lambda ahead=apart_ms: time.time_ns() + ahead * 1_000_000))  # type: ignore[misc]
        loop = Loop(log, "feed", owner=OWNER, supervised=Supervised({}), clock=clock)
        if started == 1:
            loop.storage.failed(file, OSError(28, "full"))
        async with loop.owned(1):
            loop.storage.failed(file, OSError(28, "full")) if fails else loop.storage.written(file)
            await loop.alive()
    events = [type(decode("alarms", entry.data).event) for entry in await log.scan(StreamKey("alarms"))]
    assert sorted(event.__name__ for event in events) == [
        "ClockAgrees",
        "ClockApart",
        "StorageFailed",
        "StorageRecovered",
    ]
