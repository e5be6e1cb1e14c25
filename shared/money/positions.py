"""Fold the orders and fills of one symbol and interval into what is held of it."""

from collections.abc import Iterator
from typing import Final, Literal

from msgspec import Struct

from schemas.common import Origin
from schemas.orders import IntentRefused, OrderEnded, OrderEvent, OrderFilled, OrderPlaced
from schemas.trades import TradeClosed

SIGN: Final = {"BUY": 1.0, "SELL": -1.0}
WHOLE: Final = 1e-12
"""The largest share of a quantity that counts as nothing, after sums of rounded numbers."""


class Lot(Struct, array_like=True):
    """What one decision opened, until all of it is closed.

    ``quantity`` was opened at ``price`` for ``fee``, with ``reference`` the price at which its notional amount counts.
    ``left`` of it is still held. What was closed brought ``closed_value`` at a cost of ``closed_fee``."""

    decision: str
    open_time: int
    origin: Origin
    opened_at: int
    quantity: float
    price: float
    reference: float
    fee: float
    left: float
    closed_value: float = 0.0
    closed_fee: float = 0.0


class Working(Struct, array_like=True):
    """An order that is not filled yet, and the id, correlation and flags of its event."""

    order: OrderPlaced
    event: bytes
    correlation: bytes
    flags: int
    filled: float = 0.0


class Holding(Struct, array_like=True):
    """What is held of one symbol and interval.

    ``lots``: oldest first, all bought or all sold (``side``). ``working``: the open order. ``committed``: the notional
    amount that the last order aims at, which counts against the cap of all symbols. ``last_intent``, ``last_order``:
    the open times of the bars of the last intent that was read, and of the last order that followed from one.
    ``venue``: where the last order went. ``last_closing``: the last order that a halt caused."""

    symbol: str
    interval_ms: int
    side: Literal["SELL", "BUY"] = "BUY"
    lots: list[Lot] = []
    working: Working | None = None
    committed: float = 0.0
    last_intent: int = -1
    last_order: int = -1
    venue: str = "paper"
    last_closing: str = ""

    @property
    def held_at(self) -> str:
        """The venue of what is held, or of the open order; '' if there is neither."""
        return self.venue if self.lots or self.working is not None else ""

    @property
    def position(self) -> float:
        """The signed amount of the base currency (negative: short)."""
        return SIGN[self.side] * sum([lot.left for lot in self.lots])

    def exposure(self, side: str) -> float:
        """Return the notional amount that is held on one side."""
        return sum([lot.left * lot.reference for lot in self.lots]) if side == self.side else 0.0


def apply(holding: Holding, event: OrderEvent, working: Working | None = None) -> Iterator[TradeClosed]:
    """Apply the next event of a holding, and yield the trades that it closed. ``working``: the new open order, for an
    ``OrderPlaced``. The result must be consumed."""
    match event:
        case OrderPlaced():
            holding.working, holding.venue = working, event.venue
            opened = (event.quantity - event.closes) * event.reference
            holding.committed = holding.exposure(event.side) + opened if event.cause == "intent" else 0.0
            if event.cause == "intent":
                holding.last_intent = holding.last_order = event.open_time
            else:
                holding.last_closing = event.order
        case IntentRefused():
            holding.last_intent = max(holding.last_intent, event.open_time)
            if event.reason != "repeated" and holding.working is None:
                holding.committed = holding.exposure(holding.side)  # an order may have ended unfilled since
        case OrderFilled():
            yield from _fill(holding, event)
        case OrderEnded():
            if holding.working is not None and holding.working.order.limit is not None:
                holding.committed = holding.exposure(holding.side)  # on paper it counts as of the last intent
            holding.working = None


def _fill(holding: Holding, fill: OrderFilled) -> Iterator[TradeClosed]:
    left, cause = fill.quantity, holding.working.order.cause if holding.working else "intent"
    if fill.side != holding.side:
        while left > 0.0 and holding.lots:
            lot = holding.lots[0]
            # What rounding leaves of a lot or of a fill would be a position for ever.
            closed = lot.left if lot.left <= left * (1.0 + WHOLE) else left
            lot.left -= closed
            lot.closed_value += closed * fill.price
            lot.closed_fee += fill.fee * closed / fill.quantity
            left = max(left - closed, 0.0)
            if lot.left == 0.0:
                del holding.lots[0]
                yield _closed(holding, lot, fill, cause)
    if left > fill.quantity * WHOLE and holding.working is not None:
        order = holding.working.order
        holding.side = fill.side
        lot = Lot(
            decision=fill.decision,
            open_time=order.open_time,
            origin=order.origin,
            opened_at=fill.filled_at,
            quantity=left,
            price=fill.price,
            reference=order.reference,
            fee=fill.fee * left / fill.quantity,
            left=left,
        )
        holding.lots = [*holding.lots, lot]
    if holding.working is not None:
        holding.working.filled += fill.quantity
        if holding.working.filled >= holding.working.order.quantity * (1.0 - WHOLE):
            holding.working = None


def _closed(holding: Holding, lot: Lot, fill: OrderFilled, cause: str) -> TradeClosed:
    value = lot.quantity * lot.price
    return TradeClosed(
        symbol=holding.symbol,
        interval_ms=holding.interval_ms,
        open_time=lot.open_time,
        origin=lot.origin,
        decision=lot.decision,
        action=holding.side,
        opened_at=lot.opened_at,
        closed_at=fill.filled_at,
        entry_price=lot.price,
        exit_price=lot.closed_value / lot.quantity,
        fees=min((lot.fee + lot.closed_fee) / value, 1.0 - WHOLE),
        closed_by="an opposite intent" if cause == "intent" else "a halt",
        quantity=lot.quantity,
    )
