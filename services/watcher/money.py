"""Fold fills and bars into the money of the installation at this moment. Pure.

``conclave money`` folds the same fills by the same rules (``shared.money.equity``), over all that was recorded. The
watcher keeps one state, so that its gauges follow each fill and bar.
"""

from collections.abc import Iterator

from msgspec import Struct, field

from schemas.market import BarClosed
from schemas.orders import OrderFilled
from shared.money.account import OfSeries
from shared.money.equity import SeriesMoney
from shared.telemetry.metrics import MetricReading


class WatchedMoney(Struct):
    """What was gained of each series, and the highest sum of all gains so far (at least 0)."""

    series: dict[str, SeriesMoney] = field(default_factory=dict)
    highest: float = 0.0

    @property
    def gain(self) -> float:
        """The sum of all gains, open positions included."""
        return sum(series.gain for series in self.series.values())


def observe_fill(money: WatchedMoney, fill: OrderFilled) -> None:
    """Apply a fill."""
    money.series.setdefault(_name(fill), SeriesMoney()).fill(fill)
    money.highest = max(money.highest, money.gain)


def observe_bar(money: WatchedMoney, bar: BarClosed) -> None:
    """Value what is held of a series at the close of a bar. A series that was never traded is left out."""
    series = money.series.get(_name(bar))
    if series is not None:
        series.price = bar.close
        money.highest = max(money.highest, money.gain)


def money_readings(money: WatchedMoney, begin: float) -> Iterator[MetricReading]:
    """Yield the gauges; none before the first fill. ``begin``: the equity at the beginning, of the policy in force."""
    if not money.series:
        return
    equity, highest = begin + money.gain, begin + money.highest
    gross = sum(series.gross for series in money.series.values())
    yield MetricReading("conclave.money.equity", (), equity)
    yield MetricReading("conclave.money.drawdown", (), (highest - equity) / highest)
    yield MetricReading("conclave.money.exposure", (), gross / equity if equity > 0.0 else 0.0)
    yield MetricReading("conclave.money.positions", (), sum(series.held != 0.0 for series in money.series.values()))


def _name(event: OfSeries) -> str:
    """Return the name of a series. It is a key of ``watcher.json``."""
    return f"{event.symbol} {event.interval_ms}{' synthetic' if event.origin == 'synthetic' else ''}"
