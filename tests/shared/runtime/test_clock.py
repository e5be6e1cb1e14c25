"""The clocks of a process and of the server: what a service takes for the time, and what it reports."""

import pytest

from schemas.operations import AlarmEvent, ClockAgrees, ClockApart, ClockStepped
from shared.log.memory import MemoryLog
from shared.runtime.clock import ClockAlarms, ProcessClock, ServerClock

pytestmark = pytest.mark.anyio

HOUR = 3_600_000
MS = 1_000_000
START_MS = 1_700_000_000_000


class Clocks:
    """True time, and how far the clocks of the server and of the process are ahead of it (ms)."""

    def __init__(self) -> None:
        self.true = START_MS
        self.server = self.process = 0
        self.log = MemoryLog(now=lambda: self.true + self.server)
        self.clock = ServerClock(
            ProcessClock(lambda: (self.true + self.process) * MS, lambda: (self.true - START_MS + 42) * MS)
        )
        self.alarms = ClockAlarms(self.clock, "ensemble-voter", server=True)

    async def read(self, newest: int = 0) -> list[AlarmEvent]:
        await self.clock.read(self.log)
        return self.alarms.after_read(newest)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.mark.parametrize("apart", [-HOUR, HOUR])
async def test_given_a_process_whose_clock_is_wrong_then_its_time_is_the_server_s_and_it_is_reported_once(
    clocks: Clocks, apart: int
) -> None:
    clocks.process = apart
    assert [(type(alarm), alarm.apart_ms) for alarm in await clocks.read() if isinstance(alarm, ClockApart)] == [
        (ClockApart, apart)
    ]
    for _ in range(3):
        clocks.true += 5_000
        assert await clocks.read() == []
        assert clocks.clock.now_ms() == clocks.true
    clocks.process = 0
    assert [type(alarm) for alarm in await clocks.read()] == [ClockAgrees]
    assert await clocks.read() == []


async def test_a_clock_at_the_bound_is_not_reported_again_and_again(clocks: Clocks) -> None:
    found = []
    for apart in (5_001, 4_999, 5_001, 2_600, 5_001, 2_400, 5_001):
        clocks.process = apart
        found += await clocks.read()
    assert [type(alarm) for alarm in found] == [ClockApart, ClockAgrees, ClockApart]


@pytest.mark.parametrize("step", [-HOUR, HOUR])
async def test_given_a_server_clock_that_is_set_then_it_is_reported_once_and_followed(
    clocks: Clocks, step: int
) -> None:
    assert await clocks.read() == []
    clocks.true += 5_000
    clocks.server = step
    await clocks.clock.read(clocks.log)  # the host found an entry that does not fit
    clocks.true += 5_000
    found = [alarm for alarm in await clocks.read(newest=START_MS) if isinstance(alarm, ClockStepped)]
    assert [alarm.by_ms for alarm in found] == [step]
    assert [alarm for alarm in await clocks.read(newest=START_MS) if isinstance(alarm, ClockStepped)] == []
    assert clocks.clock.now_ms() == clocks.true + step


async def test_given_a_server_clock_that_was_set_back_before_the_start_then_its_entries_show_it(clocks: Clocks) -> None:
    [alarm] = await clocks.read(newest=START_MS + HOUR)
    assert isinstance(alarm, ClockStepped)
    assert (alarm.by_ms, "set back" in alarm.detail) == (-HOUR, True)
    assert await clocks.read(newest=START_MS + HOUR) == []


async def test_an_id_that_was_written_by_hand_fits_into_an_alarm(clocks: Clocks) -> None:
    [alarm] = await clocks.read(newest=2**64 - 1)
    assert isinstance(alarm, ClockStepped)
    assert alarm.by_ms == -(10**15)


async def test_an_answer_that_took_long_is_no_step(clocks: Clocks) -> None:
    await clocks.read()

    class Slow(MemoryLog):
        async def time(self, partition: int = 0) -> int:
            now = clocks.true
            clocks.true += 30_000  # the reply was in the network
            return now

    await clocks.clock.read(Slow())
    assert clocks.alarms.after_read() == []
    assert clocks.clock.now_ms() == clocks.true
