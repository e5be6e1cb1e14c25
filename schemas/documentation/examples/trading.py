"""Examples of what follows from an intent: an order, its fill, and intents and orders that were not traded."""

from collections.abc import Iterator

from schemas.codec import ROOT, Encoded, encode
from schemas.documentation.examples.values import MINUTE, OPEN, WHERE, caused
from schemas.orders import AccountDiffers, AccountReconciled, IntentRefused, OrderEnded, OrderFilled, OrderPlaced


def orders(intent: Encoded) -> Iterator[Encoded]:
    """Yield an order with its fill, one that was not filled, a refused intent, and an account that was compared."""
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
    compared = AccountReconciled("binance.sandbox", 7, {"BTC": 0.5}, OPEN + MINUTE)
    yield encode("orders", compared, causation=ROOT, correlation=ROOT)
    differs = AccountDiffers(
        venue="binance.sandbox",
        control_version=7,
        reason="balance",
        detail="the account holds 0.25 BTC, and 0.75 BTC follow from the log",
        at=OPEN + 2 * MINUTE,
    )
    yield encode("orders", differs, causation=ROOT, correlation=ROOT)
