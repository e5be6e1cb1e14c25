"""The ``orders`` stream: what the executor did about each intent, and what was bought and sold.

Orders and fills share a stream, so that their order is recorded: the position of a symbol is a fold of it alone.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from schemas.common import EventHex, IntervalMs, Milliseconds, Name, Origin, Price, Real, Symbol, Text, Version

Side = Literal["SELL", "BUY"]
Quantity = Annotated[float, Meta(gt=0.0, lt=1e15)]
"""An amount of the base currency of a symbol."""
Amount = Annotated[float, Meta(ge=0.0, lt=1e15)]
"""A sum of money, or an amount of a base currency, that may be zero."""


class OrderPlaced(Struct, frozen=True, omit_defaults=True, tag="order.placed"):
    """An order to buy or sell at the market; at an exchange, at the market up to a limit.

    ``order`` identifies it at every venue, and follows from its cause: it is the id of the intent; of an order that a
    halt caused, a digest of the position that it closes. So the same order is never placed twice under two ids.
    ``open_time`` is that of the bar that it follows; it may be filled by a later bar only. ``decision`` is that of the
    intent, or of the oldest trade that a halt closes. ``control_version`` is the version whose execution policy
    applies. ``closes`` is how much of ``quantity`` reduces the position, the rest opens one. ``reference`` is the close
    of the bar; notional amounts are computed with it. ``valid_until`` is that of the intent; the order is not filled
    after it. It is None for an order that a halt caused. ``placed_at`` is the server's time for a live bar, and left
    out for any other bar. ``limit`` is the worst price at which it may be filled; an order on paper has none."""

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
    limit: Price | None = None


Reason = Literal[
    "expired",
    "halted",
    "cooldown",
    "symbol_cap",
    "total_cap",
    "no_bar",
    "repeated",
    "no_venue",
    "not_live",
    "no_short",
    "other_venue",
    "account_differs",
]


class IntentRefused(Struct, frozen=True, omit_defaults=True, tag="intent.refused"):
    """An intent was not traded, and never will be.

    ``expired``: it was read after its ``valid_until``. ``halted``: a halt was in force. ``cooldown``: too few bars
    since the last order of the symbol. ``symbol_cap``, ``total_cap``: the exposure of the symbol, or of all symbols,
    would exceed the policy's limit. ``no_bar``: the bar of the intent is not on ``market``. ``repeated``: an intent for
    this bar or a later one was read before. ``no_venue``: the policy names none, or the newest policy does not name its
    exchange. Only at exchanges: ``not_live``: the bar is not live. ``no_short``: a sale of what is not held.
    ``other_venue``: what is held was bought at another venue. ``account_differs``: see ``AccountDiffers``. ``at`` is
    the server's time for a live bar, and left out for any other bar."""

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


Ending = Literal[
    "expired",
    "partly_filled",
    "limit",
    "rounded",
    "rejected",
    "cancelled",
    "halted",
    "no_venue",
    "account_differs",
]


class OrderEnded(Struct, frozen=True, tag="order.ended"):
    """An order ended before all of it was filled; the rest will not be.

    ``expired``: the fill, ``latency_ms`` after the open of the next bar, would have been after ``valid_until``, or the
    order could not be sent to the exchange before.
    ``partly_filled``: the volume of the bar was too small under the policy. Only at exchanges: ``limit``: the exchange
    filled no more within the order's limit. ``rounded``: it filled all that its steps allow; the rest is smaller than a
    step, or was the commission. ``rejected``: it refused the order, ``detail`` has its words. ``cancelled``: it, or a
    person, cancelled the order. ``halted``, ``no_venue``, ``account_differs``: the order was not sent, for what became
    known after it was placed. ``open_time`` is that of the bar by which it ended. ``unfilled`` is what is left of the
    quantity."""

    symbol: Symbol
    interval_ms: IntervalMs
    open_time: Milliseconds
    origin: Origin
    order: EventHex
    decision: EventHex
    reason: Ending
    filled: Amount
    unfilled: Quantity
    detail: Text | UnsetType = UNSET


class OrderFilled(Struct, frozen=True, tag="order.filled"):
    """An order was filled, wholly or in part. The position of a symbol is the sum of its fills.

    ``open_time`` and ``origin`` are those of the bar by which it was filled; ``filled_at`` is the moment within this
    bar. ``market_price`` is the price before half spread and slippage, ``price`` the one paid. ``fee`` is in quote
    currency. ``position`` is the signed amount of the base currency after the fill (negative: short).

    Only at exchanges: ``exchange_order`` is the exchange's own id of the order. ``moved`` is what the order bought or
    sold there (negative: sold), before commissions; ``commissions`` are by currency. ``quantity`` is less by a
    commission in the base currency, whose value is in ``fee``. A sale that closes all of a position includes a rest
    that is smaller than the exchange's step, at a price that is lower accordingly. ``price`` and ``market_price`` are
    the same but for that. A commission in a third currency counts in ``fee`` as the policy's ``fee``."""

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
    moved: Real | UnsetType = UNSET
    commissions: dict[str, Amount] | UnsetType = UNSET
    exchange_order: Annotated[str, Meta(max_length=64)] | UnsetType = UNSET


OrderEvent = OrderPlaced | IntentRefused | OrderFilled | OrderEnded
"""The events of which a position is a fold."""


class AccountReconciled(Struct, frozen=True, tag="account.reconciled"):
    """The account at an exchange was compared with the log, and orders may be sent there.

    From here on the account is expected to hold ``balances`` (by currency, those that the partition's symbols buy), and
    what orders move. ``control_version`` is that of the last ``SetExecutionPolicy``, and ``at`` the server's time."""

    venue: Name
    control_version: Version
    balances: dict[str, Amount]
    at: Milliseconds


class AccountDiffers(Struct, frozen=True, tag="account.differs"):
    """The account at an exchange does not hold what follows from the log, so this executor sends no more orders there,
    until the next ``SetExecutionPolicy``.

    ``balance``: it holds another amount. ``order``: it has an open order that is not on the log. ``control_version``
    is that of the last ``SetExecutionPolicy``, and ``at`` the server's time."""

    venue: Name
    control_version: Version
    reason: Literal["balance", "order"]
    detail: Text
    at: Milliseconds


AccountEvent = AccountReconciled | AccountDiffers
"""What concerns an account as a whole, and no symbol."""
OrdersEvent = OrderPlaced | IntentRefused | OrderFilled | OrderEnded | AccountReconciled | AccountDiffers
