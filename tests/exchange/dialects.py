"""How exchanges say the same: requests and answers of Bybit, OKX and Kraken in terms of those of Binance."""

from datetime import UTC, datetime
from typing import Any, Final

SIZES: Final = {"1": "1m", "5": "5m", "15": "15m", "60": "1h", "1H": "1h"}
PRICES: Final = {"mark": "markPriceKlines", "index": "indexPriceKlines"}


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
        if path.endswith("price-kline"):
            renamed = {"symbol": query["symbol"], "interval": SIZES[query["interval"]], "limit": query["limit"]}
            return PRICES[path.rpartition("/")[2].partition("-")[0]], renamed | {"startTime": query["start"]}
        if path.endswith("market/open-interest"):
            return "openInterestHist", query | {"period": query["intervalTime"].replace("min", "m")}
        others = {"funding/history": "fundingRate", "tickers": "openInterest", "orderbook": "depth"}
        for end, what in others.items():
            if path.endswith(f"market/{end}"):
                return what, query
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
            listed = content["symbols"] if query.get("category") in ("spot", "linear") else []
            linear = self._contract() if query.get("category") == "linear" else {}
            result = {"category": query.get("category"), "list": [self._listing(each) | linear for each in listed]}
        return {"retCode": 0, "retMsg": "OK", "result": self._published(what, result, query)}

    def _published(self, what: str, content: Any, query: dict[str, str]) -> Any:
        """What is published of a contract."""
        where = {"category": "linear", "symbol": query.get("symbol")}
        match what:
            case "fundingRate":
                rates = [(each["fundingRate"], str(each["fundingTime"])) for each in reversed(content)]
                named = [{"symbol": query["symbol"], "fundingRate": r, "fundingRateTimestamp": at} for r, at in rates]
                return {"category": "linear", "list": named}
            case "openInterestHist":
                found = [(each["sumOpenInterest"], str(each["timestamp"])) for each in reversed(content)]
                return {**where, "list": [{"openInterest": amount, "timestamp": at} for amount, at in found]}
            case "openInterest":
                amount = content["openInterest"]
                ticker = {"symbol": query["symbol"], "lastPrice": "100", "openInterest": amount, "fundingRate": "0.5"}
                return {**where, "list": [ticker]}
            case "markPriceKlines" | "indexPriceKlines":
                return {**where, "list": [[str(row[0]), *row[1:5]] for row in reversed(content)]}
            case "depth":
                return {"s": query["symbol"], "b": content["bids"], "a": content["asks"], "ts": content["T"], "u": 1}
            case _:
                return content

    def _contract(self) -> dict[str, Any]:
        sizes = {"qtyStep": "0.0001", "minOrderQty": "0.0001", "maxOrderQty": "100"}
        return {
            "contractType": "LinearPerpetual",
            "settleCoin": "USDT",
            "launchTime": "1500000000000",
            "deliveryTime": "0",
            "fundingInterval": 480,
            "lotSizeFilter": sizes,
            "leverageFilter": {"minLeverage": "1", "maxLeverage": "10", "leverageStep": "0.01"},
        }

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

    def __init__(self) -> None:
        self.names: dict[str, str] = {}

    def asked(self, path: str, query: dict[str, str]) -> tuple[str, dict[str, str]]:
        renamed = {"symbol": query.get("instId", "").removesuffix("-SWAP").replace("-", "")}
        renamed |= {"limit": query.get("limit", "100")}
        for begin, end in (("before", "after"), ("begin", "end")):
            renamed |= {"startTime": str(int(query[begin]) + 1)} if begin in query else {}
            renamed |= {"endTime": str(int(query[end]) - 1)} if end in query else {}
        if "candles" in path:
            renamed |= {"interval": SIZES.get(query["bar"], query["bar"])}
            name = path.rpartition("/")[2].removeprefix("history-").partition("-")[0]
            return PRICES.get(name, "klines"), renamed
        if path.endswith("open-interest-history"):
            return "openInterestHist", renamed | {"period": SIZES.get(query["period"], query["period"])}
        others = {"funding-rate-history": "fundingRate", "open-interest": "openInterest", "books": "depth"}
        for end, what in others.items():
            if path.endswith(f"/{end}"):
                return what, renamed
        return ("time" if path.endswith("time") else "exchangeInfo"), query

    def answered(self, what: str, content: Any, query: dict[str, str]) -> Any:
        data: Any = [{"ts": str(content["serverTime"])}] if what == "time" else []
        if what == "klines":
            data = [self._row(row, closed=True) for row in reversed(content)]
        if what == "exchangeInfo" and query.get("instType") in ("SPOT", "SWAP"):
            swap = query["instType"] == "SWAP"
            data = [self._listing(each) | (self._contract(each) if swap else {}) for each in content["symbols"]]
        return {"code": "0", "msg": "", "data": data or self._published(what, content, query.get("instId", ""))}

    def _published(self, what: str, content: Any, name: str) -> list[Any]:
        """What is published of a contract. The open interest is one of contracts."""
        match what:
            case "fundingRate":
                rates = [(each["fundingRate"], str(each["fundingTime"])) for each in reversed(content)]
                return [
                    {"instId": name, "fundingRate": "0.5", "realizedRate": rate, "fundingTime": at}
                    for rate, at in rates
                ]
            case "openInterestHist":
                found = [(each["sumOpenInterest"], str(each["timestamp"])) for each in reversed(content)]
                return [[at, amount, "1", "100"] for amount, at in found]
            case "openInterest":
                amount, at = content["openInterest"], str(content["time"])
                return [{"instId": name, "instType": "SWAP", "oi": amount, "oiCcy": "1", "oiUsd": "100", "ts": at}]
            case "markPriceKlines" | "indexPriceKlines":
                return [[str(row[0]), *row[1:5], "1"] for row in reversed(content)]
            case "depth":
                sides = {side: [[*row, "0", "1"] for row in content[side]] for side in ("bids", "asks")}
                return [{**sides, "ts": str(content["T"])}]
            case _:
                return []

    def _contract(self, each: dict[str, Any]) -> dict[str, Any]:
        pair = f"{each['baseAsset']}-{each['quoteAsset']}"
        kind = {"instType": "SWAP", "instId": f"{pair}-SWAP", "uly": pair, "instFamily": pair, "baseCcy": ""}
        return {
            **kind,
            "quoteCcy": "",
            "settleCcy": each["quoteAsset"],
            "ctVal": "0.01",
            "ctMult": "1",
            "ctType": "linear",
        }

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
            symbol = each["instId"].removesuffix("-SWAP").replace("-", "")
            self.names[symbol] = each["instId"]
            names.add(f"{symbol.lower()}@kline_{each['channel'].removeprefix('candle')}")
        return message["op"] == "subscribe", names, {"event": message["op"], "arg": args[0], "connId": "a"}

    def row(self, symbol: str, interval: str, row: list[Any], *, closed: bool, now: int) -> Any:
        name = self.names[symbol]
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
