"""What the local exchange publishes of a derivative, as Binance words it: funding, open interest, mark and index price,
and a book."""

from collections.abc import Mapping
from typing import Any, Final

HOUR: Final = 3_600_000
FUNDING: Final = 8 * HOUR
PERIODS: Final = {"1m": 60_000, "5m": 300_000, "15m": 900_000, "1h": HOUR}


def rate(at: int) -> float:
    """The funding rate that is settled at a time."""
    return round(1e-4 + (at // FUNDING % 7) * 1e-6, 8)


def interest(at: int) -> float:
    """The open interest at a time."""
    return 80_000.0 + at // 1000 % 977


def mark(at: int) -> float:
    """The mark price at a time."""
    return 100.0 + at // 1000 % 89 / 100


def index(at: int) -> float:
    """The index price at a time."""
    return 100.0 + at // 1000 % 83 / 100


class Derivative:
    """The markets, at one moment. ``hide_open``: prices end before the row that is open."""

    ANSWERS: Final = frozenset(
        ["fundingRate", "openInterest", "openInterestHist", "markPriceKlines", "indexPriceKlines", "depth"]
    )

    def __init__(self, markets: Mapping[str, Any], now: int, *, hide_open: bool = False) -> None:
        self.now = now
        self.hide_open = hide_open
        self.markets = markets

    def answer(self, what: str, query: Mapping[str, str]) -> Any:
        """The answer to a request."""
        symbol = query.get("symbol", query.get("pair", ""))
        assert symbol in self.markets
        match what:
            case "fundingRate":
                return [
                    {"symbol": symbol, "fundingRate": f"{rate(at):.8f}", "fundingTime": at, "markPrice": "1"}
                    for at in self.times(query, FUNDING)
                ]
            case "openInterest":
                return {"symbol": symbol, "openInterest": f"{interest(self.now):.3f}", "time": self.now}
            case "openInterestHist":
                times = self.times(query, PERIODS[query["period"]])
                return [{"symbol": symbol, "sumOpenInterest": f"{interest(at):.3f}", "timestamp": at} for at in times]
            case "depth":
                return {"lastUpdateId": 1, "T": self.now, "bids": [["99.5", "2"]], "asks": [["100.5", "1"]]}
            case _:
                price = mark if what.startswith("mark") else index
                size = PERIODS[query["interval"]]
                times = [at for at in self.times(query, size) if at + size <= self.now or not self.hide_open]
                return [self.kline(at, size, price(min(at + size, self.now))) for at in times]

    def kline(self, at: int, size: int, price: float) -> list[Any]:
        """A row of prices that are no trades."""
        return [at, "100", "101", "99", str(price), "0", at + size - 1, "0", size // 1000, "0", "0", "0"]

    def times(self, query: Mapping[str, str], step: int) -> list[int]:
        """The times of rows from ``startTime`` on, in steps of ``step``, that are not later than now."""
        start, end = int(query["startTime"]), min(int(query.get("endTime", self.now)), self.now)
        first = -(-start // step) * step
        return list(range(first, end + 1, step))[: int(query.get("limit", 500))]
