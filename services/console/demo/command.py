"""``conclave demo``: a complete installation in a minute or two, with its own server and a temporary folder.

It starts every service as a process, trains four models on the first part of the market, promotes them and sets their
weights. It streams the remaining bars as fast as the pipeline takes them, the last ones at a steady pace, and shows the
decisions. The executor trades the intents on paper; a table shows the money of the ensemble beside that of each model
alone. Then the trainer retrains one model twice: once so that the fit collapses, once successfully. Every process
that it started ends with it, also on Ctrl-C.
"""

import json
import os
import shutil
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

import anyio
import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from services.console.context import asynchronous
from services.console.demo import live
from services.console.demo.retrain import BY, ONLY_BY_REQUEST, retrain
from services.console.demo.train import MODELS, Runner, promote, require_packages, train_all
from services.console.demo.view import Board
from services.console.evidence.money import show_money
from services.console.output import terminal
from services.console.parsing import COUNT, POSITIVE
from services.console.run.installation import found_if_new, services_up
from services.console.run.processes import console_command
from services.console.run.server import server_for
from services.console.run.service import missing_observatory
from services.console.sources import symbol_names
from services.console.training.sets import OF_WINDOWS
from shared.bars import Good, open_source
from shared.bars.names import interval_text, parse_interval
from shared.features import DEFAULT
from shared.money.recorded import read_money
from shared.runtime.process import ONE_THREAD, InstallationError, cancelled_by_signal, opened_log
from shared.settings import VARIABLE, Settings, address_of, load

TRAINED_SHARE: Final = 0.6
PACE: Final = 50.0
PACED_S: Final = 10
SYNTHETIC_BARS: Final = 6_000
SYMBOLS: Final = 4
LEAST_ROWS: Final = 4_000


class Market(NamedTuple):
    """What the demo streams: its name, the number of bars, and the options for ``train`` and ``feed``."""

    name: str
    rows: int
    words: tuple[str, ...]


@click.command()
@click.option("--bars", type=click.Path(exists=True, path_type=Path), help="A file or folder of bars.")
@click.option("--symbol", help="Symbol of files that do not contain it.")
@click.option("--interval", help="Bar length, such as 15m, of files that do not contain it.")
@click.option("--limit", type=COUNT, help="Stream at most this many bars.")
@click.option("--exchange", metavar="URL", help="Read live bars of the local exchange at this address instead.")
@click.option("--seconds", type=POSITIVE, default=60, show_default=True, help="How long to read live bars.")
@asynchronous
async def demo(
    bars: Path | None, symbol: str | None, interval: str | None, limit: int | None, exchange: str | None, seconds: int
) -> None:
    """Run a complete installation for a minute or two, on a synthetic market, on your own bars, or on live bars."""
    console = terminal()
    started = time.monotonic()
    if exchange is not None and bars is not None:
        raise click.UsageError("--bars and --exchange exclude each other")
    require_packages(live.MODELS if exchange is not None else MODELS)
    market = None if exchange is not None else _market(bars, symbol, interval)
    folder = Path(tempfile.mkdtemp(prefix="conclave-demo-"))
    try:
        finished = False
        async with cancelled_by_signal():
            if exchange is not None:
                await _live(console, folder, exchange, seconds, started)
            elif market is not None:
                await _demo(console, folder, market, limit, started)
            finished = True
        if not finished:
            console.print("stopped; no process is left running")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _market(bars: Path | None, symbol: str | None, interval: str | None) -> Market:
    """Return the synthetic market, or the bars of the most frequent length in a file or folder."""
    if bars is None:
        name = f"synthetic, seeded, with a planted signal ({', '.join(symbol_names(SYMBOLS))})"
        words = ("--synthetic", "sequence", "--symbols", str(SYMBOLS), "--count", str(SYNTHETIC_BARS))
        return Market(name, SYNTHETIC_BARS * SYMBOLS, words)
    source = open_source(bars, symbol=symbol, interval_ms=parse_interval(interval) if interval else None)
    counts = Counter(row.bar.interval_ms for row in source.rows() if isinstance(row, Good))
    length, rows = counts.most_common(1)[0] if counts else (0, 0)
    if rows < LEAST_ROWS:
        raise InstallationError(
            f"{bars}: expected at least {LEAST_ROWS:,} bars of one length, found {rows:,}; the demo trains on 60 % of "
            "them"
        )
    only = interval_text(length)
    named = ("--symbol", symbol) if symbol else ()
    stated = ("--interval", interval) if interval else ()
    return Market(f"{bars}, bars of {only}", rows, ("--bars", str(bars.resolve()), "--only", only, *named, *stated))


def _settings(folder: Path, models: Iterable[str] = MODELS, more: str = "") -> Settings:
    """Write settings for the demo, with free ports of the loopback interface, and return them."""
    with socket.socket() as server, socket.socket() as page:
        server.bind(("127.0.0.1", 0))
        page.bind(("127.0.0.1", 0))
        port, pages = server.getsockname()[1], page.getsockname()[1]
    names = json.dumps(list(models))
    file = folder / "conclave.toml"
    file.write_text(
        f'[redis]\nurl = "redis://127.0.0.1:{port}/0"\n\n[models]\nnames = {names}\n\n[training]\nfree_gb = 0.2\n'
        f"\n[observatory]\nport = {pages}\n{more}"
    )
    return load(file)


async def _demo(console: Console, folder: Path, market: Market, limit: int | None, started: float) -> None:
    settings = _settings(folder, more=f'\n[features]\nsets = ["{DEFAULT}", "{OF_WINDOWS}"]\n')
    trained = int(market.rows * TRAINED_SHARE)
    console.rule(Text("Conclave", "bold"))
    streamed = f", {market.rows:,} bars; the first {trained:,} train, the rest is streamed"
    console.print(Text.assemble("market: ", (market.name, "bold"), streamed))
    run = _runner(folder / "conclave.toml")
    async with server_for(settings):
        await found_if_new(settings, "demo")
        console.print(f"server: embedded, {settings.redis.url}, append-only file in {folder}")
        async with services_up(settings, console.print, folder / "conclave.toml") as supervisor:
            names = ", ".join(f"{child.name} ({child.pid})" for child in supervisor.children)
            console.print(f"services: {names}")
            console.print(missing_observatory() or f"in a browser: {address_of(settings.observatory)}")
            digests = await train_all(console, run, (*market.words, "--rows", str(trained)), settings)
            await promote(console, run, digests)
            async with opened_log(settings, "conclave:demo") as log:
                await run("policy", "training", "on_drift=false", "on_decay=false", *BY, "--reason", ONLY_BY_REQUEST)
                await _stream(console, run, Board(log, supervisor, started), market, trained, limit)
                show_money(console, (await read_money(log, 1)).lines, "money, on paper")
                await retrain(console, run, log)


async def _live(console: Console, folder: Path, exchange: str, seconds: int, started: float) -> None:
    settings = _settings(folder, live.MODELS, live.settings_text(exchange))
    console.rule(Text("Conclave, live", "bold"))
    console.print(f"exchange: {exchange}, {', '.join(live.SYMBOLS)} against USDT, bars of one second")
    run = _runner(folder / "conclave.toml")
    async with server_for(settings):
        await found_if_new(settings, "demo")
        async with services_up(settings, console.print, folder / "conclave.toml") as supervisor:
            words = live.write_market(folder / "synthetic-1s.csv")
            digests = await train_all(console, run, words, settings, live.MODELS)
            await promote(console, run, digests, live.MODELS)
            async with opened_log(settings, "conclave:demo") as log:
                await live.stream_live(console, run, Board(log, supervisor, started), log, seconds)


def _runner(settings_file: Path) -> Runner:
    async def run(*words: str) -> str:
        """Run one console command in a process and return its output. Raises ``InstallationError`` with its message.
        Files that a library leaves in the temporary folder (torch: a cache) are deleted with the demo's folder."""
        result = await anyio.run_process(
            console_command(*words),
            env={**os.environ, **ONE_THREAD, VARIABLE: str(settings_file), "TMPDIR": str(settings_file.parent)},
            check=False,
            start_new_session=True,
        )
        if result.returncode:
            raise InstallationError(result.stderr.decode().strip().removeprefix("conclave: ") or f"{words[0]} failed")
        return result.stdout.decode()

    return run


async def _stream(console: Console, run: Runner, board: Board, market: Market, skip: int, limit: int | None) -> None:
    total = min(market.rows - skip, limit or market.rows)
    paced = min(int(PACE * PACED_S), total // 2)
    feed = ("feed", *market.words, "--skip", str(skip))
    with Live(board, console=console, refresh_per_second=5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(board.watch)
            board.phase = f"{total - paced:,} bars as fast as the pipeline takes them"
            await run(*feed, "--limit", str(total - paced))
            await board.until_decided()
            board.start_pace(f"{paced:,} bars at {PACE:.0f} a second")
            await run(*feed, "--limit", str(total), "--speed", str(PACE))
            await board.until_decided()
            await board.until_traded()
            tasks.cancel_scope.cancel()
    console.print(board.summary())
