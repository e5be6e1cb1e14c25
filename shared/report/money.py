"""Make the tables of money: what each line gained, and how it traded."""

from collections.abc import Sequence
from typing import Final

from shared.money.figures import MoneyFigures, SharpeRatio
from shared.report.tables import TextTable
from shared.report.text import NONE

GAINS: Final = ("line", "net", "drawdown", "Sharpe (95 %)", "buy, hold", "flat")
TRADES: Final = ("line", "trades", "hits", "profit factor", "exposure", "turnover", "costs")
CAPTION: Final = "models and shadows alone: the same rules and costs, from their predictions"


def money_tables(lines: Sequence[MoneyFigures], title: str = "money") -> tuple[TextTable, TextTable]:
    """Return two tables with a row for each line: what it gained, and how it traded."""
    gains = [(line.line, *_gained(line)) for line in lines]
    trades = [(line.line, *_traded(line)) for line in lines]
    return TextTable(title, GAINS, gains), TextTable("trades", TRADES, trades)


def symbol_tables(lines: Sequence[MoneyFigures], title: str = "money") -> tuple[TextTable, TextTable]:
    """Return the same tables with a row for each symbol of each line."""
    rows = [(line.line, symbol, figures) for line in lines for symbol, figures in line.symbols.items()]
    gains = [(line, symbol, *_gained(figures)) for line, symbol, figures in rows]
    trades = [(line, symbol, *_traded(figures)) for line, symbol, figures in rows]
    return (
        TextTable(f"{title} by symbol", (GAINS[0], "symbol", *GAINS[1:]), gains),
        TextTable("trades by symbol", (TRADES[0], "symbol", *TRADES[1:]), trades),
    )


def _gained(line: MoneyFigures) -> tuple[str, ...]:
    return (
        f"{line.net:+,.0f}",
        f"{line.drawdown:.1%}",
        _sharpe(line.sharpe),
        f"{line.buy_and_hold:+,.0f}",
        f"{line.always_flat:.0f}",
    )


def _traded(line: MoneyFigures) -> tuple[str, ...]:
    return (
        f"{line.trades:,}",
        NONE if line.hit_rate is None else f"{line.hit_rate:.0%}",
        NONE if line.profit_factor is None else f"{line.profit_factor:.2f}",
        f"{line.exposure:.0%}",
        f"{line.turnover:,.1f}",
        f"{line.costs:,.0f}",
    )


def _sharpe(ratio: SharpeRatio | None) -> str:
    return NONE if ratio is None else f"{ratio.value:.1f} ({ratio.low:.1f}, {ratio.high:.1f})"
