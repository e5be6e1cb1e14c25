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
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Final

import numpy as np
from msgspec import Struct

from schemas.trades import TradeClosed
from shared.money.equity import EquityLine, EquityMark
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
    symbol once, at the first bar, with the same amount and costs; ``always_flat`` that of never trading."""

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
    symbols: Mapping[str, float]
    buy_and_hold: float
    always_flat: float = 0.0


def figures_of(name: str, line: EquityLine, hold: EquityLine) -> MoneyFigures:
    """Return the figures of a line. ``hold``: the line that bought each symbol once."""
    nets = [net_of(trade) for trade in line.trades]
    losses = -sum(net for net in nets if net < 0.0)
    net = line.equity - line.begin
    return MoneyFigures(
        line=name,
        begin=line.begin,
        equity=line.equity,
        net=net,
        net_share=net / line.begin,
        drawdown=drawdown(line.begin, line.marks),
        exposure=float(np.mean([mark.gross / mark.equity for mark in line.marks])) if line.marks else 0.0,
        turnover=line.turnover / line.begin,
        fills=line.fills,
        trades=len(nets),
        hit_rate=sum(net > 0.0 for net in nets) / len(nets) if nets else None,
        profit_factor=sum(net for net in nets if net > 0.0) / losses if losses else None,
        sharpe=sharpe_ratio(line.begin, line.marks),
        costs=line.costs,
        fees=line.fees,
        symbols=dict(sorted(line.net.items())),
        buy_and_hold=hold.equity - hold.begin,
    )


def net_of(trade: TradeClosed) -> float:
    """Return the gain of a closed trade after costs, in quote currency; of one unit if its quantity is not known."""
    quantity = trade.quantity if isinstance(trade.quantity, float) else 1.0
    gain = SIGN[trade.action] * (trade.exit_price - trade.entry_price)
    return quantity * (gain - trade.fees * trade.entry_price)


def drawdown(begin: float, marks: Sequence[EquityMark]) -> float:
    """Return the largest loss since an earlier high, as a share of the high."""
    highest, largest = begin, 0.0
    for mark in marks:
        highest = max(highest, mark.equity)
        largest = max(largest, (highest - mark.equity) / highest)
    return largest


def sharpe_ratio(begin: float, marks: Sequence[EquityMark]) -> SharpeRatio | None:
    """Return the annual Sharpe ratio; None for fewer than ``LEAST`` changes, or if the equity never changed."""
    if len(marks) < LEAST:
        return None
    equity = np.array([begin, *(mark.equity for mark in marks)])
    changes = np.diff(equity) / equity[:-1]
    deviation = float(changes.std(ddof=1))
    if deviation == 0.0 or float(equity.min()) <= 0.0:
        return None
    centred = (changes - changes.mean()) / changes.std()
    skew, kurtosis = float(np.mean(centred**3)), float(np.mean(centred**4))
    ratio = float(changes.mean()) / deviation
    spread = sqrt(max(1.0 - skew * ratio + (kurtosis - 1.0) / 4.0 * ratio**2, 0.0) / (len(changes) - 1))
    scale = sqrt(YEAR_MS / _period(marks))
    return SharpeRatio(ratio * scale, (ratio - NORMAL * spread) * scale, (ratio + NORMAL * spread) * scale)


def _period(marks: Sequence[EquityMark]) -> int:
    """Return the most frequent time between two marks (ms)."""
    steps = Counter(int(step) for step in np.diff([mark.at for mark in marks]))
    return steps.most_common(1)[0][0]
