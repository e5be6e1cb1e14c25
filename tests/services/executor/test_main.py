"""The executor over a log on Redis: killed and started again, and halted in the midst of a backlog."""

import os
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import anyio

from schemas.codec import decode
from schemas.control import Found, Halt
from schemas.orders import IntentRefused, OrderPlaced
from services.executor.core import GROUP
from shared.control.issuing import ControlWriter, current
from shared.log import Entry
from shared.log.redis import RedisLog
from shared.runtime.host import Host
from shared.runtime.process import owner
from tests.services.executor.killing import (
    POLICY,
    STEPS,
    Prompt,
    Slow,
    disturb,
    drained,
    forked,
    market,
    read_all,
    undisturbed,
    write,
)

WHY: dict[str, Any] = {"actor": "ada", "reason": "a test"}
PIECE = 60


def prepare(url: str, seed: int, bars: int = 60) -> list[list[Any]]:
    """Found an installation, and return its market in pieces."""

    async def found() -> list[list[Any]]:
        log = RedisLog(url)
        writer = ControlWriter(log)
        await writer.issue(Found(1, "log-of-a-test"), **WHY)
        await writer.issue(POLICY, **WHY)
        told = market(seed, await current(log), bars)
        await log.close()
        return [told[at : at + PIECE] for at in range(0, len(told), PIECE)]

    return anyio.run(found)


def on_log(url: str, function: Any, *arguments: Any) -> Any:
    async def call() -> Any:
        log = RedisLog(url)
        try:
            return await function(log, *arguments)
        finally:
            await log.close()

    return anyio.run(call)


def test_a_killed_executor_ends_with_the_orders_and_trades_of_an_undisturbed_one(empty_redis_url: str) -> None:
    draw = random.Random(7)
    ends: Counter[str] = Counter()
    for number, piece in enumerate(prepare(empty_redis_url, 1)):
        on_log(empty_redis_url, write, piece)
        ends[disturb(empty_redis_url, draw, STEPS[number % len(STEPS)])] += 1
    _, status = os.waitpid(forked(RedisLog(empty_redis_url)), 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert ends["killed"] >= 3
    assert ends["fenced"] >= 1

    async def compare(log: RedisLog) -> None:
        run = undisturbed(await read_all(log, "control"), await read_all(log, "market", "decisions", "intents"))
        ids = Counter(decode(entry.place.stream, entry.data).id for entry in await read_all(log, "orders", "trades"))
        assert ids == Counter(each.envelope.id for each in run.outputs)
        assert len(run.events(OrderPlaced)) > 20

    on_log(empty_redis_url, compare)


def test_after_a_halt_no_order_is_committed_whatever_the_backlog(empty_redis_url: str) -> None:
    for piece in prepare(empty_redis_url, 2, bars=200):
        on_log(empty_redis_url, write, piece)

    async def halt(log: RedisLog) -> None:
        slow, stop = Slow(empty_redis_url, 2), anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Host(Prompt(), slow, 0, owner(GROUP)).run, stop)
            with anyio.fail_after(60):
                while not placed(await read_all(log, "orders")):
                    await anyio.sleep(0)
                await ControlWriter(log).issue(Halt(), **WHY)
                at_halt = placed(await read_all(log, "orders"))
                while not await drained(log):
                    await anyio.sleep(0.02)
            stop.set()
        await slow.close()
        orders = await read_all(log, "orders")
        events = [decode("orders", entry.data).event for entry in orders]
        reasons = Counter(event.reason for event in events if isinstance(event, IntentRefused))
        assert placed(orders) == at_halt
        assert placed(orders) + sum(reasons.values()) == len(await read_all(log, "intents"))
        assert reasons["halted"] > 0

    on_log(empty_redis_url, halt)


def placed(entries: Sequence[Entry]) -> int:
    return sum(isinstance(decode("orders", entry.data).event, OrderPlaced) for entry in entries)
