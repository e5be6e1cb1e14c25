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
    gains = [
        (
            line.line,
            f"{line.net:+,.0f}",
            f"{line.drawdown:.1%}",
            _sharpe(line.sharpe),
            f"{line.buy_and_hold:+,.0f}",
            f"{line.always_flat:.0f}",
        )
        for line in lines
    ]
    trades = [
        (
            line.line,
            f"{line.trades:,}",
            NONE if line.hit_rate is None else f"{line.hit_rate:.0%}",
            NONE if line.profit_factor is None else f"{line.profit_factor:.2f}",
            f"{line.exposure:.0%}",
            f"{line.turnover:,.1f}",
            f"{line.costs:,.0f}",
        )
        for line in lines
    ]
    return TextTable(title, GAINS, gains), TextTable("trades", TRADES, trades)


def _sharpe(ratio: SharpeRatio | None) -> str:
    return NONE if ratio is None else f"{ratio.value:.1f} ({ratio.low:.1f}, {ratio.high:.1f})"
