"""What people are notified of about accounts and orders at exchanges."""

from schemas.orders import AccountDiffers, AccountReconciled, OrderEnded
from services.watcher.alerts import ALERTS
from services.watcher.core import observe
from services.watcher.state import State
from services.watcher.text import describe

DIFFERS = AccountDiffers(venue="binance", control_version=7, reason="balance", detail="1 BTC is missing", at=1)
ENDED = {"symbol": "BTC/USDT", "interval_ms": 60_000, "open_time": 60_000, "origin": "live"}


def test_an_account_that_differs_is_an_alert_until_it_was_reconciled() -> None:
    state = State()
    (raised,) = observe(state, DIFFERS, 0, 1)
    assert (raised.alert, raised.kind) == ("account-differs", "raised")
    assert "1 BTC is missing" in raised.text
    assert observe(state, DIFFERS, 0, 2) == []
    (resolved,) = observe(state, AccountReconciled("binance", 8, {"BTC": 1.0}, 3), 0, 3)
    assert (resolved.alert, resolved.kind) == ("account-differs", "resolved")


def test_a_refused_order_is_reported_and_one_that_ended_otherwise_is_not() -> None:
    about = {**ENDED, "order": "0a" * 16, "decision": "0b" * 16, "filled": 0.0, "unfilled": 1.0}
    described = describe(OrderEnded(**about, reason="rejected", detail="insufficient balance"))  # type: ignore[arg-type]
    assert described is not None
    assert described[0] == "order-rejected" in ALERTS
    assert "insufficient balance" in described[2]
    assert describe(OrderEnded(**about, reason="limit")) is None  # type: ignore[arg-type]
