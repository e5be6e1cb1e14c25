"""Given scores with prices, when they are read, then the gate ``money`` is about what candidate and champion would have
earned alone: the figures of ``conclave money``."""

from math import fsum, isclose
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.recorded import BEFORE, MINUTE, PRIOR, START, commands, market, scored
from schemas.codec import ROOT, encode
from schemas.common import ACTIONS, Action
from schemas.control import SetExecutionPolicy
from schemas.gates import GateVerdict, VerdictReached
from schemas.orders import OrderFilled, OrderPlaced
from schemas.scores import PredictionScored, TradedPrices
from services.gate_evaluator import money
from services.gate_evaluator.candidates import WRITE_EVERY
from services.gate_evaluator.core import Evaluator
from services.gate_evaluator.money import PairedMoney, trade
from shared.control import EMPTY, fold
from shared.control.state import Past
from shared.money.account import Account, Key, executed
from shared.money.alone import LoneAccount
from shared.money.comparison import MoneyComparison
from shared.money.orders import TradeSignal
from shared.money.positions import SIGN, Working, apply
from shared.money.venue import TradedBar
from shared.runtime.service import Batch, Received

HOUR = 60 * MINUTE
SURE: dict[Action, tuple[float, float, float]] = {
    "SELL": (0.8, 0.1, 0.1),
    "HOLD": (0.1, 0.8, 0.1),
    "BUY": (0.1, 0.1, 0.8),
}
POLICY = st.builds(
    SetExecutionPolicy,
    notional=st.sampled_from([10_000.0, 7_000.0]),
    total_cap=st.sampled_from([10_000.0, 100_000.0]),
    symbol_cap=st.sampled_from([10_000.0, 30_000.0]),
    volume_share=st.sampled_from([0.0, 0.05]),
    latency_ms=st.sampled_from([0, 1_000]),
    cooldown_bars=st.sampled_from([0, 2]),
    venue=st.sampled_from(["paper", "none"]),
)


class Moment(NamedTuple):
    """A bar of a symbol, and what candidate and champion say about it; None: the champion is silent."""

    symbol: str
    bar: TradedBar
    candidate: Action
    champion: Action | None


@st.composite
def moments(draw: st.DrawFn) -> list[Moment]:
    found = []
    for number in range(draw(st.integers(2, 12))):
        for symbol in ("BTC", "ETH"):
            opened, closed = draw(st.floats(50.0, 200.0)), draw(st.floats(50.0, 200.0))
            bar = TradedBar(START + number * HOUR, "replay", opened, closed, draw(st.floats(1.0, 5_000.0)))
            found.append(Moment(symbol, bar, draw(st.sampled_from(ACTIONS)), draw(st.sampled_from([*ACTIONS, None]))))
    return found


def past_of(policy: SetExecutionPolicy) -> Past:
    state = EMPTY
    for envelope in commands(first=BEFORE):
        state = fold(state, envelope.event)
    return msgspec.structs.replace(state.past[7], execution=policy)


def scores_of(told: list[Moment]) -> list[PredictionScored]:
    """The scores of the candidate at all bars that another one of their symbol follows."""
    found: list[PredictionScored] = []
    for moment in told:
        opened = moment.bar.open_time
        after = [each.bar for each in told if each.symbol == moment.symbol and each.bar.open_time == opened + HOUR]
        for next_bar in after:
            prices = TradedPrices(moment.bar.close, next_bar.open, next_bar.close, next_bar.volume)
            found.append(
                scored(
                    (opened - START) // HOUR,
                    moment.symbol,
                    SURE[moment.candidate],
                    1,
                    origin="replay",
                    action=moment.candidate,
                    incumbent=None if moment.champion is None else SURE[moment.champion],
                    horizon=1,
                    prediction=bytes([len(found)]) * 16,
                    prices=prices,
                )
            )
    return found


def compared(told: list[Moment], scores: list[PredictionScored], policy: SetExecutionPolicy) -> dict[str, float]:
    """What ``conclave money`` shows for both, by the name of the line."""
    comparison = MoneyComparison([policy] * 8, 1)
    for score in scores:
        key = (score.symbol, score.interval_ms, False)
        champion = None if score.incumbent is None else ACTIONS[score.incumbent.index(max(score.incumbent))]
        for line, action in (("model xgboost", champion), ("shadow xgboost", score.action)):
            signal = None
            if action is not None and action != "HOLD":
                event = score.prediction.hex()
                signal = TradeSignal(
                    event, *key[:2], score.open_time, "replay", event, 7, action, score.open_time + 10 * HOUR
                )
            comparison.signal(line, key, score.open_time, signal)
    for moment in told:
        comparison.bar(0, (moment.symbol, HOUR, False), moment.bar)
    return {each.line: each.net for each in comparison.figures()}


@settings(deadline=None, max_examples=100)
@given(moments(), POLICY)
def test_what_both_earned_is_what_conclave_money_shows_to_one_in_a_billion(
    told: list[Moment], policy: SetExecutionPolicy
) -> None:
    scores, past, pair = scores_of(told), past_of(policy), PairedMoney()
    earned = [trade(pair, score, past) for score in scores]
    lines = compared(told, scores, policy)
    for name, parts in (
        ("shadow xgboost", [each.candidate for each in earned if each]),
        ("model xgboost", [each.champion for each in earned if each]),
    ):
        total = fsum(parts) * policy.notional
        assert isclose(total, lines[name], rel_tol=1e-9, abs_tol=1e-9 * policy.equity), name


@settings(deadline=None, max_examples=100)
@given(moments(), POLICY)
def test_what_the_candidate_earned_reconciles_with_its_fills(told: list[Moment], policy: SetExecutionPolicy) -> None:
    """Against fills that are found with the account alone, and added up here."""
    scores, past, pair = scores_of(told), past_of(policy), PairedMoney()
    total = fsum(each.candidate for each in (trade(pair, score, past) for score in scores) if each)
    account, cash, held, close = Account(), [], dict[str, float](), dict[str, float]()
    on_paper = msgspec.structs.replace(policy, venue="paper")
    for score in scores:
        key: Key = (score.symbol, HOUR, False)
        prices = score.prices
        assert prices is not None
        close[score.symbol] = prices.next_close
        if score.action == "HOLD":
            continue
        event = score.prediction.hex()
        signal = TradeSignal(event, *key[:2], score.open_time, "replay", event, 7, score.action, score.open_time + HOUR)
        placed = account.decide(key, signal._replace(valid_until=2**50), on_paper, prices.close, 1)
        working = Working(placed, ROOT, ROOT, 0) if isinstance(placed, OrderPlaced) else None
        list(apply(account.of(key), placed, working))
        after = TradedBar(score.open_time + HOUR, "replay", prices.next_open, prices.next_close, prices.next_volume)
        for outcome in list(executed(account.of(key), after, on_paper)):
            list(apply(account.of(key), outcome))
            if isinstance(outcome, OrderFilled):
                signed = SIGN[outcome.side] * outcome.quantity
                cash.append(-signed * outcome.price - outcome.fee)
                held[score.symbol] = held.get(score.symbol, 0.0) + signed
    net = fsum([*cash, *(quantity * close[symbol] for symbol, quantity in held.items())])
    assert isclose(total * policy.notional, net, rel_tol=1e-9, abs_tol=1e-9 * policy.equity)


@settings(deadline=None, max_examples=25)
@given(moments(), POLICY)
def test_accounts_go_on_as_they_were_after_a_restart(told: list[Moment], policy: SetExecutionPolicy) -> None:
    scores, past = scores_of(told), past_of(policy)
    whole, cut = PairedMoney(), PairedMoney()
    for score in scores:
        expected = trade(whole, score, past)
        assert trade(cut, score, past) == expected
        cut = msgspec.msgpack.decode(msgspec.msgpack.encode(cut), type=PairedMoney)
    assert cut == whole


def verdicts(scores: list[PredictionScored]) -> list[VerdictReached]:
    evaluator = Evaluator()
    state = evaluator.initial(b"")
    evaluator.apply(state, Batch(commands(first=BEFORE), ()))
    written = evaluator.handle(
        state,
        Batch(
            (), [Received("scores", f"{n}-0", encode("scores", score).envelope) for n, score in enumerate(scores, 1)]
        ),
    )
    return [each.envelope.event for each in written if isinstance(each.envelope.event, VerdictReached)]


def money_of(verdict: VerdictReached) -> GateVerdict:
    (found,) = (gate for gate in verdict.gates if gate.name == "money")
    return found


def rising(score: PredictionScored, number: int) -> PredictionScored:
    """A score of a market that rises by a thousandth with each bar: only who bought has earned."""
    close = 100.0 * 1.001**number
    prices = TradedPrices(close, close, close * 1.001, 1e6)
    action: Action = "BUY"
    return msgspec.structs.replace(
        score,
        probabilities=SURE["BUY"],
        action=action,
        incumbent=PRIOR,
        signed_return=-0.001,
        incumbent_return=0.001,
        prices=prices,
    )


def test_given_prices_when_a_candidate_earns_more_then_the_gate_says_so_whatever_single_returns_say() -> None:
    bars = WRITE_EVERY // 8
    rows = [rising(row, number // 8) for number, row in enumerate(market(bars + 1))][:WRITE_EVERY]
    (verdict,) = verdicts(rows)
    gate = money_of(verdict)
    assert gate.effect is not None
    assert 0.0 < gate.effect < 0.0011
    (without,) = verdicts([msgspec.structs.replace(row, prices=None) for row in rows])
    returns = money_of(without)
    assert returns.effect == pytest.approx(-0.002)


def test_given_evidence_without_prices_when_prices_follow_then_the_measure_stays_until_the_evidence_restarts() -> None:
    rows = [rising(row, number // 8) for number, row in enumerate(market(WRITE_EVERY // 8 + 1))][:WRITE_EVERY]
    mixed = [msgspec.structs.replace(rows[0], prices=None), *rows[1:]]
    (verdict,) = verdicts(mixed)
    (without,) = verdicts([msgspec.structs.replace(row, prices=None) for row in rows])
    assert money_of(verdict) == money_of(without)


def test_given_prices_when_a_score_lacks_them_then_it_counts_for_no_money() -> None:
    rows = [rising(row, number // 8) for number, row in enumerate(market(WRITE_EVERY // 8 + 1))][:WRITE_EVERY]
    holed = [row if number % 7 else msgspec.structs.replace(row, prices=None) for number, row in enumerate(rows, 1)]
    (verdict,) = verdicts(holed)
    gate = money_of(verdict)
    assert gate.effect is not None
    assert gate.effect > 0.0


def test_a_score_without_prices_has_the_bytes_of_a_release_that_did_not_record_them() -> None:
    row = next(iter(market(1)))
    priced = msgspec.structs.replace(row, prices=TradedPrices(1.0, 2.0, 3.0, 4.0))
    plain, longer = (msgspec.msgpack.decode(msgspec.msgpack.encode(each), type=list[Any]) for each in (row, priced))
    assert len(encode("scores", row).data) < len(encode("scores", priced).data)
    assert encode("scores", row).envelope.event == row
    assert encode("scores", priced).envelope.event == priced
    assert plain[:-1] == longer[:-1]


def test_a_lone_account_holds_no_order_between_two_scores() -> None:
    account = LoneAccount()
    row = rising(next(iter(market(1))), 0)
    pair = PairedMoney(candidate=account)
    assert money.trade(pair, row, past_of(SetExecutionPolicy())) is not None
    assert [holding.working for holding in account.holdings.values()] == [None]
