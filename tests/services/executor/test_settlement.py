"""What an exchange shows of an order becomes events that are exact in money and position."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import ROOT
from schemas.control import SetExecutionPolicy
from schemas.orders import AccountDiffers, AccountReconciled, OrderEnded, OrderFilled, OrderPlaced
from services.executor.exchange import Instrument
from services.executor.reconciliation import Checked, Ledger, compare
from services.executor.settlement import Settled, settled
from shared.money.positions import Holding, Working, apply
from tests.services.executor.world import FIRST, MINUTE

POLICY = SetExecutionPolicy(fee=0.001)
STEP = 0.0001
AMOUNTS = st.integers(1, 10**7)
"""Amounts in steps."""


def order_of(side: Any, quantity: float, closes: float) -> OrderPlaced:
    return OrderPlaced(
        symbol="BTC/USDT",
        interval_ms=MINUTE,
        open_time=FIRST,
        origin="live",
        order=f"{len(side)}a" * 16,
        decision="0b" * 16,
        control_version=1,
        venue="binance",
        cause="intent",
        side=side,
        quantity=quantity,
        closes=closes,
        reference=100.0,
        valid_until=FIRST + 2 * MINUTE,
        placed_at=FIRST + MINUTE,
        limit=100.2,
    )


def place(holding: Holding, order: OrderPlaced) -> None:
    list(apply(holding, order, Working(order, ROOT, ROOT, 0)))


def take(holding: Holding, answer: Settled) -> list[Any]:
    events = list(settled(holding, answer, POLICY))
    for event in events:
        list(apply(holding, event))
    return events


def answer_of(order: OrderPlaced, executed: float, price: float, **more: Any) -> Settled:
    about = {"at": FIRST + 90_000, "cost": executed * price, "base": "BTC", "quote": "USDT", "step": STEP}
    return Settled(order.order, executed=executed, **{**about, **more})


@given(
    bought=AMOUNTS,
    share=st.floats(0.0, 0.01),
    prices=st.tuples(st.floats(0.01, 1e5), st.floats(0.01, 1e5)),
    third=st.booleans(),
)
def test_buying_and_selling_all_of_it_costs_exactly_what_the_exchange_moved(
    bought: int, share: float, prices: tuple[float, float], third: bool
) -> None:
    holding = Holding("BTC/USDT", MINUTE)
    quantity = bought * STEP
    order = order_of("BUY", quantity, 0.0)
    place(holding, order)
    commission = quantity * share
    events = take(holding, answer_of(order, quantity, prices[0], commissions={"BNB" if third else "BTC": commission}))
    assert holding.working is None
    held = quantity if third else quantity - commission
    assert holding.position == pytest.approx(held)
    sellable = int(held / STEP) * STEP
    if not sellable:
        return
    closing = order_of("SELL", holding.position, holding.position)
    place(holding, closing)
    events += take(holding, answer_of(closing, sellable, prices[1], commissions={"USDT": 0.25}))
    assert (holding.position, holding.lots, holding.working) == (0.0, [], None)
    money = sum((1 if each.side == "SELL" else -1) * each.quantity * each.price - each.fee for each in fills(events))
    fee = POLICY.fee * quantity * prices[0] if third else 0.0
    assert money == pytest.approx(sellable * prices[1] - quantity * prices[0] - fee - 0.25, rel=1e-9, abs=1e-6)


def fills(events: list[Any]) -> list[OrderFilled]:
    return [event for event in events if isinstance(event, OrderFilled)]


def test_an_order_that_was_not_sent_ends_and_moves_nothing() -> None:
    holding = Holding("BTC/USDT", MINUTE)
    order = order_of("BUY", 1.0, 0.0)
    place(holding, order)
    (ended,) = take(holding, Settled(order.order, FIRST + MINUTE, ended="halted"))
    assert (ended.reason, ended.filled, holding.position, holding.committed) == ("halted", 0.0, 0.0, 0.0)


def test_a_sale_within_the_limit_for_a_part_leaves_the_rest_in_the_position() -> None:
    holding = Holding("BTC/USDT", MINUTE)
    order = order_of("BUY", 1.0, 0.0)
    place(holding, order)
    take(holding, answer_of(order, 1.0, 100.0))
    closing = order_of("SELL", 1.0, 1.0)
    place(holding, closing)
    filled, ended = take(holding, answer_of(closing, 0.9999, 100.0, ended="limit"))
    assert isinstance(ended, OrderEnded)
    assert (ended.reason, filled.position) == ("limit", pytest.approx(0.0001))
    assert holding.committed == pytest.approx(0.01)


def checked(held: float, version: int = 3, strangers: tuple[str, ...] = ()) -> Checked:
    return Checked("binance", version, 0, {"BTC": held}, {"BTC/USDT": "BTC"}, {"BTC/USDT": STEP}, strangers)


def test_an_account_is_compared_with_what_it_held_and_what_orders_moved_since() -> None:
    ledger = Ledger()
    first = compare(ledger, checked(2.0), {}, 7)
    assert first == AccountReconciled("binance", 3, {"BTC": 2.0}, 7)
    assert isinstance(first, AccountReconciled)
    ledger.reconciled(first)
    holding = Holding("BTC/USDT", MINUTE)
    order = order_of("BUY", 1.0, 0.0)
    place(holding, order)
    for event in take(holding, answer_of(order, 1.0, 100.0, commissions={"BTC": 0.001})):
        if isinstance(event, OrderFilled):
            ledger.filled(event)
    assert compare(ledger, checked(2.999), {"BTC/USDT": 0.999}, 8) is None
    for held in (2.9985, 2.9995, 0.0):
        event = compare(ledger, checked(held), {"BTC/USDT": 0.999}, 8)
        assert isinstance(event, AccountDiffers), held
        assert event.reason == "balance"


@pytest.mark.parametrize(("held", "kind"), [(1.0, AccountReconciled), (5.0, AccountReconciled), (0.9, AccountDiffers)])
def test_after_a_command_an_account_may_hold_whatever_covers_the_positions(held: float, kind: type) -> None:
    ledger = Ledger(venue="binance", version=3, balances={"BTC": 2.0})
    assert isinstance(compare(ledger, checked(held, version=4), {"BTC/USDT": 1.0}, 8), kind)


def test_an_order_that_is_not_on_the_log_is_a_difference() -> None:
    event = compare(Ledger(), checked(1.0, strangers=("buy 1 of BTC/USDT is open",)), {}, 8)
    assert isinstance(event, AccountDiffers)
    assert event.reason == "order"


@given(steps=st.integers(1, 10**10), digits=st.integers(0, 8), parts=st.integers(1, 7))
def test_a_quantity_is_cut_to_steps_and_loses_none_to_the_rounding_of_sums(steps: int, digits: int, parts: int) -> None:
    listed = Instrument("BTC", "USDT", 10.0**-digits)
    exact = float(Decimal(steps).scaleb(-digits))
    summed = sum([exact / parts] * parts)
    assert listed.in_steps(summed) == exact
    assert listed.in_steps(exact + 10.0**-digits * 0.4) == exact
    assert listed.in_steps(exact - 10.0**-digits * 0.4) == float(Decimal(steps - 1).scaleb(-digits))
