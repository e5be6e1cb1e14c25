"""How exchanges say the same: requests and answers of Bybit, OKX and Kraken in terms of those of Binance."""

from datetime import UTC, datetime
from typing import Any, Final

SIZES: Final = {"1": "1m", "5": "5m", "15": "15m", "60": "1h", "1H": "1h"}


class Binance:
    """What ``tests.exchange.local`` speaks itself."""

    def asked(self, path: str, query: dict[str, str]) -> tuple[str, dict[str, str]]:
        """The request that this one stands for: ``time``, ``exchangeInfo`` or ``klines``, and its query."""
        return path.rpartition("/")[2], query

    def answered(self, what: str, content: Any, query: dict[str, str]) -> Any:
        """The answer as the exchange words it."""
        return content

    def subscription(self, message: dict[str, Any]) -> tuple[bool, set[str], Any]:
        """Whether a message subscribes, the streams it names, and the reply."""
        names = set(message.get("params", ()))
        return message["method"] == "SUBSCRIBE", names, {"result": None, "id": message["id"]}

    def row(self, symbol: str, interval: str, row: list[Any], *, closed: bool, now: int) -> Any:
        """A row of a stream."""
        kline = dict(zip("tohlcvTqnVQB", row, strict=True)) | {"s": symbol, "i": interval, "x": closed}
        return {"e": "kline", "E": now, "s": symbol, "k": kline}


class Bybit(Binance):
    """https://bybit-exchange.github.io/docs/v5: newest rows first."""

    def asked(self, path: str, query: dict[str, str]) -> tuple[str, dict[str, str]]:
        if path.endswith("market/kline"):
            renamed = {"symbol": query["symbol"], "interval": SIZES[query["interval"]], "limit": query["limit"]}
            renamed |= {"startTime": query["start"]} if "start" in query else {}
            return "klines", renamed | ({"endTime": query["end"]} if "end" in query else {})
        return ("time" if path.endswith("time") else "exchangeInfo"), query

    def answered(self, what: str, content: Any, query: dict[str, str]) -> Any:
        result: Any = content
        if what == "time":
            ms = content["serverTime"]
            return {"retCode": 0, "result": {"timeSecond": str(ms // 1000), "timeNano": str(ms * 10**6)}, "time": ms}
        if what == "klines":
            rows = [[str(row[0]), *row[1:6], row[7]] for row in reversed(content)]
            result = {"category": query.get("category"), "list": rows}
        if what == "exchangeInfo":
            listed = content["symbols"] if query.get("category") == "spot" else []
            result = {"category": query.get("category"), "list": [self._listing(each) for each in listed]}
        return {"retCode": 0, "retMsg": "OK", "result": result}

    def _listing(self, each: dict[str, Any]) -> dict[str, Any]:
        return {
            "symbol": each["symbol"],
            "baseCoin": each["baseAsset"],
            "quoteCoin": each["quoteAsset"],
            "status": "Trading" if each["status"] == "TRADING" else "Closed",
            "lotSizeFilter": {"basePrecision": "0.0001", "quotePrecision": "0.0001", "minOrderQty": "0.0001"},
            "priceFilter": {"tickSize": "0.0001"},
        }

    def subscription(self, message: dict[str, Any]) -> tuple[bool, set[str], Any]:
        names = set()
        for topic in message.get("args", ()):
            _, size, symbol = topic.split(".")
            names.add(f"{symbol.lower()}@kline_{SIZES[size]}")
        reply = {"success": True, "ret_msg": "", "op": message["op"], "req_id": message.get("req_id", "")}
        return message["op"] != "unsubscribe", names, reply

    def row(self, symbol: str, interval: str, row: list[Any], *, closed: bool, now: int) -> Any:
        size = next(name for name, text in SIZES.items() if text == interval)
        first, high, low, last, volume = row[1:6]
        data = {"start": row[0], "end": row[6], "interval": size, "confirm": closed, "timestamp": now}
        data |= {"open": first, "high": high, "low": low, "close": last, "volume": volume, "turnover": row[7]}
        return {"topic": f"kline.{size}.{symbol}", "data": [data], "ts": now, "type": "snapshot"}


class Okx(Binance):
    """https://www.okx.com/docs-v5: names with a hyphen, newest rows first, bounds that are exclusive."""

    def asked(self, path: str, query: dict[str, str]) -> tuple[str, dict[str, str]]:
        if "candles" in path:
            renamed = {"symbol": query["instId"].replace("-", ""), "interval": SIZES.get(query["bar"], query["bar"])}
            renamed |= {"limit": query.get("limit", "100")}
            renamed |= {"startTime": str(int(query["before"]) + 1)} if "before" in query else {}
            return "klines", renamed | ({"endTime": str(int(query["after"]) - 1)} if "after" in query else {})
        return ("time" if path.endswith("time") else "exchangeInfo"), query

    def answered(self, what: str, content: Any, query: dict[str, str]) -> Any:
        data: Any = [{"ts": str(content["serverTime"])}] if what == "time" else []
        if what == "klines":
            data = [self._row(row, closed=True) for row in reversed(content)]
        if what == "exchangeInfo" and query.get("instType") == "SPOT":
            data = [self._listing(each) for each in content["symbols"]]
        return {"code": "0", "msg": "", "data": data}

    def _listing(self, each: dict[str, Any]) -> dict[str, Any]:
        return {
            "instType": "SPOT",
            "instId": f"{each['baseAsset']}-{each['quoteAsset']}",
            "baseCcy": each["baseAsset"],
            "quoteCcy": each["quoteAsset"],
            "state": "live" if each["status"] == "TRADING" else "suspend",
            "tickSz": "0.0001",
            "lotSz": "0.0001",
            "minSz": "0.0001",
        }

    def _row(self, row: list[Any], *, closed: bool) -> list[str]:
        return [str(row[0]), *row[1:6], row[7], row[7], "1" if closed else "0"]

    def subscription(self, message: dict[str, Any]) -> tuple[bool, set[str], Any]:
        names, args = set(), message["args"]
        for each in args:
            names.add(f"{each['instId'].replace('-', '').lower()}@kline_{each['channel'].removeprefix('candle')}")
        return message["op"] == "subscribe", names, {"event": message["op"], "arg": args[0], "connId": "a"}

    def row(self, symbol: str, interval: str, row: list[Any], *, closed: bool, now: int) -> Any:
        name = f"{symbol.removesuffix('USDT')}-USDT"
        return {"arg": {"channel": f"candle{interval}", "instId": name}, "data": [self._row(row, closed=closed)]}


class Kraken(Binance):
    """https://docs.kraken.com: seconds, a start that is exclusive, no limit."""

    def asked(self, path: str, query: dict[str, str]) -> tuple[str, dict[str, str]]:
        if path.endswith("OHLC"):
            renamed = {"symbol": query["pair"], "interval": SIZES[query["interval"]], "limit": "720"}
            return "klines", renamed | ({"startTime": f"{query['since']}001"} if "since" in query else {})
        return ("time" if path.endswith("Time") else "exchangeInfo"), query

    def answered(self, what: str, content: Any, query: dict[str, str]) -> Any:
        result: Any = {}
        if what == "time":
            result = {"unixtime": content["serverTime"] // 1000, "rfc1123": ""}
        if what == "klines":
            rows = [[row[0] // 1000, *row[1:5], row[4], row[5], row[8]] for row in content]
            result = {query["pair"]: rows, "last": rows[-1][0] if rows else 0}
        if what == "exchangeInfo":
            result = {each["symbol"]: self._listing(each) for each in content["symbols"]}
        return {"error": [], "result": result}

    def _listing(self, each: dict[str, Any]) -> dict[str, Any]:
        base, quote = each["baseAsset"], each["quoteAsset"]
        return {
            "altname": each["symbol"],
            "wsname": f"{base}/{quote}",
            "base": base,
            "quote": quote,
            "pair_decimals": 4,
            "lot_decimals": 8,
            "fees": [[0, 0.26]],
            "fees_maker": [[0, 0.16]],
            "status": "online" if each["status"] == "TRADING" else "cancel_only",
            "ordermin": "0.0001",
        }

    def subscription(self, message: dict[str, Any]) -> tuple[bool, set[str], Any]:
        wanted = message.get("params", {})
        names = {
            f"{symbol.replace('/', '').lower()}@kline_{SIZES[str(wanted['interval'])]}"
            for symbol in wanted.get("symbol", ())
        }
        result = {"channel": "ohlc", "symbol": (wanted.get("symbol") or [""])[0]}
        reply = {"method": message["method"], "success": True, "result": result, "req_id": message.get("req_id")}
        return message["method"] == "subscribe", names, reply if names else {"method": "pong"}

    def row(self, symbol: str, interval: str, row: list[Any], *, closed: bool, now: int) -> Any:
        begun = datetime.fromtimestamp(row[0] / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.000000000Z")
        first, high, low, last, volume = map(float, row[1:6])
        size = int(next(name for name, text in SIZES.items() if text == interval))
        data = {"symbol": f"{symbol.removesuffix('USDT')}/USDT", "interval_begin": begun, "interval": size}
        data |= {"open": first, "high": high, "low": low, "close": last, "volume": volume, "trades": row[8]}
        return {"channel": "ohlc", "type": "update", "timestamp": begun, "data": [data]}


def dialect_of(host: str) -> Binance:
    """The language of a host."""
    for name, kind in (("bybit", Bybit), ("okx", Okx), ("kraken", Kraken)):
        if name in host:
            return kind()
    return Binance()
