"""What the runtime promises to any core: one path for start and recovery, nothing lost or doubled."""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from schemas.codec import Encoded, decode, encode
from schemas.control import Command, CommandRecorded, Found, Halt, Resume
from schemas.documentation.examples import examples
from schemas.market import BarClosed
from schemas.operations import ControlRefused, DeadLetter, GapDetected, GroupRecreated, OwnerReplaced
from shared.control import EMPTY, ControlError, fold, head_of, propose
from shared.control.fence import Authority
from shared.control.issuing import issue
from shared.control.stream import CONTROL
from shared.log import (
    START,
    Claim,
    Commit,
    Committed,
    HaltedError,
    OwnedError,
    Owner,
    Position,
    StreamKey,
    SupersededError,
    preceding,
)
from shared.log.identity import digest_of
from shared.log.leases import LEASE_MS
from shared.log.memory import MemoryLog
from shared.runtime import commits as commits_module
from shared.runtime import host as host_module
from shared.runtime.host import BATCH, PIECE, Host
from shared.runtime.losses import GapError
from shared.runtime.service import Batch
from shared.telemetry.reporting import BatchReport, Telemetry

MARKET, DEAD, ALARMS = StreamKey("market"), StreamKey("dead"), StreamKey("alarms")
ME = Owner("here", 4_000_001, "me")
OTHER = Owner("there", 4_000_002, "other")

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Sums:
    """A core with a memory of two bars: writes, for each bar, its volume plus the one before.

    Volume 13 raises; so does volume 14, but only after it has spoilt the state."""

    group = "sums"
    reads: tuple[str, ...] = ("market",)
    follows_control = True
    ticks = 0

    def initial(self, memo: bytes) -> dict[str, Any]:
        return {"last": 0.0, "entry": None, "count": int(memo or b"0"), "versions": 0}

    def snapshot(self, state: dict[str, Any]) -> bytes:
        return str(state["count"]).encode()

    def replay_from(self, state: dict[str, Any]) -> Mapping[str, str]:
        return {"market": preceding(state["entry"])} if state["entry"] else {}

    def apply(self, state: dict[str, Any], batch: Batch) -> None:
        count = state["count"]
        self.handle(state, batch)
        state["count"] = count

    def handle(self, state: dict[str, Any], batch: Batch) -> Sequence[Encoded]:
        outputs = []
        state["versions"] += len(batch.control)
        for received in batch.events:
            bar: BarClosed = received.envelope.event
            if bar.volume == 13:
                raise ValueError("thirteen")
            before, state["last"], state["entry"] = state["last"], bar.volume, received.entry
            if bar.volume == 14:
                raise ValueError("fourteen")
            state["count"] += 1
            said = f"{state['count']}: {before} + {bar.volume}"
            outputs.append(
                encode(
                    "dead",
                    DeadLetter(service="sums", source=said, reason="bad_row", detail="", raw=""),
                    causation=received.envelope.id,
                )
            )
        return outputs


def bar(volume: float) -> Encoded:
    return encode(
        "market",
        BarClosed(
            symbol="BTCUSDT",
            interval_ms=60_000,
            open_time=0,
            open=1.0,
            high=1.0,
            low=1.0,
            close=1.0,
            volume=volume,
            origin="synthetic",
        ),
    )


async def publish(log: MemoryLog, *volumes: float, raw: bytes | None = None) -> None:
    claim = await log.claim("feed", (), 0, ME)
    outputs = [bar(volume) for volume in volumes]
    if raw is not None:
        outputs.append(outputs[0]._replace(data=raw) if outputs else bar(1)._replace(data=raw))
    await log.commit(claim, Commit(outputs, {}, {}))
    await log.release(claim)


async def letters(log: MemoryLog) -> list[DeadLetter]:
    return [decode("dead", entry.data).event for entry in await log.scan(DEAD)]


async def said(log: MemoryLog) -> list[str]:
    return [letter.source for letter in await letters(log)]


async def alarms(log: MemoryLog) -> list[type]:
    return [type(decode("alarms", entry.data).event) for entry in await log.scan(ALARMS)]


@asynccontextmanager
async def running(log: MemoryLog, owner: Owner = ME, **options: Any) -> AsyncIterator[Host[Any]]:
    """A host in the background; drained at the end."""
    stop = anyio.Event()
    host = Host(Sums(), log, 0, owner, **options)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(host.run, stop)
        yield host
        stop.set()


async def until(condition: Callable[[], Any]) -> None:
    with anyio.fail_after(10):
        while not await condition():
            await anyio.sleep(0.005)


def heard(log: MemoryLog, count: int) -> Callable[[], Any]:
    async def condition() -> bool:
        return len(await said(log)) >= count

    return condition


async def test_a_restart_continues_as_if_nothing_had_happened() -> None:
    log = MemoryLog()
    await publish(log, 1, 2)
    async with running(log):
        await until(heard(log, 2))
    await publish(log, 3, 4)
    async with running(log):
        await until(heard(log, 4))
    assert await said(log) == ["1: 0.0 + 1.0", "2: 1.0 + 2.0", "3: 2.0 + 3.0", "4: 3.0 + 4.0"]


class Resting(Sums):
    """As ``Sums``, and nobody waits for it."""

    group = "resting"
    poll_ms = 3_600_000


async def test_a_service_that_nobody_waits_for_rests_once_it_has_read_all_and_a_stop_ends_its_rest() -> None:
    log, stop = MemoryLog(), anyio.Event()
    resting = Host(Resting(), log, 0, OTHER)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(resting.run, stop)
        await publish(log, 1)
        await until(heard(log, 1))
        async with running(log):
            await publish(log, 2)
            await until(heard(log, 3))
        assert resting.commits.positions["market"].seen == 1
        stop.set()
    assert await said(log) == ["1: 0.0 + 1.0", "1: 0.0 + 1.0", "2: 1.0 + 2.0"]


class Picky(Resting):
    """As ``Resting``; notes how much it was handed at once."""

    def __init__(self) -> None:
        self.handed: list[int] = []

    def handle(self, state: Any, batch: Batch) -> Sequence[Encoded]:
        self.handed += [len(batch.events)] if batch.events else []
        return super().handle(state, batch)


async def test_a_service_that_nobody_waits_for_is_handed_a_few_at_a_time_and_commits_once() -> None:
    log, stop, picky = MemoryLog(), anyio.Event(), Picky()
    count = 2 * PIECE + 1
    await publish(log, *range(100, 100 + count))
    host, written = Host(picky, log, 0, OTHER), list[int]()
    write = log.commit

    async def counted(claim: Claim, commit: Commit) -> Any:
        written.append(len(commit.outputs))
        return await write(claim, commit)

    log.commit = counted  # type: ignore[method-assign]  # a spy
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(host.run, stop)
        await until(heard(log, count))
        stop.set()
    assert (picky.handed, written) == ([PIECE, PIECE, 1], [count])
    assert host.commits.committed["market"].seen == count


async def test_the_last_of_a_few_that_breaks_the_core_is_set_aside() -> None:
    log, stop, picky = MemoryLog(), anyio.Event(), Picky()
    await publish(log, *range(100, 100 + PIECE), 13, 7)
    host = Host(picky, log, 0, OTHER)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(host.run, stop)
        await until(heard(log, PIECE + 2))
        stop.set()
    found = await letters(log)
    assert [letter.reason for letter in found] == ["bad_row"] * PIECE + ["handler_failed", "bad_row"]


class Slow(Sums):
    """As ``Sums``; each event takes 6 ms on ``clock`` (ms). It counts how many events it is handed at once."""

    reads = ("market", "alarms")
    clock = 0.0

    def __init__(self) -> None:
        self.handed: list[int] = []

    def handle(self, state: Any, batch: Batch) -> Sequence[Encoded]:
        self.handed += [len(batch.events)] if batch.events else []
        self.clock += 6 * len(batch.events)
        return super().handle(state, batch._replace(events=[e for e in batch.events if e.stream == "market"]))


class Renewals(MemoryLog):
    """A log that notes, on the clock of a core, when a lease was renewed (ms). Another process takes the group over at
    the renewal with the number ``taken``."""

    def __init__(self, core: Slow, taken: int | None = None) -> None:
        super().__init__(lambda: int(core.clock) + 1)
        self.core = core
        self.taken = taken
        self.renewed: list[float] = []

    async def renew(self, claim: Claim) -> None:
        self.renewed.append(self.core.clock)
        if len(self.renewed) == self.taken:
            await self.claim(claim.group, (), claim.partition, ME, take_over=True)
        await super().renew(claim)

    async def commit(self, claim: Claim, commit: Commit) -> Committed:
        self.renewed.append(self.core.clock)
        return await super().commit(claim, commit)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    """A core whose clock is that of the runtime."""
    core = Slow()
    clock = SimpleNamespace(monotonic=lambda: core.clock / 1000, thread_time=time.thread_time, time_ns=time.time_ns)
    monkeypatch.setattr(host_module, "time", clock)
    monkeypatch.setattr(commits_module, "time", clock)
    return core


async def publish_two_batches(log: Renewals) -> None:
    await publish(log, *range(100, 100 + BATCH))
    alarm = encode("alarms", GroupRecreated("sums", "market", START, 0))
    await log.commit(await log.claim("watcher", (), 0, ME), Commit([alarm] * BATCH, {}, {}))
    log.renewed.clear()


async def test_a_lease_does_not_run_out_while_a_long_batch_is_handled(slow: Slow) -> None:
    log, stop, signs = Renewals(slow), anyio.Event(), list[float]()
    await publish_two_batches(log)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Host(slow, log, 0, OTHER, alive=lambda: signs.append(slow.clock)).run, stop)
        await until(heard(log, BATCH))
        stop.set()
    assert sum(slow.handed) == 2 * BATCH
    assert max(later - earlier for earlier, later in pairwise([0, *log.renewed])) < LEASE_MS
    assert slow.handed[0] > slow.handed[1] > slow.handed[2]
    assert len(set(signs)) >= len(slow.handed)


async def test_a_process_that_is_replaced_within_a_long_batch_ends_without_writing(slow: Slow) -> None:
    log = Renewals(slow, taken=1)
    await publish_two_batches(log)
    with anyio.fail_after(10), pytest.raises(SupersededError):
        await Host(slow, log, 0, OTHER).run(anyio.Event())
    assert slow.handed == [BATCH]
    assert await said(log) == []


async def test_an_unreadable_entry_is_a_dead_letter_and_its_neighbours_are_handled() -> None:
    log = MemoryLog()
    await publish(log, 1, raw=b"not msgpack")
    await publish(log, 2)
    async with running(log):
        await until(heard(log, 3))
    found = await letters(log)
    (refused,) = [letter for letter in found if letter.reason == "unreadable"]
    assert refused.source.startswith("conclave:{p0}:market@")
    assert refused.raw == b"not msgpack".hex()
    assert {letter.source for letter in found} - {refused.source} == {"1: 0.0 + 1.0", "2: 1.0 + 2.0"}


@pytest.mark.parametrize("poison", [13, 14])
async def test_an_event_that_breaks_the_core_is_set_aside_and_leaves_no_trace(poison: int) -> None:
    log = MemoryLog()
    await publish(log, 1, 2, poison, 3)
    async with running(log):
        await until(heard(log, 4))
    found = await letters(log)
    assert [letter.reason for letter in found] == ["bad_row", "bad_row", "handler_failed", "bad_row"]
    assert found[-1].source == "3: 2.0 + 3.0"
    assert "teen" in found[2].detail


async def test_what_broke_the_core_once_is_skipped_after_a_restart_too() -> None:
    log = MemoryLog()
    await publish(log, 1, 13)
    async with running(log):
        await until(heard(log, 2))
    await publish(log, 2)
    async with running(log):
        await until(heard(log, 3))
    assert (await said(log))[-1] == "2: 1.0 + 2.0"


async def test_a_second_copy_is_refused_and_says_who_owns_the_group() -> None:
    log = MemoryLog()
    async with running(log, OTHER):
        await publish(log, 1)
        await until(heard(log, 1))
        with pytest.raises(OwnedError, match="other"):
            await Host(Sums(), log, 0, ME).run(anyio.Event())


async def test_a_take_over_fences_the_former_owner_and_is_an_alarm() -> None:
    log = MemoryLog()
    fenced = anyio.Event()

    async def former() -> None:
        with pytest.raises(SupersededError):
            await Host(Sums(), log, 0, OTHER).run(anyio.Event())
        fenced.set()

    await publish(log, 1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(former)
        await until(heard(log, 1))
        async with running(log, ME, take_over=True):
            await publish(log, 2)
            await until(heard(log, 2))
            await fenced.wait()
    assert await said(log) == ["1: 0.0 + 1.0", "2: 1.0 + 2.0"]
    assert await alarms(log) == [OwnerReplaced]


async def test_entries_trimmed_before_they_were_read_stop_the_service() -> None:
    log = MemoryLog()
    await publish(log, 1)
    async with running(log):
        await until(heard(log, 1))
    await publish(log, 2, 3)
    entries = await log.scan(MARKET)
    log.trim(MARKET, entries[2].id)
    heard_of: list[Encoded] = []

    class Meter(Telemetry):
        def batch(self, report: BatchReport) -> None:
            heard_of.extend(report.outputs)

    with pytest.raises(GapError, match="1 entries"):
        await Host(Sums(), log, 0, ME, telemetry=Meter()).run(anyio.Event())
    assert await alarms(log) == [GapDetected]
    assert [type(sealed.envelope.event) for sealed in heard_of] == [GapDetected]  # counted, as any output is


async def test_a_consumer_group_that_went_missing_is_an_alarm() -> None:
    log = MemoryLog()
    async with running(log):
        await publish(log, 1)
        await until(heard(log, 1))
        log.lose_group("sums", MARKET)
        await publish(log, 2)
        await until(heard(log, 2))
    assert await alarms(log) == [GroupRecreated]


async def test_a_new_group_begins_with_the_oldest_entry_that_is_left() -> None:
    log = MemoryLog()
    await publish(log, 1, 2)
    log.trim(MARKET, (await log.scan(MARKET))[1].id)
    async with running(log):
        await until(heard(log, 1))
    assert await said(log) == ["1: 0.0 + 2.0"]
    (group,) = [view for view in await log.groups(0) if view.group == "sums"]
    assert group.lag == {"market": 0}
    assert group.positions["market"].seen == 2


def control_entry(*commands: Any) -> list[CommandRecorded]:
    state, entries = EMPTY, []
    for number, command in enumerate(commands):
        entry = propose(state, command, command_id=str(number), actor="me", reason="test", at=1)
        assert isinstance(entry, CommandRecorded)
        state = fold(state, entry)
        entries.append(entry)
    return entries


async def test_control_is_read_from_its_beginning_and_followed() -> None:
    log = MemoryLog()
    first, *rest = control_entry(Found(1, "log-of-a-test"), Halt(), Resume())
    await log.append_at(CONTROL, "1-0", encode("control", first).data)
    async with running(log) as host:
        await publish(log, 1)
        await until(heard(log, 1))
        for entry in rest:
            await log.append_at(CONTROL, f"{entry.version}-0", encode("control", entry).data)

        async def all_read() -> bool:
            return bool(host.state["versions"] == 3)

        await until(all_read)


async def test_a_control_entry_written_past_the_door_is_not_applied_and_alarms_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shared.control.stream.OTHERS_ALARM_AFTER_S", 0.0)
    log = MemoryLog()
    first, second = control_entry(Found(1, "log-of-a-test"), Halt())
    await log.append_at(CONTROL, "1-0", encode("control", first).data)
    async with running(log) as host:
        await publish(log, 1)
        await until(heard(log, 1))
        await log.append_at(CONTROL, "2-0", b"{}")
        await log.append_at(CONTROL, "3-0", encode("control", second).data)

        async def applied() -> bool:
            return bool(host.state["versions"] == 2 and await alarms(log))

        await until(applied)
        assert host.control.state.halted
    async with running(log, OTHER) as host:
        await publish(log, 2)
        await until(heard(log, 2))
        assert host.state["versions"] == 2
    [refused] = [decode("alarms", entry.data).event for entry in await log.scan(ALARMS)]
    assert isinstance(refused, ControlRefused)
    assert (refused.entry, refused.version, refused.head) == ("2-0", 1, head_of(first))


async def test_a_control_log_with_entries_missing_stops_the_reader() -> None:
    log = MemoryLog()
    first, _, third = control_entry(Found(1, "log-of-a-test"), Halt(), Resume())
    await log.append_at(CONTROL, "1-0", encode("control", first).data)
    await log.append_at(CONTROL, "3-0", encode("control", third).data)
    with pytest.raises(ControlError, match="versions 2 to 2 are gone"):
        await Host(Sums(), log, 0, ME).run(anyio.Event())


async def test_draining_commits_what_is_in_hand_and_releases_the_group() -> None:
    log = MemoryLog()
    await publish(log, *range(1, 10))
    async with running(log, OTHER):
        await until(heard(log, 9))
    claim: Claim = await log.claim("sums", ("market",), 0, ME)
    assert claim.former is None
    last = (await log.scan(MARKET))[-1]
    assert claim.positions["market"] == Position(last.id, 9, digest_of(last.data))
    assert claim.positions["market"].id != START


# The fence


INTENTS, DECISIONS = StreamKey("intents"), StreamKey("decisions")
[INTENT] = [each.envelope.event for each in examples() if each.stream == "intents"]


class Trader(Sums):
    """A core that writes an intent for each bar, unless the fence is closed; then it says so."""

    group = "ensemble-voter"

    def handle(self, state: dict[str, Any], batch: Batch) -> Sequence[Encoded]:
        said = super().handle(state, batch)
        if batch.halted and self.obeys:
            return [encode("dead", replace(sealed.envelope.event, detail="halted")) for sealed in said]
        return [*said, *(encode("intents", INTENT, causation=sealed.envelope.id) for sealed in said)]

    obeys = True


class Reckless(Trader):
    """A core that writes intents whatever the fence says."""

    obeys = False


class Held(MemoryLog):
    """A log on which a commit of the voter waits, computed, until it may go: a suspended process."""

    def __init__(self) -> None:
        super().__init__()
        self.computed, self.go = anyio.Event(), anyio.Event()
        self.armed = False

    async def commit(self, claim: Claim, commit: Commit) -> Committed:
        if self.armed and claim.group == Trader.group and commit.outputs:
            self.armed = False
            self.computed.set()
            await self.go.wait()
        return await super().commit(claim, commit)


@asynccontextmanager
async def trading(log: MemoryLog, service: type[Trader] = Trader) -> AsyncIterator[Host[Any]]:
    stop = anyio.Event()
    host = Host(service(), log, 0, ME)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(host.run, stop)
        yield host
        stop.set()


async def ordered(log: MemoryLog, command: Command, name: str) -> None:
    await issue(log, command, actor="ada", reason="test", command_id=name)


async def told(log: MemoryLog) -> list[tuple[str, str]]:
    return [(letter.source, letter.detail) for letter in await letters(log)]


async def intents(log: MemoryLog) -> int:
    return len(await log.scan(INTENTS))


async def test_a_batch_that_was_computed_before_a_halt_is_decided_again_as_halted() -> None:
    log = Held()
    await ordered(log, Found(1, "log-of-a-test"), "f")
    async with trading(log):
        await publish(log, 1)
        await until(heard(log, 1))
        log.armed = True
        await publish(log, 2, 3)
        with anyio.fail_after(10):
            await log.computed.wait()
        await ordered(log, Halt(), "h")
        assert await intents(log) == 1
        log.go.set()
        await until(heard(log, 3))
        assert await intents(log) == 1
        await ordered(log, Resume(), "r")
        await publish(log, 4)
        await until(heard(log, 4))
    assert await told(log) == [
        ("1: 0.0 + 1.0", ""), ("2: 1.0 + 2.0", "halted"), ("3: 2.0 + 3.0", "halted"), ("4: 3.0 + 4.0", ""),
    ]  # fmt: skip
    assert await intents(log) == 2


async def test_a_batch_that_was_computed_in_a_halt_is_decided_again_after_the_resume() -> None:
    log = Held()
    await ordered(log, Found(1, "log-of-a-test"), "f")
    await ordered(log, Halt(), "h")
    async with trading(log):
        log.armed = True
        await publish(log, 1)
        with anyio.fail_after(10):
            await log.computed.wait()
        await ordered(log, Resume(), "r")
        log.go.set()
        await until(heard(log, 1))
    assert await told(log) == [("1: 0.0 + 1.0", "")]
    assert await intents(log) == 1


@pytest.mark.parametrize(("halted", "mark"), [(False, "open 0"), (True, "closed 1")])
async def test_a_fence_that_is_missing_is_restored_from_control(halted: bool, mark: str) -> None:
    log = MemoryLog()
    for entry in control_entry(Found(1, "log-of-a-test"), *([Halt()] if halted else [])):
        await log.append_at(CONTROL, f"{entry.version}-0", encode("control", entry).data)
    async with trading(log):
        await publish(log, 1)
        await until(heard(log, 1))
    assert await log.fence(0) == mark
    assert await told(log) == [("1: 0.0 + 1.0", "halted" if halted else "")]
    [written] = await log.scan(DECISIONS)
    note = decode("decisions", written.data).event
    assert (note.by, note.reason, note.command_id) == ("ensemble-voter", "restored from control", mark[-1])


async def test_a_fence_that_is_lost_while_the_voter_runs_is_restored_before_anything_is_written() -> None:
    log = MemoryLog()
    await ordered(log, Found(1, "log-of-a-test"), "f")
    await ordered(log, Halt(), "h")
    async with trading(log):
        await publish(log, 1)
        await until(heard(log, 1))
        log.lose_fence(0)
        await publish(log, 2)
        await until(heard(log, 2))
    assert await log.fence(0) == "closed h"
    assert await intents(log) == 0


async def test_a_fence_that_is_open_in_a_halt_is_closed_at_the_next_start() -> None:
    log = MemoryLog()
    await ordered(log, Found(1, "log-of-a-test"), "f")
    await ordered(log, Halt(), "h")
    await log.set_fence(0, "open f", Authority("f", "nobody", "a lost write").note("open f"))
    async with trading(log):
        await publish(log, 1)
        await until(heard(log, 1))
    assert await log.fence(0) == "closed h"
    assert await intents(log) == 0


async def test_before_an_installation_is_founded_the_fence_counts_as_closed_and_opens_with_it() -> None:
    log = MemoryLog()
    async with trading(log):
        await publish(log, 1)
        await until(heard(log, 1))
        assert await log.fence(0) == ""
        await ordered(log, Found(1, "log-of-a-test"), "f")
        await publish(log, 2)
        await until(heard(log, 2))
    assert await told(log) == [("1: 0.0 + 1.0", "halted"), ("2: 1.0 + 2.0", "")]
    assert await intents(log) == 1


async def test_a_control_log_that_was_founded_without_a_fence_while_the_voter_ran_gets_one() -> None:
    log = MemoryLog()
    async with trading(log):
        [entry] = control_entry(Found(1, "log-of-a-test"))
        await log.append_at(CONTROL, "1-0", encode("control", entry).data)
        await publish(log, 1)
        await until(heard(log, 1))

        async def opened() -> bool:
            return await log.fence(0) == "open 0"

        await until(opened)


async def test_a_core_that_writes_intents_under_a_closed_fence_is_stopped() -> None:
    log = MemoryLog()
    await ordered(log, Found(1, "log-of-a-test"), "f")
    await ordered(log, Halt(), "h")
    await publish(log, 1)
    with pytest.raises(HaltedError, match="marked 'closed h'"):
        await Host(Reckless(), log, 0, ME).run(anyio.Event())
    assert await intents(log) == 0


async def test_a_service_that_writes_no_intents_asks_no_fence() -> None:
    class Unfenced(MemoryLog):
        async def fence(self, partition: int) -> str:
            raise AssertionError("asked")

    log = Unfenced()
    await publish(log, 1)
    async with running(log):
        await until(heard(log, 1))
