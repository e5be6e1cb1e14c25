"""Kill the executor at chosen steps of its commits, and compare its orders with those of an undisturbed run.

A market of three symbols is written to a local Redis piece by piece, with random decisions and intents under caps, a
cool-down and partial fills. In each piece an executor is forked and killed: before a commit is sent, while it is under
way, after it, or at any moment; or it is suspended before a commit, replaced, and continued, which must write nothing.
At the end the events on ``orders`` and ``trades`` are compared, id by id, with what the core alone makes of the same
entries: nothing may be missing, doubled or different. Then a halt is issued in the midst of a backlog, ``HALTS`` times:
orders for intents that are committed after the halt was accepted are counted.

With ``VENUE=binance`` (or ``bybit``, ``okx``) the executor trades at a local exchange, through ccxt, a fifth of whose
answers get lost or come late. It is killed before an order is sent, while it is under way, after its answer, after its
look-up, or at a commit; or suspended right before it sends an order, replaced, and continued. What is on the log is
compared with what the exchange accepted, and with a run without kills and faults.

``KILLS=<number>`` and ``SEED=<number>`` choose how many and which.
"""

import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
from rich.progress import track

from bench.at_exchange import killed
from bench.harness import Figure
from bench.installation import free_port
from schemas.codec import decode
from schemas.control import Found, Halt, Resume
from schemas.orders import IntentRefused, OrderFilled, OrderPlaced
from services.executor.core import GROUP
from shared.control.issuing import ControlWriter, current
from shared.log import Entry
from shared.log.redis import RedisLog
from shared.runtime.host import Host
from shared.runtime.process import owner
from shared.server.embedded import EmbeddedServer
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

KILLS: Final = 1000
QUICK_KILLS: Final = 25
HALTS: Final = 10
PIECE: Final = 24
"""Events that are written before each kill."""
HALTED_BARS: Final = 200
"""Bars of each symbol in the backlog of a halt."""
WHY: Final[dict[str, Any]] = {"actor": "bench", "reason": "a bench"}

T = TypeVar("T")


def run(quick: bool) -> dict[str, Figure]:
    """Return what was lost, doubled or different after the kills, and the orders after a halt."""
    kills, seed = int(os.environ.get("KILLS", QUICK_KILLS if quick else KILLS)), int(os.environ.get("SEED", "1"))
    draw = random.Random(seed)
    if (venue := os.environ.get("VENUE", "paper")) != "paper":
        return killed(venue, kills, draw, seed)
    figures: dict[str, Figure] = {}
    with tempfile.TemporaryDirectory(prefix="conclave-executor-") as folder:
        with EmbeddedServer(Path(folder) / "kills", port=free_port(), die_with_parent=True) as server:
            figures |= _killed(server.url, kills, draw)
        with EmbeddedServer(Path(folder) / "halts", port=free_port(), die_with_parent=True) as server:
            figures |= _halted(server.url, 3 if quick else HALTS)
    return figures


def _on(url: str, function: Callable[[RedisLog], Awaitable[T]]) -> T:
    async def call() -> T:
        log = RedisLog(url)
        try:
            return await function(log)
        finally:
            await log.close()

    return anyio.run(call)


async def _found(log: RedisLog) -> None:
    for command in (Found(1, "log-of-a-bench"), POLICY):
        await ControlWriter(log).issue(command, **WHY)


def _killed(url: str, kills: int, draw: random.Random) -> dict[str, Figure]:
    _on(url, _found)
    state = _on(url, current)
    # A bar has 2.25 events on average: itself, three decisions in four, an intent in two.
    told = market(1, state, kills * PIECE // 6 + 10)
    ends: Counter[str] = Counter()
    begun = time.monotonic()
    for number in track(range(kills), "kills"):
        piece = told[number * PIECE : (number + 1) * PIECE]

        async def append(log: RedisLog, piece: Any = piece) -> None:
            await write(log, piece)

        _on(url, append)
        ends[disturb(url, draw, draw.choice(STEPS))] += 1
    took_s = time.monotonic() - begun
    _, status = os.waitpid(forked(RedisLog(url)), 0)
    assert os.waitstatus_to_exitcode(status) == 0, "the last executor did not drain"
    return _on(url, _compared) | {
        "killed": Figure(ends["killed"], "times"),
        "suspended_and_replaced": Figure(ends["fenced"], "times"),
        "drained_first": Figure(ends["drained"], "times"),
        "seconds_a_kill": Figure(took_s / kills, "s"),
    }


async def _compared(log: RedisLog) -> dict[str, Figure]:
    run = undisturbed(await read_all(log, "control"), await read_all(log, "market", "decisions", "intents"))
    entries = await read_all(log, "orders", "trades")
    written = [decode(entry.place.stream, entry.data) for entry in entries]
    ids, expected = Counter(each.id for each in written), Counter(each.envelope.id for each in run.outputs)
    traded = Counter(each.event.order for each in written if isinstance(each.event, OrderPlaced))
    refused = Counter(each.event.intent for each in written if isinstance(each.event, IntentRefused))
    intents = [decode("intents", entry.data).id.hex() for entry in await read_all(log, "intents")]
    positions: dict[str, float] = {}
    for each in written:
        if isinstance(each.event, OrderFilled):
            positions[each.event.symbol] = each.event.position
    own = {holding.symbol: holding.position for holding in run.state.account.holdings.values()}
    apart = max((abs(positions.get(symbol, 0.0) - position) for symbol, position in own.items()), default=0.0)
    return {
        "intents": Figure(len(intents), "intents"),
        "orders": Figure(traded.total(), "orders"),
        "events": Figure(len(written), "events"),
        "intents_traded_twice": Figure(sum(count - 1 for count in traded.values()), "intents", "<= 0"),
        "intents_lost": Figure(sum(not traded[each] + refused[each] for each in intents), "intents", "<= 0"),
        "events_missing": Figure((expected - ids).total(), "events", "<= 0"),
        "events_doubled_or_different": Figure((ids - expected).total(), "events", "<= 0"),
        "positions_apart": Figure(apart, "units", "<= 0"),
    }


def _halted(url: str, halts: int) -> dict[str, Figure]:
    _on(url, _found)
    after, waited = 0, []
    for number in range(halts):

        async def halt(log: RedisLog, number: int = number) -> tuple[int, float]:
            return await _halt(log, url, number)

        late, took_s = _on(url, halt)
        after += late
        waited.append(took_s)
    return {
        "halts_in_a_backlog": Figure(halts, "times"),
        "orders_after_a_halt": Figure(after, "orders", "<= 0"),
        "intents_refused_by_it": Figure(_on(url, _refused_by_halt), "intents"),
        "halt_accepted_within": Figure(max(waited), "s"),
    }


async def _refused_by_halt(log: RedisLog) -> int:
    events = [decode("orders", entry.data).event for entry in await read_all(log, "orders")]
    return sum(isinstance(event, IntentRefused) and event.reason == "halted" for event in events)


async def _halt(log: RedisLog, url: str, number: int) -> tuple[int, float]:
    """Halt an executor in the midst of a backlog. Return the orders after it, and how long the command took."""
    writer = ControlWriter(log)
    state = await current(log)
    await write(log, market(number, state, HALTED_BARS, number * HALTED_BARS))
    before = _count(await read_all(log, "orders"), OrderPlaced)
    slow, stop = Slow(url, 2), anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Host(Prompt(), slow, 0, owner(GROUP)).run, stop)
        while _count(await read_all(log, "orders"), OrderPlaced) == before:
            await anyio.sleep(0)
        begun = time.monotonic()
        await writer.issue(Halt(), **WHY)
        took_s = time.monotonic() - begun
        accepted = _count(await read_all(log, "orders"), OrderPlaced)
        while not await drained(log):
            await anyio.sleep(0.02)
        stop.set()
    await slow.close()
    orders = await read_all(log, "orders")
    await writer.issue(Resume(), **WHY)
    return _count(orders, OrderPlaced) - accepted, took_s


def _count(entries: list[Entry], kind: type) -> int:
    return sum(isinstance(decode("orders", entry.data).event, kind) for entry in entries)
