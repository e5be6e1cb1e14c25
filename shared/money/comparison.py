"""Follow the money of the ensemble, as recorded, and of every model alone, over the same bars.

The ensemble's orders and fills are those on ``orders``. A model alone is an account with the same rules and costs, for
which each of its predictions that is not HOLD (by the action policy of ``shared.voting``) is an intent: what would have
happened had it voted alone. There are no halts for it, no intent comes too late by the clock, and its venue is paper.
With each line goes one that buys every symbol once, at the first bar that the line predicted.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence

from msgspec import structs

from schemas.codec import ROOT
from schemas.control import SetExecutionPolicy
from schemas.orders import IntentRefused, OrderEnded, OrderEvent, OrderFilled, OrderPlaced
from shared.money.account import Account, Key, executed
from shared.money.equity import EquityLine
from shared.money.figures import MoneyFigures, figures_of
from shared.money.orders import TradeSignal
from shared.money.positions import Holding, Working, apply
from shared.money.venue import TradedBar

ENSEMBLE = "ensemble"
Signals = dict[tuple[Key, int], list[tuple[str, TradeSignal | None]]]
"""What each line decided about a bar, by series and open time: a signal, or None for HOLD. A HOLD is kept only where it
is the first decision of its line about the series."""


class _Line:
    """One line: its accounts, one for each partition, and its equity."""

    def __init__(self, equity: float) -> None:
        self.accounts: dict[int, Account] = defaultdict(Account)
        self.money = EquityLine(equity)

    def holding(self, partition: int, key: Key) -> Holding:
        return self.accounts[partition].of(key)

    def apply(self, partition: int, key: Key, event: OrderEvent) -> None:
        """Apply an order or what became of it."""
        working = Working(event, ROOT, ROOT, 0) if isinstance(event, OrderPlaced) else None
        self.money.trades += apply(self.holding(partition, key), event, working)
        if isinstance(event, OrderFilled):
            self.money.fill(key, event)

    def execute(self, partition: int, key: Key, bar: TradedBar, policies: Sequence[SetExecutionPolicy]) -> None:
        """Execute the open order by a bar."""
        holding = self.holding(partition, key)
        if holding.working is not None:
            policy = policies[holding.working.order.control_version]
            for event in list(executed(holding, bar, policy)):
                self.apply(partition, key, event)

    def decide(
        self, partition: int, key: Key, signal: TradeSignal, policy: SetExecutionPolicy, close: float, partitions: int
    ) -> None:
        """Decide the order that follows from a signal."""
        self.apply(partition, key, self.accounts[partition].decide(key, signal, policy, close, partitions))


class MoneyComparison:
    """The lines of money over recorded bars, which ``bar`` gets in the order of their close.

    ``policies``: the execution policy of each version; the newest has the equity at the beginning. ``since``: figures
    begin with the first bar that closes after it (ms)."""

    def __init__(self, policies: Sequence[SetExecutionPolicy], partitions: int, since: int | None = None) -> None:
        self.policies = [structs.replace(policy, venue="paper") for policy in policies]
        self.partitions = partitions
        self.signals: Signals = {}
        self.recorded: dict[Key, deque[OrderEvent]] = defaultdict(deque)
        self._equity = policies[-1].equity
        self._since = since
        self._counts = since is None
        self._at = 0
        self._lines: dict[str, _Line] = {ENSEMBLE: _Line(self._equity)}
        self._holds: dict[str, _Line] = {ENSEMBLE: _Line(self._equity)}
        self._bought: set[tuple[str, Key]] = set()
        self._first: dict[tuple[str, Key], int] = {}

    def order(self, key: Key, event: OrderEvent) -> None:
        """Note an event of ``orders``. All of a series are noted before its bars, in their order."""
        if not isinstance(event, IntentRefused):
            self.recorded[key].append(event)

    def signal(self, line: str, key: Key, open_time: int, signal: TradeSignal | None) -> None:
        """Note what a line decided about a bar; None: HOLD. All are noted before the bars."""
        first = self._first.get((line, key))
        if first is None or open_time < first:
            self._first[line, key] = open_time
        elif signal is None:
            return
        self.signals.setdefault((key, open_time), []).append((line, signal))

    def bar(self, partition: int, key: Key, bar: TradedBar) -> None:
        """Take the next bar."""
        closed_at = bar.open_time + key[1]
        if closed_at > self._at:
            self._mark()
            self._at = closed_at
            if not self._counts and self._since is not None and closed_at > self._since:
                self._counts = True
                for line in self._all():
                    line.money.restart()
        self._replay(partition, key, bar)
        for name, line in self._lines.items():
            if name != ENSEMBLE:
                line.execute(partition, key, bar, self.policies)
        for line in self._holds.values():
            line.execute(partition, key, bar, self.policies)
        for line in self._all():
            line.money.price(key, bar.close)
        self._decide(partition, key, bar)

    def figures(self) -> list[MoneyFigures]:
        """Return the figures of all lines after the last bar: the ensemble first, then by name."""
        self._mark()
        names = [ENSEMBLE, *sorted(self._lines.keys() - {ENSEMBLE})]
        return [figures_of(name, self._lines[name].money, self._holds[name].money) for name in names]

    def _all(self) -> Iterator[_Line]:
        yield from self._lines.values()
        yield from self._holds.values()

    def _mark(self) -> None:
        if self._at and self._counts:
            for line in self._lines.values():
                line.money.mark(self._at)

    def _replay(self, partition: int, key: Key, bar: TradedBar) -> None:
        """Apply the recorded orders and fills up to a bar. An order follows its bar, a fill comes within it."""
        events, line = self.recorded[key], self._lines[ENSEMBLE]
        while events and events[0].open_time + isinstance(events[0], OrderPlaced) <= bar.open_time:
            event = events.popleft()
            if isinstance(event, OrderPlaced | OrderFilled | OrderEnded):
                line.apply(partition, key, event)

    def _decide(self, partition: int, key: Key, bar: TradedBar) -> None:
        decided = self.signals.pop((key, bar.open_time), ())
        for name, signal in decided:
            if name not in self._lines:
                self._lines[name], self._holds[name] = self._new(), self._new()
            version = signal.control_version if signal is not None else len(self.policies) - 1
            for owner in (name, ENSEMBLE):
                if (owner, key) not in self._bought:
                    self._bought.add((owner, key))
                    first = _first_purchase(key, bar, version)
                    self._holds[owner].decide(partition, key, first, self.policies[version], bar.close, self.partitions)
            if signal is not None:
                policy = self.policies[version]
                self._lines[name].decide(partition, key, signal, policy, bar.close, self.partitions)

    def _new(self) -> _Line:
        return _Line(self._equity)


def _first_purchase(key: Key, bar: TradedBar, version: int) -> TradeSignal:
    return TradeSignal("", key[0], key[1], bar.open_time, bar.origin, "", version, "BUY", 2**53)
