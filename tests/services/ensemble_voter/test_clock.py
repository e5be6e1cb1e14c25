"""Rounds of live bars, whatever the server's clock does: they close in time, and the record never goes back."""

import time
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from schemas.codec import decode, encode
from schemas.control import SetVotingPolicy
from schemas.decisions import DecisionMade
from schemas.operations import ClockApart
from services.ensemble_voter.core import Voter
from shared.control.fence import Authority
from shared.log import Commit, Owner, StreamKey
from shared.log.memory import MemoryLog, wall_ms
from shared.runtime.clock import ProcessClock, ServerClock
from shared.runtime.host import Host
from shared.runtime.service import Batch, Received
from shared.voting.deadline import wait_ms
from tests.services.ensemble_voter.test_core import MINUTE, THREE, Table, decisions

HOUR = 3_600_000
WAIT = 5_000
"""The deadline of the default policy."""


class Live(Table):
    """A table with a server's clock, and a steady one that nobody can set."""

    def __init__(self, ahead: int = 0) -> None:
        super().__init__()
        self.steady = 77
        self.true = 10 * MINUTE
        self.ahead = ahead

    def at(self, *ballots: Received) -> list[Any]:
        batch = Batch((), ballots, self.true + self.ahead, False, self.steady)
        return [sealed.envelope.event for sealed in self.voter.handle(self.state, batch)]

    def later(self, ms: int) -> list[DecisionMade]:
        self.steady += ms
        self.true += ms
        return decisions(self.at())

    def restart(self) -> None:
        """A new process: its steady clock has another zero, and what was read is replayed."""
        memo, rounds = self.voter.snapshot(self.state), list(self.seen)
        self.state, self.steady = self.voter.initial(memo), 5
        self.voter.apply(self.state, Batch(self.log, ()))
        self.voter.apply(self.state, Batch((), rounds))

    seen: tuple[Received, ...] = ()


@pytest.mark.parametrize("ahead", [-HOUR, 0, HOUR])
def test_given_a_wrong_server_clock_when_a_member_is_dead_then_every_bar_is_decided_at_its_deadline(ahead: int) -> None:
    table, found = Live(ahead), list[DecisionMade]()
    for bar in range(10, 20):
        table.true = (bar + 1) * MINUTE + 20
        assert table.at(table.ballot("a", bar, origin="live"), table.ballot("b", bar, origin="live")) == []
        assert table.later(WAIT - 21) == []
        found += table.later(21)
    assert [decision.open_time // MINUTE for decision in found] == list(range(10, 20))
    assert {(decision.closed_by, decision.absent[0].model) for decision in found} == {("deadline", "c")}


@pytest.mark.parametrize("step", [-HOUR, HOUR])
def test_given_a_server_clock_that_is_set_while_a_round_is_open_then_it_closes_as_if_nothing_happened(
    step: int,
) -> None:
    table = Live()
    table.true = 11 * MINUTE + 20
    table.at(table.ballot("a", 10, origin="live"), table.ballot("b", 10, origin="live"))
    table.ahead = step
    assert table.later(WAIT - 21) == []
    [decision] = table.later(1)
    assert (decision.closed_by, decision.waited_ms) == ("deadline", WAIT - 20)


def test_given_a_server_clock_that_was_set_back_then_no_decision_is_made_before_the_one_before() -> None:
    table = Live()
    table.true = 11 * MINUTE
    [first] = decisions(table.at(*(table.ballot(model, 10, origin="live") for model in "abc")))
    table.ahead = -HOUR
    table.restart()
    table.true += MINUTE
    [second] = decisions(table.at(*(table.ballot(model, 11, origin="live") for model in "abc")))
    assert (first.decided_at, second.decided_at) == (11 * MINUTE, 11 * MINUTE)


def test_given_a_voter_that_starts_again_then_an_open_round_waits_only_for_what_is_left() -> None:
    table = Live()
    table.true = 11 * MINUTE
    first = table.ballot("a", 10, origin="live")._replace(entry=f"{table.true}-0")
    table.at(first)
    table.seen = (first,)
    table.true += 3_000
    table.restart()
    assert table.at() == []
    assert table.later(1_999) == []
    [decision] = table.later(1)
    assert (decision.opened_at, decision.waited_ms, decision.closed_by) == (11 * MINUTE, WAIT, "deadline")


def test_a_round_that_no_deadline_closed_records_no_wait() -> None:
    table = Live()
    [decision] = decisions(table.at(*(table.ballot(model, 10, origin="live") for model in "abc")))
    assert decision.closed_by == "complete"
    assert b"waited_ms" not in msgspec.json.encode(decision)


def test_an_earlier_release_can_read_the_snapshot() -> None:
    table = Live()
    table.at(*(table.ballot(model, 10, origin="live") for model in "abc"))
    rows = msgspec.msgpack.decode(table.voter.snapshot(table.state), type=list[tuple[str, int, int]])
    assert {row[:2]: row for row in rows}["BTCUSDT", MINUTE] == ("BTCUSDT", MINUTE, 10 * MINUTE)


def test_a_lost_snapshot_is_made_again_with_the_clock() -> None:
    table = Live()
    sealed = table.voter.handle(
        table.state, Batch((), [table.ballot(model, 10, origin="live") for model in "abc"], 12 * MINUTE, False, 1)
    )
    written = [Received(each.stream, "1-0", each.envelope) for each in sealed if each.stream == "decisions"]
    assert Voter().recall(b"", written) == table.voter.snapshot(table.state)


@pytest.mark.parametrize(
    ("late", "wait"), [(-HOUR, 5_000), (-1, 5_000), (0, 5_000), (1, 4_999), (4_999, 1), (5_000, 5_000), (HOUR, 5_000)]
)
def test_a_round_waits_for_what_is_left_of_the_deadline_and_for_all_of_it_where_the_clock_cannot_be_right(
    late: int, wait: int
) -> None:
    assert wait_ms(MINUTE, MINUTE + late, 5_000) == wait


STEPS = st.lists(
    st.tuples(st.sampled_from(["bar", "tick", "set", "restart"]), st.integers(-2 * HOUR, 2 * HOUR)), max_size=40
)


@given(STEPS)
def test_whatever_is_done_to_the_clock_every_round_closes_in_time_and_times_never_fall(
    steps: list[tuple[str, int]],
) -> None:
    table, found, opened = Live(), list[DecisionMade](), dict[int, int]()
    elapsed, bar = 0, 10
    for what, amount in [*steps, ("tick", 0), ("tick", 0)]:
        match what:
            case "bar":
                bar += 1
                table.true = max(table.true, (bar + 1) * MINUTE)
                ballot = table.ballot("a", bar, origin="live")._replace(entry=f"{table.true}-0")
                table.seen = (*table.seen, ballot)
                opened[bar * MINUTE] = elapsed
                found += decisions(table.at(ballot))
            case "set":
                table.ahead = amount
            case "restart":
                table.restart()
            case _:
                pass
        elapsed += WAIT
        found += table.later(WAIT)
        for decision in found:
            started = opened.pop(decision.open_time, None)
            assert started is None or elapsed - started <= 3 * WAIT
    assert sorted(decision.open_time for decision in found) == [each * MINUTE for each in range(11, bar + 1)]
    times = [decision.decided_at or 0 for decision in found]
    assert times == sorted(times)


@pytest.mark.anyio
@pytest.mark.parametrize("whose", ["process", "server"])
@pytest.mark.parametrize("ahead", [-HOUR, HOUR])
async def test_given_a_hosted_voter_with_a_wrong_clock_when_a_member_is_dead_then_every_live_bar_is_decided(
    whose: str, ahead: int
) -> None:
    """The finding: a voter's clock an hour slow and one member dead, 4 of 40 live bars were decided."""
    process, server = (ahead, 0) if whose == "process" else (0, ahead)
    log = MemoryLog(now=lambda: wall_ms() + server)
    clock = ServerClock(ProcessClock(wall_ns=lambda: time.time_ns() + process * 1_000_000))
    table = Table(*THREE, SetVotingPolicy(deadline_ms=200))
    for entry in table.log:
        assert await log.append_at(
            StreamKey("control"), f"{entry.event.version}-0", encode("control", entry.event).data
        )
    await log.set_fence(0, "open t", Authority("t", "ada", "a test").note("open t"))
    stop = anyio.Event()
    first = wall_ms() - MINUTE
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Host(Voter(ticks=10), log, 0, Owner("here", 1, "voter"), clock=clock).run, stop)
        worker = await log.claim("model-worker.a", (), 0, Owner("here", 2, "worker"))
        for bar in range(20):
            ballots = [table.ballot(model, 0, origin="live") for model in "ab"]
            outputs = [
                encode(
                    "predictions",
                    structs.replace(ballot.envelope.event, open_time=first + bar),
                    causation=bar.to_bytes(16),
                    correlation=bar.to_bytes(16),
                )
                for ballot in ballots
            ]
            await log.commit(worker, Commit(outputs, {}, {}))
            await anyio.sleep(0.01)
        with anyio.fail_after(10):
            while (await log.extent(StreamKey("decisions"))).added < 21:
                await anyio.sleep(0.01)
        stop.set()
    events = [decode("decisions", entry.data).event for entry in await log.scan(StreamKey("decisions"))]
    made = [event for event in events if isinstance(event, DecisionMade)]
    assert [event.open_time for event in made] == [first + bar for bar in range(20)]
    assert {event.closed_by for event in made} == {"deadline"}
    assert {event.intent for event in made} == ({"stale"} if server > 0 else {"issued"})
    raised = [decode("alarms", entry.data).event for entry in await log.scan(StreamKey("alarms"))]
    assert [type(alarm) for alarm in raised] == [ClockApart]
