"""Examples of what follows from an intent: an order, its fill, and intents and orders that were not traded."""

from collections.abc import Iterator

from schemas.codec import Encoded
from schemas.documentation.examples.values import MINUTE, OPEN, WHERE, caused
from schemas.orders import IntentRefused, OrderEnded, OrderFilled, OrderPlaced


def orders(intent: Encoded) -> Iterator[Encoded]:
    """Yield an order with its fill, an order that was not filled, and a refused intent."""
    event, decision = intent.envelope.id.hex(), intent.envelope.event.decision
    placed = caused(
        intent,
        "orders",
        OrderPlaced(
            **WHERE,
            order=event,
            decision=decision,
            control_version=7,
            venue="paper",
            cause="intent",
            side="BUY",
            quantity=0.25,
            closes=0.0,
            reference=37_005.75,
            valid_until=OPEN + 2 * MINUTE,
        ),
    )
    yield placed
    following = {**WHERE, "open_time": OPEN + MINUTE}
    fill = OrderFilled(
        **following,
        order=event,
        decision=decision,
        venue="paper",
        side="BUY",
        quantity=0.25,
        price=37_010.0,
        market_price=37_005.5,
        fee=4.62625,
        position=0.25,
        filled_at=OPEN + MINUTE,
    )
    yield caused(placed, "orders", fill)
    ended = OrderEnded(
        **{**following, "open_time": OPEN + 5 * MINUTE},
        order=event,
        decision=decision,
        reason="expired",
        filled=0.0,
        unfilled=0.25,
    )
    yield caused(placed, "orders", ended)
    refused = IntentRefused(
        **WHERE,
        intent=event,
        decision=decision,
        control_version=7,
        reason="symbol_cap",
        detail="20000.00 of at most 10000.00",
    )
    yield caused(intent, "orders", refused)
