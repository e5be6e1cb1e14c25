"""Turn what an exchange shows of an order into what became of the order. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import UNSET, Struct

from schemas.control import SetExecutionPolicy
from schemas.orders import Ending, OrderEnded, OrderFilled
from shared.money.positions import SIGN, WHOLE, Holding


class Settled(Struct, frozen=True):
    """An order that an exchange has done with, or that was not sent.

    ``executed``: how much was bought or sold, for ``cost`` in the quote currency. ``commissions``: by currency.
    ``base`` and ``quote``: the currencies of the symbol, ``step``: the smallest difference of two quantities. ``at``:
    when it was filled, or ended (ms). ``ended``: why it was not filled wholly; None: all that was sent was filled."""

    order: str
    at: int
    executed: float = 0.0
    cost: float = 0.0
    commissions: Mapping[str, float] = {}
    base: str = ""
    quote: str = ""
    step: float = 0.0
    ended: Ending | None = None
    detail: str = ""
    exchange_order: str = ""


def settled(holding: Holding, answer: Settled, policy: SetExecutionPolicy) -> Iterator[OrderFilled | OrderEnded]:
    """Yield what became of the open order of a holding. What it moved in money is exactly what the exchange shows,
    except for a commission in a third currency, which counts as the policy's fee."""
    working = holding.working
    if working is None:
        return
    order = working.order
    moment = max(order.open_time + order.interval_ms, answer.at - answer.at % order.interval_ms)
    where: dict[str, Any] = {
        "symbol": order.symbol,
        "interval_ms": order.interval_ms,
        "open_time": moment,
        "origin": order.origin,
        "order": order.order,
        "decision": order.decision,
    }
    filled = 0.0
    if answer.executed > 0.0:
        price = answer.cost / answer.executed
        fee = 0.0
        for currency, amount in sorted(answer.commissions.items()):
            if currency == answer.base:
                fee += amount * price
            elif currency == answer.quote:
                fee += amount
            else:
                fee += policy.fee * answer.cost
                break  # the policy's fee is for all of the order
        filled = answer.executed
        if order.side == "BUY":
            filled -= answer.commissions.get(answer.base, 0.0)
        closes_all = order.quantity == order.closes
        if closes_all and answer.ended is None and abs(order.quantity - filled) < answer.step:
            filled = order.quantity  # what is left is less than a step, and can never be sold
        position = holding.position + SIGN[order.side] * filled
        if closes_all and filled == order.quantity:
            position = 0.0
        paid = answer.cost / filled if order.side == "SELL" else price
        yield OrderFilled(
            **where,
            venue=order.venue,
            side=order.side,
            quantity=filled,
            price=paid,
            market_price=price,
            fee=fee,
            position=position,
            filled_at=answer.at,
            moved=SIGN[order.side] * answer.executed,
            commissions=dict(answer.commissions),
            exchange_order=answer.exchange_order or UNSET,
        )
    if filled < order.quantity * (1.0 - WHOLE):
        yield OrderEnded(
            **where,
            reason=answer.ended or "rounded",
            filled=filled,
            unfilled=order.quantity - filled,
            detail=answer.detail[:2000] or UNSET,
        )
