"""One account at an exchange, through ccxt: send an order, look one up by its id, and read what the account holds."""

from collections.abc import Callable, Collection
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple

from schemas.orders import Ending, OrderPlaced
from services.executor.dialects import DIALECTS, VALID, Validity
from services.executor.settlement import Settled
from shared.distribution import install_command
from shared.exchanges import PASSWORD, TIMEOUT_S, Credentials, UnreachableError, asked, shown, turned
from shared.money.venue import exchange_of
from shared.settings import SettingsError

SIDES: Final = {"BUY": "buy", "SELL": "sell"}
ROUNDING: Final = 1e-12
"""By which share a sum of floats may be too small."""
OVER: Final = frozenset({"closed", "canceled", "expired", "rejected"})
"""The statuses in ccxt of an order that is not open any more."""
WHOLE: Final = 1e-9
"""By which share amounts may differ that are sums of rounded numbers."""


class RefusedError(Exception):
    """The exchange refused an order for good: it was not, and will not be, accepted. The message has its words."""


class ClockError(Exception):
    """The exchange refused a request since its time is not within the window that the request allows."""


class Instrument(NamedTuple):
    """A market as an exchange lists it: its currencies, and the smallest difference of two quantities."""

    base: str
    quote: str
    step: float

    def in_steps(self, quantity: float) -> float:
        """Return the largest quantity of whole steps that is not larger, but for the rounding of sums."""
        if not self.step:
            return quantity
        step = Decimal(str(self.step))
        return float(Decimal(quantity * (1.0 + ROUNDING)) // step * step)


class Account:
    """An account at an exchange of ``shared.money.venue.EXCHANGES``.

    ``now``: the exchange's time (ms). Every method raises ``BusyError``, ``UnreachableError`` and ``ClockError``."""

    def __init__(
        self,
        venue: str,
        credentials: Credentials,
        now: Callable[[], int],
        *,
        local: str = "",
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """``local``: the address of a local exchange that is asked in its place. ``timeout_s``: how long an answer may
        take. Raises ``SettingsError`` if ccxt is not installed."""
        exchange = exchange_of(venue)
        try:
            from ccxt import async_support  # noqa: PLC0415  # half a second to import, and an extra
        except ImportError as error:
            raise SettingsError(
                f"orders at {exchange} need ccxt, which is not installed ({error}): {install_command('exchange')}"
            ) from None
        self._client: Any = getattr(async_support, exchange)(
            {
                "apiKey": credentials.key,
                "secret": credentials.secret,
                "password": credentials.password,
                "enableRateLimit": not local,
                "timeout": int(timeout_s * 1000),
                "options": {"defaultType": "spot", "fetchMarkets": {"types": ["spot"]}, "timeDifference": 0},
            }
        )
        self._dialect = DIALECTS[exchange]
        if self._client.requiredCredentials.get("password") and not credentials.password:
            raise SettingsError(f"the key of an account at {exchange} has a passphrase too: ${PASSWORD}, or password")
        self._client.has["fetchCurrencies"] = False
        self._client.options.update(self._dialect.options)
        self._client.milliseconds = now
        self._dialect.begin(self._client)
        if venue != exchange:
            self._client.set_sandbox_mode(True)
        if local:
            self._client.urls["api"] = turned(self._client.urls["api"], local)
        from ccxt.base import errors  # noqa: PLC0415  # an extra

        self._errors: Any = errors

    async def time_ms(self) -> int:
        """Return the exchange's time."""
        return int(await self._asked(self._client.fetch_time()))

    async def load(self) -> None:
        """Read which markets there are."""
        await self._asked(self._client.load_markets(True))

    def instrument(self, market: str) -> Instrument | None:
        """Return a spot market; None if the exchange does not list it."""
        listed = (self._client.markets or {}).get(market)
        if listed is None or not listed.get("spot"):
            return None
        return Instrument(listed["base"], listed["quote"], float(listed["precision"]["amount"] or 0.0))

    async def send(self, order: OrderPlaced, market: str, *, at: int, window_ms: int) -> None:
        """Send an order: at most its quantity, at its limit or better, filled at once or not at all. The exchange
        accepts it until ``window_ms`` after ``at`` (its time). Raises ``RefusedError`` if it did not accept it."""
        errors, price = self._errors, self._rounded_limit(order, market)
        listed = self.instrument(market)
        amount = listed.in_steps(order.quantity) if listed is not None else order.quantity
        validity = Validity(at, window_ms)
        terms = {"timeInForce": "IOC", **self._dialect.terms(order.order, validity)}
        refusals = (
            errors.InsufficientFunds,
            errors.InvalidOrder,
            errors.BadRequest,
            errors.BadSymbol,
            errors.OperationRejected,
            errors.AuthenticationError,
            errors.NotSupported,
        )
        bounded = VALID.set(validity)
        try:
            await self._asked(
                self._client.create_order(market, "limit", SIDES[order.side], amount, price, terms), *refusals
            )
        except errors.DuplicateOrderId as error:
            raise UnreachableError(f"the exchange knows the order: {shown(self._client, error)}") from None
        except refusals as error:
            text = shown(self._client, error)
            if "duplicate" in text.lower():
                raise UnreachableError(f"the exchange knows the order: {text}") from None
            raise RefusedError(text) from None
        finally:
            VALID.reset(bounded)

    async def look_up(self, order: OrderPlaced, market: str) -> Settled | Literal["open", "unknown"]:
        """Return what became of an order. ``unknown``: the exchange has no order of this id."""
        try:
            seen = await self._asked(self._dialect.find(self._client, order.order, market), self._errors.OrderNotFound)
        except self._errors.OrderNotFound:
            return "unknown"
        if seen["status"] not in OVER:
            return "open"
        return await self._settled(order, market, seen)

    async def cancel(self, order: OrderPlaced, market: str) -> None:
        """Cancel what is open of an order."""
        try:
            await self._asked(
                self._client.cancel_order(None, market, self._dialect.named(order.order)), self._errors.OrderNotFound
            )
        except self._errors.OrderNotFound:
            return  # it is not open any more

    async def balances(self) -> dict[str, float]:
        """Return what the account holds, by currency, what is reserved for orders included."""
        total = (await self._asked(self._client.fetch_balance({"type": "spot"})))["total"]
        return {currency: float(amount) for currency, amount in total.items() if amount}

    async def open_orders(self, markets: Collection[str]) -> list[str]:
        """Return the open orders of some markets, in words."""
        return [
            f"{order['side']} {order['remaining']:g} of {market} is open as {order['clientOrderId']} ({order['id']})"
            for market in sorted(markets)
            for order in await self._asked(self._client.fetch_open_orders(market))
        ]

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def _settled(self, order: OrderPlaced, market: str, seen: Any) -> Settled:
        """Return what became of an order that is not open any more. Raises ``UnreachableError`` if not all of its
        trades are shown yet."""
        executed, cost, commissions, at = float(seen["filled"] or 0.0), 0.0, dict[str, float](), int(seen["timestamp"])
        listed = self.instrument(market)
        if executed:
            trades = await self._asked(self._client.fetch_my_trades(market, params=self._dialect.trades_of(seen["id"])))
            shown_amount = sum(float(trade["amount"]) for trade in trades)
            if abs(shown_amount - executed) > executed * WHOLE:
                raise UnreachableError(f"of {executed:g} that were filled, the exchange shows {shown_amount:g} yet")
            for trade in trades:
                cost += float(trade["cost"])
                fee = trade.get("fee") or {}
                if fee.get("cost"):
                    commissions[fee["currency"]] = commissions.get(fee["currency"], 0.0) + float(fee["cost"])
                at = max(at, int(trade["timestamp"]))
        return Settled(
            order=order.order,
            at=at,
            executed=executed,
            cost=cost,
            commissions=commissions,
            base=listed.base if listed else "",
            quote=listed.quote if listed else "",
            step=listed.step if listed else 0.0,
            ended=self._ended(seen),
            exchange_order=str(seen["id"]),
        )

    def _ended(self, seen: Any) -> Ending | None:
        """Return why an order was not filled wholly; None if it was."""
        if seen["status"] == "rejected":
            return "rejected"
        whole = float(seen["filled"] or 0.0) >= float(seen["amount"]) * (1.0 - WHOLE)
        return None if whole else self._dialect.unfilled(seen)

    def _rounded_limit(self, order: OrderPlaced, market: str) -> float:
        """Return the limit of an order at a price that the exchange has, never a worse one."""
        assert order.limit is not None
        listed = self._client.market(market)
        cut = self._client.decimal_to_precision(
            order.limit, 0, listed["precision"]["price"], self._client.precisionMode
        )  # 0: cut off
        price = float(cut)
        if order.side == "SELL" and price < order.limit:
            price = float(self._client.price_to_precision(market, price + float(listed["precision"]["price"])))
        return price

    async def _asked(self, request: Any, *passed: Any) -> Any:
        try:
            return await asked(self._client, request, self._errors.InvalidNonce, *passed)
        except self._errors.InvalidNonce as error:
            raise ClockError(shown(self._client, error)) from None
