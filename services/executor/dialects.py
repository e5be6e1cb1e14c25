"""How each exchange bounds the time of a request, and how it shows an order by the client's id, through ccxt.

What the desk relies on has to hold at each: an order carries the id of its intent; a request that arrives after its
time is refused; an order is found by that id once it was accepted. https://developers.binance.com/docs/binance-spot-api-docs,
https://bybit-exchange.github.io/docs/v5, https://www.okx.com/docs-v5
"""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

from schemas.orders import Ending


class Validity(NamedTuple):
    """When a request was begun (the exchange's time, ms), and for how long the exchange may accept it."""

    at: int
    window_ms: int


VALID: Final[ContextVar[Validity | None]] = ContextVar("VALID", default=None)
"""Of the order that this task sends; None for any other request."""


Signing = Callable[[], Any]
"""Signs one request, and returns it as ccxt sends it."""


class Dialect(Protocol):
    """What differs from one exchange to another. ``options``: of ccxt. A request raises the errors of ccxt.

    ``unfilled``: an order that is filled at once or not at all ended, since the market was beyond its limit, or since
    it, or a person, was cancelled."""

    options: Mapping[str, Any]

    def begin(self, client: Any) -> None:
        """Set up a new client, before its first request."""

    def terms(self, order: str, validity: Validity) -> dict[str, Any]:
        """Return the parameters of an order, beyond those that ccxt has for all exchanges."""

    async def find(self, client: Any, order: str, market: str) -> Any:
        """Return an order by its id, as ccxt shows it. Raises ``OrderNotFound``."""

    def named(self, order: str) -> dict[str, str]:
        """Return the parameters that name an order by its id, to cancel it."""

    def trades_of(self, exchange_order: str) -> dict[str, str]:
        """Return the parameters that ask for the trades of an order."""

    def unfilled(self, seen: Any) -> Ending:
        """Return why an order, as ccxt shows it, was not filled wholly."""


class Binance:
    """A request has ``timestamp`` and ``recvWindow``. An id is refused only while an order with it is open. The rest of
    an order that is filled at once has the status ``EXPIRED``."""

    options: Mapping[str, Any] = {"fetchMargins": False}

    def begin(self, client: Any) -> None:
        """See ``Dialect``."""

    def terms(self, order: str, validity: Validity) -> dict[str, Any]:
        """See ``Dialect``."""
        return {"newClientOrderId": order, "timestamp": validity.at, "recvWindow": validity.window_ms}

    async def find(self, client: Any, order: str, market: str) -> Any:
        """See ``Dialect``."""
        return await client.fetch_order(None, market, self.named(order))

    def named(self, order: str) -> dict[str, str]:
        """See ``Dialect``."""
        return {"origClientOrderId": order}

    def trades_of(self, exchange_order: str) -> dict[str, str]:
        """See ``Dialect``."""
        return {"orderId": exchange_order}

    def unfilled(self, seen: Any) -> Ending:
        """See ``Dialect``."""
        return "limit" if seen["status"] == "expired" else "cancelled"


class Bybit:
    """A request has ``X-BAPI-TIMESTAMP`` and ``X-BAPI-RECV-WINDOW``. A repeated id is refused. An order that is over is
    among the recent ones, or in the history. The account has to be a unified one, as all new ones are."""

    options: Mapping[str, Any] = {"enableUnifiedMargin": False, "enableUnifiedAccount": True, "unifiedMarginStatus": 5}

    def begin(self, client: Any) -> None:
        """Let requests carry the time and the window of the order that is sent."""

        def within(validity: Validity, signed: Signing) -> Any:
            usual, client.options["recvWindow"] = client.options["recvWindow"], validity.window_ms
            try:
                return signed()
            finally:
                client.options["recvWindow"] = usual

        _sign_through(within, client)

    def terms(self, order: str, validity: Validity) -> dict[str, Any]:
        """See ``Dialect``."""
        return {"orderLinkId": order}

    async def find(self, client: Any, order: str, market: str) -> Any:
        """See ``Dialect``."""
        from ccxt.base.errors import OrderNotFound  # noqa: PLC0415  # an extra

        for ask in (client.fetch_open_orders, client.fetch_canceled_and_closed_orders):
            for seen in await ask(market, params=self.named(order)):
                if seen["clientOrderId"] == order:
                    return seen
        raise OrderNotFound(f"bybit has no order {order}")

    def named(self, order: str) -> dict[str, str]:
        """See ``Dialect``."""
        return {"orderLinkId": order}

    def trades_of(self, exchange_order: str) -> dict[str, str]:
        """See ``Dialect``."""
        return {"orderId": exchange_order}

    def unfilled(self, seen: Any) -> Ending:
        """See ``Dialect``."""
        return "limit" if seen["info"].get("rejectReason") == "EC_CancelForNoFullFill" else "cancelled"


class Okx:
    """An order has the header ``expTime``, after which it is not accepted. A repeated id is refused. An order that
    ended without a fill is shown for two hours; none lives that long."""

    options: Mapping[str, Any] = {"createOrder": "privatePostTradeOrder"}

    def begin(self, client: Any) -> None:
        """Let requests carry the end of the order's time, and its beginning."""

        def within(validity: Validity, signed: Signing) -> Any:
            request = signed()
            request["headers"] = {**(request["headers"] or {}), "expTime": str(validity.at + validity.window_ms)}
            return request

        _sign_through(within, client)

    def terms(self, order: str, validity: Validity) -> dict[str, Any]:
        """See ``Dialect``."""
        return {"clOrdId": order, "tdMode": "cash"}

    async def find(self, client: Any, order: str, market: str) -> Any:
        """See ``Dialect``."""
        return await client.fetch_order(None, market, self.named(order))

    def named(self, order: str) -> dict[str, str]:
        """See ``Dialect``."""
        return {"clOrdId": order}

    def trades_of(self, exchange_order: str) -> dict[str, str]:
        """See ``Dialect``."""
        return {"ordId": exchange_order}

    def unfilled(self, seen: Any) -> Ending:
        """See ``Dialect``."""
        return "limit" if seen["info"].get("cancelSource") == "14" else "cancelled"


def _sign_through(within: Callable[[Validity, Signing], Any], client: Any) -> None:
    """Have a client sign each order with its beginning for the time, and through ``within``. ccxt asks the clock for
    that time, and has no parameter for it at these exchanges; it signs without a pause, so no other request sees it."""
    sign, nonce = client.sign, client.nonce

    def signed(*about: Any, **named: Any) -> Any:
        validity = VALID.get()
        if validity is None:
            return sign(*about, **named)
        client.nonce = lambda: validity.at
        try:
            return within(validity, partial(sign, *about, **named))
        finally:
            client.nonce = nonce

    client.sign = signed


DIALECTS: Final[dict[str, Dialect]] = {"binance": Binance(), "bybit": Bybit(), "okx": Okx()}
