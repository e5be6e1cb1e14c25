"""What the runtime does where the log is not the one that it read: nothing is written on top of it, nothing twice, and
the service goes on with what is there."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from schemas.codec import Encoded, decode, encode
from schemas.control import Command, CommandRecorded, Found, Halt, Resume, SetVotingPolicy
from schemas.decisions import FenceClosed
from schemas.features import BarsMissing
from schemas.market import BarClosed
from schemas.operations import DeadLetter, GroupRecreated, LogTruncated
from shared.control import EMPTY, ControlError, ControlReader, State, fold, propose
from shared.control.stamps import Stamp
from shared.control.stream import CONTROL
from shared.log import Commit, Lost, Owner, StreamKey
from shared.log.leases import id_order
from shared.log.memory import MemoryLog
from shared.recovery.fencing import open_fence
from shared.runtime.host import Host
from shared.runtime.service import Batch, Received
from shared.runtime.startup import LostGroupError

MARKET, DEAD, ALARMS, FEATURES = StreamKey("market"), StreamKey("dead"), StreamKey("alarms"), StreamKey("features")
ME = Owner("here", 4_000_001, "me")

pytestmark = pytest.mark.anyio


class Heads:
    """A core that writes, for each bar, its volume and the configuration it was handed so far."""

    group = "ensemble-voter"
    reads: tuple[str, ...] = ("market",)
    follows_control = True
    ticks = 0

    def initial(self, memo: bytes) -> dict[str, Any]:
        return {"control": EMPTY, "count": int(memo or b"0")}

    def snapshot(self, state: dict[str, Any]) -> bytes:
        return b"%d" % state["count"]

    def replay_from(self, state: dict[str, Any]) -> Mapping[str, str]:
        return {}

    def apply(self, state: dict[str, Any], batch: Batch) -> None:
        for envelope in batch.control:
            state["control"] = fold(state["control"], envelope.event)

    def handle(self, state: dict[str, Any], batch: Batch) -> Sequence[Encoded]:
        self.apply(state, batch)
        outputs = []
        for received in batch.events:
            state["count"] += 1
            said = f"{received.envelope.event.volume:.0f} under {state['control'].version}"
            outputs.append(
                encode(
                    "dead",
                    DeadLetter(service="heads", source=said, reason="bad_row", detail="", raw=""),
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


async def publish(log: MemoryLog, *volumes: float) -> None:
    claim = await log.claim("feed", (), 0, ME)
    await log.commit(claim, Commit([bar(volume) for volume in volumes], {}, {}))
    await log.release(claim)


def folded(*commands: Command) -> tuple[State, list[CommandRecorded]]:
    state, entries = EMPTY, []
    for number, command in enumerate(commands):
        entry = propose(state, command, command_id=f"{number} {command}"[:60], actor="me", reason="test", at=1)
        assert isinstance(entry, CommandRecorded)
        state = fold(state, entry)
        entries.append(entry)
    return state, entries


FOUNDED = Found(1, "log-of-a-test")


async def append(log: MemoryLog, *commands: Command, first: int = 1) -> None:
    for entry in folded(*commands)[1][first - 1 :]:
        assert await log.append_at(CONTROL, f"{entry.version}-0", encode("control", entry).data)


async def letters_of(log: MemoryLog) -> list[DeadLetter]:
    return [decode("dead", entry.data).event for entry in await log.scan(DEAD)]


async def said(log: MemoryLog) -> list[str]:
    return [letter.source for letter in await letters_of(log)]


async def alarms(log: MemoryLog) -> list[Any]:
    return [decode("alarms", entry.data).event for entry in await log.scan(ALARMS)]


async def closings(log: MemoryLog) -> list[FenceClosed]:
    notes = [decode("decisions", entry.data).event for entry in await log.scan(StreamKey("decisions"))]
    return [note for note in notes if isinstance(note, FenceClosed)]


@asynccontextmanager
async def running(log: MemoryLog, service: Any = None, **options: Any) -> Any:
    stop = anyio.Event()
    host = Host(service or Heads(), log, 0, ME, **options)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(host.run, stop)
        yield host
        stop.set()


async def until(condition: Callable[[], Any]) -> None:
    with anyio.fail_after(10):
        while not await condition():
            await anyio.sleep(0.005)


def has_said(log: MemoryLog, *lines: str) -> Callable[[], Any]:
    async def condition() -> bool:
        return set(lines) <= set(await said(log))

    return condition


def has_folded(host: Host[Any], version: int) -> Callable[[], Any]:
    async def condition() -> bool:
        return bool(host.control.state.version == version)

    return condition


async def test_a_lost_command_is_missed_and_the_one_in_its_place_is_obeyed() -> None:
    log = MemoryLog()
    await append(log, FOUNDED)
    image = log.image()
    async with running(log) as host:
        await append(log, FOUNDED, SetVotingPolicy(quorum_count=1), first=2)
        await until(has_folded(host, 2))
        log.restore(image)
        await append(log, FOUNDED, Halt(), first=2)  # by a console that never saw the lost one
        await publish(log, 1)
        await until(has_said(log, "1 under 2"))
        assert host.state["control"].halted
        assert host.state["control"].head == folded(FOUNDED, Halt())[0].head
    [alarm] = [each for each in await alarms(log) if isinstance(each, LogTruncated)]
    assert (alarm.stream, alarm.expected, alarm.last) == ("control", "2-0", "2-0")
    [note] = await closings(log)
    assert isinstance(note, FenceClosed)
    assert await log.fence(0) == f"closed {note.command_id}"
    assert await open_fence(log, 0, "ada", "accepted", 1)
    assert (await log.fence(0)).startswith("open ")
    assert not await open_fence(log, 0, "ada", "accepted", 2)


async def test_who_writes_no_intents_closes_no_fence() -> None:
    class Other(Heads):
        group = "other"

    log = MemoryLog()
    await append(log, FOUNDED)
    image = log.image()
    async with running(log, Other()) as host:
        await append(log, FOUNDED, Halt(), first=2)
        await until(has_folded(host, 2))
        log.restore(image)
        await until(has_folded(host, 1))
    assert await closings(log) == []


async def test_a_batch_in_hand_is_not_written_upon_a_control_log_that_lost_its_tail() -> None:
    """The last moment: after the core handled the batch, before its commit."""
    log = MemoryLog()
    await append(log, FOUNDED)
    image: object = None

    class Late(Heads):
        def handle(self, state: Any, batch: Batch) -> Sequence[Encoded]:
            nonlocal image
            outputs = super().handle(state, batch)
            if batch.events and image is not None:
                log.restore(image)
                image = None
            return outputs

    async with running(log, Late()) as host:
        await publish(log, 1)
        await until(has_said(log, "1 under 1"))
        await publish(log, 2)
        await until(has_said(log, "2 under 1"))
        image = log.image()
        await append(log, FOUNDED, Halt(), first=2)
        await until(has_folded(host, 2))
        before = image
        await publish(log, 3)
        await until(has_folded(host, 1))
        assert before is not None
        await publish(log, 4)
        await until(has_said(log, "4 under 1"))
    assert await said(log) == ["1 under 1", "2 under 1", "4 under 1"]
    assert [each.stream for each in await alarms(log)] == ["control"]
    assert len(await closings(log)) == 1, "the lost halt closes the fence, although the commit shows only a rollback"


async def test_bars_that_were_lost_and_came_again_are_handled_once_each() -> None:
    log = MemoryLog()
    await append(log, FOUNDED)
    async with running(log) as host:
        await publish(log, 1, 2)
        await until(has_said(log, "2 under 1"))
        image = log.image()
        await publish(log, 3, 4)
        await until(has_said(log, "4 under 1"))
        log.restore(image)
        assert await said(log) == ["1 under 1", "2 under 1"]
        await publish(log, 3, 4, 5)
        await until(has_said(log, "5 under 1"))
        assert host.state["count"] == 5
    assert await said(log) == [f"{number} under 1" for number in range(1, 6)]
    assert [type(each) for each in await alarms(log)] == [LogTruncated]


async def test_entries_that_were_read_and_led_to_nothing_yet_are_missed_too() -> None:
    """They are in the state, and no commit names them."""

    class Silent(Heads):
        def handle(self, state: Any, batch: Batch) -> Sequence[Encoded]:
            return super().handle(state, batch) if state["count"] >= 2 else self.count(state, batch)

        def count(self, state: Any, batch: Batch) -> Sequence[Encoded]:
            self.apply(state, batch)
            state["count"] += len(batch.events)
            return ()

    log = MemoryLog()
    await append(log, FOUNDED)
    async with running(log, Silent()) as host:

        async def counted(count: int) -> None:
            async def condition() -> bool:
                return hasattr(host, "state") and bool(host.state["count"] == count)

            await until(condition)

        await counted(0)
        image = log.image()
        await publish(log, 1)
        await counted(1)
        log.restore(image)
        await publish(log, 7, 8)
        await counted(2)
        await publish(log, 9)
        await until(has_said(log, "9 under 1"))
    assert host.state["count"] == 3


async def test_a_loss_of_bars_is_named_with_its_positions_and_stops_no_intents() -> None:
    """They can be read again, and what follows from them is written again: no person has to look at it."""
    log = MemoryLog()
    await append(log, FOUNDED)
    async with running(log) as host:
        await publish(log, 1)
        await until(has_said(log, "1 under 1"))
        first, image = host.commits.positions["market"].id, log.image()
        await publish(log, 2, 3)
        await until(has_said(log, "3 under 1"))
        lost = host.commits.positions["market"].id
        log.restore(image)
        await publish(log, 2, 3)
        await until(has_said(log, "3 under 1"))
    [alarm] = await alarms(log)
    assert (alarm.stream, alarm.expected) == ("market", lost)
    assert f"had handled 3 entries and its record has 1: those after {first} are handled again" in alarm.detail
    assert await closings(log) == []


class Deciding(Heads):
    """Writes to a stream with a running digest."""

    group = "feature-builder"

    def handle(self, state: dict[str, Any], batch: Batch) -> Sequence[Encoded]:
        self.apply(state, batch)
        return [missing_bars(60_000 * int(bar.envelope.event.volume), 1, "ab" * 32) for bar in batch.events]


async def test_the_events_that_a_group_wrote_and_that_are_gone_are_counted_with_the_last_that_is_left() -> None:
    log = MemoryLog()
    await append(log, FOUNDED)

    def has_written(count: int) -> Callable[[], Any]:
        async def condition() -> bool:
            return len(await log.scan(FEATURES)) == count

        return condition

    async with running(log, Deciding()):
        await publish(log, 1)
        await until(has_written(1))
        image = log.image()
        await publish(log, 2, 3)
        await until(has_written(3))
        written = await log.scan(FEATURES)
        log.restore(image)
        await publish(log, 2, 3)
        await until(has_written(3))
    assert [entry.data for entry in await log.scan(FEATURES)] == [entry.data for entry in written]
    by_stream = {alarm.stream: alarm for alarm in await alarms(log)}
    assert by_stream.keys() == {"market", "features"}
    left = written[0].id
    assert by_stream["features"].last == left
    assert f"had written 3 events and 1 are left: those after {left} are lost" in by_stream["features"].detail


async def test_events_that_are_lost_are_made_again_although_no_other_entry_arrives() -> None:
    """The entry that led to them is still there."""
    log = MemoryLog()
    await append(log, FOUNDED)
    async with running(log) as host:
        await publish(log, 1)
        await until(has_said(log, "1 under 1"))
        image = log.image()
        await publish(log, 2)
        await until(has_said(log, "2 under 1"))
        position, bar_lost = host.commits.positions["market"], (await log.scan(MARKET))[-1]
        log.restore(image)
        stream = log._streams[MARKET]
        stream.entries.append(bar_lost)
        stream.orders.append(stream.last)
        stream.last = stream.orders[-1] = id_order(position.id)
        stream.added += 1
        await until(has_said(log, "2 under 1"))
    assert await said(log) == ["1 under 1", "2 under 1"]


async def test_two_losses_that_look_the_same_are_two_alarms() -> None:
    log = MemoryLog()
    await append(log, FOUNDED)
    async with running(log) as host:
        await publish(log, 1)
        await until(has_said(log, "1 under 1"))
        for times in (1, 2):
            image = log.image()
            host.commits.claim = await log.claim(host.commits.group, ("market",), 0, ME)
            log.restore(image)

            async def alarmed(times: int = times) -> bool:
                return len(await alarms(log)) == times

            await publish(log, 1 + times)
            await until(alarmed)
            await until(has_said(log, f"{1 + times} under 1"))
    assert await said(log) == ["1 under 1", "2 under 1", "3 under 1"]


async def test_a_command_that_only_the_records_of_the_machine_have_is_missed_after_a_restart_of_the_server() -> None:
    """A halt was accepted and recorded, and the server lost it before any service had read it."""
    log = MemoryLog()
    await append(log, FOUNDED)
    missing = Lost(CONTROL, "2-0", "1-0", "the control log lost version 2")
    noted: list[Lost] = []
    async with running(log, noted=lambda _: noted[0] if noted else None):
        await publish(log, 1)
        await until(has_said(log, "1 under 1"))
        assert await closings(log) == []
        noted.append(missing)
        log.restore(log.image())

        async def closed() -> bool:
            return bool(await closings(log))

        await until(closed)
        log.restore(log.image())  # it is still missing, and that is known
        await publish(log, 2)
        await until(has_said(log, "2 under 1"))
    [alarm] = await alarms(log)
    assert (alarm.stream, alarm.expected, alarm.last) == ("control", "2-0", "1-0")


async def test_a_position_whose_entry_was_replaced_is_found_at_the_next_start() -> None:
    log = MemoryLog()
    await append(log, FOUNDED)
    await publish(log, 1, 2)
    async with running(log):
        await until(has_said(log, "2 under 1"))
    stream = log._streams[MARKET]
    stream.entries[1] = stream.entries[1]._replace(data=bar(7).data)
    for number in (3, 4):
        async with running(log):
            await publish(log, number)
            await until(has_said(log, f"{number} under 1"))
    assert await said(log) == [f"{number} under 1" for number in range(1, 5)]
    [alarm] = await alarms(log)  # said once, not at every start
    assert (alarm.stream, alarm.detail) == ("market", f"another entry has the id {stream.entries[1].id}")


async def test_a_stream_that_lost_more_than_its_group_goes_on_after_what_is_left() -> None:
    log = MemoryLog()
    await append(log, FOUNDED)
    await publish(log, 1, 2, 3)
    async with running(log):
        await until(has_said(log, "3 under 1"))
    stream = log._streams[MARKET]
    del stream.entries[1:], stream.orders[1:]
    stream.added = 1
    async with running(log) as host:
        await publish(log, 4)
        await until(has_said(log, "4 under 1"))
        assert host.commits.positions["market"].seen == 2
    assert await said(log) == ["1 under 1", "2 under 1", "3 under 1", "4 under 1"]
    assert [type(each) for each in await alarms(log)] == [LogTruncated]


async def test_a_server_with_another_log_stops_the_service() -> None:
    log, other = MemoryLog(), MemoryLog()
    await append(log, FOUNDED)
    await append(other, Found(1, "another-log"))
    host = Host(Heads(), log, 0, ME)

    async def replace() -> None:
        await until(has_folded(host, 1))
        log.restore(other.image())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(replace)
        with pytest.raises(ControlError, match="holds another log than log-of-a-test"):
            await host.run(anyio.Event())


class Stamped(Heads):
    """Reads what was stamped."""

    reads: tuple[str, ...] = ("features",)

    def handle(self, state: Any, batch: Batch) -> Sequence[Encoded]:
        self.apply(state, batch)
        return [
            encode(
                "dead",
                DeadLetter(
                    service="heads", source=f"{event.envelope.event.open_time}", reason="bad_row", detail="", raw=""
                ),
            )
            for event in batch.events
        ]


def missing_bars(at: int, version: int, head: str) -> Encoded:
    event = BarsMissing(
        symbol="BTC",
        interval_ms=60_000,
        open_time=at,
        origin="synthetic",
        count=1,
        bridged=False,
        control_version=version,
        control_head=bytes.fromhex(head),
    )
    return encode("features", event)


async def stamp(log: MemoryLog, *events: Encoded) -> None:
    claim = await log.claim("feature-builder", (), 0, ME)
    await log.commit(claim, Commit(events, {}, {}))


@pytest.mark.parametrize("way", ["appended again", "accepted"])
async def test_what_was_stamped_with_a_lost_command_waits_until_it_is_back_or_given_up(way: str) -> None:
    log, given_up = MemoryLog(), set[Stamp]()
    await append(log, FOUNDED)
    first, second = folded(FOUNDED)[0], folded(FOUNDED, Halt())[0]
    await stamp(log, missing_bars(60_000, 1, first.head), missing_bars(120_000, 2, second.head))
    alive: list[None] = []
    async with running(log, Stamped(), accepted=given_up.__contains__, alive=lambda: alive.append(None)):

        async def waits() -> bool:
            return bool(alive) and bool(await alarms(log))

        await until(waits)
        assert await said(log) == []
        [alarm] = await alarms(log)
        assert (alarm.stream, alarm.expected, alarm.last) == ("control", "2-0", "1-0")
        assert (await log.fence(0)).startswith("closed truncated-")
        if way == "accepted":
            given_up.add((2, second.head))
            await until(has_said(log, "60000"))
        else:
            await append(log, FOUNDED, Halt(), first=2)
            await until(has_said(log, "60000", "120000"))
        assert len(await alarms(log)) == 1
    letters = await letters_of(log)
    if way == "accepted":
        [refused] = [letter for letter in letters if letter.reason == "handler_failed"]
        assert f"version 2 {second.head[:12]} of control, whose loss was accepted" in refused.detail
    else:
        assert [letter.source for letter in letters] == ["60000", "120000"]


@pytest.mark.parametrize("newest", [2, 3])
async def test_what_was_stamped_with_a_lost_command_waits_though_the_same_batch_has_newer_stamps(newest: int) -> None:
    log, given_up, lost = MemoryLog(), set[Stamp](), "ab" * 32
    present = (FOUNDED, Halt(), Resume())[:newest]
    await append(log, *present)
    later = missing_bars(120_000, newest, folded(*present)[0].head)
    await stamp(log, missing_bars(60_000, 2, lost), later)
    alive: list[None] = []
    async with running(log, Stamped(), accepted=given_up.__contains__, alive=lambda: alive.append(None)):

        async def waits() -> bool:
            return bool(alive) and bool(await alarms(log))

        await until(waits)
        assert await said(log) == []
        given_up.add((2, lost))
        await until(has_said(log, "120000"))
    [refused] = [letter for letter in await letters_of(log) if letter.reason == "handler_failed"]
    assert f"version 2 {lost[:12]} of control, whose loss was accepted" in refused.detail
    assert "60000" not in await said(log)


async def test_a_loss_that_was_known_before_the_start_is_raised_and_closes_the_fence() -> None:
    log = MemoryLog()
    await append(log, FOUNDED)
    lost = Lost(CONTROL, "2-0", "1-0", "version 2 was noted")
    async with running(log, lost=lost):
        await publish(log, 1)
        await until(has_said(log, "1 under 1"))
    [alarm] = await alarms(log)
    assert (alarm.group, alarm.detail) == ("ensemble-voter", "version 2 was noted")
    assert (await log.fence(0)).startswith("closed truncated-")


class Recalling(Heads):
    """Its memo is how much it wrote."""

    recalls = ("dead",)

    def recall(self, memo: bytes, written: Sequence[Received]) -> bytes:
        return b"%d" % (int(memo or b"0") + len(written))

    def reapply(self, state: dict[str, Any], batch: Batch) -> None:
        self.apply(state, batch)


async def test_a_group_whose_record_is_gone_goes_on_with_what_it_wrote() -> None:
    log = MemoryLog()
    await append(log, FOUNDED)
    await publish(log, 1, 2, 3)
    async with running(log):
        await until(has_said(log, "3 under 1"))
    log.lose_hash("ensemble-voter")
    async with running(log, Recalling()) as host:
        await publish(log, 4)
        await until(has_said(log, "4 under 1"))
        assert host.state["count"] == 4
    assert await said(log) == [f"{number} under 1" for number in range(1, 5)]
    [alarm] = await alarms(log)
    assert isinstance(alarm, GroupRecreated)
    assert alarm.stream == "market"


async def test_a_group_whose_record_is_gone_and_cannot_be_had_again_is_refused_every_time() -> None:
    log = MemoryLog()
    await append(log, FOUNDED)
    await publish(log, 1)
    async with running(log):
        await until(has_said(log, "1 under 1"))
    log.lose_hash("ensemble-voter")
    for _ in range(2):
        with pytest.raises(LostGroupError, match=r"conclave recover --forget ensemble-voter"):
            await Host(Heads(), log, 0, ME).run(anyio.Event())
    assert await said(log) == ["1 under 1"]


async def test_every_control_entry_is_handed_to_the_reader_that_was_asked_for() -> None:
    taken: list[str] = []

    class Noting(ControlReader):
        def take(self, entry: str, data: bytes) -> Any:
            taken.append(entry)
            return super().take(entry, data)

    log = MemoryLog()
    await append(log, FOUNDED)
    async with running(log, reader=Noting) as host:
        await append(log, FOUNDED, Halt(), Resume(), first=2)
        await until(has_folded(host, 3))
    assert taken == ["1-0", "2-0", "3-0"]
