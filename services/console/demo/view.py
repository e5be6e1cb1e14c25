"""The live table of the demo and its summary: bars received, decisions made, throughput and latency."""

import time
from collections import Counter, deque
from typing import Any, Final

import anyio
import numpy as np
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from schemas.codec import Envelope
from schemas.decisions import DecisionMade
from schemas.orders import OrderFilled
from services.console.run.decisions import decision_line
from services.console.run.processes import Supervisor
from shared.log import START, Log, StreamKey
from shared.log.events import events_of, reported_elsewhere
from shared.processes import resident_mb

SHOWN: Final = 8
FOLLOWED: Final = ("market", "decisions", "intents", "orders", "trades", "dead")
EXECUTOR: Final = "executor"


class Board:
    """Follow the streams of partition 0 and render them as a table.

    Latency is the difference between the entry ids of a bar and of its decision: both are times of the server's clock,
    in whole milliseconds. ``started``: when the demo started (``time.monotonic``)."""

    def __init__(self, log: Log, supervisor: Supervisor, started: float) -> None:
        self.phase = ""
        self._log = log
        self._supervisor = supervisor
        self._started = started
        self._first_s = 0.0
        self._after = {StreamKey(stream): START for stream in FOLLOWED}
        self._seen: Counter[str] = Counter()
        self._bars: dict[bytes, int] = {}
        self._actions: Counter[str] = Counter()
        self._latencies: list[int] = []
        self._recent: deque[DecisionMade] = deque(maxlen=SHOWN)
        self._rate: deque[tuple[float, int]] = deque(maxlen=20)
        self._lag: dict[str, int] = {}
        self._times: dict[str, float] = {}
        self._fast: tuple[int, float] = (0, 0.0)

    async def watch(self) -> None:
        """Read the streams until cancelled."""
        while True:
            entries = await self._log.read(self._after, count=1000, block_ms=200)
            for entry in entries:
                self._after[entry.place] = entry.id
                self._seen[entry.place.stream] += 1
            shown = (entry for entry in entries if entry.place.stream in {"market", "decisions", "orders"})
            for entry, envelope in events_of(shown, reported_elsewhere):
                self._apply(entry.place.stream, envelope, int(entry.id.split("-")[0]))
            self._rate.append((time.monotonic(), self._seen["bars decided"]))
            if not entries:
                self._lag = {g.group: sum(g.lag.values()) for g in await self._log.groups(0)}

    def _apply(self, stream: str, envelope: Envelope[Any], at: int) -> None:
        if stream == "market":
            self._bars[envelope.id] = at
            self._times.setdefault("first bar", at)
        elif isinstance(envelope.event, OrderFilled):
            self._seen["fills"] += 1
        elif isinstance(envelope.event, DecisionMade):
            self._times["last decision"] = at
            self._first_s = self._first_s or time.monotonic() - self._started
            self._seen["bars decided"] += 1
            self._actions[envelope.event.action if envelope.event.status == "decided" else "no quorum"] += 1
            self._latencies.append(at - self._bars.pop(envelope.correlation, at))
            self._recent.append(envelope.event)

    async def until_decided(self, at_least: int = 0) -> None:
        """Wait until every bar that was sent has its decision, and there are so many."""
        while True:
            market = await self._log.extent(StreamKey("market"))
            if at_least <= market.added == self._seen["market"] == self._seen["bars decided"]:
                return
            await anyio.sleep(0.02)

    async def until_traded(self) -> None:
        """Wait until the executor has read all there is, and its orders were counted."""
        while True:
            lags = [sum(view.lag.values()) for view in await self._log.groups(0) if view.group == EXECUTOR]
            orders, trades = [await self._log.extent(StreamKey(stream)) for stream in ("orders", "trades")]
            if lags == [0] and (orders.added, trades.added) == (self._seen["orders"], self._seen["trades"]):
                return
            await anyio.sleep(0.02)

    def start_pace(self, phase: str) -> None:
        """Start to measure latency: from now on bars arrive at a steady pace."""
        self.phase = phase
        self._fast = (self._seen["bars decided"], (self._times["last decision"] - self._times["first bar"]) / 1000)
        self._latencies = []

    def __rich__(self) -> RenderableType:
        head = Table.grid(padding=(0, 3))
        rate = self._per_second()
        lag = "  ".join(f"{group} {count}" for group, count in sorted(self._lag.items()) if group != "feed")
        head.add_row(
            Text.assemble((f"{self._seen['market']:,}", "bold"), " bars"),
            Text.assemble((f"{self._seen['bars decided']:,}", "bold"), " decided"),
            Text.assemble((f"{rate:,.0f}", "bold"), " a second"),
            f"latency p50 {self._latency(50)} ms, p99 {self._latency(99)} ms",
        )
        lines = Group(*(_one_line(decision) for decision in self._recent))
        return Panel(Group(head, Text(f"lag: {lag}", style="dim"), lines), title=Text(self.phase))

    def _per_second(self) -> float:
        (then, before), (now, after) = (self._rate[0], self._rate[-1]) if self._rate else ((0.0, 0), (0.0, 0))
        return (after - before) / (now - then) if now > then else 0.0

    def _latency(self, percent: int) -> str:
        return f"{np.percentile(self._latencies[-2000:], percent):.0f}" if self._latencies else "-"

    def summary(self) -> RenderableType:
        """Return the counts, throughput, latency and memory of the demo."""
        table = Table(title="what happened", show_header=False)
        bars, decided = self._seen["market"], self._seen["bars decided"]
        mix = ", ".join(f"{action} {count / max(decided, 1):.0%}" for action, count in self._actions.most_common())
        count, seconds = self._fast
        table.add_row("bars in, decisions out", f"{bars:,}, {decided:,}: every bar has exactly one decision")
        table.add_row("first decision", f"{self._first_s:.0f} s after the start, training included")
        table.add_row("decided", mix)
        intents, fills, trades = (self._seen[name] for name in ("intents", "fills", "trades"))
        table.add_row("intents, fills, closed trades", f"{intents:,}, {fills:,}, {trades:,}")
        table.add_row("dead letters", f"{self._seen['dead']:,}")
        if seconds > 0:
            table.add_row("history", f"{count / seconds:,.0f} bars per second through the whole pipeline")
        table.add_row(self.phase, f"bar to decision p50 {self._latency(50)} ms, p99 {self._latency(99)} ms")
        memory = ", ".join(f"{c.name} {resident_mb(c.pid):.0f} MB" for c in self._supervisor.children if c.pid)
        table.add_row("resident memory", memory)
        return table


def _one_line(decision: DecisionMade) -> Text:
    line = decision_line(decision)
    line.overflow, line.no_wrap = "ellipsis", True
    return line
