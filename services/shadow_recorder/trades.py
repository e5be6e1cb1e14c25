"""Join closed trades with the decisions that they name.

A trade is written after its decision. It waits until its decision is read, or until ``decisions`` has been read past
the entry of the trade by ``MARGIN_MS``: then there is no such decision. The last ``RECALLED`` decisions with an intent
are kept, so a trade finds its decision as long as reading ``trades`` lags by fewer decisions. The runtime reads the
same number of entries of each stream a turn, and an intent has one trade, so ``trades`` does not lag.
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
from shared.log.leases import id_order


def join_trades(state: State, named: str | None = None) -> Iterator[Encoded]:
    """Write the waiting trades that name the decision ``named``, which was just read, and those whose decision does not
    exist."""
    overdue = takewhile(lambda entry: id_order(entry)[0] + MARGIN_MS < state.decisions_at, state.trades)
    ready = [*overdue, *(entry for entry, trade in state.trades.items() if trade.event.decision == named)]
    for entry in dict.fromkeys(ready):
        envelope = state.trades.pop(entry)
        trade = envelope.event
        decision = state.issued.find(trade.decision)
        if decision is not None and id_order(decision.entry)[0] > id_order(entry)[0] + MARGIN_MS:
            decision = None
        yield caused(envelope, _joined(trade, envelope.id, trade.decision, decision))


def _joined(trade: TradeClosed, event: bytes, named: EventHex, decision: Issued | None) -> TradeJoined:
    gross = SIGN[trade.action] * (trade.exit_price / trade.entry_price - 1.0)
    detail = f"{named} is not among the last {RECALLED:,} decisions that an intent followed from"
    if decision is not None:
        pairs = (
            ("symbol", trade.symbol, decision.symbol),
            ("open_time", trade.open_time, decision.open_time),
            ("action", trade.action, decision.action),
            ("origin", trade.origin, decision.origin),
        )
        detail = "; ".join(
            f"{name}: the trade says {traded}, the decision {decided}"
            for name, traded, decided in pairs
            if traded != decided
        )
    return TradeJoined(
        symbol=trade.symbol,
        interval_ms=trade.interval_ms,
        open_time=trade.open_time,
        origin=trade.origin,
        decision=bytes.fromhex(named),
        trade=event,
        joined=not detail,
        detail=detail,
        action=trade.action,
        confidence=decision.confidence if decision else 0.0,
        control_version=decision.control_version if decision else 0,
        gross=gross,
        net=gross - trade.fees,
    )
