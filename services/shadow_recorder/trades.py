"""Closed trades and the decisions that they name."""

from collections.abc import Iterator
from typing import Final

from schemas.codec import Sealed
from schemas.common import EventHex
from schemas.decisions import DecisionMade
from schemas.scores import TradeJoined
from schemas.trades import TradeClosed
from services.shadow_recorder.rounds import RECALLED, Rounds
from services.shadow_recorder.scoring import SIGN
from services.shadow_recorder.settling import caused
from services.shadow_recorder.state import State

TRADES: Final = 1000
"""Trades that may wait for a decision; the oldest is given up."""


def settle_trades(state: State) -> Iterator[Sealed]:
    """Joins trades whose decision is known, or will not be."""
    for entry, envelope in list(state.trades.items()):
        trade = envelope.event
        decision = state.recall.find(trade.decision)
        rounds = state.rounds.get((trade.symbol, trade.interval_ms), Rounds())
        if decision is None and rounds.newest < trade.open_time and len(state.trades) <= TRADES:
            continue
        del state.trades[entry]
        yield caused(envelope, _joined(trade, envelope.id, trade.decision, decision))


def _joined(trade: TradeClosed, event: bytes, name: EventHex, decision: DecisionMade | None) -> TradeJoined:
    gross = SIGN[trade.action] * (trade.exit_price / trade.entry_price - 1.0)
    detail = f"{name} is not among the last {RECALLED:,} decisions, or no intent followed from it"
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
        trade.symbol,
        trade.interval_ms,
        trade.open_time,
        trade.origin,
        bytes.fromhex(name),
        event,
        not detail,
        detail,
        trade.action,
        decision.confidence if decision else 0.0,
        decision.control_version if decision else 0,
        gross,
        gross - trade.fees,
    )
