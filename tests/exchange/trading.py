"""Accounts at the local exchange, as the REST API of Binance spot has them, with faults (others: ``wording``).

https://developers.binance.com/docs/binance-spot-api-docs/rest-api: signed requests within their window, limit orders
that are filled at once or not at all, an order id that may be used again once the earlier order is not open."""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal
from typing import Any

from aiohttp import web

from tests.exchange.wording import Wording, wording_of

KEY, SECRET = "key-of-a-test", "secret-of-a-test"
SANDBOX, REAL = "testnet.binance.vision", "api.binance.com"
SANDBOXES = {"binance": SANDBOX, "bybit": "api-testnet.bybit.com", "okx": "demo.www.okx.com"}
LONG_S = 60.0
CENT = Decimal("0.00000001")
FAULTS = ("lost", "silent", "dropped", "late", "429", "418", "unknown", "partial")
"""What may become of the next order.

``lost``: accepted, and the connection ends without an answer; ``silent``: the same, and no answer ever; ``dropped``:
the connection ends before it is accepted; ``late``: it is accepted after ``late_s``; ``delayed``: the same, and the
connection ended before; ``429``, ``418``: refused for the number of requests; ``unknown``: accepted, and answered that
its status is unknown; ``partial``: filled in part; ``resting``: it stays open; ``cancelled``: filled in part and
cancelled by the exchange. Any other text is an error message with the code -2010."""


HARMLESS = tuple(fault for fault in (*FAULTS, "delayed") if fault != "partial")
SHARE = 0.2


@dataclass
class Placed:
    """One order."""

    id: int
    client: str
    symbol: str
    side: str
    quantity: Decimal
    price: Decimal
    at: int
    status: str = "NEW"
    trades: list[dict[str, Any]] = field(default_factory=list)

    @property
    def executed(self) -> Decimal:
        return sum((Decimal(trade["qty"]) for trade in self.trades), Decimal(0))

    def shown(self) -> dict[str, Any]:
        cost = sum((Decimal(trade["quoteQty"]) for trade in self.trades), Decimal(0))
        return {
            "symbol": self.symbol,
            "orderId": self.id,
            "orderListId": -1,
            "clientOrderId": self.client,
            "price": f"{self.price:.8f}",
            "origQty": f"{self.quantity:.8f}",
            "executedQty": f"{self.executed:.8f}",
            "cummulativeQuoteQty": f"{cost:.8f}",
            "status": self.status,
            "timeInForce": "IOC",
            "type": "LIMIT",
            "side": self.side,
            "time": self.at,
            "updateTime": self.at,
            "isWorking": True,
        }


class RefusedError(Exception):
    """An answer with a status and a code."""

    def __init__(self, status: int, code: int, text: str) -> None:
        super().__init__(text)
        self.what = (status, code, text)


class Trading:
    """All accounts, one for each host.

    ``prices``: at which a symbol trades; ``follow``: the same as a function of the symbol, in their place. ``faults``:
    what becomes of the next new orders, ``others``: of the next other requests (``429``, ``dropped``). ``seeded``: a
    share of the new orders has a fault that changes nothing of what is traded. ``commission``: of each trade, paid in
    ``paid_in``, or in what was received. ``slow_trades``: trades are shown so many requests late.
    ``refused``: the codes of all refusals."""

    def __init__(self, symbols: Iterable[tuple[str, str, str]], now: Callable[[], int]) -> None:
        self.symbols = {name: (base, quote) for name, base, quote in symbols}
        self._now = now
        self.url = ""
        self.clock_off = 0
        self.prices = dict.fromkeys(self.symbols, Decimal(100))
        self.balances: dict[str, dict[str, Decimal]] = defaultdict(_rich)
        self.orders: dict[str, list[Placed]] = defaultdict(list)
        self.faults: list[str] = []
        self.others: list[str] = []
        self.asked: Counter[str] = Counter()
        self.clients: Counter[str] = Counter()
        self.refused: list[int] = []
        self.commission = Decimal("0.001")
        self.paid_in = ""
        self.slow_trades = 0
        self.late_s = 0.5
        self.step = Decimal("0.0001")
        self.follow: Callable[[str], Decimal] | None = None
        self.seeded: random.Random | None = None

    def now(self) -> int:
        return self._now() + self.clock_off

    def leave_open(self, symbol: str, host: str = SANDBOX) -> None:
        """An order of somebody else that stays open."""
        orders = self.orders[host]
        orders.append(Placed(len(orders) + 1, "by-hand", symbol, "BUY", Decimal(1), Decimal(50), self.now()))

    def answers(self, request: web.Request) -> bool:
        """Whether a request is about orders or an account."""
        host, path = request.match_info["host"], request.match_info["path"]
        return path == "state" or bool(wording_of(host).names(request.method, path))

    async def answer(self, request: web.Request) -> web.StreamResponse:
        host, path = request.match_info["host"], request.match_info["path"]
        if path == "state":
            return web.json_response(self.state())
        wording, body = wording_of(host), await request.text() if request.method == "POST" else ""
        name, query = wording.names(request.method, path), request.raw_path.partition("?")[2]
        asked = wording.fields(name, query, body)
        host = wording.account(host, request.headers)
        self.asked[name] += 1
        faults = self.faults if name == "POST order" else self.others
        fault = faults.pop(0) if faults else ""
        if self.seeded is not None and name == "POST order" and self.seeded.random() < SHARE:
            fault = self.seeded.choice(HARMLESS)
        try:
            key, text, signature = wording.signed(path, query, body, request.headers, request.method)
            if key != KEY:
                raise RefusedError(401, -2015, "Invalid API-key, IP, or permissions for action.")
            if wording.signature(SECRET, text) != signature:
                raise RefusedError(400, -1022, "Signature for this request is not valid.")
            self._in_window(*wording.times(asked, request.headers))
            if fault in {"429", "418"}:
                raise RefusedError(int(fault), -1003, "Too much request weight used")
            if fault == "dropped":
                return self._end(request)
            if name == "POST order":
                order = await self._place(request, host, asked, fault)
                return web.json_response(wording.shown(name, order)) if order else self._end(request)
            return web.json_response(wording.shown(name, self._shown(name, host, asked, wording)))
        except RefusedError as error:
            self.refused.append(error.what[1])
            status, content = wording.error(*error.what)
            return web.json_response(content, status=status, headers={"Retry-After": "1"} if status > 410 else {})

    def state(self) -> Any:
        """What a test in another process looks at: how often each order was accepted, and what accounts hold."""
        return {
            "accepted": self.clients,
            "asked": self.asked,
            "moved": {
                order.client: str(order.executed if order.side == "BUY" else -order.executed)
                for orders in self.orders.values()
                for order in orders
            },
            "balances": {
                host: {asset: str(amount) for asset, amount in held.items()} for host, held in self.balances.items()
            },
        }

    def _in_window(self, at: int, until: float) -> None:
        if at >= self.now() + 1000:
            raise RefusedError(400, -1021, "Timestamp for this request was 1000ms ahead of the server's time.")
        if self.now() > until:
            raise RefusedError(400, -1021, "Timestamp for this request is outside of the recvWindow.")

    def _end(self, request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    async def _place(self, request: web.Request, host: str, asked: dict[str, str], fault: str) -> Any:
        """Accept an order, and return the answer; None if the connection ends without one."""
        wording = wording_of(host)
        if fault == "delayed":
            self._end(request)
        if fault in {"late", "delayed"}:
            await asyncio.sleep(self.late_s)
            self._in_window(*wording.times(asked, request.headers))
        if fault and fault not in {"late", "delayed", "lost", "silent", "unknown", "partial", "resting", "cancelled"}:
            raise RefusedError(400, -2010, fault)
        order = self._accepted(host, asked, fault, wording)
        if fault == "lost":
            return None
        if fault == "silent":
            await asyncio.sleep(LONG_S)
        if fault == "unknown":
            text = "Timeout waiting for response from backend server. Send status unknown; execution status unknown."
            raise RefusedError(408, -1007, text)
        fills = [
            {name: trade[name] for name in ("price", "qty", "commission", "commissionAsset")} for trade in order.trades
        ]
        return {**order.shown(), "transactTime": order.at, "fills": fills}

    def _accepted(self, host: str, asked: dict[str, str], fault: str, wording: Wording) -> Placed:
        symbol, side = asked["symbol"], asked["side"]
        quantity, limit = Decimal(asked["quantity"]), Decimal(asked["price"])
        client = asked["newClientOrderId"]
        base, quote = self.symbols[symbol]
        if (asked["type"], asked["timeInForce"]) != ("LIMIT", "IOC"):
            raise RefusedError(400, -1106, "an order without a limit reached the exchange")
        if quantity % self.step or quantity < self.step:
            raise RefusedError(400, -1013, "Filter failure: LOT_SIZE")
        if quantity * limit < 5:
            raise RefusedError(400, -1013, "Filter failure: NOTIONAL")
        mine = [each.status for each in self.orders[host] if each.client == client]
        if mine if wording.unique else {"NEW", "PARTIALLY_FILLED"} & set(mine):
            raise RefusedError(400, -2010, "Duplicate order sent.")
        held = self.balances[host]
        price = self.prices[symbol] if self.follow is None else self.follow(symbol)
        if held[quote if side == "BUY" else base] < (quantity * limit if side == "BUY" else quantity):
            raise RefusedError(400, -2010, "Account has insufficient balance for requested action.")
        self.clients[client] += 1
        order = Placed(len(self.orders[host]) + 1, client, symbol, side, quantity, limit, self.now())
        self.orders[host].append(order)
        if fault == "resting":
            return order
        if price <= limit if side == "BUY" else price >= limit:
            part = quantity if fault not in {"partial", "cancelled"} else (quantity / 2).quantize(self.step, ROUND_DOWN)
            self._trade(host, order, part, price)
        order.status = "FILLED" if order.executed == quantity else "CANCELED" if fault == "cancelled" else "EXPIRED"
        return order

    def _trade(self, host: str, order: Placed, quantity: Decimal, price: Decimal) -> None:
        base, quote = self.symbols[order.symbol]
        held, value = self.balances[host], (quantity * price).quantize(CENT)
        got, amount = (base, quantity) if order.side == "BUY" else (quote, value)
        gave, paid = (quote, value) if order.side == "BUY" else (base, quantity)
        fee = ((value if self.paid_in else amount) * self.commission).quantize(CENT)
        held[got] += amount
        held[gave] -= paid
        held[self.paid_in or got] -= fee
        order.trades.append(
            {
                "id": order.id * 10,
                "orderId": order.id,
                "symbol": order.symbol,
                "price": f"{price:.8f}",
                "qty": f"{quantity:.8f}",
                "quoteQty": f"{value:.8f}",
                "commission": f"{fee:.8f}",
                "commissionAsset": self.paid_in or got,
                "time": order.at,
                "isBuyer": order.side == "BUY",
                "isMaker": False,
                "isBestMatch": True,
            }
        )

    def _shown(self, name: str, host: str, asked: dict[str, str], wording: Wording) -> Any:
        orders = self.orders[host]
        match name:
            case "GET account":
                held = self.balances[host].items()
                balances = [{"asset": asset, "free": f"{amount:.8f}", "locked": "0"} for asset, amount in held]
                return {"accountType": "SPOT", "canTrade": True, "balances": balances, "updateTime": self.now()}
            case "GET openOrders" | "GET order" if name == "GET openOrders" or "list" in asked:
                return [each.shown() for each in orders if each.status == "NEW" and each.symbol == asked["symbol"]]
            case "GET myTrades":
                if self.slow_trades:
                    self.slow_trades -= 1
                    return []
                return [trade for each in orders if each.id == int(asked["orderId"]) for trade in each.trades]
            case "GET order" | "GET history" if wording.unique:
                mine = [each.shown() for each in orders if each.client == asked["origClientOrderId"]]
                if not mine and not asked.get("category"):
                    raise RefusedError(400, -2013, "Order does not exist.")
                return mine[-1:]
            case _:
                return self._one(name, orders, asked)

    def _one(self, name: str, orders: list[Placed], asked: dict[str, str]) -> Any:
        mine = [each for each in orders if each.client == asked["origClientOrderId"]]
        if name == "DELETE order":
            if not mine or mine[-1].status != "NEW":
                raise RefusedError(400, -2011, "Unknown order sent.")
            mine[-1].status = "CANCELED"
        elif not mine:
            raise RefusedError(400, -2013, "Order does not exist.")
        return mine[-1].shown()


def _rich() -> dict[str, Decimal]:
    return defaultdict(Decimal, USDT=Decimal(1_000_000))
