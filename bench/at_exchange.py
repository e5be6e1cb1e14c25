"""Kill the executor between its orders at a local exchange and their answers (see ``bench.executor``)."""

import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

import anyio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import structs
from rich.progress import track

from bench.harness import Figure
from bench.installation import free_port
from schemas.codec import Encoded, decode
from schemas.control import Found, TrustKey
from schemas.orders import AccountDiffers, IntentRefused, OrderEnded, OrderFilled, OrderPlaced
from shared.control.issuing import ControlWriter, current
from shared.control.signing import Signer
from shared.log.redis import RedisLog
from shared.server.embedded import EmbeddedServer
from tests.exchange.executing import now_ms
from tests.exchange.killing import POLICY, STEPS, disturb, finish, market
from tests.exchange.trading import SANDBOXES
from tests.services.executor.killing import read_all, write

WHY: Final[dict[str, Any]] = {"actor": "bench", "reason": "a bench"}
PIECE: Final = 6
"""Events that are written before each kill."""
SIGNER: Final = Signer("bench", Ed25519PrivateKey.from_private_bytes(bytes(32)))


def killed(venue: str, kills: int, draw: random.Random, seed: int) -> dict[str, Figure]:
    """Return what was lost, doubled or different after the kills, by comparison with a run without any."""
    first = (now_ms() // 1000 - kills * PIECE // 6 - 11) * 1000
    with tempfile.TemporaryDirectory(prefix="conclave-executor-") as folder:
        with server(Path(folder) / "kills") as url, exchange(seed) as address:
            told = anyio.run(_found, url, venue, kills, first)
            ends: Counter[str] = Counter()
            begun = time.monotonic()
            for number in track(range(kills), "kills"):
                anyio.run(_write, url, told[number * PIECE : (number + 1) * PIECE])
                step = STEPS[number % len(STEPS)]
                ends[f"{disturb(url, address, draw, step)} {step}"] += 1
            took_s = time.monotonic() - begun
            finish(url, address, draw)
            disturbed, state = anyio.run(_read, url), state_of(address)
        with server(Path(folder) / "calm") as url, exchange(0) as address:
            anyio.run(_write, url, anyio.run(_found, url, venue, kills, first)[: kills * PIECE])
            finish(url, address, draw)
            calm, calm_state = anyio.run(_read, url), state_of(address)
    how = Counter(end.partition(" ")[0] for end in ends.elements())
    accounts = state["balances"][SANDBOXES[venue]], calm_state["balances"][SANDBOXES[venue]]
    return compared(disturbed, state, calm, accounts) | {
        "killed": Figure(how["killed"], "times"),
        "suspended_and_replaced": Figure(how["fenced"], "times"),
        "drained_first": Figure(how["drained"], "times"),
        "server_unavailable": Figure(how["unavailable"], "times"),
        **{f"killed_{step.replace(' ', '_')}": Figure(ends[f"killed {step}"], "times") for step in STEPS[:-1]},
        "seconds_a_kill": Figure(took_s / kills, "s"),
    }


def compared(events: list[Any], state: Any, calm: list[Any], accounts: tuple[Any, Any]) -> dict[str, Figure]:
    """Compare two runs over the same intents. ``accounts``: what each holds at the end."""
    intents = {each[1] for each in events if each[0] == "intent"}
    written = [each for kind, each in events if kind == "event"]
    placed = Counter(each.order for each in written if isinstance(each, OrderPlaced))
    refused = Counter(each.intent for each in written if isinstance(each, IntentRefused))
    fills = [each for each in written if isinstance(each, OrderFilled)]
    moved = {each.order: each.moved for each in fills if isinstance(each.moved, float)}
    ended = {each.order for each in written if isinstance(each, OrderEnded)}
    at_exchange = {order: float(amount) for order, amount in state["moved"].items()}
    apart = max(
        (abs(at_exchange.get(order, 0.0) - moved.get(order, 0.0)) for order in at_exchange | moved), default=0.0
    )
    balances, others = accounts
    own, theirs = _positions(written), _positions([each for kind, each in calm if kind == "event"])
    symbols = own.keys() | theirs.keys()
    return {
        "intents": Figure(len(intents), "intents"),
        "orders": Figure(placed.total(), "orders"),
        "orders_at_the_exchange": Figure(len(at_exchange), "orders"),
        "requests_for_orders": Figure(state["asked"]["POST order"], "requests"),
        "intents_traded_twice": Figure(
            sum(count - 1 for count in placed.values()) + sum(count - 1 for count in state["accepted"].values()),
            "intents",
            "<= 0",
        ),
        "intents_lost": Figure(sum(placed[each] + refused[each] != 1 for each in intents), "intents", "<= 0"),
        "orders_without_an_end": Figure(len(placed.keys() - moved.keys() - ended), "orders", "<= 0"),
        "orders_differing_from_the_exchange": Figure(apart, "units", "<= 0"),
        "accounts_that_differed": Figure(sum(isinstance(each, AccountDiffers) for each in written), "times", "<= 0"),
        "positions_apart": Figure(
            max((abs(own.get(each, 0.0) - theirs.get(each, 0.0)) for each in symbols), default=0.0), "units", "<= 0"
        ),
        "balances_apart": Figure(
            max(abs(float(balances.get(each, 0)) - float(others.get(each, 0))) for each in balances | others),
            "units",
            "<= 0.000001",
        ),
    }


def _positions(written: list[Any]) -> dict[str, float]:
    return {each.symbol: each.position for each in written if isinstance(each, OrderFilled)}


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """A server, and its address."""
    with EmbeddedServer(folder, port=free_port(), die_with_parent=True) as started:
        yield started.url


@contextmanager
def exchange(seed: int) -> Iterator[str]:
    """A local exchange in another process, and its address."""
    port = free_port()
    command = [sys.executable, "-m", "tests.exchange.killing", str(port), str(seed)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def state_of(address: str) -> Any:
    """What the exchange has accepted, and what its accounts hold."""
    with urlopen(f"{address}/local/state") as answer:
        return json.load(answer)


async def _found(url: str, venue: str, kills: int, first: int) -> list[Encoded]:
    """Found an installation, and return its market."""
    log = RedisLog(url)
    try:
        for command in (Found(1, "log-of-a-bench"), TrustKey("bench", SIGNER.public_key, "bench")):
            await ControlWriter(log).issue(command, **WHY)
        await ControlWriter(log, SIGNER).issue(structs.replace(POLICY, venue=venue), **WHY)
        return market(1, await current(log), kills * PIECE // 6 + 10, first)
    finally:
        await log.close()


async def _write(url: str, told: Any) -> None:
    log = RedisLog(url)
    try:
        await write(log, told)
    finally:
        await log.close()


async def _read(url: str) -> list[Any]:
    log = RedisLog(url)
    try:
        intents = [("intent", decode("intents", entry.data).id.hex()) for entry in await read_all(log, "intents")]
        return intents + [("event", decode("orders", entry.data).event) for entry in await read_all(log, "orders")]
    finally:
        await log.close()
