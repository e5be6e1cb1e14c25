"""Money reconciles with the fills, and a model that decides as the ensemble does has its line."""

from collections import defaultdict
from math import fsum, isclose

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.control import SetExecutionPolicy
from schemas.decisions import IntentIssued
from schemas.market import BarClosed
from schemas.orders import OrderFilled
from shared.money.comparison import MoneyComparison
from shared.money.equity import EquityLine, EquityMark
from shared.money.figures import drawdown, figures_of, net_of, sharpe_ratio
from shared.money.orders import TradeSignal
from shared.money.positions import SIGN
from shared.money.venue import TradedBar
from shared.runtime.service import Received
from tests.services.executor.world import FIRST, FREE, MINUTE, Run, commands, entries, story

ACTION = st.sampled_from(["BUY", "SELL", "HOLD", ""])
PRICE = st.floats(50.0, 200.0)
MOVES = st.lists(st.tuples(PRICE, PRICE, ACTION), min_size=2, max_size=12)
POLICY = st.builds(
    SetExecutionPolicy,
    total_cap=st.sampled_from([10_000.0, 25_000.0]),
    symbol_cap=st.sampled_from([10_000.0, 30_000.0]),
    volume_share=st.sampled_from([0.0, 0.05]),
)


def close(one: float, other: float) -> bool:
    return isclose(one, other, rel_tol=1e-9, abs_tol=1e-9 * 100_000)


def compared(run: Run, read: list[Received], policy: SetExecutionPolicy, since: int | None = None) -> MoneyComparison:
    """The money of a run, and of a model that decides the same."""
    comparison = MoneyComparison([policy, policy, policy], 1, since)
    for written in run.outputs:
        event = written.envelope.event
        if written.stream == "orders":
            comparison.order((event.symbol, event.interval_ms, False), event)
    for received in read:
        event = received.envelope.event
        if isinstance(event, IntentIssued):
            key = (event.symbol, event.interval_ms, False)
            signal = TradeSignal(
                received.envelope.id.hex(), *key[:2], event.open_time, event.origin, event.decision, 2, event.action,
                event.valid_until,
            )  # fmt: skip
            comparison.signal("model a", key, event.open_time, signal)
    for received in read:
        event = received.envelope.event
        if isinstance(event, BarClosed):
            bar = TradedBar(event.open_time, event.origin, event.open, event.close, event.volume)
            comparison.bar(0, (event.symbol, event.interval_ms, False), bar)
    return comparison


@st.composite
def markets(draw: st.DrawFn) -> list[Received]:
    told = [each for pair in (story("BTC", draw(MOVES)), story("ETH", draw(MOVES))) for each in pair]
    return entries(sorted(told, key=lambda each: each.envelope.event.open_time))


@settings(deadline=None, max_examples=60)
@given(markets(), POLICY)
def test_equity_is_what_the_fills_paid_and_what_is_held_to_one_in_a_billion(
    read: list[Received], policy: SetExecutionPolicy
) -> None:
    run = Run(commands(policy))
    run.take(read)
    ensemble = compared(run, read, policy).figures()[0]
    prices: dict[str, float] = {}
    for received in read:
        if isinstance(bar := received.envelope.event, BarClosed):
            prices[bar.symbol] = bar.close
    cash, held = [], defaultdict[str, float](float)
    for fill in run.events(OrderFilled):
        signed = SIGN[fill.side] * fill.quantity
        cash.append(-signed * fill.price - fill.fee)
        held[fill.symbol] += signed
    net = fsum([*cash, *(quantity * prices[symbol] for symbol, quantity in held.items())])
    assert close(ensemble.net, net)
    assert close(ensemble.equity, ensemble.begin + net)
    assert close(fsum(ensemble.symbols.values()), net)
    lots = [(each, lot) for each in run.state.account.holdings.values() for lot in each.lots]
    open_net = [
        SIGN[each.side] * (lot.left * prices[each.symbol] + lot.closed_value - lot.quantity * lot.price)
        - lot.fee
        - lot.closed_fee
        for each, lot in lots
    ]
    trades = [each.envelope.event for each in run.outputs if each.stream == "trades"]
    assert close(fsum([*map(net_of, trades), *open_net]), net)
    assert ensemble.trades == len(trades)
    assert close(ensemble.fees, fsum(fill.fee for fill in run.events(OrderFilled)))


@settings(deadline=None, max_examples=60)
@given(markets(), POLICY)
def test_a_model_that_decides_as_the_ensemble_does_has_the_line_of_the_ensemble(
    read: list[Received], policy: SetExecutionPolicy
) -> None:
    run = Run(commands(policy))
    run.take(read)
    lines = compared(run, read, policy).figures()
    if len(lines) == 1:
        assert not run.events(OrderFilled)
        return
    ensemble, alone = lines
    for name in ("equity", "net", "drawdown", "turnover", "fills", "trades", "costs", "buy_and_hold"):
        assert getattr(alone, name) == getattr(ensemble, name), name


def test_since_leaves_out_what_was_gained_before() -> None:
    told = entries(
        story("BTC", [(100.0, 100.0, "BUY"), (100.0, 110.0, "HOLD"), (110.0, 110.0, "HOLD"), (110.0, 121.0, "HOLD")])
    )
    run = Run(commands(FREE))
    run.take(told)
    whole = compared(run, told, FREE).figures()[0]
    later = compared(run, told, FREE, FIRST + 2 * MINUTE).figures()[0]
    assert whole.net == pytest.approx(2_100.0)
    assert later.net == pytest.approx(1_100.0)
    assert later.fills == 0
    assert later.begin == pytest.approx(101_000.0)


def test_buying_each_symbol_once_and_staying_flat_stand_beside_a_line() -> None:
    told = entries(story("BTC", [(100.0, 100.0, "SELL"), (100.0, 100.0, "HOLD"), (100.0, 150.0, "HOLD")]))
    run = Run(commands(FREE))
    run.take(told)
    ensemble = compared(run, told, FREE).figures()[0]
    assert (ensemble.net, ensemble.buy_and_hold, ensemble.always_flat) == (-5_000.0, 5_000.0, 0.0)


def test_a_drawdown_is_measured_from_the_highest_equity_before() -> None:
    marks = [EquityMark(at, equity, 0.0) for at, equity in enumerate((110.0, 99.0, 105.0, 120.0, 114.0))]
    assert drawdown(100.0, marks) == pytest.approx(0.1)


def test_hit_rate_and_profit_factor_count_closed_trades_after_costs() -> None:
    moves = [(100.0, 100.0, "BUY"), (100.0, 100.0, "SELL"), (130.0, 130.0, "BUY"), (140.0, 140.0, "HOLD")]
    told = entries(story("BTC", moves))
    run = Run(commands(FREE))
    run.take(told)
    figures = compared(run, told, FREE).figures()[0]
    assert (figures.trades, figures.hit_rate) == (2, 0.5)
    assert figures.profit_factor == pytest.approx(3_000.0 / 1_000.0)


def test_the_interval_of_a_sharpe_ratio_follows_from_its_kurtosis() -> None:
    """Four equally likely changes, 1.5 and 0.5 steps to each side: skew 0, kurtosis 1.64."""
    quantiles = [0.001 * each for each in (-1.5, -0.5, 0.5, 1.5)] * 100
    equity, marks = 100.0, []
    for at, change in enumerate(quantiles):
        equity *= 1 + 0.0001 + change
        marks.append(EquityMark(at * MINUTE, equity, 0.0))
    ratio = sharpe_ratio(100.0, marks)
    assert ratio is not None
    year = (365 * 24 * 60) ** 0.5
    single, kurtosis = ratio.value / year, 1.64
    assert single == pytest.approx(0.0001 / 0.00111943, rel=1e-3)
    expected = 1.96 * ((1 + (kurtosis - 1) / 4 * single**2) / 399) ** 0.5 * year
    assert ratio.high - ratio.value == pytest.approx(expected, rel=1e-3)


def test_too_few_changes_have_no_sharpe_ratio() -> None:
    line = EquityLine(100.0)
    line.mark(1)
    assert figures_of("a", line, EquityLine(100.0)).sharpe is None


def test_a_line_without_trades_begins_with_its_first_prediction_whatever_the_order_in_which_they_are_noted() -> None:
    told = entries(story("BTC", [(100.0, 100.0, "HOLD"), (100.0, 100.0, "HOLD"), (100.0, 150.0, "HOLD")]))
    bars = [each.envelope.event for each in told if isinstance(each.envelope.event, BarClosed)]
    comparison = MoneyComparison([FREE], 1)
    key = ("BTC", MINUTE, False)
    for bar in reversed(bars):
        comparison.signal("model a", key, bar.open_time, None)
    for bar in bars:
        comparison.bar(0, key, TradedBar(bar.open_time, bar.origin, bar.open, bar.close, bar.volume))
    _, alone = comparison.figures()
    assert (alone.line, alone.net, alone.buy_and_hold) == ("model a", 0.0, 5_000.0)
