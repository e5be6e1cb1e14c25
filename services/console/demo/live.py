"""The live demo: an installation that reads bars of an exchange as they close, decides and trades on paper.

Bars are of one second, so that a minute shows sixty of each symbol. The exchange is a local one (``make demo LIVE=1``
starts it), or whatever answers as Binance does at the address.
"""

import csv
from pathlib import Path
from types import MappingProxyType
from typing import Final

import anyio
from rich.console import Console
from rich.live import Live

from services.console.demo.train import Runner, Slot
from services.console.demo.view import Board
from services.console.evidence.money import show_money
from shared.bars import Good
from shared.log import Log
from shared.money.recorded import read_money
from shared.synthetic import SyntheticMarket

MODELS: Final = MappingProxyType({"xgboost": Slot(0.5), "lightgbm": Slot(0.5)})
SYMBOLS: Final = ("BTC", "ETH")
INTERVAL_MS: Final = 1000
HISTORY: Final = 900
TRAINED: Final = 4000
"""Synthetic bars of each symbol on which the models are trained. They know nothing of the exchange."""
WITHIN_S: Final = 120.0
"""How long the history may take to be read and decided."""


def settings_text(address: str) -> str:
    """Return the section of the settings that names the exchange."""
    markets = ", ".join(f'"binance {symbol}/USDT 1s as {symbol}USDT"' for symbol in SYMBOLS)
    return f'\n[exchange]\nmarkets = [{markets}]\nhistory = {HISTORY}\nlocal = "{address}"\n'


def write_market(file: Path) -> tuple[str, ...]:
    """Write bars of a synthetic market with the interval of the live ones, and return the options that name them."""
    market = SyntheticMarket(tuple(f"{symbol}USDT" for symbol in SYMBOLS), "sequence", 1, TRAINED, INTERVAL_MS)
    with file.open("w", newline="", encoding="utf-8") as lines:
        rows = csv.writer(lines)
        rows.writerow(("symbol", "open_time", "open", "high", "low", "close", "volume"))
        for row in market.rows():
            if isinstance(row, Good):
                bar = row.bar
                rows.writerow((bar.symbol, bar.open_time, bar.open, bar.high, bar.low, bar.close, bar.volume))
    return "--bars", str(file)


async def stream_live(console: Console, run: Runner, board: Board, log: Log, seconds: int) -> None:
    """Read the history and then live bars for some time, stop the feed, and show what happened and the money."""

    async def feed() -> None:
        await run("run", "feed")

    board.phase = f"the last {HISTORY} bars of each symbol"
    with Live(board, console=console, refresh_per_second=5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(board.watch)
            async with anyio.create_task_group() as feeding:
                feeding.start_soon(feed)
                with anyio.fail_after(WITHIN_S):
                    await board.until_decided(at_least=HISTORY * len(SYMBOLS))
                board.start_pace(f"live bars of one second, for {seconds} s")
                await anyio.sleep(seconds)
                feeding.cancel_scope.cancel()
            await board.until_decided()
            await board.until_traded()
            tasks.cancel_scope.cancel()
    console.print(board.summary())
    show_money(console, (await read_money(log, 1)).lines, "money, on paper")
