"""All holdings of one partition: intents and bars in, orders and fills and closed trades out.

A bar that follows an order executes it. An intent is decided when its bar was read and every earlier order of its
symbol was executed by a bar up to it; the caller ensures both. Then each order and fill is a function of the intents in
their order and of the bars of its own symbol, whatever the order in which both were read.
"""

from collections.abc import Iterator
from math import fsum
from typing import Any, Final, Protocol

from schemas.common import Origin
from schemas.control import SetExecutionPolicy
from schemas.orders import IntentRefused, OrderEnded, OrderFilled, OrderPlaced
from shared.money.orders import Forbidden, Situation, TradeSignal, order_for
from shared.money.positions import SIGN, Holding
from shared.money.venue import EXCHANGE, PAPER, TradedBar, Venue

VENUES: Final[dict[str, Venue]] = {"paper": PAPER}

Key = tuple[str, int, bool]
"""Symbol, interval (ms), and whether the bars are synthetic. Live and replayed bars of a symbol share a holding."""


class OfSeries(Protocol):
    """An event about a symbol and interval."""

    @property
    def symbol(self) -> str:
        """The symbol."""

    @property
    def interval_ms(self) -> int:
        """The length of a bar."""

    @property
    def origin(self) -> Origin:
        """Where the bar is from."""


def key_of(event: OfSeries) -> Key:
    """Return the key of the holding that an event is about."""
    return event.symbol, event.interval_ms, event.origin == "synthetic"


class Account:
    """The holdings of one partition, by key."""

    def __init__(self, holdings: dict[Key, Holding] | None = None) -> None:
        self.holdings = {} if holdings is None else holdings

    def of(self, key: Key) -> Holding:
        """Return the holding of a key, a new one if there is none."""
        holding = self.holdings.get(key)
        if holding is None:
            holding = self.holdings[key] = Holding(key[0], key[1])
        return holding

    def decide(
        self,
        key: Key,
        signal: TradeSignal,
        policy: SetExecutionPolicy,
        reference: float | None,
        partitions: int,
        *,
        at: int | None = None,
        halted: bool = False,
        forbidden: Forbidden | None = None,
    ) -> OrderPlaced | IntentRefused:
        """Return the order that follows from an intent, or the refusal. ``reference``: the close of its bar.
        ``forbidden``: why no order may go to the policy's venue now."""
        # An exact sum does not depend on the order of its terms, which differs after a restart.
        others = fsum([each.committed for other, each in self.holdings.items() if other != key])
        share = policy.total_cap / max(partitions, 1)
        return order_for(self.of(key), signal, policy, Situation(reference, others, share, at, halted, forbidden))


def executed(holding: Holding, bar: TradedBar, policy: SetExecutionPolicy) -> Iterator[OrderFilled | OrderEnded]:
    """Yield what becomes of the open order of a holding by a bar after the order's."""
    working = holding.working
    if working is None:
        return
    order = working.order
    execution = VENUES.get(order.venue, EXCHANGE).execute(order, bar, policy)
    if execution is None:
        return
    where: dict[str, Any] = {
        "symbol": order.symbol,
        "interval_ms": order.interval_ms,
        "open_time": bar.open_time,
        "origin": bar.origin,
    }
    if execution.quantity > 0.0:
        position = holding.position + SIGN[order.side] * execution.quantity
        if order.quantity == order.closes == execution.quantity:
            position = 0.0
        yield OrderFilled(
            **where,
            order=order.order,
            decision=order.decision,
            venue=order.venue,
            side=order.side,
            quantity=execution.quantity,
            price=execution.price,
            market_price=execution.market,
            fee=execution.fee,
            position=position,
            filled_at=execution.at,
        )
    if execution.ended:
        filled = working.filled + execution.quantity
        yield OrderEnded(
            **where,
            order=order.order,
            decision=order.decision,
            reason="expired" if execution.ended == "expired" else "partly_filled",
            filled=filled,
            unfilled=order.quantity - filled,
        )
