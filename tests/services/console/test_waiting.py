"""``--wait``: the first decision under this very entry, or a word that the log is another one."""

import json
from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

import anyio
import pytest
import redis
from msgspec.structs import replace

from bench.recorded import record
from schemas.codec import encode
from schemas.control import SetVotingPolicy
from schemas.decisions import DecisionMade, FenceClosed
from schemas.documentation.examples import examples
from shared.control.issuing import current, issue
from shared.control.stream import CONTROL
from shared.log import Log, StreamKey
from shared.log.redis import RedisLog

WHY = ("--reason", "a test", "--actor", "ada")
[DECISION] = [each.envelope.event for each in examples() if isinstance(each.envelope.event, DecisionMade)]
[INTENT] = [each for each in examples() if each.stream == "intents"]
INTENT_PLACE = StreamKey("intents")
Act = Callable[[RedisLog], Any]


def decided(version: int, head: str) -> DecisionMade:
    return replace(DECISION, control_version=version, control_head=head)


@pytest.fixture
def meanwhile(two: Any) -> Iterator[Callable[[Act], None]]:
    """Does something once the console has appended version 7."""
    threads = list[Thread]()

    def start(act: Act) -> None:
        async def run() -> None:
            log = RedisLog(two.url)
            try:
                with anyio.fail_after(20):
                    while (await current(log)).version < 7:
                        await anyio.sleep(0.005)
                await anyio.sleep(0.1)  # the console has its answer by now; later would do as well
                await act(log)
            finally:
                await log.close()

        threads.append(Thread(target=anyio.run, args=(run,)))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join()


async def lose_the_last_entry(log: RedisLog) -> None:
    """As a server that was restored to an older append-only file."""
    entries = await log.scan(CONTROL)
    with redis.Redis.from_url(f"redis://{log._router.address}") as client:
        client.delete(CONTROL.key)
    for entry in entries[:-1]:
        await log.append_at(CONTROL, entry.id, entry.data)


async def another_entry_in_its_place(log: RedisLog) -> None:
    await lose_the_last_entry(log)
    await issue(log, SetVotingPolicy(edge=0.2), actor="bo", reason="in its place")


def test_it_names_the_first_decision_under_the_entry_and_that_no_intent_followed(
    two: Any, meanwhile: Callable[[Act], None]
) -> None:
    async def act(log: RedisLog) -> None:
        state = await current(log)
        await record(log, "decisions", [decided(6, state.past[6].head), decided(7, state.head)])

    meanwhile(act)
    ended = two("halt", "--wait", "-o", "json", *WHY)
    assert ended.code == 0, ended.err
    said = json.loads(ended.out)
    assert said["first_decision"]["event"]["control_head"] == said["head"]
    assert said["intents_since"] == 0


def test_a_later_version_will_do_where_the_log_still_holds_the_entry(
    two: Any, meanwhile: Callable[[Act], None]
) -> None:
    async def act(log: RedisLog) -> None:
        later = await issue(log, SetVotingPolicy(edge=0.2), actor="bo", reason="later")
        await record(log, "decisions", [decided(8, later.state.head)])

    meanwhile(act)
    ended = two("policy", "voting", "edge=0.1", "--wait", *WHY)
    assert ended.code == 0, ended.err
    assert "first decision under version 7" in ended.out


def test_a_decision_under_another_head_of_that_version_is_not_taken_for_it(
    two: Any, meanwhile: Callable[[Act], None]
) -> None:
    async def act(log: RedisLog) -> None:
        await record(log, "decisions", [decided(7, "ab" * 32)])

    meanwhile(act)
    ended = two("halt", "--wait", *WHY)
    assert ended.code == 1
    assert "this log is not the log to which the command was appended" in ended.err
    assert "abababababab" in ended.err


def test_an_entry_that_is_gone_is_reported_without_any_decision(
    two: Any, meanwhile: Callable[[Act], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.console.control.issuing.CHECK_S", 0.2)
    meanwhile(lose_the_last_entry)
    ended = two("halt", "--wait", *WHY)
    assert ended.code == 1
    assert "control now ends at version 6" in ended.err


def test_an_entry_that_was_replaced_is_reported_although_later_versions_decide(
    two: Any, meanwhile: Callable[[Act], None]
) -> None:
    async def act(log: RedisLog) -> None:
        await another_entry_in_its_place(log)
        later = await issue(log, SetVotingPolicy(edge=0.3), actor="bo", reason="later")
        await record(log, "decisions", [decided(8, later.state.head)])

    meanwhile(act)
    ended = two("policy", "voting", "edge=0.1", "--wait", *WHY)
    assert ended.code == 1
    assert "control now has version 7 with head" in ended.err


def test_nothing_decided_is_neither_success_nor_a_lost_log(two: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.console.control.issuing.WAIT_S", 0.2)
    ended = two("halt", "--wait", *WHY)
    assert ended.code == 3
    assert "version 7 is recorded" in ended.err


def test_an_intent_that_was_written_past_the_fence_is_reported(two: Any, meanwhile: Callable[[Act], None]) -> None:
    async def act(log: RedisLog) -> None:
        state = await current(log)
        await log.append_at(INTENT_PLACE, "9999999999999-0", INTENT.data)
        await record(log, "decisions", [decided(7, state.head)])

    meanwhile(act)
    ended = two("halt", "--wait", *WHY)
    assert ended.code == 1
    assert "1 intents were written after the halt was accepted" in ended.err


def test_what_a_crash_left_is_repaired_and_reported(two: Any) -> None:
    async def crashed(log: Log) -> None:
        mark = "closed crashed"
        await log.set_fence(0, mark, encode("decisions", FenceClosed("crashed", "bo", "a crash", 0)))

    two.with_log(crashed)
    shown = json.loads(two("status", "-o", "json").out)
    assert shown["fences"] == [{"partition": 0, "mark": "closed crashed", "open": False}]
    assert "control is not halted: `conclave resume` opens it" in two("status").out
    ended = two("resume", *WHY)
    assert ended.code == 0
    assert "the fences of partitions 0 did not show it: they are opened now; nothing was appended" in ended.out
    assert json.loads(two("status", "-o", "json").out)["fences"][0]["open"]
