"""``conclave money``: equity and its figures, for the ensemble as recorded and for every model alone."""

import heapq
from collections.abc import AsyncIterator, Sequence
from typing import Final

import click
from msgspec import Struct
from rich.console import Console

from schemas.control import SetExecutionPolicy
from schemas.market import BarClosed
from schemas.orders import AccountEvent
from schemas.predictions import PredictionMade
from services.console.context import asynchronous, settings_of
from services.console.evidence.records import entries_in, pages
from services.console.output import OUTPUT, echo_json, echo_unreadable, terminal, terminal_table
from services.console.parsing import moment_ms
from services.console.progress import watched_async
from shared.archive import SegmentStore
from shared.archive.location import open_archive
from shared.control import EMPTY, ControlReader, State
from shared.control.stream import CONTROL
from shared.log import Log, StreamKey
from shared.log.events import Unreadable, events_of
from shared.money.account import Key
from shared.money.comparison import MoneyComparison
from shared.money.figures import MoneyFigures, SharpeRatio
from shared.money.orders import TradeSignal
from shared.money.venue import TradedBar
from shared.report.tables import TextTable
from shared.runtime.process import reached_log
from shared.voting.pool import own_action

GAINS: Final = ("line", "net", "drawdown", "Sharpe (95 %)", "buy, hold", "flat")
TRADES: Final = ("line", "trades", "hits", "profit factor", "exposure", "turnover", "costs")
CAPTION: Final = "models and shadows alone: the same rules and costs, from their predictions"


class MoneyReport(Struct, frozen=True):
    """The figures of all lines, and how many bars they cover."""

    bars: int
    lines: Sequence[MoneyFigures]


@click.command()
@click.option("--model", help="Only the ensemble and the lines of this model.")
@click.option("--since", metavar="TIME", help="Count from the first bar that closes after this time (ISO 8601).")
@OUTPUT
@click.pass_context
@asynchronous
async def money(context: click.Context, /, model: str | None, since: str | None, output: str) -> None:
    """Show what the ensemble's trades gained, and what each model and shadow would have gained alone.

    A model's line follows its champion; an artifact in shadow has a line of its own. Exit code 3 if there are no bars
    with predictions or orders."""
    settings = settings_of(context)
    unreadable = Unreadable()
    async with reached_log(settings, "conclave:console") as log:
        moment = moment_ms(since) if since else None
        partitions = settings.installation.partitions
        found = await read_money(log, partitions, model, moment, open_archive(settings), unreadable)
    if output == "json":
        echo_json(found)
    else:
        show_money(terminal(), found.lines)
    echo_unreadable(unreadable)
    if not any(line.fills for line in found.lines) and len(found.lines) == 1:
        context.exit(3)


async def read_money(
    log: Log,
    partitions: int,
    model: str | None = None,
    since: int | None = None,
    past: SegmentStore | None = None,
    unreadable: Unreadable | None = None,
) -> MoneyReport:
    """Read bars, predictions and orders, sealed ones included, and return the figures of all lines.

    Memory grows with the number of predictions."""
    unreadable = unreadable or Unreadable()
    versions = await _versions(log)
    policies: list[SetExecutionPolicy] = [state.execution for state in versions]
    comparison = MoneyComparison(policies, partitions, since)
    for partition in range(partitions):
        predictions = pages(log, StreamKey("predictions", partition), past=past)
        total = (await log.extent(StreamKey("predictions", partition))).added
        with watched_async(predictions, "reading predictions", "entries", total) as read:
            async for entry in read:
                for _, envelope in events_of([entry], unreadable):
                    made = envelope.event
                    if isinstance(made, PredictionMade) and model in (None, made.model):
                        _note(comparison, versions, made, envelope.id.hex())
        async for entry in pages(log, StreamKey("orders", partition), past=past):
            for _, envelope in events_of([entry], unreadable):
                event = envelope.event
                if not isinstance(event, AccountEvent):
                    comparison.order((event.symbol, event.interval_ms, event.origin == "synthetic"), event)
    bars = 0
    all_bars, total = _bars(log, partitions, past, unreadable), await entries_in(log, "market", partitions)
    with watched_async(all_bars, "reading bars", "bars", total) as read_bars:
        async for partition, key, bar in read_bars:
            comparison.bar(partition, key, bar)
            bars += 1
    return MoneyReport(bars, comparison.figures())


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
            "-" if line.hit_rate is None else f"{line.hit_rate:.0%}",
            "-" if line.profit_factor is None else f"{line.profit_factor:.2f}",
            f"{line.exposure:.0%}",
            f"{line.turnover:,.1f}",
            f"{line.costs:,.0f}",
        )
        for line in lines
    ]
    return TextTable(title, GAINS, gains), TextTable("trades", TRADES, trades)


def show_money(console: Console, lines: Sequence[MoneyFigures], title: str = "money") -> None:
    """Print the tables on a terminal."""
    gains, trades = money_tables(lines, title)
    console.print(terminal_table(gains))
    console.print(terminal_table(trades, CAPTION))


def _sharpe(ratio: SharpeRatio | None) -> str:
    return "-" if ratio is None else f"{ratio.value:.1f} ({ratio.low:.1f}, {ratio.high:.1f})"


async def _versions(log: Log) -> list[State]:
    """Return the configuration of each version, from version 0 on."""
    reader = ControlReader()
    taken = [reader.state async for entry in pages(log, CONTROL) if reader.take(entry.id, entry.data) is not None]
    return [EMPTY, *taken]


def _note(comparison: MoneyComparison, versions: Sequence[State], made: PredictionMade, event: str) -> None:
    """Note what a prediction decides alone: for the line of its model if it is the champion, else for its own."""
    artifact = made.artifact.hex()
    state = versions[made.control_version]
    champion = state.model(made.model).champion == artifact
    line = f"model {made.model}" if champion else f"shadow {made.model}@{artifact[:12]}"
    key: Key = (made.symbol, made.interval_ms, made.origin == "synthetic")
    action = own_action(state.policy, made.probabilities)
    if action == "HOLD":
        comparison.signal(line, key, made.open_time, None)
        return
    signal = TradeSignal(
        id=event,
        symbol=made.symbol,
        interval_ms=made.interval_ms,
        open_time=made.open_time,
        origin=made.origin,
        decision=event,
        control_version=made.control_version,
        action=action,
        valid_until=made.open_time + made.interval_ms + state.policy.valid_ms,
    )
    comparison.signal(line, key, made.open_time, signal)


async def _bars(
    log: Log, partitions: int, past: SegmentStore | None, unreadable: Unreadable
) -> AsyncIterator[tuple[int, Key, TradedBar]]:
    """Yield the bars of all partitions, merged by the time of their close. Of bars that were written twice, or out of
    order, the first counts, as it does for all services."""
    streams = [_of_partition(log, partition, past, unreadable) for partition in range(partitions)]
    waiting: list[tuple[int, int, Key, TradedBar]] = []
    last: dict[Key, int] = {}

    async def next_of(partition: int) -> None:
        async for key, bar in streams[partition]:
            if bar.open_time > last.get(key, -1):
                last[key] = bar.open_time
                heapq.heappush(waiting, (bar.open_time + key[1], partition, key, bar))
                return

    for partition in range(partitions):
        await next_of(partition)
    while waiting:
        _, partition, key, bar = heapq.heappop(waiting)
        yield partition, key, bar
        await next_of(partition)


async def _of_partition(
    log: Log, partition: int, past: SegmentStore | None, unreadable: Unreadable
) -> AsyncIterator[tuple[Key, TradedBar]]:
    async for entry in pages(log, StreamKey("market", partition), past=past):
        for _, envelope in events_of([entry], unreadable):
            event = envelope.event
            if isinstance(event, BarClosed):
                key = (event.symbol, event.interval_ms, event.origin == "synthetic")
                yield key, TradedBar(event.open_time, event.origin, event.open, event.close, event.volume)
