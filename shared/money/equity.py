"""The value of an account over time: money, and what is held at the close of each bar."""

from math import fsum
from typing import NamedTuple

from msgspec import Struct

from schemas.orders import OrderFilled
from schemas.trades import TradeClosed
from shared.money.account import Key
from shared.money.positions import SIGN


class SeriesMoney(Struct, array_like=True):
    """What the fills of one symbol and interval paid, how much of it they left, and its last price."""

    cash: float = 0.0
    held: float = 0.0
    price: float = 0.0

    @property
    def gain(self) -> float:
        """What was paid and received, and what is held at the last price."""
        return self.cash + self.held * self.price

    @property
    def gross(self) -> float:
        """The value of what is held, without its sign."""
        return abs(self.held) * self.price

    def fill(self, fill: OrderFilled) -> None:
        """Apply a fill."""
        signed = SIGN[fill.side] * fill.quantity
        self.cash = self.cash - signed * fill.price - fill.fee
        held = self.held + signed
        self.held = held if abs(held) > abs(signed) * 1e-12 else 0.0
        self.price = self.price or fill.price


class EquityMark(NamedTuple):
    """The account at the close of a bar: equity, and the value of all positions without their signs."""

    at: int
    equity: float
    gross: float


class EquityLine:
    """One line of equity. Costs, turnover and trades are counted from ``restart`` on.

    ``begin``: the equity at the beginning. ``marks``: one for each moment at which bars closed. ``net``: the gain of
    each symbol, open positions included."""

    def __init__(self, equity: float) -> None:
        self.begin = equity
        self.fills = 0
        self.fees = 0.0
        self.slippage = 0.0
        self.turnover = 0.0
        self.marks: list[EquityMark] = []
        self.trades: list[TradeClosed] = []
        self._initial = equity
        self._series: dict[Key, SeriesMoney] = {}
        self._before: dict[Key, float] = {}

    @property
    def equity(self) -> float:
        """The money, and what is held at the last prices."""
        return self._initial + fsum(self._gains().values())

    @property
    def costs(self) -> float:
        """Fees, half spreads and slippage."""
        return self.fees + self.slippage

    @property
    def net(self) -> dict[str, float]:
        """The gain of each symbol."""
        sums: dict[str, float] = {}
        for key, gain in self._gains().items():
            sums[key[0]] = sums.get(key[0], 0.0) + gain - self._before.get(key, 0.0)
        return sums

    def fill(self, key: Key, fill: OrderFilled) -> None:
        """Apply a fill."""
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = SeriesMoney()
        series.fill(fill)
        self.fills += 1
        self.fees += fill.fee
        self.slippage += abs(fill.price - fill.market_price) * fill.quantity
        self.turnover += fill.quantity * fill.price

    def price(self, key: Key, close: float) -> None:
        """Value what is held of a series at the close of a bar."""
        if key in self._series:
            self._series[key].price = close

    def mark(self, at: int) -> None:
        """Note the equity at a moment."""
        gross = sum([series.gross for series in self._series.values()])
        self.marks.append(EquityMark(at, self.equity, gross))

    def restart(self) -> None:
        """Count from here on: the equity so far is that of the beginning."""
        self.begin, self._before = self.equity, self._gains()
        self.fills, self.fees, self.slippage, self.turnover = 0, 0.0, 0.0, 0.0
        self.marks, self.trades = [], []

    def _gains(self) -> dict[Key, float]:
        return {key: series.gain for key, series in self._series.items()}
