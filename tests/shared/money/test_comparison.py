"""Money reconciles with the fills, and a model that decides as the ensemble does has its line."""

from collections import Counter, defaultdict
from math import fsum, isclose

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.control import SetExecutionPolicy
from schemas.decisions import IntentIssued
from schemas.market import BarClosed
from schemas.orders import OrderFilled
from shared.money.comparison import MoneyComparison
from shared.money.course import EquityCourse
from shared.money.equity import EquityLine
from shared.money.figures import MoneyFigures, figures_of, net_of, sharpe_ratio
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
    assert close(fsum(each.net for each in ensemble.symbols.values()), net)
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


SUMS = ("net", "turnover", "fills", "trades", "costs", "fees", "buy_and_hold")


@settings(deadline=None, max_examples=60)
@given(markets(), POLICY, st.sampled_from([None, FIRST + 3 * MINUTE]))
def test_the_figures_of_symbols_are_those_of_their_fills_and_add_up_to_the_line_to_one_in_a_billion(
    read: list[Received], policy: SetExecutionPolicy, since: int | None
) -> None:
    run = Run(commands(policy))
    run.take(read)
    whole = [line for line in compared(run, read, policy, since).figures() if line.symbols]
    for line in whole:
        for name in SUMS:
            assert close(fsum(getattr(each, name) for each in line.symbols.values()), getattr(line, name)), name
    if since is not None or not whole:
        return
    for symbol, figures in whole[0].symbols.items():
        alone = [each for each in read if each.envelope.event.symbol == symbol]
        fills = [fill for fill in run.events(OrderFilled) if fill.symbol == symbol]
        assert figures.fills == len(fills)
        assert close(figures.fees, fsum(fill.fee for fill in fills))
        slippage = fsum(abs(fill.price - fill.market_price) * fill.quantity for fill in fills)
        assert close(figures.costs, figures.fees + slippage)
        assert close(figures.turnover * figures.begin, fsum(fill.quantity * fill.price for fill in fills))
        recorded = recorded_line(run, alone, symbol, policy)
        assert close(figures.net, recorded.net)
        assert close(figures.equity, recorded.equity)
        assert figures.drawdown == pytest.approx(recorded.drawdown, rel=1e-9, abs=1e-12)
        assert (figures.trades, figures.hit_rate) == (recorded.trades, recorded.hit_rate)
        assert close(figures.profit_factor or 0.0, recorded.profit_factor or 0.0)


def recorded_line(run: Run, read: list[Received], symbol: str, policy: SetExecutionPolicy) -> MoneyFigures:
    """The ensemble's line of an installation that has only the orders and bars of one symbol."""
    comparison = MoneyComparison([policy, policy, policy], 1)
    for written in run.outputs:
        event = written.envelope.event
        if written.stream == "orders" and event.symbol == symbol:
            comparison.order((event.symbol, event.interval_ms, False), event)
    for received in read:
        if isinstance(bar := received.envelope.event, BarClosed):
            traded = TradedBar(bar.open_time, bar.origin, bar.open, bar.close, bar.volume)
            comparison.bar(0, (symbol, bar.interval_ms, False), traded)
    return comparison.figures()[0]


@given(
    st.lists(st.tuples(st.floats(-0.05, 0.05), st.floats(0.0, 200.0), st.booleans()), min_size=30, max_size=80),
)
def test_what_is_summed_up_is_what_all_moments_together_give(moments: list[tuple[float, float, bool]]) -> None:
    """Against NumPy, over the whole course; moments at which nothing changes may be left out."""
    course, equity, held = EquityCourse(100.0), 100.0, 0.0
    equities, exposures = [100.0], []
    for moment, (change, gross, quiet) in enumerate(moments, 1):
        if not quiet:
            equity, held = equity * (1.0 + change), gross
            course.mark(moment, equity, held)
        equities.append(equity)
        exposures.append(held / equity)
    assert course.exposure(len(moments)) == pytest.approx(float(np.mean(exposures)), rel=1e-9, abs=1e-12)
    highest = np.maximum.accumulate(equities)
    assert course.drawdown == pytest.approx(float(((highest - equities) / highest).max()), rel=1e-9, abs=1e-12)
    changes = np.diff(equities) / np.array(equities[:-1])
    found = course.changes(len(moments))
    if found is None:
        assert changes.std() <= 1e-6 * np.abs(changes).max() + 1e-300
        return
    centred = (changes - changes.mean()) / changes.std()
    assert found.mean == pytest.approx(float(changes.mean()), rel=1e-6, abs=1e-15)
    assert found.deviation == pytest.approx(float(changes.std(ddof=1)), rel=1e-6)
    assert found.skew == pytest.approx(float((centred**3).mean()), rel=1e-5, abs=1e-5)
    assert found.kurtosis == pytest.approx(float((centred**4).mean()), rel=1e-5)


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
    course = EquityCourse(100.0)
    for moment, equity in enumerate((110.0, 99.0, 105.0, 120.0, 114.0), 1):
        course.mark(moment, equity, 0.0)
    assert course.drawdown == pytest.approx(0.1)


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
    equity, course = 100.0, EquityCourse(100.0)
    for moment, change in enumerate(quantiles, 1):
        equity *= 1 + 0.0001 + change
        course.mark(moment, equity, 0.0)
    ratio = sharpe_ratio(course, 400, Counter({MINUTE: 399}))
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
