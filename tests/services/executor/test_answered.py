"""What the core makes of the answers of an exchange. Nothing is sent here."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from schemas.codec import Encoded, decode, encode
from schemas.control import Command, CommandRecorded, Found, SetExecutionPolicy, TrustKey
from schemas.orders import AccountReconciled, IntentRefused, OrderEnded, OrderFilled, OrderPlaced
from schemas.trades import TradeClosed
from services.console.evidence.money import read_money
from services.executor.core import GROUP
from services.executor.reconciliation import Checked
from services.executor.settlement import Settled
from services.executor.state import Memo
from shared.control import EMPTY, fold, propose
from shared.control.signing import Signer
from shared.log import Commit, Owner
from shared.log.memory import MemoryLog
from shared.runtime.service import Batch, Received
from tests.services.executor.world import FIRST, MINUTE, Run, entries, story
from tests.shared.control.test_table import SIGNER

POLICY = SetExecutionPolicy(venue="binance", notional=1_000.0)
NOW = FIRST + 90_000


def control(*policies: SetExecutionPolicy) -> list[Any]:
    """A control log with a trusted key."""
    state, told = EMPTY, []
    key = TrustKey("ada", SIGNER.public_key, "Ada")
    wanted: list[Command] = [Found(1, "1932abcd"), key, *policies]
    for number, command in enumerate(wanted):
        signer: Signer | None = None if state.open else SIGNER
        entry = propose(state, command, command_id=f"c{number}", actor="me", reason="test", at=number, signer=signer)
        assert isinstance(entry, CommandRecorded), entry
        state = fold(state, entry)
        told.append(entry)
    return [encode("control", entry).envelope for entry in told]


class Trade(Run):
    """An executor whose exchange answers what the test says."""

    def __init__(self) -> None:
        super().__init__(control(POLICY))
        self.at = NOW

    def tell(self, *answers: Settled | Checked) -> list[Any]:
        written = list(self.service.answered(self.state, Batch((), (), now=self.at), answers))
        self.outputs += written
        return [each.envelope.event for each in written]

    def compare(self, held: float = 0.0) -> list[Any]:
        steps, bases = {"BTC": 0.0001}, {"BTC": "BTC"}
        return self.tell(Checked("binance.sandbox", 3, self.state.ledger.changes, {"BTC": held}, bases, steps))

    def settle(self, executed: float, price: float = 100.0, **about: Any) -> list[Any]:
        (working,) = self.state.working()
        shown = {"cost": executed * price, "base": "BTC", "quote": "USDT", "step": 0.0001, **about}
        return self.tell(Settled(working.order.order, self.at, executed=executed, **shown))

    def decide(self, *actions: str) -> None:
        told = story("BTC", [(100.0, 100.0, action) for action in actions], origin="live", version=3)
        self.take(entries(told), now=self.at)


def traded() -> Trade:
    run = Trade()
    run.decide("BUY", "HOLD", "SELL", "HOLD")
    run.compare()
    run.settle(10.0, commissions={"BTC": 0.01})
    run.settle(9.99, 110.0, commissions={"USDT": 1.0})
    return run


def test_an_intent_waits_until_the_account_was_compared_and_the_next_one_for_the_answer() -> None:
    run = Trade()
    run.decide("BUY", "HOLD", "SELL")
    assert run.outputs == []
    reconciled, placed = run.compare()
    assert isinstance(reconciled, AccountReconciled)
    assert (placed.side, placed.quantity, placed.limit) == ("BUY", 10.0, pytest.approx(100.2))
    filled, ended, sale = run.settle(10.0, commissions={"BTC": 0.01})
    assert (filled.quantity, ended.reason, sale.side, sale.quantity) == (9.99, "rounded", "SELL", 9.99)


def test_an_intent_waits_no_longer_than_it_is_valid() -> None:
    run = Trade()
    run.decide("BUY")
    run.at = FIRST + 2 * MINUTE + 1
    (refused,) = run.tell()
    assert isinstance(refused, IntentRefused)
    assert refused.reason == "expired"


def test_an_answer_that_is_given_again_changes_nothing() -> None:
    run = traded()
    written = list(run.outputs)
    for order in [each.order for each in run.events(OrderPlaced)]:
        run.tell(Settled(order, NOW, executed=5.0, cost=1.0))
    assert run.outputs == written
    assert [each.position for each in run.events(OrderFilled)] == [9.99, 0.0]


def test_an_account_that_was_asked_before_an_order_is_not_compared() -> None:
    run = Trade()
    run.decide("BUY")
    run.compare()
    stale = Checked("binance.sandbox", 3, 0, {"BTC": 77.0}, {"BTC": "BTC"}, {"BTC": 0.0001})
    assert run.tell(stale) == []
    run.settle(10.0)
    assert run.tell(stale) == []


def test_a_bar_executes_no_order_of_an_exchange() -> None:
    run = Trade()
    run.decide("BUY", "HOLD", "HOLD")
    run.compare()
    assert run.events(OrderFilled) == []
    assert len(run.state.working()) == 1


@pytest.mark.parametrize("restarted", [1, 2, 3])
def test_a_restart_changes_nothing_that_is_written(restarted: int) -> None:
    run = Trade()
    run.decide("BUY", "HOLD", "SELL", "HOLD")
    steps: list[Callable[[], Any]] = [run.compare, lambda: run.settle(10.0), lambda: run.settle(9.99, 110.0)]
    for number, step in enumerate(steps, 1):
        if number == restarted:
            run.restart()
            run.tell()
            if number > 1:
                run.state.compared = (3, frozenset({"BTC"}))
        step()
    assert [each.position for each in run.events(OrderFilled)] == [10.0, pytest.approx(0.01)]


def test_a_lost_snapshot_is_made_again_from_orders() -> None:
    run = traded()
    written = [Received("orders", "1-0", each.envelope) for each in run.outputs if each.stream == "orders"]
    made = msgspec.msgpack.decode(run.service.recall(b"", written), type=Memo)
    own = msgspec.msgpack.decode(run.service.snapshot(run.state), type=Memo)
    assert made.ledger == own.ledger
    assert [row.holding.lots for row in made.rows] == [row.holding.lots for row in own.rows] == [[]]


@pytest.mark.anyio
async def test_money_is_what_the_exchange_moved() -> None:
    run = traded()
    log = MemoryLog()
    me = Owner("here", 4_000_001, "me")
    bars: list[Encoded] = story("BTC", [(100.0, 100.0, "")] * 2 + [(110.0, 110.0, "")] * 3, origin="live")
    for who, outputs in (("writer", bars), (GROUP, run.outputs)):
        claim = await log.claim(who, (), 0, me)
        await log.commit(claim, Commit(outputs, {}, {}, fence=await log.fence(0)))
    report = await read_money(log, 1)
    (line,) = [each for each in report.lines if each.line == "ensemble"]
    assert line.net == pytest.approx(9.99 * 110.0 - 1.0 - 1_000.0, abs=1e-9)
    (trade,) = run.events(TradeClosed)
    assert trade.decision == run.events(OrderPlaced)[0].decision
    assert not [each for each in run.events(OrderEnded) if each.reason != "rounded"]
    assert decode("orders", run.outputs[0].data).event == run.events(AccountReconciled)[0]
