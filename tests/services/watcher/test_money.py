"""The gauges of the watcher show the money that ``conclave money`` folds, and refused intents are an alert only if no
command asks for them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings

from schemas.codec import Encoded
from schemas.control import Found, SetExecutionPolicy
from schemas.documentation.examples import examples
from schemas.market import BarClosed
from schemas.orders import IntentRefused, OrderEnded, OrderFilled, Reason
from services.executor.core import GROUP
from services.watcher.core import observe
from services.watcher.gauges import readings
from services.watcher.lone import LoneLines
from services.watcher.main import Channels, Watcher
from services.watcher.money import WatchedMoney
from services.watcher.state import State
from services.watcher.text import describe
from shared.control import State as Control
from shared.control.issuing import issue
from shared.log import Commit, Log, Owner
from shared.log.memory import MemoryLog
from shared.runtime.service import Received
from shared.telemetry.metrics import MetricReading
from shared.telemetry.reporting import Telemetry
from tests.services.executor.world import FREE, Run, commands, entries, story
from tests.shared.money.test_comparison import MOVES, compared

EXAMPLES: dict[type, Any] = {type(each.envelope.event): each.envelope.event for each in examples()}
COSTLY = SetExecutionPolicy(symbol_cap=30_000.0)


def watched(run: Run, read: Sequence[Received]) -> dict[str, float]:
    """The gauges of a watcher that saw the fills of a run, each before the close of its bar."""
    state = State()
    fills = [each.envelope.event for each in run.outputs if isinstance(each.envelope.event, OrderFilled)]
    for bar in (each.envelope.event for each in read if isinstance(each.envelope.event, BarClosed)):
        for fill in [each for each in fills if each.open_time == bar.open_time and each.symbol == bar.symbol]:
            assert observe(state, fill, 0, 1) == []
        assert observe(state, bar, 0, 1) == []
        state = msgspec.json.decode(msgspec.json.encode(state), type=State)  # as it is kept in watcher.json
    return money_of(readings(state, [], Control(execution=COSTLY), 0, LoneLines()))


def money_of(found: Sequence[MetricReading]) -> dict[str, float]:
    prefix = "conclave.money."
    return {each.name.removeprefix(prefix): each.value for each in found if each.name.startswith(prefix)}


@settings(deadline=None, max_examples=40)
@given(MOVES, MOVES)
def test_the_gauges_are_the_figures_of_the_ensemble(btc: list[Any], eth: list[Any]) -> None:
    told = [each for pair in (story("BTC", btc), story("ETH", eth)) for each in pair]
    read = entries(sorted(told, key=lambda each: each.envelope.event.open_time))
    run = Run(commands(COSTLY))
    run.take(read)
    gauges, ensemble = watched(run, read), compared(run, read, COSTLY).figures()[0]
    if not ensemble.fills:
        assert gauges == {}
        return
    held = [each for each in run.state.account.holdings.values() if each.lots]
    assert gauges["equity"] == pytest.approx(ensemble.equity, rel=1e-9)
    assert gauges["positions"] == len(held)
    assert 0.0 <= gauges["drawdown"] < 1.0
    assert (gauges["exposure"] > 0.0) == bool(held)


def test_a_drawdown_is_measured_from_the_highest_equity_at_any_bar() -> None:
    prices = [(100.0, 100.0, "BUY"), (100.0, 120.0, "HOLD"), (120.0, 110.0, "HOLD")]
    read = entries(story("BTC", prices))
    run = Run(commands(FREE))
    run.take(read)
    gauges = watched(run, read)
    assert gauges["equity"] == pytest.approx(101_000.0)
    assert gauges["drawdown"] == pytest.approx(1_000.0 / 102_000.0)
    assert gauges["exposure"] == pytest.approx(11_000.0 / 101_000.0)


@pytest.mark.parametrize("reason", get_args(Reason))
def test_a_refused_intent_is_an_alert_unless_a_command_asks_for_it(reason: str) -> None:
    described = describe(msgspec.structs.replace(EXAMPLES[IntentRefused], reason=reason))
    assert (described is not None) == (reason in {"expired", "no_bar", "repeated", "other_venue"})
    assert described is None or described[0] == "intents-refused"


@pytest.mark.parametrize(("reason", "noticed"), [("expired", True), ("partly_filled", False)])
def test_an_order_that_expired_is_one_too(reason: str, noticed: bool) -> None:
    assert (describe(msgspec.structs.replace(EXAMPLES[OrderEnded], reason=reason)) is not None) == noticed


class Gauges(Telemetry):
    """Keeps the last readings."""

    def levels(self, readings: Sequence[MetricReading]) -> None:
        self.money = money_of(readings)


async def trade(log: Log, run: Run, told: Sequence[Encoded]) -> None:
    """Append bars, and what the executor of a run makes of them."""
    bars = [each for each in told if each.stream == "market"]
    for who, outputs in (("feed", bars), (GROUP, run.take(entries(told)))):
        claim = await log.claim(who, (), 0, Owner("here", 1, who))
        await log.commit(claim, Commit(outputs, {}, {}, fence=await log.fence(0)))


async def started(log: Log, folder: Path) -> tuple[Watcher, Gauges]:
    gauges = Gauges()
    watcher = Watcher(log, 1, folder / "watcher.json", Channels([]), [], gauges)
    await watcher.begin()
    await watcher.turn()
    return watcher, gauges


BOUGHT = story("BTC", [(100.0, 100.0, "BUY"), (100.0, 120.0, "HOLD")])
RISEN = story("BTC", [(120.0, 130.0, "HOLD")], first=2)


@pytest.mark.anyio
async def test_a_watcher_without_its_file_folds_the_fills_that_were_before(tmp_path: Path) -> None:
    log = MemoryLog()
    await issue(log, Found(1, "log-of-a-test"), actor="me", reason="a test")
    await trade(log, Run(commands(FREE)), BOUGHT)
    watcher, gauges = await started(log, tmp_path)
    assert gauges.money["equity"] == pytest.approx(100_000.0), "valued at the fill until the next bar"
    assert gauges.money["positions"] == 1
    watcher.save()
    await trade(log, Run(commands(FREE)), RISEN)
    _, gauges = await started(log, tmp_path)
    assert gauges.money["equity"] == pytest.approx(103_000.0), "goes on from its file"


@pytest.mark.anyio
async def test_fills_that_the_server_lost_are_not_counted(tmp_path: Path) -> None:
    log = MemoryLog()
    await issue(log, Found(1, "log-of-a-test"), actor="me", reason="a test")
    image = log.image()
    await trade(log, Run(commands(FREE)), BOUGHT)
    watcher, gauges = await started(log, tmp_path)
    assert gauges.money["positions"] == 1
    log.restore(image)
    await watcher.turn()
    assert gauges.money == {}
    assert watcher._kept.state.money == WatchedMoney()
