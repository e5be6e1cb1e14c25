"""Where orders are executed: on paper, or at an exchange."""

from typing import Final, NamedTuple, Protocol

from schemas.common import Origin
from schemas.control import SetExecutionPolicy
from schemas.orders import OrderPlaced
from shared.money.costs import fill_price, market_price

EXCHANGES: Final = ("binance", "bybit", "okx")
"""The exchanges to which the executor can send orders, as ccxt names them. It is known of each how it treats a repeated
order id, and a request that arrives late (``services.executor.dialects``)."""
WITHOUT_ORDERS: Final = {
    "kraken": "it has no sandbox for spot orders, where each installation begins",
    "binanceusdm": "an account of futures holds positions and margin, which are compared with no log here; use binance",
}
"""Exchanges whose bars can be read and to which no orders can be sent, and why."""
PRICE_LIMIT: Final = 0.002
"""See ``SetExecutionPolicy.price_limit``."""


def venue_of(policy: SetExecutionPolicy) -> str:
    """Return the name of a policy's venue, as orders have it: ``paper``, ``binance``, ``binance.sandbox``."""
    return f"{policy.venue}.sandbox" if policy.venue in EXCHANGES and policy.sandbox else policy.venue


def exchange_of(venue: str) -> str:
    """Return the exchange of a venue (``venue_of``), '' if it is none."""
    exchange = venue.removesuffix(".sandbox")
    return exchange if exchange in EXCHANGES else ""


def limit_price(policy: SetExecutionPolicy, side: str, reference: float) -> float:
    """Return the worst price at which an order may be filled at an exchange."""
    away = policy.price_limit if policy.price_limit is not None else PRICE_LIMIT
    return reference * (1.0 + away if side == "BUY" else 1.0 - away)


class TradedBar(NamedTuple):
    """A closed bar, as far as an account needs it."""

    open_time: int
    origin: Origin
    open: float
    close: float
    volume: float


class Execution(NamedTuple):
    """What became of an order: how much was filled (0: nothing) at which price and moment, and why no more will be
    (``ended``; '': all was filled). ``market``: the price before costs."""

    quantity: float
    price: float
    market: float
    fee: float
    at: int
    ended: str


class Venue(Protocol):
    """A place where an order is executed.

    An order is recorded before it is executed: the event ``OrderPlaced`` is committed first. Its id is derived from the
    intent, so an executor that was killed in between can give the same order again, and the venue can refuse it as
    known. A venue that answers later than at the next bar returns None until then."""

    def execute(self, order: OrderPlaced, bar: TradedBar, policy: SetExecutionPolicy) -> Execution | None:
        """Return what became of an order by the end of a bar after it; None if it is still open."""


class Paper:
    """Fill each order by the first bar after its own, at the open of that bar (``costs`` has the price).

    Nothing is filled after ``valid_until``. Of an order that is larger than ``volume_share`` of the bar's volume, the
    rest ends. The order itself moves no price."""

    def execute(self, order: OrderPlaced, bar: TradedBar, policy: SetExecutionPolicy) -> Execution | None:
        """See ``Venue``."""
        market = market_price(policy, bar.open, bar.close, order.interval_ms)
        price = fill_price(policy, order.side, market)
        at = bar.open_time + policy.latency_ms
        if order.valid_until is not None and at > order.valid_until:
            return Execution(0.0, price, market, 0.0, at, "expired")
        quantity = order.quantity
        if policy.volume_share and quantity > bar.volume * policy.volume_share:
            quantity = bar.volume * policy.volume_share
        ended = "partly_filled" if quantity < order.quantity else ""
        return Execution(quantity, price, market, policy.fee * quantity * price, at, ended)


class Exchange:
    """Executed by no bar: what became of an order is what the exchange answers (``services.executor.settlement``)."""

    def execute(self, order: OrderPlaced, bar: TradedBar, policy: SetExecutionPolicy) -> Execution | None:
        """See ``Venue``."""
        return None


PAPER: Venue = Paper()
EXCHANGE: Venue = Exchange()
