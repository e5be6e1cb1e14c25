"""The ``trades`` stream: closed trades, as reported by the executor."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from schemas.common import EventHex, IntervalMs, Milliseconds, Origin, Price, Symbol, Text


class TradeClosed(Struct, frozen=True, tag="trade.closed"):
    """A closed trade. ``decision``, ``symbol``, ``interval_ms``, ``open_time`` and ``origin`` are those of the intent.
    ``fees`` is the cost of entry and exit together, as a fraction of ``entry_price``. ``quantity`` is the amount of the
    base currency; Conclave's executor writes it, other programs may leave it out."""

    symbol: Symbol
    interval_ms: IntervalMs
    open_time: Milliseconds
    origin: Origin
    decision: EventHex
    action: Literal["SELL", "BUY"]
    opened_at: Milliseconds
    closed_at: Milliseconds
    entry_price: Price
    exit_price: Price
    fees: Annotated[float, Meta(ge=0.0, lt=1.0)]
    closed_by: Text = ""
    quantity: Annotated[float, Meta(gt=0.0, lt=1e15)] | UnsetType = UNSET


TradeEvent = TradeClosed
