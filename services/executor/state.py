"""The state of the executor: the account, and the bars and intents that wait for each other."""

from collections import deque
from typing import Final

import msgspec
from msgspec import Struct

from schemas.codec import Envelope
from schemas.control import CommandRecorded, SetExecutionPolicy
from schemas.decisions import DecisionMade, IntentIssued
from schemas.market import BarClosed
from services.executor.reconciliation import Ledger
from shared.control import EMPTY, fold
from shared.control import State as Control
from shared.log.leases import id_order
from shared.money.account import Account, Key
from shared.money.positions import Holding, Working
from shared.money.venue import TradedBar, exchange_of

KEPT: Final = 4096
"""Bars of a symbol that are kept after its last decision."""

EntryId = tuple[int, int]


class KeptBar(Struct, frozen=True, gc=False):
    """A bar that an intent may still need, and its entry on ``market``."""

    bar: TradedBar
    entry: EntryId


class Waiting(Struct, frozen=True):
    """An intent that was read and is not decided, and its entry on ``intents``."""

    envelope: Envelope[IntentIssued]
    entry: str


class Frontier(Struct, array_like=True):
    """How far the streams were read for one symbol and interval.

    ``last`` and ``close``: open time and close of the last bar that was read (-1: none). ``decided``: the open time of
    the last bar with a decision. ``due``: the open times of the decisions whose intent was not read yet."""

    last: int = -1
    close: float = 0.0
    decided: int = -1
    due: list[int] = []


class Row(Struct, array_like=True):
    """The snapshot of one symbol and interval."""

    synthetic: bool
    holding: Holding
    frontier: Frontier


class Memo(Struct):
    """The snapshot of an executor that has traded at an exchange. Of any other it is the rows alone."""

    rows: list[Row]
    ledger: Ledger


class State:
    """See the module.

    ``bars``: of each series, those that an intent may still need, oldest first. ``intents``: those that are not decided
    yet, in their order. ``market_at``: the time (ms) of the last entry of ``market`` that was read. ``started``: False
    until the first batch after a start. ``paused``: turns for which a stream has been paused.

    ``ledger``: what the account at an exchange should hold. ``policy_version``: the version of the last
    ``SetExecutionPolicy``. ``compared``: the symbols that were reconciled since the start, with that version."""

    def __init__(self, memo: bytes) -> None:
        decoded = msgspec.msgpack.decode(memo, type=list[Row] | Memo) if memo else []
        rows, self.ledger = (decoded.rows, decoded.ledger) if isinstance(decoded, Memo) else (decoded, Ledger())
        keys: list[Key] = [(row.holding.symbol, row.holding.interval_ms, row.synthetic) for row in rows]
        self.account = Account({key: row.holding for key, row in zip(keys, rows, strict=True)})
        self.frontiers = {key: row.frontier for key, row in zip(keys, rows, strict=True)}
        self.bars: dict[Key, deque[KeptBar]] = {}
        self.intents: deque[Waiting] = deque()
        self.control: Control = EMPTY
        self.policies: list[SetExecutionPolicy] = [SetExecutionPolicy()]
        self.policy_version = 0
        self.compared: tuple[int, frozenset[str]] = (-1, frozenset())
        self.market_at = 0
        self.started = False
        self.paused = 0

    def snapshot(self) -> bytes:
        """Return the snapshot of all symbols."""
        rows = [Row(key[2], self.account.of(key), frontier) for key, frontier in self.frontiers.items()]
        return msgspec.msgpack.encode(rows if self.ledger == Ledger() else Memo(rows, self.ledger))

    def working(self) -> list[Working]:
        """Return the open orders at exchanges."""
        holdings = self.account.holdings.values()
        return [each.working for each in holdings if each.working and exchange_of(each.working.order.venue)]

    def symbols(self) -> frozenset[str]:
        """Return all symbols whose bars are no simulated ones."""
        return frozenset(symbol for symbol, _, synthetic in self.frontiers if not synthetic)

    def frontier(self, key: Key) -> Frontier:
        """Return how far a series was read, and make its holding if it is new."""
        frontier = self.frontiers.get(key)
        if frontier is None:
            frontier = self.frontiers[key] = Frontier()
            self.account.of(key)
        return frontier

    def configure(self, commands: list[Envelope[CommandRecorded]]) -> None:
        """Fold commands, and keep the execution policy of each version."""
        for envelope in commands:
            self.control = fold(self.control, envelope.event)
            if isinstance(envelope.event.command, SetExecutionPolicy):
                self.policy_version = self.control.version
            self.policies.append(self.control.execution)

    def keep(self, key: Key, event: BarClosed, entry: str) -> None:
        """Keep a bar, if it follows the last one that is kept and an intent may still need it."""
        bars = self.bars.setdefault(key, deque())
        if bars and event.open_time <= bars[-1].bar.open_time:
            return
        bar = TradedBar(event.open_time, event.origin, event.open, event.close, event.volume)
        bars.append(KeptBar(bar, id_order(entry)))
        if len(bars) > KEPT:
            bars.popleft()
        self.drop(key)

    def decided(self, key: Key, decision: DecisionMade) -> None:
        """Note how far a series is decided, and whether an intent follows."""
        frontier = self.frontier(key)
        if decision.open_time <= frontier.decided:
            return
        frontier.decided = decision.open_time
        if decision.intent == "issued" and decision.open_time > self.account.of(key).last_intent:
            frontier.due.append(decision.open_time)
            del frontier.due[:-KEPT]
        self.drop(key)

    def drop(self, key: Key) -> None:
        """Drop the bars of a series that no intent can need any more: those up to its last decision, except that a bar
        whose intent is still to be decided is needed, and all that follow it."""
        bars, frontier, holding = self.bars.get(key), self.frontier(key), self.account.of(key)
        while frontier.due and frontier.due[0] <= holding.last_intent:
            del frontier.due[0]
        until = frontier.due[0] - 1 if frontier.due else frontier.decided
        if holding.working is not None:
            until = min(until, holding.working.order.open_time)
        while bars and bars[0].bar.open_time <= until:
            bars.popleft()
        if bars is not None and not bars:
            del self.bars[key]

    def bar_at(self, key: Key, open_time: int) -> TradedBar | None:
        """Return a kept bar; None if it is not kept."""
        return next((kept.bar for kept in self.bars.get(key, ()) if kept.bar.open_time == open_time), None)

    def bar_after(self, key: Key, open_time: int) -> TradedBar | None:
        """Return the first kept bar after a moment."""
        return next((kept.bar for kept in self.bars.get(key, ()) if kept.bar.open_time > open_time), None)
