"""``conclave feed``: send bars to the stream ``market``, and show the progress."""

from collections.abc import Mapping
from typing import Any

import anyio
import click
import msgspec

from services.console.context import asynchronous, settings_of
from services.console.output import echo_json, echo_unreadable
from services.console.parsing import COUNT, NumberRange
from services.console.progress import progress
from services.console.sources import BARS_OPTIONS, Part, chosen_source, inputs_of
from services.feed.core import RowSource
from services.feed.live.main import feed_markets
from services.feed.main import Counts
from services.feed.main import feed as feed_bars
from shared.bars import BarSource
from shared.bars.feeds import open_bars
from shared.bars.input_source import InputSource, WithInputs, open_inputs
from shared.bars.names import parse_interval
from shared.features.installed import references_in
from shared.log import Log, StreamKey
from shared.log.events import Unreadable, events_of
from shared.runtime.loop import Loop, opened_loop
from shared.runtime.process import reached_log, stop_on_signal
from shared.settings import Settings
from shared.synthetic import SyntheticMarket


@click.group(invoke_without_command=True)
@BARS_OPTIONS
@click.option(
    "--speed", type=NumberRange(min=0.0), help="Bars per second over all symbols (default: from the settings)."
)
@click.option(
    "--skip", type=COUNT, default=0, show_default=True, help="Skip this many rows at the start of the source."
)
@click.option("--limit", type=COUNT, help="Send at most this many rows.")
@click.option("--restart", is_flag=True, help="Leave the source that was sent before, although not all of it was sent.")
@click.pass_context
@asynchronous
async def feed(context: click.Context, /, **options: Any) -> None:
    """Send bars in the order of their close. A source that was sent before resumes after its last bar sent.

    Without --speed, or with 0, bars are sent as fast as the pipeline takes them."""
    if context.invoked_subcommand is not None:
        return
    settings = settings_of(context)
    source, name = chosen_source(options)
    part = _joined(Part(source, options["skip"], options["limit"]), inputs_of(options))
    speed = settings.feed.speed if options["speed"] is None else options["speed"]
    async with stop_on_signal() as stop, opened_loop(settings, "feed") as loop:
        counts = await _feed(loop, part, settings, speed, stop, name, restart=options["restart"])
    passed = f"; {counts.skipped:,} passed over: the market has them, or later ones" if counts.skipped else ""
    before = f"; {counts.before:,} rows before them were handled by an earlier run" if counts.before else ""
    inputs = f", {counts.inputs:,} inputs sent" if counts.inputs else ""
    refused = f"{counts.refused:,} rows refused (see the stream `dead`)"
    click.echo(f"{counts.sent:,} bars sent{inputs}, {refused}{passed}{before}")
    if stop.is_set():
        click.echo("interrupted before the end; the same command resumes after the last bar that was sent", err=True)
        context.exit(130)


@feed.command()
@click.option(
    "--market", "markets", multiple=True, help='As "binance BTC/USDT 1m". Repeat it. Default: those of the settings.'
)
@click.pass_context
@asynchronous
async def exchange(context: click.Context, /, markets: tuple[str, ...]) -> None:
    """Write the closed bars of exchanges, live, until Ctrl-C. Needs the extra `exchange`.

    A new series begins with bars from before the first start, a known one after its last bar on the log. Bars that are
    read late are marked as replayed; their intents are traded on paper only. What else happens at an exchange is on the
    stream `venue`: holes, revised bars, interruptions, symbols that stopped.

    Example: conclave feed exchange --market "binance BTC/USDT 1m" --market "kraken ETH/EUR 1m 1h"
    """
    settings = settings_of(context)
    async with stop_on_signal() as stop, opened_loop(settings, "feed") as loop:
        counts = await feed_markets(loop, settings, markets or settings.exchange.markets, stop)
    for what, count in sorted(counts.items()):
        click.echo(f"{count:9,} {what}")


@feed.command()
@click.option(
    "--last", "-n", type=COUNT, default=20, show_default=True, help="Number of newest events of each partition."
)
@click.pass_context
@asynchronous
async def events(context: click.Context, /, last: int) -> None:
    """Show what happened at the exchanges, one JSON object a line: holes, revised bars, interruptions, symbols."""
    settings = settings_of(context)
    async with reached_log(settings, "conclave:console") as log:
        for partition in range(settings.installation.partitions):
            unreadable = Unreadable()
            for _, envelope in events_of(await log.tail(StreamKey("venue", partition), max(last, 0)), unreadable):
                echo_json(msgspec.to_builtins(envelope.event))
            echo_unreadable(unreadable)


async def feed_from_settings(settings: Settings, stop: anyio.Event) -> None:
    """Run the feed that the settings describe, until the end of its source or ``stop``."""
    async with opened_loop(settings, "feed") as loop:
        if settings.exchange.markets:
            await feed_markets(loop, settings, settings.exchange.markets, stop)
            return
        await _feed(loop, _configured(settings), settings, settings.feed.speed, stop, None)


def _configured(settings: Settings) -> RowSource:
    chosen = settings.feed
    if not chosen.path:
        return SyntheticMarket()
    interval = parse_interval(chosen.interval) if chosen.interval else None
    bars = open_bars(chosen.path, symbol=chosen.symbol or None, interval_ms=interval)
    return _joined(bars, open_inputs(chosen.inputs) if chosen.inputs else None)


def _joined(bars: BarSource, inputs: InputSource | None) -> RowSource:
    return bars if inputs is None else WithInputs(bars, inputs)


async def _feed(
    loop: Loop,
    source: RowSource,
    settings: Settings,
    speed: float,
    stop: anyio.Event,
    name: str | None,
    *,
    restart: bool = False,
) -> Counts:
    partitions = settings.installation.partitions
    async with anyio.create_task_group() as tasks:
        if name is not None:
            tasks.start_soon(_show, loop.log, partitions, name, isinstance(source, WithInputs))
        counts = await feed_bars(
            loop,
            source,
            partitions=partitions,
            speed=speed or None,
            window=settings.feed.window,
            stop=stop,
            sample=settings.telemetry.sample if settings.telemetry.endpoint else 0.0,
            restart=restart,
            references=references_in(settings.features.sets),
        )
        tasks.cancel_scope.cancel()
    return counts


async def _show(log: Log, partitions: int, name: str, inputs: bool) -> None:
    """Show the number of bars sent and of decisions made, until cancelled. With ``inputs`` the former is not known."""
    before = await _added(log, partitions)
    words = f"{name}: decided" if inputs else f"{name}: decided of sent"
    with progress(words, "bars") as display:
        while True:
            now = await _added(log, partitions)
            sent, decided = now["market"] - before["market"], now["decisions"] - before["decisions"]
            display.update(words, decided, None if inputs else sent or None)
            await anyio.sleep(0.2)


async def _added(log: Log, partitions: int) -> Mapping[str, int]:
    return {
        stream: sum([(await log.extent(StreamKey(stream, p))).added for p in range(partitions)])
        for stream in ("market", "decisions")
    }
