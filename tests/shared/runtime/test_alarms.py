"""Alarms about refused entries of the control stream: all are told of, in few alarms, once."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import anyio
import pytest

from schemas.codec import decode
from schemas.control import Found
from schemas.operations import ControlRefused
from services.ensemble_voter.main import service as voter
from services.shadow_recorder.main import service as recorder
from shared.control import ControlReader
from shared.control.alarmed import AlarmedEntries
from shared.control.issuing import issue
from shared.control.stream import CONTROL, alarm_of, read_control
from shared.log import START, Entry, StreamKey
from shared.log.leases import id_order
from shared.log.memory import MemoryLog
from shared.runtime import notices
from shared.runtime.host import Host
from shared.runtime.process import owner
from shared.runtime.service import Service

ALARMS = StreamKey("alarms")
FLOOD = 3_000
pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def founded() -> MemoryLog:
    log = MemoryLog()
    await issue(log, Found(1, "log-of-a-test"), actor="ada", reason="a test")
    return log


async def flood(log: MemoryLog, count: int) -> None:
    first = id_order((await log.extent(CONTROL)).last)[0] + 1
    for number in range(first, first + count):
        assert await log.append_at(CONTROL, f"{number}-0", b"hello %d" % number)


async def raised(log: MemoryLog) -> list[ControlRefused]:
    found, after = list[Entry](), START
    while page := await log.scan(ALARMS, after=after):
        found += page
        after = page[-1].id
    events = [decode("alarms", entry.data).event for entry in found]
    return [event for event in events if isinstance(event, ControlRefused)]


async def untold(log: MemoryLog) -> int:
    reader, alarmed = ControlReader(), AlarmedEntries()
    await read_control(log, reader)
    for event in await raised(log):
        alarmed.add(event)
    return len(alarmed.missing(reader.refused))


@asynccontextmanager
async def running(log: MemoryLog, service: Service[Any]) -> AsyncIterator[Host[Any]]:
    stop, host = anyio.Event(), Host(service, log, 0, owner(service.group))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(host.run, stop)
        yield host
        stop.set()


async def until_told(log: MemoryLog, limit_s: float = 20) -> None:
    with anyio.fail_after(limit_s):
        while await untold(log):
            await anyio.sleep(0.02)


async def test_many_refused_entries_lead_to_few_alarms_that_cover_all_of_them() -> None:
    log = await founded()
    await flood(log, FLOOD)
    async with running(log, voter()):
        await until_told(log)
    assert len(await raised(log)) == notices.ALARMS
    assert sum(1 + (event.more or 0) for event in await raised(log)) == FLOOD


async def test_few_refused_entries_have_an_alarm_each() -> None:
    log = await founded()
    await flood(log, 4)
    async with running(log, voter()):
        await until_told(log)
    assert [(event.more, event.until) for event in await raised(log)] == [(None, None)] * 4


async def test_a_restart_repeats_no_alarm_nor_does_another_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.control.stream.OTHERS_ALARM_AFTER_S", 0.0)
    log = await founded()
    await flood(log, FLOOD)
    async with running(log, voter()):
        await until_told(log)
    before = await raised(log)
    for service in (voter(), recorder()):
        async with running(log, service) as host:
            with anyio.fail_after(20):
                while host._alarms._raised < FLOOD:
                    await anyio.sleep(0.02)
    assert await raised(log) == before


async def test_a_flood_that_lasts_is_summed_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "MINUTE_S", 0.6)
    log = await founded()
    async with running(log, voter()):
        for _ in range(5):
            await flood(log, 100)
            await anyio.sleep(0.1)
        assert len(await raised(log)) <= 2 * notices.ALARMS
        await until_told(log)
    assert sum(1 + (event.more or 0) for event in await raised(log)) == 500


async def test_an_alarm_of_an_old_release_for_each_entry_counts() -> None:
    """Of 419,496 alarms, none is raised again."""
    log = await founded()
    await flood(log, 2_500)
    reader = ControlReader()
    await read_control(log, reader)
    for number, refused in enumerate(reader.refused, start=1):
        await log.append_at(ALARMS, f"{number}-0", alarm_of(refused).data)
    async with running(log, voter()) as host:
        with anyio.fail_after(20):
            while host._alarms._raised < 2_500:
                await anyio.sleep(0.02)
    assert len(await raised(log)) == 2_500


async def test_no_turn_reads_more_than_a_page_of_alarms() -> None:
    log = await founded()
    for number in range(1, 4 * notices.PAGE):
        await log.append_at(ALARMS, f"{number}-0", b"x")
    await flood(log, 1)
    async with running(log, voter()) as host:
        scanned = [id_order(host._alarms._scanned)[0]]
        with anyio.fail_after(20):
            while await untold_alarms(log):
                if (now := id_order(host._alarms._scanned)[0]) != scanned[-1]:
                    scanned.append(now)
                await anyio.sleep(0.001)
    assert max(later - earlier for earlier, later in pairwise(scanned)) <= notices.PAGE


async def untold_alarms(log: MemoryLog) -> bool:
    return len(await log.tail(ALARMS, 10_000)) < 4 * notices.PAGE
