"""Kill a real feed process and a real server while a local exchange goes on, and compare the log with the exchange.

Bars are of a second. Kills are SIGKILL, alternately of ``conclave run feed`` and of the server, which writes each
command to disk before it answers. Both are started again at once, as a supervisor does. The exchange has no faults."""

import random
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

import anyio
from anyio import to_thread

from bench.harness import Figure
from bench.installation import Installation, free_port
from bench.servers import default_program
from schemas.codec import decode
from schemas.venue import BarsAbsent
from shared.log import Entry, StreamKey, UnavailableError
from shared.log.leases import id_order
from tests.exchange.local import LocalExchange, Market

BASES = tuple(f"S{n:02}" for n in range(5))
SECOND = 1_000
WITHIN_S = 60.0


class Processes:
    """The server and the feed."""

    def __init__(self, folder: Path, exchange: str) -> None:
        self.folder, self.port = folder, free_port()
        markets = ", ".join(f'"binance {base}/USDT 1s"' for base in BASES)
        extra = f'\n[exchange]\nmarkets = [{markets}]\nhistory = 5\nlocal = "{exchange}"\n'
        self.installation = Installation(folder, models=(), extra=extra, url=f"redis://127.0.0.1:{self.port}/0")
        self.server = self.start_server()
        self.installation.conclave("found", "--reason", "a bench")
        self.feed = self.start_feed()

    def start_server(self) -> "subprocess.Popen[bytes]":
        words = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        words += ["--appendonly", "yes", "--appendfsync", "always", "--logfile", str(self.folder / "server.log")]
        return subprocess.Popen([str(default_program()), *words], stdout=subprocess.DEVNULL)

    def start_feed(self) -> "subprocess.Popen[bytes]":
        with (self.folder / "feed.log").open("ab") as output:
            return subprocess.Popen(
                self.installation.command("run", "feed"),
                cwd=self.folder,
                env=self.installation.environment(),
                stdout=output,
                stderr=output,
            )

    def kill(self, which: str) -> int:
        """Kill one of the two and start it again. A feed that ended by itself meanwhile is started again too. Return
        when it was dead (ms)."""
        process = self.feed if which == "feed" else self.server
        process.kill()
        process.wait()
        moment = _now()
        if which == "server":
            self.server = self.start_server()
        self.revive()
        return moment

    def revive(self) -> None:
        if self.feed.poll() is not None:
            self.feed = self.start_feed()

    def end(self) -> None:
        for process in (self.feed, self.server):
            process.terminate()
        for process in (self.feed, self.server):
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def killed(rounds: int) -> dict[str, Figure]:
    """Kill ``rounds`` times, and compare."""
    markets = [Market(f"{base}USDT", base, interval=SECOND) for base in BASES]
    exchange = LocalExchange(markets, lambda: time.time_ns() // 10**6)
    chance, moments = random.Random(11), list[tuple[str, int]]()
    with tempfile.TemporaryDirectory(prefix="conclave-live-") as folder:
        async with exchange.serving(), anyio.create_task_group() as tasks:
            tasks.start_soon(_push, exchange)
            processes = await to_thread.run_sync(Processes, Path(folder), exchange.url)
            try:
                await _until(processes, _now())
                for number in range(rounds):
                    await anyio.sleep(chance.uniform(1.0, 4.0))
                    which = ("feed", "server")[number % 2]
                    moments.append((which, await to_thread.run_sync(processes.kill, which)))
                    await _until(processes, _now())
                entries = await _until(processes, _now())
                absent = await _read(processes, "venue")
            finally:
                with anyio.CancelScope(shield=True):
                    await to_thread.run_sync(processes.end)
                tasks.cancel_scope.cancel()
    return _compared(exchange, entries, absent, moments)


def _now() -> int:
    return time.time_ns() // 10**6


async def _push(exchange: LocalExchange) -> None:
    while True:
        await exchange.push()
        await anyio.sleep(0.1)


async def _until(processes: Processes, moment: int) -> list[Entry]:
    """Wait until the bar that closes next after a moment is there for every symbol, and return all entries."""
    with anyio.fail_after(WITHIN_S):
        while True:
            await to_thread.run_sync(processes.revive)
            entries = await _read(processes, "market")
            newest: dict[str, int] = {}
            for entry in entries:
                bar = decode("market", entry.data).event
                newest[bar.symbol] = bar.open_time
            if len(newest) == len(BASES) and min(newest.values()) >= moment // SECOND * SECOND:
                return entries
            await anyio.sleep(0.3)


async def _read(processes: Processes, stream: str) -> list[Entry]:
    log = processes.installation.log()
    try:
        return await log.scan(StreamKey(stream), count=1_000_000)
    except UnavailableError:
        return []
    finally:
        await log.close()


def _compared(
    exchange: LocalExchange, entries: list[Entry], venue: list[Entry], moments: list[tuple[str, int]]
) -> dict[str, Figure]:
    bars = [decode("market", entry.data).event for entry in entries]
    missing = double = half = 0
    for market in exchange.markets.values():
        own = [bar for bar in bars if bar.symbol == f"{market.base}/USDT"]
        numbers = [bar.open_time // SECOND for bar in own]
        missing += numbers[-1] - numbers[0] + 1 - len(set(numbers))
        double += len(numbers) - len(set(numbers)) + (numbers != sorted(numbers))
        rows = [[float(cell) for cell in market.row(number, 0)[1:6]] for number in numbers]
        found = [[bar.open, bar.high, bar.low, bar.close, bar.volume] for bar in own]
        half += sum(one != row for one, row in zip(found, rows, strict=True))
    written = [id_order(entry.id)[0] for entry in entries]
    heal = {
        which: [(min(at for at in written if at > moment) - moment) / 1000 for each, moment in moments if each == which]
        for which in ("feed", "server")
    }
    invented = sum(isinstance(decode("venue", entry.data).event, BarsAbsent) for entry in venue)
    return {
        "bars (processes killed)": Figure(len(bars), "bars"),
        "kills of the feed's process": Figure(len(heal["feed"]), "kills"),
        "kills of the server": Figure(len(heal["server"]), "kills"),
        "missing (processes killed)": Figure(missing, "bars", "<= 0"),
        "double (processes killed)": Figure(double, "bars", "<= 0"),
        "half (processes killed)": Figure(half, "bars", "<= 0"),
        "invented holes (processes killed)": Figure(invented, "holes", "<= 0"),
        "next bar after a kill of the feed, median": Figure(median(heal["feed"]), "s"),
        "next bar after a kill of the feed, longest": Figure(max(heal["feed"]), "s"),
        "next bar after a kill of the server, median": Figure(median(heal["server"]), "s"),
        "next bar after a kill of the server, longest": Figure(max(heal["server"]), "s"),
    }
