"""How Bybit and OKX word orders and accounts: their requests and answers in terms of those of Binance.

https://bybit-exchange.github.io/docs/v5 (unified account) and https://www.okx.com/docs-v5 (spot, cash)."""

import base64
import hmac
import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from urllib.parse import parse_qsl

PASSWORD: Final = "passphrase-of-a-test"
SLOW_MS: Final = 30_000
"""How old a request may be at OKX that says nothing about it."""


class Wording:
    """Binance's own. ``unique``: an id is refused although the earlier order is not open any more."""

    unique = False

    def names(self, method: str, path: str) -> str:
        """The request in Binance's words; '' if it is not about orders or accounts."""
        last = path.rpartition("/")[2]
        return f"{method} {last}" if last in {"order", "openOrders", "account", "myTrades"} else ""

    def account(self, host: str, headers: Mapping[str, str]) -> str:
        """The name of the account that is asked for."""
        return host

    def fields(self, name: str, query: str, body: str) -> dict[str, str]:
        """The fields of a request in Binance's words."""
        return dict(parse_qsl(body if name == "POST order" else query))

    def signed(self, path: str, query: str, body: str, headers: Mapping[str, str], method: str) -> tuple[str, str, str]:
        """The key, what is signed, and the signature."""
        text, _, signature = (body if method == "POST" else query).rpartition("&signature=")
        return headers.get("X-MBX-APIKEY", ""), text, signature

    def signature(self, secret: str, text: str) -> str:
        return hmac.new(secret.encode(), text.encode(), "sha256").hexdigest()

    def times(self, asked: Mapping[str, str], headers: Mapping[str, str]) -> tuple[int, float]:
        """When a request was made (ms), and until when it may be accepted."""
        at = int(asked["timestamp"])
        return at, at + float(asked.get("recvWindow", 5000))

    def error(self, status: int, code: int, text: str) -> tuple[int, Any]:
        """The status and the content of a refusal."""
        return status, {"code": code, "msg": text}

    def shown(self, name: str, content: Any) -> Any:
        """An answer."""
        return content


class Bybit(Wording):
    unique = True
    NAMES: Final = {
        "v5/order/create": "POST order",
        "v5/order/cancel": "DELETE order",
        "v5/order/realtime": "GET order",
        "v5/order/history": "GET history",
        "v5/execution/list": "GET myTrades",
        "v5/account/wallet-balance": "GET account",
    }
    CODES: Final = {-2015: 10003, -1022: 10004, -1021: 10002, -1003: 10006, -2011: 170213, -1013: 170140, -1007: 10016}
    STATES: Final = {"NEW": "New", "FILLED": "Filled"}

    def names(self, method: str, path: str) -> str:
        return self.NAMES.get(path, "")

    def fields(self, name: str, query: str, body: str) -> dict[str, str]:
        asked = json.loads(body) if body else dict(parse_qsl(query))
        assert asked.get("category", "spot") == "spot"
        if name == "GET order" and "orderLinkId" not in asked:
            return {"list": "open", **asked}
        renamed = {"qty": "quantity", "orderType": "type", "orderLinkId": "newClientOrderId"}
        fields = {renamed.get(key, key): value for key, value in asked.items()}
        fields["origClientOrderId"] = asked.get("orderLinkId", "")
        return fields | {key: str(fields[key]).upper() for key in ("side", "type") if key in fields}

    def signed(self, path: str, query: str, body: str, headers: Mapping[str, str], method: str) -> tuple[str, str, str]:
        key, window = headers.get("X-BAPI-API-KEY", ""), headers.get("X-BAPI-RECV-WINDOW", "")
        text = headers.get("X-BAPI-TIMESTAMP", "") + key + window + (body if method == "POST" else query)
        return key, text, headers.get("X-BAPI-SIGN", "")

    def times(self, asked: Mapping[str, str], headers: Mapping[str, str]) -> tuple[int, float]:
        at = int(headers["X-BAPI-TIMESTAMP"])
        return at, at + float(headers["X-BAPI-RECV-WINDOW"])

    def error(self, status: int, code: int, text: str) -> tuple[int, Any]:
        if code == -2010:
            code = 170141 if "Duplicate" in text else 170131
            text = "Duplicate clientOrderId" if code == 170141 else text
        return 200, {"retCode": self.CODES.get(code, code), "retMsg": text, "result": {}}

    def shown(self, name: str, content: Any) -> Any:
        result: Any
        if name in {"GET order", "GET history"}:
            result = {"category": "spot", "list": [self._order(each) for each in content]}
        elif name == "GET myTrades":
            result = {"list": [self._trade(each) for each in content]}
        elif name == "GET account":
            coins = [
                {"coin": each["asset"], "walletBalance": each["free"], "locked": "0"} for each in content["balances"]
            ]
            result = {"list": [{"accountType": "UNIFIED", "coin": coins}]}
        else:
            result = {"orderId": str(content["orderId"]), "orderLinkId": content["clientOrderId"]}
        return {"retCode": 0, "retMsg": "OK", "result": result, "time": 0}

    def _order(self, each: dict[str, Any]) -> dict[str, Any]:
        executed, asked = Decimal(each["executedQty"]), Decimal(each["origQty"])
        over = "PartiallyFilledCanceled" if executed else "Cancelled"
        by_person = each["status"] == "CANCELED"
        return {
            "orderId": str(each["orderId"]),
            "orderLinkId": each["clientOrderId"],
            "symbol": each["symbol"],
            "side": each["side"].capitalize(),
            "orderType": "Limit",
            "timeInForce": "IOC",
            "price": each["price"],
            "qty": each["origQty"],
            "cumExecQty": each["executedQty"],
            "cumExecValue": each["cummulativeQuoteQty"],
            "leavesQty": str(asked - executed),
            "orderStatus": self.STATES.get(each["status"], over),
            "rejectReason": "EC_PerCancelRequest" if by_person else "EC_CancelForNoFullFill",
            "createdTime": str(each["time"]),
            "updatedTime": str(each["updateTime"]),
        }

    def _trade(self, each: dict[str, Any]) -> dict[str, Any]:
        return {
            "execId": str(each["id"]),
            "orderId": str(each["orderId"]),
            "symbol": each["symbol"],
            "side": "Buy" if each["isBuyer"] else "Sell",
            "execPrice": each["price"],
            "execQty": each["qty"],
            "execValue": each["quoteQty"],
            "execFee": each["commission"],
            "feeCurrency": each["commissionAsset"],
            "execTime": str(each["time"]),
            "execType": "Trade",
        }


class Okx(Wording):
    unique = True
    NAMES: Final = {
        "POST api/v5/trade/order": "POST order",
        "GET api/v5/trade/order": "GET order",
        "POST api/v5/trade/cancel-order": "DELETE order",
        "GET api/v5/trade/orders-pending": "GET openOrders",
        "GET api/v5/trade/fills-history": "GET myTrades",
        "GET api/v5/account/balance": "GET account",
    }
    CODES: Final = {
        -2015: 50111, -1022: 50113, -1021: 50102, -1003: 50011, -2013: 51603, -2011: 51400, -1013: 51020, -1007: 50004,
    }  # fmt: skip
    STATES: Final = {"NEW": "live", "FILLED": "filled"}

    def names(self, method: str, path: str) -> str:
        return self.NAMES.get(f"{method} {path}", "")

    def account(self, host: str, headers: Mapping[str, str]) -> str:
        return f"demo.{host}" if headers.get("x-simulated-trading") == "1" else host

    def fields(self, name: str, query: str, body: str) -> dict[str, str]:
        asked = json.loads(body) if body else dict(parse_qsl(query))
        renamed = {"sz": "quantity", "px": "price", "clOrdId": "newClientOrderId", "ordId": "orderId"}
        fields = {renamed.get(key, key): value for key, value in asked.items()}
        if "instId" in asked:
            fields["symbol"] = asked["instId"].replace("-", "")
        if name == "POST order":
            assert asked["tdMode"] == "cash"
            fields |= {"side": asked["side"].upper(), "type": "LIMIT", "timeInForce": asked["ordType"].upper()}
        return fields | {"origClientOrderId": asked.get("clOrdId", "")}

    def signed(self, path: str, query: str, body: str, headers: Mapping[str, str], method: str) -> tuple[str, str, str]:
        assert headers.get("OK-ACCESS-PASSPHRASE") == PASSWORD
        text = headers.get("OK-ACCESS-TIMESTAMP", "") + method + f"/{path}" + (f"?{query}" if query else "") + body
        return headers.get("OK-ACCESS-KEY", ""), text, headers.get("OK-ACCESS-SIGN", "")

    def signature(self, secret: str, text: str) -> str:
        return base64.b64encode(hmac.new(secret.encode(), text.encode(), "sha256").digest()).decode()

    def times(self, asked: Mapping[str, str], headers: Mapping[str, str]) -> tuple[int, float]:
        at = int(datetime.fromisoformat(headers["OK-ACCESS-TIMESTAMP"]).timestamp() * 1000)
        return at, float(headers.get("expTime", at + SLOW_MS))

    def error(self, status: int, code: int, text: str) -> tuple[int, Any]:
        if code == -2010:
            code = 51016 if "Duplicate" in text else 51008
            text = "Duplicated client order ID" if code == 51016 else text
        number = str(self.CODES.get(code, 51000))
        data = [{"sCode": number, "sMsg": text, "ordId": "", "clOrdId": ""}]
        return 200, {"code": number, "msg": text, "data": data}

    def shown(self, name: str, content: Any) -> Any:
        data: Any
        if name == "GET account":
            details = [
                {"ccy": each["asset"], "eq": each["free"], "cashBal": each["free"], "availBal": each["free"]}
                for each in content["balances"]
            ]
            data = [{"uTime": "0", "details": [{**each, "availEq": "", "frozenBal": "0"} for each in details]}]
        elif name == "GET myTrades":
            data = [self._trade(each) for each in content]
        elif name in {"GET order", "GET openOrders"}:
            data = [self._order(each) for each in content]
        else:
            about = {"ordId": str(content["orderId"]), "clOrdId": content["clientOrderId"]}
            data = [{**about, "sCode": "0", "sMsg": ""}]
        return {"code": "0", "msg": "", "data": data}

    def _order(self, each: dict[str, Any]) -> dict[str, Any]:
        executed, value = Decimal(each["executedQty"]), Decimal(each["cummulativeQuoteQty"])
        return {
            "instType": "SPOT",
            "instId": each["symbol"].removesuffix("USDT") + "-USDT",
            "ordId": str(each["orderId"]),
            "clOrdId": each["clientOrderId"],
            "side": each["side"].lower(),
            "ordType": "ioc",
            "px": each["price"],
            "sz": each["origQty"],
            "accFillSz": each["executedQty"],
            "avgPx": str(value / executed) if executed else "",
            "state": self.STATES.get(each["status"], "canceled"),
            "cancelSource": "1" if each["status"] == "CANCELED" else "14",
            "cTime": str(each["time"]),
            "uTime": str(each["updateTime"]),
        }

    def _trade(self, each: dict[str, Any]) -> dict[str, Any]:
        return {
            "instType": "SPOT",
            "instId": each["symbol"].removesuffix("USDT") + "-USDT",
            "tradeId": str(each["id"]),
            "ordId": str(each["orderId"]),
            "side": "buy" if each["isBuyer"] else "sell",
            "fillPx": each["price"],
            "fillSz": each["qty"],
            "fee": f"-{each['commission']}",
            "feeCcy": each["commissionAsset"],
            "ts": str(each["time"]),
            "execType": "T",
        }


def wording_of(host: str) -> Wording:
    """The words of a host."""
    return Bybit() if "bybit" in host else Okx() if "okx" in host else Wording()
