"""The value of an account over time: money, and what is held at the close of each bar."""

from collections import Counter
from math import fsum

from msgspec import Struct

from schemas.orders import OrderFilled
from schemas.trades import TradeClosed
from shared.money.account import Key
from shared.money.course import EquityCourse
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


class FillCosts:
    """How many fills there were, and what they cost and moved, in quote currency."""

    def __init__(self) -> None:
        self.fills = 0
        self.fees = 0.0
        self.slippage = 0.0
        self.turnover = 0.0

    @property
    def costs(self) -> float:
        """Fees, half spreads and slippage."""
        return self.fees + self.slippage

    def fill(self, fill: OrderFilled) -> None:
        """Add a fill."""
        self.fills += 1
        self.fees += fill.fee
        self.slippage += abs(fill.price - fill.market_price) * fill.quantity
        self.turnover += fill.quantity * fill.price


class SymbolLine:
    """What one symbol contributed to a line, as if the account had traded it alone, over all of its intervals.

    ``before``: what it had gained when the line began to count."""

    def __init__(self, begin: float, series: dict[Key, SeriesMoney], before: float = 0.0) -> None:
        self.begin = begin
        self.series = series
        self.before = before
        self.spent = FillCosts()
        self.course = EquityCourse(begin)

    @property
    def net(self) -> float:
        """The gain, open positions included."""
        return fsum([series.gain for series in self.series.values()]) - self.before

    def mark(self, moment: int) -> None:
        """Note the equity at a moment."""
        gross = sum([series.gross for series in self.series.values()])
        self.course.mark(moment, self.begin + self.net, gross)


class EquityLine:
    """One line of equity. Costs and trades are counted from ``restart`` on.

    ``begin``: the equity at the beginning. ``moments``: at how many moments bars closed; ``steps``: how often so many
    ms passed from one to the next. ``symbols``: the symbols with fills."""

    def __init__(self, equity: float) -> None:
        self.begin = equity
        self.spent = FillCosts()
        self.course = EquityCourse(equity)
        self.moments = 0
        self.steps: Counter[int] = Counter()
        self.trades: list[TradeClosed] = []
        self.symbols: dict[str, SymbolLine] = {}
        self._initial = equity
        self._series: dict[Key, SeriesMoney] = {}
        self._changed: set[str] = set()
        self._at: int | None = None

    @property
    def equity(self) -> float:
        """The money, and what is held at the last prices."""
        return self._initial + fsum([series.gain for series in self._series.values()])

    @property
    def net(self) -> dict[str, float]:
        """The gain of each symbol."""
        return {symbol: line.net for symbol, line in self.symbols.items()}

    def fill(self, key: Key, fill: OrderFilled) -> None:
        """Apply a fill."""
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = SeriesMoney()
        line = self.symbols.get(key[0])
        if line is None:
            line = self.symbols[key[0]] = SymbolLine(self.begin, {})
        line.series[key] = series
        series.fill(fill)
        for spent in (self.spent, line.spent):
            spent.fill(fill)
        self._changed.add(key[0])

    def price(self, key: Key, close: float) -> None:
        """Value what is held of a series at the close of a bar."""
        series = self._series.get(key)
        if series is not None:
            series.price = close
            if series.held:
                self._changed.add(key[0])

    def mark(self, at: int) -> None:
        """Note the equity at a moment."""
        if self._at is not None:
            self.steps[at - self._at] += 1
        self._at = at
        self.moments += 1
        self.course.mark(self.moments, self.equity, sum([series.gross for series in self._series.values()]))
        for symbol in self._changed:
            self.symbols[symbol].mark(self.moments)
        self._changed.clear()

    def restart(self) -> None:
        """Count from here on: the equity so far is that of the beginning."""
        self.begin = self.equity
        self.spent, self.course = FillCosts(), EquityCourse(self.begin)
        self.moments, self.steps, self._at, self.trades = 0, Counter(), None, []
        self.symbols = {
            symbol: SymbolLine(self.begin, line.series, line.before + line.net) for symbol, line in self.symbols.items()
        }
        self._changed = set(self.symbols)
