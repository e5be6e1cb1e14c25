"""An exchange on loopback that speaks what ccxt asks of several: REST and WebSocket, with faults.

Its time is that of the test, which advances it. A fault changes what it shows of what a market holds."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from math import sin
from typing import Any

from aiohttp import WSMsgType, web

from tests.exchange.derivatives import Derivative
from tests.exchange.dialects import Binance, dialect_of
from tests.exchange.trading import Trading

MINUTE = 60_000
START = 1_700_000_040_000
INTERVALS = {"1s": 1_000, "1m": MINUTE, "5m": 5 * MINUTE, "15m": 15 * MINUTE, "1h": 60 * MINUTE}


def _noise(*what: Any) -> float:
    return int.from_bytes(blake2b(repr(what).encode(), digest_size=4).digest(), "big") / 2**32


@dataclass
class Market:
    """One symbol. ``absent``, ``quiet``: bars (by number) that the exchange does not have, or without trades.
    ``revised``: the volume that a bar has from a moment on."""

    id: str
    base: str
    quote: str = "USDT"
    status: str = "TRADING"
    interval: int = MINUTE
    absent: set[int] = field(default_factory=set)
    quiet: set[int] = field(default_factory=set)
    off_grid: set[int] = field(default_factory=set)
    revised: dict[int, tuple[int, float]] = field(default_factory=dict)
    doubled: set[int] = field(default_factory=set)

    def price(self, n: int) -> float:
        """The price at the end of bar ``n``."""
        return round(100 + 10 * sin(n / 17) + _noise(self.id, n), 4)

    def row(self, n: int, now: int, part: float = 1.0) -> list[Any]:
        """A kline as REST shows it; ``part`` of it while it is open."""
        opened = n * self.interval
        first, last = self.price(n - 1), self.price(n)
        last = round(first + (last - first) * part, 4)
        volume = 0.0 if n in self.quiet else round((1 + 9 * _noise(self.id, n, "volume")) * part, 4)
        since, changed = self.revised.get(n, (now + 1, 0.0))
        volume = changed if now >= since else volume
        trades = int(100 * part) if volume else 0
        high, low = max(first, last) + 0.5, min(first, last) - 0.5
        prices = [f"{value:.8f}" for value in (first, high, low, last)]
        if n % 3 == 0:
            prices[0] = f"{first:.6e}"  # a price with an exponent
        shift = self.interval // 3 if n in self.off_grid else 0
        closed = opened + self.interval - 1
        turnover, taker = f"{volume * last:.8f}", f"{volume / 2:.8f}"
        return [opened + shift, *prices, f"{volume:.8f}", closed, turnover, trades, taker, "0", "0"]

    def listing(self, *, spot: bool) -> dict[str, Any]:
        """The market in ``exchangeInfo``."""
        contract = {
            "pair": self.id,
            "contractType": "PERPETUAL",
            "marginAsset": self.quote,
            "onboardDate": 0,
            "deliveryDate": 4133404800000,
            "maintMarginPercent": "2.5",
            "requiredMarginPercent": "5.0",
        }
        steps = [
            {"filterType": "PRICE_FILTER", "minPrice": "0.0001", "maxPrice": "1000000", "tickSize": "0.0001"},
            {"filterType": "LOT_SIZE", "minQty": "0.0001", "maxQty": "1000000", "stepSize": "0.0001"},
            {"filterType": "NOTIONAL", "minNotional": "5", "applyMinToMarket": True, "maxNotional": "9000000"},
        ]
        return {
            "symbol": self.id,
            "status": self.status,
            "baseAsset": self.base,
            "quoteAsset": self.quote,
            "baseAssetPrecision": 8,
            "quotePrecision": 8,
            "quantityPrecision": 4,
            "pricePrecision": 4,
            "orderTypes": ["LIMIT", "MARKET"],
            "isSpotTradingAllowed": True,
            "permissions": ["SPOT"],
            "permissionSets": [["SPOT"]],
            "filters": steps,
            **({} if spot else contract),
        }


class Subscriber:
    """One WebSocket connection, and the streams it asked for. ``muted``: those that bring nothing. ``dead``: it answers
    pings, and nothing else."""

    def __init__(self, socket: web.WebSocketResponse, dialect: Binance) -> None:
        self.socket = socket
        self.dialect = dialect
        self.streams: set[str] = set()
        self.muted: set[str] = set()
        self.dead = False


class LocalExchange:
    """The exchange. The public attributes are faults; all are off at first.

    ``refusals``: answers (status, headers, text) given to the next requests for klines. ``pages``: what the next pages
    do instead: ``oldest``, ``newest`` (unless asked by time), ``cut``, ``empty``. ``silent``: the stream brings
    nothing. ``frozen``: the stream repeats the bar of this number. ``again``: the stream shows older bars again.
    ``since_shift``: intervals by which the start of a page is off. ``hide_open``: pages end before the open bar.
    ``without``: requests for inputs that it refuses. ``late_prices``: it shows a mark or index price so late (ms).
    ``end_stamped``: times are ends of bars. ``clock_off``: how far its clock is ahead. ``lagging``: REST shows a bar so
    late. ``unlisted``: it does not say which markets it has. ``trading``: its accounts, if it has any."""

    def __init__(self, markets: list[Market], now: Callable[[], int]) -> None:
        self.markets = {market.id: market for market in markets}
        self._now = now
        self.subscribers: list[Subscriber] = []
        self.connections = 0
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.url = ""
        self.refusals: list[tuple[int, dict[str, str], str]] = []
        self.pages: list[str] = []
        self.silent = False
        self.frozen: int | None = None
        self.again = False
        self.since_shift = 0
        self.hide_open = False
        self.end_stamped = False
        self.clock_off = 0
        self.lagging = 0
        self.unlisted = False
        self.without: set[str] = set()
        self.late_prices = 0
        self.trading: Trading | None = None

    def now(self) -> int:
        return self._now() + self.clock_off

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator["LocalExchange"]:
        app = web.Application()
        app.router.add_route("*", "/{host}/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        assert site._server is not None
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
        try:
            yield self
        finally:
            await self.disconnect()
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._stream(request)
        if self.trading is not None and self.trading.answers(request):
            return await self.trading.answer(request)
        dialect = dialect_of(request.match_info["host"])
        original = dict(request.query)
        what, query = dialect.asked(request.match_info["path"], original)
        self.requests.append((what, query))
        if what == "time":
            return web.json_response(dialect.answered(what, {"serverTime": self.now()}, original))
        if what == "exchangeInfo" and self.unlisted:
            return web.json_response({"code": -1, "msg": "not now"}, status=503)
        if what == "exchangeInfo":
            spot = not request.match_info["host"].startswith("fapi")
            listed = [market.listing(spot=spot) for market in self.markets.values() if market.status]
            content = {"symbols": listed, "serverTime": self.now()}
            return web.json_response(dialect.answered(what, content, original))
        if what in self.without:
            return web.json_response({"code": -1130, "msg": f"no {what}"}, status=400)
        if what in Derivative.ANSWERS:
            late = self.late_prices if what.endswith("PriceKlines") else 0
            content = Derivative(self.markets, self.now() - late, hide_open=late > 0).answer(what, query)
            return web.json_response(dialect.answered(what, content, original))
        if what != "klines":
            return web.json_response({"code": -1, "msg": f"no {what}"}, status=404)
        if self.refusals:
            status, headers, text = self.refusals.pop(0)
            return web.Response(status=status, headers=headers, text=text, content_type="application/json")
        return web.json_response(dialect.answered(what, self._klines(query), original))

    def _klines(self, query: Any) -> list[list[Any]]:
        market = self.markets[query["symbol"]]
        size, now = INTERVALS[query["interval"]], self.now()
        assert size == market.interval
        limit, until = int(query.get("limit", 500)), int(query.get("endTime", now))
        last = min(until, now) // size
        if self.hide_open or self.lagging:
            last = min(last, (now - self.lagging) // size - 1)
        start = int(query["startTime"]) if "startTime" in query else (last - limit + 1) * size
        first = -(-start // size) + self.since_shift
        fault = self.pages.pop(0) if self.pages else ""
        if fault == "oldest":
            first = START // size - 50
        if fault == "newest" and "endTime" not in query:
            first = last - 1
        numbers = [n for n in range(first, min(first + limit, last + 1)) if n not in market.absent]
        if fault == "cut":
            numbers = numbers[: max(len(numbers) // 2, 1)]
        if fault == "empty":
            numbers = []
        rows = []
        for n in numbers:
            part = min(max((now - n * size) / size, 0.0), 1.0)
            row = market.row(n, now, part)
            rows.append(row)
            if n in market.doubled and part == 1.0:
                rows.append([*row[:5], f"{float(row[5]) + 1:.8f}", *row[6:]])
        for row in rows:
            if self.end_stamped:
                row[0], row[6] = row[0] + size, row[6] + size
        return rows

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        subscriber = Subscriber(socket, dialect_of(request.match_info["host"]))
        self.subscribers.append(subscriber)
        self.connections += 1
        try:
            async for message in socket:
                if message.type != WSMsgType.TEXT or subscriber.dead:
                    continue
                if message.data == "ping":
                    await socket.send_str("pong")
                    continue
                begins, names, reply = subscriber.dialect.subscription(json.loads(message.data))
                if begins:
                    subscriber.streams |= names
                    subscriber.muted -= names
                else:
                    subscriber.streams -= names
                await socket.send_json(reply)
        finally:
            if subscriber in self.subscribers:
                self.subscribers.remove(subscriber)
        return socket

    def streams(self) -> set[str]:
        return {name for each in self.subscribers for name in each.streams}

    def mute(self, stream: str | None = None) -> None:
        """Bring nothing on one stream until it is subscribed again, or on all connections that are there."""
        for each in self.subscribers:
            each.dead = each.dead or stream is None
            each.muted |= {stream} if stream else set()

    async def push(self) -> None:
        """Show every subscriber the bar that is open now, and the one before it once more."""
        now = self.now()
        for each in list(self.subscribers):
            for name in sorted(each.streams - each.muted):
                if self.silent or each.dead:
                    continue
                symbol, _, interval = name.partition("@kline_")
                market, size = self.markets[symbol.upper()], INTERVALS[interval]
                n = now // size if self.frozen is None else self.frozen
                for number in (*((n - 3, n - 2) if self.again else ()), n - 1, n):
                    if number in market.absent or number in market.quiet:
                        continue
                    part = min(max((now - number * size) / size, 0.01), 1.0)
                    row = market.row(number, now, part)
                    closed = part == 1.0
                    with suppress(ConnectionError):  # its client was killed just now
                        await each.socket.send_json(each.dialect.row(market.id, interval, row, closed=closed, now=now))

    async def disconnect(self, code: int = 1006) -> None:
        """End every connection, with a closing code or without a word."""
        for each in list(self.subscribers):
            each.streams.clear()
            if code == 1006 and each.socket._req is not None and each.socket._req.transport is not None:
                each.socket._req.transport.abort()
            else:
                await each.socket.close(code=code)
        await asyncio.sleep(0)
