"""The ``orders`` stream: what the executor did about each intent, and what was bought and sold.

Orders and fills share a stream, so that their order is recorded: the position of a symbol is a fold of it alone.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.common import EventHex, IntervalMs, Milliseconds, Name, Origin, Price, Real, Symbol, Text, Version

Side = Literal["SELL", "BUY"]
Quantity = Annotated[float, Meta(gt=0.0, lt=1e15)]
"""An amount of the base currency of a symbol."""
Amount = Annotated[float, Meta(ge=0.0, lt=1e15)]
"""A sum of money, or an amount of a base currency, that may be zero."""


class OrderPlaced(Struct, frozen=True, omit_defaults=True, tag="order.placed"):
    """An order to buy or sell at the market.

    ``order`` identifies it at every venue, and follows from its cause: it is the id of the intent; of an order that a
    halt caused, a digest of the position that it closes. So the same order is never placed twice under two ids.
    ``open_time`` is that of the bar that it follows; it may be filled by a later bar only. ``decision`` is that of the
    intent, or of the oldest trade that a halt closes. ``control_version`` is the version whose execution policy
    applies. ``closes`` is how much of ``quantity`` reduces the position, the rest opens one. ``reference`` is the close
    of the bar; notional amounts are computed with it. ``valid_until`` is that of the intent; the order is not filled
    after it. It is None for an order that a halt caused. ``placed_at`` is the server's time for a live bar, and left
    out for any other bar."""

    symbol: Symbol
    interval_ms: IntervalMs
    open_time: Milliseconds
    origin: Origin
    order: EventHex
    decision: EventHex
    control_version: Version
    venue: Name
    cause: Literal["intent", "halt"]
    side: Side
    quantity: Quantity
    closes: Amount
    reference: Price
    valid_until: Milliseconds | None
    placed_at: Milliseconds | None = None


Reason = Literal["expired", "halted", "cooldown", "symbol_cap", "total_cap", "no_bar", "repeated", "no_venue"]


class IntentRefused(Struct, frozen=True, omit_defaults=True, tag="intent.refused"):
    """An intent was not traded, and never will be.

    ``expired``: it was read after its ``valid_until``. ``halted``: a halt was in force. ``cooldown``: too few bars
    since the last order of the symbol. ``symbol_cap``, ``total_cap``: the exposure of the symbol, or of all symbols,
    would exceed the policy's limit. ``no_bar``: the bar of the intent is not on ``market``. ``repeated``: an intent for
    this bar or a later one was read before. ``no_venue``: the policy names none. ``at`` is the server's time for a live
    bar, and left out for any other bar."""

    symbol: Symbol
    interval_ms: IntervalMs
    open_time: Milliseconds
    origin: Origin
    intent: EventHex
    decision: EventHex
    control_version: Version
    reason: Reason
    detail: Text
    at: Milliseconds | None = None


class OrderEnded(Struct, frozen=True, tag="order.ended"):
    """An order ended before all of it was filled; the rest will not be.

    ``expired``: the fill, ``latency_ms`` after the open of the next bar, would have been after ``valid_until``.
    ``partly_filled``: the volume of the bar was too small under the policy. ``open_time`` is that of the bar by which
    it ended. ``unfilled`` is what is left of the quantity."""

    symbol: Symbol
    interval_ms: IntervalMs
    open_time: Milliseconds
    origin: Origin
    order: EventHex
    decision: EventHex
    reason: Literal["expired", "partly_filled"]
    filled: Amount
    unfilled: Quantity


class OrderFilled(Struct, frozen=True, tag="order.filled"):
    """An order was filled, wholly or in part. The position of a symbol is the sum of its fills.

    ``open_time`` and ``origin`` are those of the bar by which it was filled; ``filled_at`` is the moment within this
    bar. ``market_price`` is the price before half spread and slippage, ``price`` the one paid. ``fee`` is in quote
    currency. ``position`` is the signed amount of the base currency after the fill (negative: short)."""

    symbol: Symbol
    interval_ms: IntervalMs
    open_time: Milliseconds
    origin: Origin
    order: EventHex
    decision: EventHex
    venue: Name
    side: Side
    quantity: Quantity
    price: Price
    market_price: Price
    fee: Amount
    position: Real
    filled_at: Milliseconds


OrderEvent = OrderPlaced | IntentRefused | OrderFilled | OrderEnded
