"""``conclave demo``: the whole of it in a minute, on a server and in a folder of its own.

Trains two models on the first part of the market, starts every service as a process, promotes the two
by commands, streams the rest as fast as the pipeline takes it and the last bars at a steady pace, and
shows what is decided. Ends everything it started, also on Ctrl-C at any moment.
"""

import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import anyio
import click
from rich.console import Console
from rich.live import Live

from services.console.demo_view import Board
from services.console.main import asynchronous
from services.console.processes import Supervisor, console_command
from services.console.running import found_if_new, server_for, services_up
from services.console.sources import symbol_names
from shared.bars import open_source
from shared.bars.names import parse_interval
from shared.log.redis import RedisLog
from shared.process import ONE_THREAD, InstallationError, cancelled_by_signal, opened_log
from shared.settings import VARIABLE, Settings, load

MODELS: Final = {"xgboost": 1.0, "lightgbm": 0.5}
"""Model (and family), with the weight it is promoted with: the second takes half from the first."""
TRAINED_SHARE: Final = 0.6
PACE: Final = 50.0
PACED_S: Final = 10
SYNTHETIC_BARS: Final = 6_000
SYMBOLS: Final = 4
LEAST_ROWS: Final = 4_000


@click.command()
@click.option("--bars", type=click.Path(exists=True, path_type=Path), help="A file or folder of bars.")
@click.option("--symbol", help="Symbol of files that do not say.")
@click.option("--interval", help="Bar length of files that do not say, as 15m.")
@click.option("--limit", type=int, help="Stream this many bars at most.")
@asynchronous
async def demo(bars: Path | None, symbol: str | None, interval: str | None, limit: int | None) -> None:
    """Bars in, decisions out: on the synthetic market, or on your own bars."""
    console = Console()
    words = _source_words(bars, symbol, interval)
    rows = _count(bars, symbol, interval)
    if rows < LEAST_ROWS:
        raise InstallationError(f"{bars}: {rows:,} bars; the demo trains on 60 % of them and needs {LEAST_ROWS:,}")
    folder = Path(tempfile.mkdtemp(prefix="conclave-demo-"))
    try:
        finished = False
        async with cancelled_by_signal():
            await _demo(console, folder, words, rows, limit, synthetic=bars is None)
            finished = True
        if not finished:
            console.print("stopped; nothing is left running")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _source_words(bars: Path | None, symbol: str | None, interval: str | None) -> list[str]:
    """The source as options of ``train`` and ``feed``."""
    if bars is None:
        return ["--synthetic", "sequence", "--symbols", str(SYMBOLS), "--count", str(SYNTHETIC_BARS)]
    named = ["--symbol", symbol] if symbol else []
    return ["--bars", str(bars.resolve()), *named, *(["--interval", interval] if interval else [])]


def _count(bars: Path | None, symbol: str | None, interval: str | None) -> int:
    if bars is None:
        return SYNTHETIC_BARS * SYMBOLS
    span = parse_interval(interval) if interval else None
    return sum(1 for _ in open_source(bars, symbol=symbol, interval_ms=span).rows())


def _settings(folder: Path) -> Settings:
    """A settings file of the demo's own, on a free port of the loopback interface."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    models = json.dumps(list(MODELS))
    file = folder / "conclave.toml"
    file.write_text(f'[redis]\nurl = "redis://127.0.0.1:{port}/0"\n\n[models]\nnames = {models}\n')
    return load(file)


async def _demo(
    console: Console, folder: Path, words: Sequence[str], rows: int, limit: int | None, *, synthetic: bool
) -> None:
    settings = _settings(folder)
    trained_rows = int(rows * TRAINED_SHARE)
    name = f"synthetic, seeded, with a planted signal ({', '.join(symbol_names(SYMBOLS))})" if synthetic else words[1]
    console.rule("[bold]Conclave")
    console.print(f"market: [bold]{name}[/], {rows:,} bars; the first {trained_rows:,} train, the rest is streamed")
    run = _runner(folder / "conclave.toml")
    async with server_for(settings):
        await found_if_new(settings, "demo")
        console.print(f"server: embedded, {settings.redis.url}, append-only file in {folder}")
        async with services_up(settings, console.print, folder / "conclave.toml") as supervisor:
            names = ", ".join(f"{child.name} ({child.pid})" for child in supervisor.children)
            console.print(f"services: {names}")
            for model, weight in MODELS.items():
                await _train(console, run, model, weight, words, trained_rows)
            async with opened_log(settings, "conclave:demo") as log:
                await _stream(console, run, log, words, trained_rows, rows, limit, supervisor)


Runner = Callable[..., Any]


def _runner(settings_file: Path) -> Runner:
    async def run(*words: str, check: bool = True) -> str:
        """One console command in a process of its own; its output, or its message as an error."""
        result = await anyio.run_process(
            console_command(*words),
            env={**os.environ, **ONE_THREAD, "COLUMNS": "100", VARIABLE: str(settings_file)},
            check=False,
            start_new_session=True,
        )
        if check and result.returncode:
            raise InstallationError(result.stderr.decode().strip() or f"{words[0]} failed")
        return result.stdout.decode()

    return run


async def _train(console: Console, run: Runner, model: str, weight: float, words: Sequence[str], rows: int) -> None:
    """Trains, registers and promotes, as a person would."""
    reason = "the demo's first models: no gate has seen them"
    with console.status(f"training {model}"):
        report = await run(
            "train", "--model", model, "--family", model, *words, "--rows", str(rows),
            "--promote", "--weight", str(weight), "--actor", "demo", "--reason", reason,
        )  # fmt: skip
    sys.stdout.write(report)


async def _stream(
    console: Console,
    run: Runner,
    log: RedisLog,
    words: Sequence[str],
    skip: int,
    rows: int,
    limit: int | None,
    supervisor: Supervisor,
) -> None:
    total = min(rows - skip, limit or rows)
    paced = min(int(PACE * PACED_S), total // 2)
    board = Board(log, supervisor)
    with Live(board, console=console, refresh_per_second=5, transient=False):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(board.watch)
            feed = ("feed", *words, "--skip", str(skip))
            board.phase = f"{total - paced:,} bars as fast as the pipeline takes them"
            await run(*feed, "--limit", str(total - paced))
            await board.settled()
            board.begin_pace(f"{paced:,} bars at {PACE:.0f} a second")
            await run(*feed, "--limit", str(total), "--speed", str(PACE))
            await board.settled()
            tasks.cancel_scope.cancel()
    console.print(board.summary())
