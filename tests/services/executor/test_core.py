"""What the executor makes of bars, decisions and intents."""

from collections import defaultdict
from math import isclose

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from schemas.codec import Encoded
from schemas.control import SetExecutionPolicy
from schemas.decisions import IntentIssued
from schemas.orders import IntentRefused, OrderEnded, OrderFilled, OrderPlaced
from schemas.trades import TradeClosed
from services.executor.core import MARGIN_MS
from services.executor.state import KEPT
from shared.money.positions import SIGN
from shared.runtime.service import Batch, Received
from tests.services.executor.world import (
    FIRST,
    FREE,
    MINUTE,
    Run,
    bar_of,
    commands,
    decided,
    entries,
    story,
    told_by,
)

CONTROL = commands(FREE)


def run_of(told: list[Encoded], policy: SetExecutionPolicy = FREE, **more: object) -> Run:
    run = Run(commands(policy))
    run.take(entries(told), **more)
    return run


def test_an_intent_is_filled_at_the_open_of_the_next_bar() -> None:
    told = story("BTC", [(99.0, 100.0, "BUY"), (101.0, 105.0, "HOLD")])
    run = run_of(told)
    (placed,), (filled,) = run.events(OrderPlaced), run.events(OrderFilled)
    assert placed.order == told[2].envelope.id.hex()
    assert (placed.side, placed.quantity, placed.reference) == ("BUY", 100.0, 100.0)
    assert (filled.price, filled.open_time, filled.position) == (101.0, FIRST + MINUTE, 100.0)


def test_an_order_waits_for_the_next_bar_and_no_longer_than_the_intent_is_valid() -> None:
    told = [*story("BTC", [(99.0, 100.0, "BUY")]), bar_of("BTC", 5, 101.0)]
    run = run_of(told)
    (ended,) = run.events(OrderEnded)
    assert (ended.reason, ended.filled, run.events(OrderFilled)) == ("expired", 0.0, [])


def test_fee_half_spread_and_slippage_make_every_fill_worse() -> None:
    costs = SetExecutionPolicy(fee=0.001, half_spread=0.002, slippage=0.003)
    moves = [(100.0, 100.0, "BUY"), (100.0, 100.0, "SELL"), (100.0, 100.0, "HOLD")]
    run = run_of(story("BTC", moves), costs)
    bought, sold = run.events(OrderFilled)
    assert (bought.price, sold.price, bought.market_price) == (pytest.approx(100.5), pytest.approx(99.5), 100.0)
    assert bought.fee == pytest.approx(0.001 * 100 * 100.5)
    (trade,) = run.events(TradeClosed)
    assert trade.fees == pytest.approx((0.001 * 100.5 + 0.001 * 99.5) / 100.5)


def test_with_latency_the_price_lies_between_open_and_close() -> None:
    run = run_of(
        story("BTC", [(100.0, 100.0, "BUY"), (100.0, 108.0, "HOLD")]), structs.replace(FREE, latency_ms=15_000)
    )
    (filled,) = run.events(OrderFilled)
    assert (filled.price, filled.filled_at) == (102.0, FIRST + MINUTE + 15_000)


def test_an_order_takes_no_more_than_its_share_of_the_volume() -> None:
    told = [*story("BTC", [(100.0, 100.0, "BUY")]), bar_of("BTC", 1, 100.0, volume=80.0)]
    run = run_of(told, structs.replace(FREE, volume_share=0.5))
    (filled,), (ended,) = run.events(OrderFilled), run.events(OrderEnded)
    assert (filled.quantity, filled.position) == (40.0, 40.0)
    assert (ended.reason, ended.filled, ended.unfilled) == ("partly_filled", 40.0, 60.0)


def test_an_opposite_intent_closes_the_trade_of_the_decision_and_opens_the_other_side() -> None:
    told = story("BTC", [(100.0, 100.0, "BUY"), (100.0, 110.0, "SELL"), (120.0, 120.0, "HOLD")])
    run = run_of(told)
    (trade,) = run.events(TradeClosed)
    assert (trade.decision, trade.open_time) == (told[1].envelope.id.hex(), FIRST)
    assert (trade.action, trade.entry_price, trade.exit_price, trade.quantity) == ("BUY", 100.0, 120.0, 100.0)
    assert run.events(OrderFilled)[-1].position == pytest.approx(-10_000 / 110.0)


def test_a_symbol_is_bought_up_to_its_cap() -> None:
    told = story("BTC", [(100.0, 100.0, "BUY")] * 3 + [(100.0, 100.0, "HOLD")])
    run = run_of(told, structs.replace(FREE, symbol_cap=20_000.0))
    assert [event.position for event in run.events(OrderFilled)] == [100.0, 200.0]
    assert [event.reason for event in run.events(IntentRefused)] == ["symbol_cap"]


def test_all_symbols_together_stay_below_their_cap_and_a_close_is_always_allowed() -> None:
    first, second = story("BTC", [(100.0, 100.0, "BUY")]), story("ETH", [(10.0, 10.0, "BUY"), (10.0, 10.0, "SELL")])
    run = run_of([*first, *second], structs.replace(FREE, total_cap=15_000.0))
    assert [(event.symbol, event.reason) for event in run.events(IntentRefused)] == [
        ("ETH", "total_cap"),
        ("ETH", "total_cap"),
    ]


def test_a_cap_of_all_is_shared_among_the_partitions() -> None:
    run = Run(commands(structs.replace(FREE, total_cap=30_000.0), partitions=2))
    told = [*story("BTC", [(100.0, 100.0, "BUY")]), *story("ETH", [(100.0, 100.0, "BUY")])]
    run.take(entries(told))
    assert [event.reason for event in run.events(IntentRefused)] == ["total_cap"]


def test_an_order_that_expired_frees_the_cap() -> None:
    moves = [bar_of("BTC", at, 100.0) for at in (5, 6)]
    told = [*story("BTC", [(100.0, 100.0, "BUY")]), *moves[:1], *decided(moves[0], "BUY"), *moves[1:]]
    run = run_of(told)
    assert [event.position for event in run.events(OrderFilled)] == [100.0]


def test_a_cool_down_is_counted_in_bars() -> None:
    told = story("BTC", [(100.0, 100.0, "BUY"), (100.0, 100.0, "SELL"), (100.0, 100.0, "SELL"), (100.0, 100.0, "")])
    run = run_of(told, structs.replace(FREE, cooldown_bars=2))
    assert [event.reason for event in run.events(IntentRefused)] == ["cooldown"]
    assert [event.open_time for event in run.events(OrderPlaced)] == [FIRST, FIRST + 2 * MINUTE]


def test_a_live_intent_that_is_too_old_is_never_traded() -> None:
    told = story("BTC", [(100.0, 100.0, "BUY"), (100.0, 100.0, "HOLD")], origin="live")
    late = told[2].envelope.event.valid_until + 1
    run = Run(CONTROL)
    run.take(entries(told), now=late)
    (refused,) = run.events(IntentRefused)
    assert (refused.reason, refused.at, run.events(OrderPlaced)) == ("expired", late, [])


def test_an_intent_from_a_file_does_not_depend_on_the_clock() -> None:
    told = story("BTC", [(100.0, 100.0, "BUY"), (100.0, 100.0, "HOLD")])
    run = Run(CONTROL)
    run.take(entries(told), now=FIRST * 2)
    assert len(run.events(OrderFilled)) == 1


def test_during_a_halt_no_intent_is_traded_and_none_is_traded_afterwards() -> None:
    told = entries(story("BTC", [(100.0, 100.0, "BUY"), (100.0, 100.0, "HOLD"), (100.0, 100.0, "HOLD")]))
    run = Run(CONTROL)
    run.take(told[:3], halted=True)
    run.take(told[3:])
    assert [event.reason for event in run.events(IntentRefused)] == ["halted"]
    assert run.events(OrderPlaced) == []


def test_an_order_from_before_a_halt_is_filled() -> None:
    told = entries(story("BTC", [(100.0, 100.0, "BUY"), (100.0, 100.0, "HOLD")]))
    run = Run(CONTROL)
    run.take(told[:3])
    run.take(told[3:], halted=True)
    assert len(run.events(OrderFilled)) == 1


def test_a_halt_closes_all_positions_if_the_policy_says_so() -> None:
    told = entries(
        story("BTC", [(100.0, 100.0, "BUY"), (100.0, 100.0, "HOLD"), (90.0, 90.0, "HOLD"), (80.0, 80.0, "")])
    )
    run = Run(commands(structs.replace(FREE, flat_on_halt=True)))
    run.take(told[:5])
    run.take(told[5:], halted=True)
    closing = run.events(OrderPlaced)[-1]
    assert (closing.cause, closing.side, closing.quantity) == ("halt", "SELL", 100.0)
    assert run.events(OrderFilled)[-1].position == 0.0
    (trade,) = run.events(TradeClosed)
    assert (trade.exit_price, trade.closed_by) == (90.0, "a halt")


def test_an_intent_is_decided_under_the_policy_of_its_version() -> None:
    run = Run(commands(FREE, structs.replace(FREE, notional=5_000.0)))
    told = story("BTC", [(100.0, 100.0, "BUY")])
    run.take(entries(told))
    assert run.events(OrderPlaced)[0].quantity == 100.0


def test_without_a_venue_every_intent_is_refused() -> None:
    run = run_of(story("BTC", [(100.0, 100.0, "BUY"), (100.0, 100.0, "SELL")]), structs.replace(FREE, venue="none"))
    assert [event.reason for event in run.events(IntentRefused)] == ["no_venue", "no_venue"]


def test_a_second_intent_for_a_bar_is_refused() -> None:
    told = story("BTC", [(100.0, 100.0, "BUY")])
    run = run_of([*told, told[-1]])
    assert [event.reason for event in run.events(IntentRefused)] == ["repeated"]


def test_an_intent_whose_bar_is_missing_delays_the_others_until_the_market_was_read_past_it() -> None:
    lost, other = story("BTC", [(100.0, 100.0, "BUY")]), story("ETH", [(100.0, 100.0, "BUY")])
    read = entries([*lost[1:], *other])
    run = Run(CONTROL)
    run.take(read)
    assert run.outputs == []
    past = f"{int(read[0].entry.partition('-')[0]) + 2 * MARGIN_MS}-0"
    run.take([Received("market", past, bar_of("XRP", 9, 1.0).envelope)])
    assert [event.reason for event in run.events(IntentRefused)] == ["no_bar"]
    assert [event.symbol for event in run.events(OrderPlaced)] == ["ETH"]


def test_the_market_is_paused_while_it_is_far_ahead_of_the_decisions_and_read_now_and_then() -> None:
    run = Run(CONTROL)
    run.state.control = structs.replace(run.state.control, models={"a": _Voting()})
    run.take(entries([bar_of("BTC", at, 100.0) for at in range(KEPT // 2 + 1)]))
    paused = [run.service.paused_streams(run.state) for _ in range(130)]
    assert paused.count(()) == 2
    assert set(map(frozenset, paused)) == {frozenset(), frozenset({"market"})}


class _Voting:
    champion = "a"


ACTION = st.sampled_from(["BUY", "SELL", "HOLD", ""])
PRICE = st.floats(50.0, 200.0)
MOVES = st.lists(st.tuples(PRICE, PRICE, ACTION), max_size=12)
POLICY = st.builds(
    SetExecutionPolicy,
    symbol_cap=st.sampled_from([10_000.0, 30_000.0]),
    total_cap=st.sampled_from([10_000.0, 15_000.0, 100_000.0]),
    volume_share=st.sampled_from([0.0, 0.05]),
    cooldown_bars=st.integers(0, 3),
    flat_on_halt=st.booleans(),
)


@st.composite
def streams(draw: st.DrawFn) -> dict[str, list[Received]]:
    """The entries of each stream, of two symbols."""
    told = [bar for pair in (story("BTC", draw(MOVES)), story("ETH", draw(MOVES))) for bar in pair]
    told.sort(key=lambda each: each.envelope.event.open_time)
    by_stream: dict[str, list[Received]] = defaultdict(list)
    for received in entries(told):
        by_stream[received.stream].append(received)
    return by_stream


@st.composite
def interleaved(draw: st.DrawFn, by_stream: dict[str, list[Received]]) -> list[Received]:
    """The entries of all streams, each stream in its order."""
    left = {stream: list(events) for stream, events in sorted(by_stream.items())}
    read = []
    while any(left.values()):
        stream = draw(st.sampled_from([stream for stream, events in left.items() if events]))
        read.append(left[stream].pop(0))
    return read


def in_order(by_stream: dict[str, list[Received]]) -> list[Received]:
    read = [each for events in by_stream.values() for each in events]
    return sorted(read, key=lambda each: int(each.entry.partition("-")[0]))


@settings(deadline=None, max_examples=60)
@given(st.data(), streams(), POLICY, st.booleans())
def test_neither_cuts_nor_restarts_change_a_byte(
    data: st.DataObject, by_stream: dict[str, list[Received]], policy: SetExecutionPolicy, halted: bool
) -> None:
    read = data.draw(interleaved(by_stream))
    whole, cut = Run(commands(policy)), Run(commands(policy))
    whole.take(read, halted=halted)
    at = 0
    while at < len(read):
        upto = data.draw(st.integers(at + 1, len(read)))
        cut.take(read[at:upto], halted=halted)
        at = upto
        if data.draw(st.booleans()):
            cut.restart()
    assert told_by(cut.outputs) == told_by(whole.outputs)


@settings(deadline=None, max_examples=60)
@given(st.data(), streams(), POLICY)
def test_no_interleaving_of_the_streams_changes_what_becomes_of_a_symbol(
    data: st.DataObject, by_stream: dict[str, list[Received]], policy: SetExecutionPolicy
) -> None:
    kept, mixed = Run(commands(policy)), Run(commands(policy))
    kept.take(in_order(by_stream))
    mixed.take(data.draw(interleaved(by_stream)))
    for symbol in ("BTC", "ETH"):
        of = [
            [each.data for each in run.outputs if each.stream == "orders" and each.envelope.event.symbol == symbol]
            for run in (kept, mixed)
        ]
        assert of[0] == of[1]


@settings(deadline=None, max_examples=60)
@given(streams(), POLICY)
def test_positions_are_the_sums_of_their_fills_and_every_intent_has_one_outcome(
    by_stream: dict[str, list[Received]], policy: SetExecutionPolicy
) -> None:
    run = Run(commands(policy))
    run.take(in_order(by_stream))
    sums: dict[str, float] = defaultdict(float)
    for fill in run.events(OrderFilled):
        sums[fill.symbol] += SIGN[fill.side] * fill.quantity
        assert isclose(fill.position, sums[fill.symbol], rel_tol=1e-9, abs_tol=1e-9)
    for (symbol, *_), holding in run.state.account.holdings.items():
        assert isclose(holding.position, sums[symbol], rel_tol=1e-9, abs_tol=1e-9)
        assert holding.exposure(holding.side) <= policy.symbol_cap * (1 + 1e-9)
    intents = [each.envelope for each in by_stream["intents"]]
    placed = [event.order for event in run.events(OrderPlaced)]
    refused = [event.intent for event in run.events(IntentRefused)]
    assert sorted(placed + refused) == sorted(envelope.id.hex() for envelope in intents)
    decisions = [envelope.event.decision for envelope in intents if isinstance(envelope.event, IntentIssued)]
    assert {trade.decision for trade in run.events(TradeClosed)} <= set(decisions)


@settings(deadline=None, max_examples=40)
@given(st.data(), streams(), POLICY)
def test_what_is_held_can_be_made_again_from_the_orders(
    data: st.DataObject, by_stream: dict[str, list[Received]], policy: SetExecutionPolicy
) -> None:
    read = data.draw(interleaved(by_stream))
    cut = data.draw(st.integers(0, len(read)))
    whole, lost = Run(commands(policy)), Run(commands(policy))
    whole.take(read)
    lost.take(read[:cut])
    service, memo = lost.service, b""
    for written in lost.outputs:
        if written.stream == "orders":
            memo = service.recall(memo, [Received("orders", "1-0", written.envelope)])
    state = service.initial(memo)
    service.reapply(state, Batch(lost.control, ()))
    for stream in service.reads:
        service.reapply(state, Batch((), [each for each in read[:cut] if each.stream == stream]))
    lost.state = state
    lost.take(read[cut:])
    assert told_by(lost.outputs) == told_by(whole.outputs)
