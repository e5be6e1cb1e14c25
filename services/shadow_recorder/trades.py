"""Closed trades and the decisions that they name.

A trade was written after its decision. So it waits until its decision is read, or ``decisions`` has been read past the
entry of the trade by ``MARGIN_MS``: then there is no such decision. The last ``RECALLED`` decisions with an intent are
kept. A trade is joined in any order of reading in which ``trades`` is not further behind than those. The runtime reads
as many entries of each stream a turn and an intent has one trade, so ``trades`` is never behind at all.
"""

from collections.abc import Iterator
from itertools import takewhile

from schemas.codec import Encoded
from schemas.common import EventHex
from schemas.scores import TradeJoined
from schemas.trades import TradeClosed
from services.shadow_recorder.decisions import MARGIN_MS, RECALLED, Issued
from services.shadow_recorder.scoring import SIGN
from services.shadow_recorder.scoring_readiness import caused
from services.shadow_recorder.state import State
from shared.log.leases import order


def settle_trades(state: State, named: str | None = None) -> Iterator[Encoded]:
    """Join the waiting trades that name a decision which has been read now, and those whose decision is not there."""
    overdue = takewhile(lambda entry: order(entry)[0] + MARGIN_MS < state.decisions_at, state.trades)
    ready = [*overdue, *(entry for entry, trade in state.trades.items() if trade.event.decision == named)]
    for entry in dict.fromkeys(ready):
        envelope = state.trades.pop(entry)
        trade = envelope.event
        decision = state.issued.find(trade.decision)
        if decision is not None and order(decision.entry)[0] > order(entry)[0] + MARGIN_MS:
            decision = None
        yield caused(envelope, _joined(trade, envelope.id, trade.decision, decision))


def _joined(trade: TradeClosed, event: bytes, name: EventHex, decision: Issued | None) -> TradeJoined:
    gross = SIGN[trade.action] * (trade.exit_price / trade.entry_price - 1.0)
    detail = f"{name} is not among the last {RECALLED:,} decisions that an intent followed from"
    if decision is not None:
        pairs = (
            ("symbol", trade.symbol, decision.symbol),
            ("open_time", trade.open_time, decision.open_time),
            ("action", trade.action, decision.action),
            ("origin", trade.origin, decision.origin),
        )
        wrong = [f"{what}: the trade says {said}, the decision {right}" for what, said, right in pairs if said != right]
        detail = "; ".join(wrong)
    return TradeJoined(
        symbol=trade.symbol,
        interval_ms=trade.interval_ms,
        open_time=trade.open_time,
        origin=trade.origin,
        decision=bytes.fromhex(name),
        trade=event,
        joined=not detail,
        detail=detail,
        action=trade.action,
        confidence=decision.confidence if decision else 0.0,
        control_version=decision.control_version if decision else 0,
        gross=gross,
        net=gross - trade.fees,
    )
