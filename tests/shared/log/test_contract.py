"""What a log guarantees, stated once for every implementation."""

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from schemas.codec import Encoded, encode
from schemas.decisions import FenceClosed, FenceOpened
from schemas.documentation.examples import examples
from schemas.operations import DeadLetter
from shared.log import (
    START,
    Claim,
    Commit,
    Committed,
    Entry,
    Extent,
    HaltedError,
    Log,
    OwnedError,
    Owner,
    Position,
    StreamKey,
    SupersededError,
)
from shared.log.leases import MOST_OUTPUTS, id_order
from shared.processes import process_start_time
from tests.minute_bars import minute_bar

MARKET, FEATURES, DEAD, CONTROL = StreamKey("market"), StreamKey("features"), StreamKey("dead"), StreamKey("control")
DECISIONS, INTENTS = StreamKey("decisions"), StreamKey("intents")
[INTENT] = [each for each in examples() if each.stream == "intents"]
ME, OTHER = Owner("here", 4_000_001, "me"), Owner("there", 4_000_002, "other")

pytestmark = pytest.mark.anyio


def letter(text: str) -> Encoded:
    return encode("dead", DeadLetter(service="feed", source="bars.csv:1", reason="bad_row", detail=text, raw=""))


def bars(*numbers: int) -> list[Encoded]:
    return [minute_bar(number) for number in numbers]


async def publish(log: Log, outputs: Sequence[Encoded], partition: int = 0) -> None:
    """Writes as a feed does: without input streams."""
    claim = await log.claim("feed", [], partition, ME)
    await log.commit(claim, Commit(outputs, {}, {}))
    await log.release(claim)


async def data(log: Log, place: StreamKey) -> list[bytes]:
    return [entry.data for entry in await log.scan(place)]


async def consume(log: Log, claim: Claim, count: int, outputs: Sequence[Encoded] = ()) -> Commit:
    """A batch of ``market`` from the claim's position on, not committed yet."""
    before = claim.positions["market"]
    entries = await log.read({MARKET: before.id}, count=count, block_ms=0)
    after = Position(entries[-1].id, before.seen + len(entries))
    return Commit(outputs, {"market": before}, {"market": after}, b"memo", {"market": entries[0].id})


# Reading


async def test_entries_come_in_the_order_they_were_committed(log: Log) -> None:
    await publish(log, bars(0, 1, 2))
    await publish(log, bars(3, 4))
    entries = await log.read({MARKET: START}, count=100, block_ms=0)
    assert [entry.data for entry in entries] == [each.data for each in bars(0, 1, 2, 3, 4)]
    assert all(entry.place == MARKET for entry in entries)


async def test_a_read_goes_on_behind_the_given_id(log: Log) -> None:
    await publish(log, bars(0, 1, 2))
    first = await log.read({MARKET: START}, count=2, block_ms=0)
    rest = await log.read({MARKET: first[-1].id}, count=2, block_ms=0)
    assert [entry.data for entry in first + rest] == [each.data for each in bars(0, 1, 2)]


async def test_a_read_gives_at_most_count_a_stream_and_keeps_the_order_of_streams(log: Log) -> None:
    await publish(log, [minute_bar(0), letter("a"), minute_bar(1), letter("b"), minute_bar(2)])
    entries = await log.read({DEAD: START, MARKET: START}, count=2, block_ms=0)
    assert [entry.data for entry in entries] == [
        each.data for each in (letter("a"), letter("b"), minute_bar(0), minute_bar(1))
    ]


async def test_the_end_of_a_backlog_includes_what_came_meanwhile(log: Log) -> None:
    await publish(log, bars(0, 1, 2, 3, 4))
    after, found = START, []
    for extra in ((), (), (5,)):
        await publish(log, bars(*extra))
        entries = await log.read({MARKET: after}, count=2, block_ms=0)
        after = entries[-1].id
        found += entries
    assert [entry.data for entry in found] == [each.data for each in bars(0, 1, 2, 3, 4, 5)]


async def test_a_read_ahead_is_not_taken_for_another_read(log: Log) -> None:
    await publish(log, bars(*range(6)))
    first = await log.read({MARKET: START}, count=2, block_ms=0)
    assert await log.read({MARKET: START}, count=2, block_ms=0) == first
    assert len(await log.read({MARKET: first[-1].id}, count=4, block_ms=0)) == 4


async def test_who_reads_on_behind_a_commit_gets_everything_once_and_in_order(site: Any) -> None:
    log, writer = site.connect(), site.connect()
    claim = await log.claim("voter", ["market"], 0, ME)
    stand, found = claim.positions["market"], list[bytes]()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(publish, writer, bars(3 * number, 3 * number + 1, 3 * number + 2))
                entries = await log.read({DEAD: START, MARKET: stand.id}, count=2, block_ms=60_000, ahead=True)
                after = Position(entries[-1].id, stand.seen + len(entries))
                await log.commit(claim, Commit([], {"market": stand}, {"market": after}))
                stand = after
                found += [entry.data for entry in entries]
    while entries := await log.read({DEAD: START, MARKET: stand.id}, count=100, block_ms=0, ahead=True):
        found += [entry.data for entry in entries]
        stand = Position(entries[-1].id, stand.seen + len(entries))
    assert found == await data(log, MARKET)
    assert len(found) == 60


async def test_what_was_asked_with_a_commit_is_not_taken_for_another_read(log: Log) -> None:
    await publish(log, [*bars(0, 1, 2), letter("a")])
    claim = await log.claim("voter", ["market"], 0, ME)
    first: list[Entry] = []
    for _ in range(3):
        first = await log.read({MARKET: START}, count=10, block_ms=60_000, ahead=True)
        assert [entry.data for entry in first] == [each.data for each in bars(0, 1, 2)]
        await log.commit(claim, Commit([letter("b")], {}, {}))
    [entry] = await log.read({MARKET: first[1].id}, count=1, block_ms=60_000, ahead=True)
    assert entry.data == minute_bar(2).data
    await log.commit(claim, Commit([letter("c")], {}, {}))
    assert [entry.place for entry in await log.read({DEAD: START}, count=10, block_ms=0)] == [DEAD] * 3


async def test_a_read_that_may_not_wait_does_not_where_one_that_may_was_asked_with_a_commit(log: Log) -> None:
    await publish(log, bars(0))
    claim = await log.claim("voter", ["market"], 0, ME)
    [entry] = await log.read({MARKET: START}, count=10, block_ms=60_000, ahead=True)
    await log.commit(claim, Commit([letter("a")], {}, {}))
    with anyio.fail_after(5):
        assert await log.read({MARKET: entry.id}, count=10, block_ms=0) == []


async def test_a_read_that_was_asked_with_a_commit_and_never_made_disturbs_nothing(log: Log) -> None:
    await publish(log, bars(0))
    claim = await log.claim("voter", ["market"], 0, ME)
    await log.read({MARKET: START}, count=10, block_ms=60_000, ahead=True)
    await log.commit(claim, Commit([letter("a")], {}, {}))
    with anyio.fail_after(10):
        await publish(log, bars(1))
        assert len(await data(log, MARKET)) == 2
        await log.release(claim)


async def test_a_read_of_nothing_ends(log: Log) -> None:
    assert await log.read({MARKET: START}, count=10, block_ms=0) == []
    assert await log.read({MARKET: START}, count=10, block_ms=1) == []


async def test_a_waiting_read_wakes_on_a_commit(site: Any) -> None:
    reader, writer = site.connect(), site.connect()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(publish, writer, bars(0, 1))
            entries = await reader.read({DEAD: START, MARKET: START}, count=10, block_ms=60_000)
    assert [entry.data for entry in entries] == [each.data for each in bars(0, 1)]


async def test_a_waiting_read_wakes_on_an_append(site: Any) -> None:
    reader, writer = site.connect(), site.connect()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(writer.append_at, CONTROL, "1-0", b"{}")
            entries = await reader.read({CONTROL: START}, count=10, block_ms=60_000)
    assert [(entry.id, entry.data) for entry in entries] == [("1-0", b"{}")]


async def test_a_read_of_control_and_a_partition_wakes_on_either_and_gets_everything_once(site: Any) -> None:
    reader, writer = site.connect(), site.connect()
    after, found = {CONTROL: START, MARKET: START}, list[Entry]()
    claim = await writer.claim("feed", [], 0, ME)

    async def write() -> None:
        for number in range(1, 11):
            await writer.append_at(CONTROL, f"{number}-0", b"%d" % number)
            await writer.commit(claim, Commit(bars(number), {}, {}))
            await writer.append_at(CONTROL, f"{number}-1", b"%d" % number)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            while len(found) < 30:
                entries = await reader.read(after, count=10, block_ms=60_000, ahead=True)
                after |= {entry.place: entry.id for entry in entries}
                found += entries
    assert [entry for entry in found if entry.place == CONTROL] == await writer.scan(CONTROL)
    assert [entry for entry in found if entry.place == MARKET] == await writer.scan(MARKET)


async def test_what_waits_for_control_outlives_reads_that_end_without_it(site: Any) -> None:
    reader, writer = site.connect(), site.connect()
    for _ in range(3):
        assert await reader.read({CONTROL: START, MARKET: START}, count=10, block_ms=5) == []
    await writer.append_at(CONTROL, "1-0", b"first")
    with anyio.fail_after(10):
        [entry] = await reader.read({CONTROL: START, MARKET: START}, count=10, block_ms=60_000)
    assert entry.data == b"first"


async def test_a_read_waits_no_longer_than_it_says_though_another_waited_longer(site: Any) -> None:
    reader = site.connect()
    with anyio.move_on_after(0.05):
        await reader.read({MARKET: START}, count=10, block_ms=60_000)
    with anyio.fail_after(10):
        assert await reader.read({MARKET: START}, count=10, block_ms=10) == []


async def test_two_that_read_the_same_streams_at_once_get_the_same(site: Any) -> None:
    reader, writer = site.connect(), site.connect()
    found = list[list[Entry]]()

    async def read(after: str) -> None:
        entries = await reader.read({CONTROL: after, MARKET: START}, count=10, block_ms=60_000)
        found.append(entries)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for after in (START, START, "5-0"):
                tasks.start_soon(read, after)
            await anyio.sleep(0.05)
            await publish(writer, bars(0))
    assert [[entry.data for entry in entries] for entries in found] == [[minute_bar(0).data]] * 3


async def test_an_abandoned_read_disturbs_nothing(log: Log) -> None:
    with anyio.move_on_after(0.02):
        await log.read({MARKET: START}, count=10, block_ms=60_000)
    await publish(log, bars(0))
    assert len(await log.read({MARKET: START}, count=10, block_ms=60_000)) == 1
    assert len(await log.scan(MARKET)) == 1


async def test_a_waiting_read_holds_nobody_up(log: Log) -> None:
    found = []

    async def wait(place: StreamKey) -> None:
        found.extend(await log.read({place: START}, count=10, block_ms=60_000))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, MARKET)
            tasks.start_soon(wait, DEAD)
            await publish(log, [minute_bar(0), letter("a")])
    assert {entry.place for entry in found} == {MARKET, DEAD}


async def test_a_scan_is_bounded_on_both_sides(log: Log) -> None:
    await publish(log, bars(0, 1, 2, 3))
    ids = [entry.id for entry in await log.scan(MARKET)]
    assert [entry.id for entry in await log.scan(MARKET, after=ids[0], until=ids[2])] == ids[1:3]
    assert [entry.id for entry in await log.scan(MARKET, after=ids[0], count=1)] == ids[1:2]
    assert await log.scan(MARKET, after=ids[3]) == []


async def test_a_tail_is_the_newest_in_order(log: Log) -> None:
    await publish(log, bars(0, 1, 2, 3))
    assert [entry.data for entry in await log.tail(MARKET, 2)] == [each.data for each in bars(2, 3)]
    assert len(await log.tail(MARKET, 100)) == 4
    assert await log.tail(MARKET, 0) == []
    assert await log.tail(FEATURES, 5) == []


async def test_partitions_are_apart(log: Log) -> None:
    await publish(log, bars(0), partition=1)
    assert await log.scan(MARKET) == []
    assert [entry.place for entry in await log.scan(StreamKey("market", 1))] == [StreamKey("market", 1)]


# Commits


async def test_a_commit_moves_everything_at_once(site: Any) -> None:
    log = site.connect()
    await publish(log, bars(0, 1, 2))
    claim = await log.claim("voter", ["market"], 0, ME)
    commit = await consume(log, claim, 2, [letter("a"), letter("b")])
    assert await log.commit(claim, commit) == Committed()
    assert await data(log, DEAD) == [letter("a").data, letter("b").data]
    again = await site.connect().claim("voter", ["market"], 0, ME)
    assert again.positions == commit.after
    assert again.memo == b"memo"
    assert again.since == commit.since


async def test_a_commit_forgets_what_the_former_memo_and_since_said(log: Log) -> None:
    claim = await log.claim("voter", ["market", "features"], 0, ME)
    await log.commit(claim, Commit([], {}, {}, b"long memo", {"market": "5-0", "features": "6-0"}))
    await log.commit(claim, Commit([], {}, {}, b"", {"market": "7-0"}))
    again = await log.claim("voter", ["market", "features"], 0, ME)
    assert (again.memo, again.since) == (b"", {"market": "7-0"})


async def test_a_second_owner_fences_the_first(site: Any) -> None:
    first, second = site.connect(), site.connect()
    await publish(first, bars(0, 1))
    old = await first.claim("voter", ["market"], 0, ME)
    batch = await consume(first, old, 1, [letter("old")])
    new = await second.claim("voter", ["market"], 0, OTHER, take_over=True)
    with pytest.raises(SupersededError, match=r"other \(pid 4000002 on there\)"):
        await first.commit(old, batch)
    assert await data(first, DEAD) == []
    assert (await first.claim("voter", ["market"], 0, OTHER)).positions == new.positions


async def test_an_owner_that_comes_back_from_the_dead_cannot_do_anything(site: Any) -> None:
    first, second = site.connect(), site.connect()
    old = await first.claim("voter", ["market"], 0, ME)
    site.end_lease("voter")
    new = await second.claim("voter", ["market"], 0, OTHER)
    with pytest.raises(SupersededError):
        await first.renew(old)
    await first.release(old)
    with pytest.raises(OwnedError):
        await first.claim("voter", ["market"], 0, ME)
    await second.renew(new)


async def test_a_commit_from_another_position_is_refused(log: Log) -> None:
    await publish(log, bars(0, 1, 2))
    claim = await log.claim("voter", ["market"], 0, ME)
    one, two = await consume(log, claim, 1, [letter("a")]), await consume(log, claim, 2, [letter("b")])
    await log.commit(claim, one)
    with pytest.raises(SupersededError, match="market"):
        await log.commit(claim, two)
    assert await data(log, DEAD) == [letter("a").data]
    assert (await log.claim("voter", ["market"], 0, ME)).positions == one.after


async def test_a_commit_that_is_sent_again_is_applied_once(log: Log) -> None:
    await publish(log, bars(0, 1))
    claim = await log.claim("voter", ["market"], 0, ME)
    commit = await consume(log, claim, 2, [letter("a")])
    for _ in range(3):
        assert await log.commit(claim, commit) == Committed()
    assert await data(log, DEAD) == [letter("a").data]


async def test_a_commit_without_inputs_that_is_sent_again_is_applied_once(log: Log) -> None:
    claim = await log.claim("feed", [], 0, ME)
    for _ in range(3):
        await log.commit(claim, Commit(bars(0), {}, {}, b"line 1"))
    await log.commit(claim, Commit(bars(1), {}, {}, b"line 2"))
    assert await data(log, MARKET) == [each.data for each in bars(0, 1)]


async def test_the_same_words_later_are_another_commit(log: Log) -> None:
    claim = await log.claim("feed", [], 0, ME)
    for number in (0, 1, 0):
        await log.commit(claim, Commit(bars(number), {}, {}))
    assert await data(log, MARKET) == [each.data for each in bars(0, 1, 0)]


async def test_the_same_words_under_a_new_claim_are_another_commit(log: Log) -> None:
    for _ in range(2):
        claim = await log.claim("feed", [], 0, ME)
        await log.commit(claim, Commit(bars(0), {}, {}))
    assert len(await log.scan(MARKET)) == 2


async def test_a_lost_consumer_group_is_made_again_at_the_durable_position_and_told(site: Any) -> None:
    log = site.connect()
    await publish(log, bars(0, 1, 2))
    claim = await log.claim("voter", ["market"], 0, ME)
    site.lose_group("voter", MARKET)
    commit = await consume(log, claim, 2, [letter("a")])
    assert await log.commit(claim, commit) == Committed(("market",))
    (view,) = [view for view in await log.groups(0) if view.group == "voter"]
    assert (view.positions, view.lag) == (commit.after, {"market": 1})
    assert await log.commit(claim, Commit([], commit.after, commit.after)) == Committed()


async def test_a_commit_names_partitioned_streams_and_claimed_positions(log: Log) -> None:
    claim = await log.claim("voter", ["market"], 0, ME)
    command = letter("x")._replace(stream="control")
    here, there = {"market": Position()}, {"features": Position()}
    for wrong in (Commit([command], {}, {}), Commit([], here, {}), Commit([], there, there)):
        with pytest.raises(ValueError, match="voter"):
            await log.commit(claim, wrong)
    with pytest.raises(ValueError, match="global"):
        await log.claim("voter", ["control"], 0, ME)


async def test_an_oversized_commit_is_refused_before_anything_is_written(log: Log) -> None:
    claim = await log.claim("feed", [], 0, ME)
    with pytest.raises(ValueError, match="100,001"):
        await log.commit(claim, Commit(bars(0) * (MOST_OUTPUTS + 1), {}, {}))
    assert await log.scan(MARKET) == []


# Claims


async def test_a_new_group_stands_at_the_start_of_streams_that_need_not_exist(log: Log) -> None:
    claim = await log.claim("voter", ["market", "features"], 0, ME)
    assert claim == Claim("voter", 0, 1, ME, {"market": Position(), "features": Position()}, {}, b"", None)


async def test_a_group_that_reads_one_more_stream_keeps_its_other_positions(log: Log) -> None:
    await publish(log, bars(0))
    claim = await log.claim("voter", ["market"], 0, ME)
    commit = await consume(log, claim, 1)
    await log.commit(claim, commit)
    assert (await log.claim("voter", ["features", "market"], 0, ME)).positions == {
        "features": Position(),
        **commit.after,
    }


async def test_a_second_copy_is_refused_and_told_who_runs(site: Any) -> None:
    await site.connect().claim("voter", ["market"], 0, ME)
    with pytest.raises(OwnedError, match=r"me \(pid 4000001 on here\).*by mistake"):
        await site.connect().claim("voter", ["market"], 0, OTHER)


async def test_a_lease_that_ended_lets_the_next_in_and_names_the_former(site: Any) -> None:
    log = site.connect()
    await log.claim("voter", ["market"], 0, ME)
    site.end_lease("voter")
    claim = await log.claim("voter", ["market"], 0, OTHER)
    assert (claim.epoch, claim.former) == (2, str(ME))


async def test_a_clock_that_is_set_back_does_not_prolong_a_lease(site: Any) -> None:
    log = site.connect()
    await log.claim("voter", ["market"], 0, ME)
    site.set_clock_back("voter")
    [view] = await log.groups(0)
    assert not view.alive
    with pytest.raises(OwnedError, match=r"start again in (9|10) s"):  # the owner may live, and has ten seconds
        await log.claim("voter", ["market"], 0, OTHER)
    [view] = await log.groups(0)
    assert view.alive
    site.end_lease("voter")
    assert (await log.claim("voter", ["market"], 0, OTHER)).epoch == 2


async def test_the_time_is_that_of_the_clock_that_gives_the_ids(log: Log) -> None:
    before = await log.time()
    await publish(log, bars(0))
    [entry] = await log.tail(MARKET, 1)
    assert before <= id_order(entry.id)[0] <= await log.time()


@pytest.mark.parametrize("sign", ["renew", "commit"])
async def test_a_sign_of_life_prolongs_the_lease(site: Any, sign: str) -> None:
    log = site.connect()
    claim = await log.claim("voter", ["market"], 0, ME)
    site.end_lease("voter")
    if sign == "renew":
        await log.renew(claim)
    else:
        await log.commit(claim, Commit([], {}, {}))
    with pytest.raises(OwnedError):
        await log.claim("voter", ["market"], 0, OTHER)


async def test_a_released_group_is_free_at_once_and_was_not_taken_from_anybody(log: Log) -> None:
    await log.release(await log.claim("voter", ["market"], 0, ME))
    claim = await log.claim("voter", ["market"], 0, OTHER)
    assert (claim.epoch, claim.former) == (2, None)


async def test_a_takeover_needs_no_end_of_the_lease(log: Log) -> None:
    await log.claim("voter", ["market"], 0, ME)
    claim = await log.claim("voter", ["market"], 0, OTHER, take_over=True)
    assert (claim.epoch, claim.former) == (2, str(ME))


async def test_a_dead_process_of_the_same_host_holds_no_lease(log: Log) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    await log.claim("voter", ["market"], 0, Owner("here", dead.pid, "crashed"))
    claim = await log.claim("voter", ["market"], 0, Owner("here", os.getpid(), "next"))
    assert claim.former == f"crashed (pid {dead.pid} on here)"


async def test_a_living_process_of_the_same_host_does(log: Log) -> None:
    await log.claim("voter", ["market"], 0, Owner("here", os.getppid(), "living"))
    with pytest.raises(OwnedError):
        await log.claim("voter", ["market"], 0, Owner("here", os.getpid(), "next"))


async def test_a_process_of_the_same_host_that_began_at_another_time_is_another(log: Log) -> None:
    """A pid is used again: by what runs in a restarted container, and after a restart of the machine."""
    parent = os.getppid()
    await log.claim("voter", ["market"], 0, Owner("here", parent, "living", process_start_time(parent)))
    with pytest.raises(OwnedError):
        await log.claim("voter", ["market"], 0, Owner("here", os.getpid(), "next"))
    await log.claim("trader", ["market"], 0, Owner("here", parent, "gone", process_start_time(parent) - 1))
    assert (await log.claim("trader", ["market"], 0, Owner("here", os.getpid(), "next"))).epoch == 2


async def test_a_restarted_container_has_the_pid_it_had(log: Log) -> None:
    for epoch in (1, 2):
        assert (await log.claim("voter", ["market"], 0, Owner("here", 1, "worker"))).epoch == epoch


async def test_of_two_that_find_a_dead_owner_the_last_to_claim_wins_alone(site: Any) -> None:
    await site.connect().claim("voter", ["market"], 0, ME)
    claims: list[tuple[Log, Claim]] = []

    async def race() -> None:
        log = site.connect()
        claims.append((log, await log.claim("voter", ["market"], 0, ME)))

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(race)
    assert sorted(claim.epoch for _, claim in claims) == [2, 3, 4, 5]
    for log, claim in claims:
        if claim.epoch == 5:
            await log.renew(claim)
        else:
            with pytest.raises(SupersededError):
                await log.renew(claim)


async def test_partitions_are_claimed_apart(log: Log) -> None:
    await log.claim("voter", ["market"], 0, ME)
    assert (await log.claim("voter", ["market"], 1, OTHER)).epoch == 1


# Compare and append


async def test_an_append_needs_a_greater_id(log: Log) -> None:
    assert await log.append_at(CONTROL, "2-0", b"two")
    for low in ("1-0", "2-0", "0-0"):
        assert not await log.append_at(CONTROL, low, b"two")
    assert await log.append_at(CONTROL, "2-1", b"more")
    assert [(entry.id, entry.data) for entry in await log.scan(CONTROL)] == [("2-0", b"two"), ("2-1", b"more")]


async def test_the_id_before_all_is_refused_on_an_empty_stream(log: Log) -> None:
    assert not await log.append_at(CONTROL, START, b"zero")
    assert await log.extent(CONTROL) == Extent(START, START, 0, 0, START)


async def test_racers_make_contiguous_versions(site: Any) -> None:
    async def race(name: int) -> None:
        log = site.connect()
        for turn in range(25):
            placed = False
            while not placed:
                tail = await log.tail(CONTROL, 1)
                version = int(tail[0].id.split("-")[0]) + 1 if tail else 1
                placed = await log.append_at(CONTROL, f"{version}-0", b"%d/%d" % (name, turn))

    async with anyio.create_task_group() as tasks:
        for name in range(4):
            tasks.start_soon(race, name)
    entries = await site.connect().scan(CONTROL)
    assert [entry.id for entry in entries] == [f"{version}-0" for version in range(1, 101)]
    assert len({entry.data for entry in entries}) == 100


# What status shows


async def test_an_extent_tells_first_last_and_how_many(log: Log) -> None:
    await publish(log, bars(0, 1, 2))
    ids = [entry.id for entry in await log.scan(MARKET)]
    assert await log.extent(MARKET) == Extent(ids[0], ids[2], 3, 3, START)


async def test_a_trim_shows_in_the_extent(site: Any) -> None:
    log = site.connect()
    await publish(log, bars(0, 1, 2))
    ids = [entry.id for entry in await log.scan(MARKET)]
    site.trim(MARKET, ids[2])
    assert (await log.extent(MARKET))[:4] == (ids[2], ids[2], 1, 3)
    site.trim(MARKET, f"{2**60}-0")
    assert await log.extent(MARKET) == Extent(START, START, 0, 3, ids[2])


async def test_groups_show_owner_lag_and_life(site: Any) -> None:
    log = site.connect()
    await publish(log, bars(0, 1, 2))
    claim = await log.claim("voter", ["market", "features"], 0, ME)
    commit = await consume(log, claim, 2)
    await log.commit(claim, commit)
    feed, voter = await log.groups(0)
    assert (feed.group, feed.alive, feed.lag) == ("feed", False, {})
    positions = {"features": Position(), **commit.after}
    assert voter == ("voter", 0, 1, str(ME), True, positions, {"market": 1, "features": 0}, {}, b"memo")
    site.end_lease("voter")
    assert [view.alive for view in await log.groups(0)] == [False, False]
    assert await log.groups(7) == []


# The fence


def closing(command_id: str) -> Encoded:
    return encode("decisions", FenceClosed(command_id, "ada", "outage", 0))


def opening(command_id: str) -> Encoded:
    return encode("decisions", FenceOpened(command_id, "ada", "it is over", 0))


async def test_a_fence_that_was_never_set_has_no_mark(log: Log) -> None:
    assert await log.fence(0) == ""


async def test_a_fence_is_set_together_with_its_note_and_once(log: Log) -> None:
    assert await log.set_fence(0, "open a", opening("a")) == "open a"
    assert await log.set_fence(0, "closed b", closing("b")) == "closed b"
    assert await log.set_fence(0, "closed b", closing("b")) == "closed b"
    assert await log.fence(0) == "closed b"
    assert await data(log, DECISIONS) == [opening("a").data, closing("b").data]


async def test_a_fence_that_must_have_another_mark_is_left_alone(log: Log) -> None:
    assert await log.set_fence(0, "open a", opening("a"), expected="closed z") == ""
    assert await log.set_fence(0, "open a", opening("a"), expected="") == "open a"
    assert await log.set_fence(0, "open b", opening("b"), expected="") == "open a"
    assert await log.set_fence(0, "open b", opening("b"), expected="open a") == "open b"
    assert await data(log, DECISIONS) == [opening("a").data, opening("b").data]


async def test_each_partition_has_a_fence_of_its_own(log: Log) -> None:
    await log.set_fence(1, "open a", opening("a"))
    assert (await log.fence(0), await log.fence(1)) == ("", "open a")
    assert await data(log, StreamKey("decisions", 1)) == [opening("a").data]


@pytest.mark.parametrize("mark", ["", "open", "open ", "ajar a"])
async def test_a_mark_that_is_none_is_refused(log: Log, mark: str) -> None:
    with pytest.raises(ValueError, match="expected `open <command id>` or `closed <command id>`"):
        await log.set_fence(0, mark, closing("a"))


async def test_a_note_for_another_stream_is_refused(log: Log) -> None:
    with pytest.raises(ValueError, match="belongs on 'decisions', not on 'dead'"):
        await log.set_fence(0, "open a", letter("a"))


async def test_a_commit_is_applied_under_the_mark_it_was_decided_under(log: Log) -> None:
    await log.set_fence(0, "open a", opening("a"))
    claim = await log.claim("ensemble-voter", [], 0, ME)
    await log.commit(claim, Commit([letter("x"), INTENT], {}, {}, fence="open a"))
    assert await data(log, INTENTS) == [INTENT.data]


@pytest.mark.parametrize("outputs", [[], [INTENT], [letter("x"), INTENT]])
@pytest.mark.parametrize("decided_under", ["open a", "closed a", ""])
async def test_a_commit_decided_under_another_mark_writes_nothing(
    log: Log, decided_under: str, outputs: Sequence[Encoded]
) -> None:
    await publish(log, bars(0))
    await log.set_fence(0, "closed b", closing("b"))
    claim = await log.claim("ensemble-voter", ["market"], 0, ME)
    commit = (await consume(log, claim, 1, outputs))._replace(fence=decided_under)
    with pytest.raises(HaltedError, match="marked 'closed b'") as refusal:
        await log.commit(claim, commit)
    assert refusal.value.mark == "closed b"
    assert await data(log, INTENTS) == await data(log, DEAD) == []
    again = await log.claim("ensemble-voter", ["market"], 0, ME, take_over=True)
    assert (again.positions, again.memo) == (claim.positions, b"")


@pytest.mark.parametrize(("there", "decided_under"), [("", None), ("", ""), ("open a", None), ("closed a", "closed a")])
async def test_intents_are_refused_unless_they_were_decided_under_an_open_mark(
    log: Log, there: str, decided_under: str | None
) -> None:
    if there:
        await log.set_fence(0, there, opening("a"))
    claim = await log.claim("ensemble-voter", [], 0, ME)
    with pytest.raises(HaltedError):
        await log.commit(claim, Commit([letter("x"), INTENT], {}, {}, fence=decided_under))
    assert await data(log, INTENTS) == await data(log, DEAD) == []


async def test_after_a_refusal_by_the_fence_the_claim_commits_what_was_decided_again(log: Log) -> None:
    await log.set_fence(0, "open a", opening("a"))
    claim = await log.claim("ensemble-voter", [], 0, ME)
    await log.commit(claim, Commit([letter("x")], {}, {}, fence="open a"))
    await log.set_fence(0, "closed b", closing("b"))
    with pytest.raises(HaltedError):
        await log.commit(claim, Commit([INTENT], {}, {}, fence="open a"))
    await log.commit(claim, Commit([letter("y")], {}, {}, fence="closed b"))
    await log.set_fence(0, "open c", opening("c"))
    await log.commit(claim, Commit([INTENT], {}, {}, fence="open c"))
    assert await data(log, DEAD) == [letter("x").data, letter("y").data]
    assert await data(log, INTENTS) == [INTENT.data]


async def test_a_commit_that_was_applied_may_be_sent_again_although_the_fence_was_closed_since(log: Log) -> None:
    await log.set_fence(0, "open a", opening("a"))
    claim = await log.claim("ensemble-voter", [], 0, ME)
    commit = Commit([INTENT], {}, {}, fence="open a")
    await log.commit(claim, commit)
    await log.set_fence(0, "closed b", closing("b"))
    assert await log.commit(claim, commit) == Committed()
    assert await data(log, INTENTS) == [INTENT.data]


async def test_the_same_outputs_decided_under_another_mark_are_another_commit(log: Log) -> None:
    await log.set_fence(0, "open a", opening("a"))
    claim = await log.claim("ensemble-voter", [], 0, ME)
    await log.commit(claim, Commit([letter("x")], {}, {}, fence="open a"))
    await log.set_fence(0, "open b", opening("b"))
    await log.commit(claim, Commit([letter("x")], {}, {}, fence="open b"))
    assert await data(log, DEAD) == [letter("x").data] * 2


async def test_who_reads_intents_commits_without_a_fence(log: Log) -> None:
    await log.set_fence(0, "open a", opening("a"))
    voter = await log.claim("ensemble-voter", [], 0, ME)
    await log.commit(voter, Commit([INTENT], {}, {}, fence="open a"))
    await log.set_fence(0, "closed b", closing("b"))
    claim = await log.claim("executor", ["intents"], 0, ME)
    [entry] = await log.scan(INTENTS)
    after = {"intents": Position(entry.id, 1)}
    assert await log.commit(claim, Commit([letter("x")], dict(claim.positions), after)) == Committed()


async def test_another_owner_is_told_before_the_fence(log: Log) -> None:
    claim = await log.claim("ensemble-voter", [], 0, ME)
    await log.claim("ensemble-voter", [], 0, OTHER, take_over=True)
    with pytest.raises(SupersededError):
        await log.commit(claim, Commit([INTENT], {}, {}, fence="open a"))
