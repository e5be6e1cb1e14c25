"""The figures of a line of equity.

With E the equity at each moment at which bars closed, r the relative changes of E from one to the next, and n their
number:

    drawdown      max (max of E so far - E) / max of E so far
    exposure      mean of the value of all positions, without their signs, over E
    turnover      sum of price times quantity of all fills, over E at the beginning
    hit rate      share of closed trades with a gain after costs
    profit factor gains over losses of closed trades, after costs; None without a loss
    Sharpe ratio  S = mean(r) / sd(r), times the root of the periods in 365 days; the risk-free rate is 0
    its interval  S +- 1.96 sqrt((1 - skew S + (kurtosis - 1)/4 S^2) / (n - 1)), scaled likewise

Source of the interval: Mertens (2002); Bailey & Lopez de Prado, "The Sharpe ratio efficient frontier" (2012), eq. 5. It
holds for independent changes that need not be normal. A Sharpe ratio of one installation says little unless its
interval excludes 0.

A symbol of a line has the same figures, as if the account had traded it alone: E is the equity at the beginning and
what the symbol gained. So ``net``, ``turnover``, ``fills``, ``trades``, ``costs``, ``fees`` and ``buy_and_hold`` of all
symbols add up to those of the line.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Final, NamedTuple

from msgspec import Struct, structs

from schemas.trades import TradeClosed
from shared.money.course import EquityCourse
from shared.money.equity import EquityLine, FillCosts, SymbolLine
from shared.money.positions import SIGN

YEAR_MS: Final = 365 * 86_400_000
NORMAL: Final = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""
LEAST: Final = 30
"""Changes of the equity below which there is no Sharpe ratio."""


class SharpeRatio(Struct, frozen=True):
    """An annual Sharpe ratio and its 95 % interval."""

    value: float
    low: float
    high: float


class MoneyFigures(Struct, frozen=True):
    """See the module. Amounts are in quote currency; shares are fractions. ``buy_and_hold`` is the gain of buying each
    symbol once, at the first bar, with the same amount and costs; ``always_flat`` that of never trading. ``symbols``:
    the same figures of each symbol that was traded or bought to hold; empty in those."""

    line: str
    begin: float
    equity: float
    net: float
    net_share: float
    drawdown: float
    exposure: float
    turnover: float
    fills: int
    trades: int
    hit_rate: float | None
    profit_factor: float | None
    sharpe: SharpeRatio | None
    costs: float
    fees: float
    buy_and_hold: float
    always_flat: float = 0.0
    symbols: Mapping[str, "MoneyFigures"] = {}


def figures_of(name: str, line: EquityLine, hold: EquityLine) -> MoneyFigures:
    """Return the figures of a line. ``hold``: the line that bought each symbol once."""
    of_all = _Counted(line.begin, line.equity - line.begin, line.spent, line.course, line.trades)
    figures = _figures(name, of_all, line, hold.equity - hold.begin)
    symbols = {}
    trades: dict[str, list[TradeClosed]] = {}
    for trade in line.trades:
        trades.setdefault(trade.symbol, []).append(trade)
    for symbol in sorted(line.symbols.keys() | hold.symbols.keys()):
        part = line.symbols.get(symbol) or SymbolLine(line.begin, {})
        held = hold.symbols[symbol].net if symbol in hold.symbols else 0.0
        of_one = _Counted(line.begin, part.net, part.spent, part.course, trades.get(symbol, []))
        symbols[symbol] = _figures(symbol, of_one, line, held)
    return structs.replace(figures, symbols=symbols)


class _Counted(NamedTuple):
    begin: float
    net: float
    spent: FillCosts
    course: EquityCourse
    trades: Sequence[TradeClosed]


def _figures(name: str, counted: _Counted, line: EquityLine, held: float) -> MoneyFigures:
    begin, net, spent, course, trades = counted
    nets = [net_of(trade) for trade in trades]
    losses = -sum(net for net in nets if net < 0.0)
    return MoneyFigures(
        line=name,
        begin=begin,
        equity=begin + net,
        net=net,
        net_share=net / begin,
        drawdown=course.drawdown,
        exposure=course.exposure(line.moments),
        turnover=spent.turnover / begin,
        fills=spent.fills,
        trades=len(nets),
        hit_rate=sum(net > 0.0 for net in nets) / len(nets) if nets else None,
        profit_factor=sum(net for net in nets if net > 0.0) / losses if losses else None,
        sharpe=sharpe_ratio(course, line.moments, line.steps),
        costs=spent.costs,
        fees=spent.fees,
        buy_and_hold=held,
    )


def net_of(trade: TradeClosed) -> float:
    """Return the gain of a closed trade after costs, in quote currency; of one unit if its quantity is not known."""
    quantity = trade.quantity if isinstance(trade.quantity, float) else 1.0
    gain = SIGN[trade.action] * (trade.exit_price - trade.entry_price)
    return quantity * (gain - trade.fees * trade.entry_price)


def sharpe_ratio(course: EquityCourse, moments: int, steps: Counter[int]) -> SharpeRatio | None:
    """Return the annual Sharpe ratio over so many moments; None for fewer than ``LEAST``, or if all changes were the
    same. ``steps``: how often so many ms passed from one moment to the next; the most frequent is the period."""
    if moments < LEAST or course.lowest <= 0.0:
        return None
    changes = course.changes(moments)
    if changes is None:
        return None
    ratio = changes.mean / changes.deviation
    inner = 1.0 - changes.skew * ratio + (changes.kurtosis - 1.0) / 4.0 * ratio**2
    spread = NORMAL * sqrt(max(inner, 0.0) / (moments - 1))
    scale = sqrt(YEAR_MS / steps.most_common(1)[0][0])
    return SharpeRatio(ratio * scale, (ratio - spread) * scale, (ratio + spread) * scale)
