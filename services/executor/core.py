"""Fold bars, decisions and intents, and return orders, fills and closed trades. Pure; the package's docstring has the
rules."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, cast

from schemas.codec import ROOT, Encoded, Envelope, encode
from schemas.control import SetExecutionPolicy
from schemas.decisions import BallotLate, DecisionMade, FenceClosed, FenceOpened, IntentIssued
from schemas.market import (
    BarClosed,
    BookSampled,
    FundingPublished,
    OpenInterestSampled,
    PriceSampled,
    ReferenceCopied,
)
from schemas.orders import AccountDiffers, AccountEvent, AccountReconciled, OrderEvent, OrderFilled, OrderPlaced
from services.executor.reconciliation import Checked, compare
from services.executor.settlement import Settled, settled
from services.executor.state import KEPT, State, Waiting
from shared.log import preceding
from shared.log.leases import id_order
from shared.money.account import Key, executed, key_of
from shared.money.orders import NO_VENUE, Bounds, Forbidden, closing_order, signal_of
from shared.money.positions import Working, apply
from shared.money.venue import TradedBar, exchange_of, venue_of
from shared.runtime.service import Batch, Received

GROUP: Final = "executor"
TICK_MS: Final = 1000
POLL_MS: Final = 100
"""The executor reads at most every 100 ms, so that it does not compete with the services from bar to decision."""
MARGIN_MS: Final = 60_000
"""How far ``market`` is read past the entry of an intent before its bar is taken to be missing. The bar was written
first; the server's clock may have been set back in between."""
BOUNDS: Final = Bounds(KEPT, MARGIN_MS)
AHEAD: Final = KEPT // 2
"""Bars of a symbol beyond its last decision at which ``market`` is paused."""
QUEUED: Final = 1000
"""Intents that may wait for their bar before ``intents`` is paused."""
PATIENCE: Final = 64
"""Turns after which a paused stream is read once all the same."""


class Executor:
    """The core of the executor."""

    group = GROUP
    reads: tuple[str, ...] = ("market", "decisions", "intents")
    follows_control = True
    ticks = TICK_MS
    poll_ms = POLL_MS

    def initial(self, memo: bytes) -> State:
        """Return the state that a snapshot holds."""
        return State(memo)

    def snapshot(self, state: State) -> bytes:
        """Return what is held, and how far each symbol was read."""
        return state.snapshot()

    def replay_from(self, state: State) -> Mapping[str, str]:
        """Return the entries before the oldest bar that is kept, and before the oldest intent that waits."""
        since = {}
        if state.bars:
            oldest = min(bars[0].entry for bars in state.bars.values())
            since["market"] = preceding(f"{oldest[0]}-{oldest[1]}")
        if state.intents:
            since["intents"] = preceding(state.intents[0].entry)
        return since

    def paused_streams(self, state: State) -> Collection[str]:
        """Return the streams that are not to be read this turn: ``intents`` if too many wait for their bar; ``market``
        if it is far ahead of the decisions, while models vote."""
        paused = set()
        if len(state.intents) > QUEUED:
            paused.add("intents")
        elif not state.intents and state.control.voting and any(AHEAD < len(bars) < KEPT for bars in _series(state)):
            paused.add("market")
        state.paused = state.paused + 1 if paused else 0
        if state.paused >= PATIENCE:
            state.paused = 0
            return ()
        return paused

    def apply(self, state: State, batch: Batch) -> None:
        """Keep bars and intents that were read before a restart and are still needed."""
        state.configure(list(batch.control))
        for received in batch.events:
            match received.envelope.event:
                case BarClosed() as bar:
                    state.keep(key_of(bar), bar, received.entry)
                case IntentIssued():
                    state.intents.append(Waiting(received.envelope, received.entry))
                case _:
                    pass

    def handle(self, state: State, batch: Batch) -> Sequence[Encoded]:
        """Fold commands, then each event, and return what follows from it."""
        state.configure(list(batch.control))
        outputs: list[Encoded] = []
        turn = _Turn(state, batch, outputs)
        if not state.started:
            state.started = True
            turn.resume()
        if batch.halted:
            turn.flatten(list(state.account.holdings))
        for received in batch.events:
            turn.take(received)
        return outputs

    def answered(self, state: State, batch: Batch, answers: Sequence[Settled | Checked]) -> Sequence[Encoded]:
        """Apply what an exchange answered, after ``handle`` of the same batch, and return what follows from it.

        An answer about an order that is not open any more, or about an account as it was before the last order, leads
        to nothing: so each may be given more than once."""
        outputs: list[Encoded] = []
        turn = _Turn(state, batch, outputs)
        for answer in answers:
            if isinstance(answer, Settled):
                turn.settle(answer)
            else:
                turn.reconcile(answer)
        turn.decide_intents()
        return outputs

    @property
    def recalls(self) -> tuple[str, ...]:
        """The stream from which the holdings are made again."""
        return ("orders",)

    def recall(self, memo: bytes, written: Sequence[Received]) -> bytes:
        """Return a snapshot with these orders and fills applied. See ``shared.runtime.service.Recallable``."""
        state = State(memo)
        for received in written:
            _apply_own(state, received.envelope)
        return state.snapshot()

    def reapply(self, state: State, batch: Batch) -> None:
        """Read entries again of which the snapshot has no trace. See ``shared.runtime.service.Recallable``."""
        state.configure(list(batch.control))
        for received in batch.events:
            match received.envelope.event:
                case BarClosed() as bar:
                    frontier = state.frontier(key_of(bar))
                    if bar.open_time > frontier.last:
                        frontier.last, frontier.close = bar.open_time, bar.close
                        state.keep(key_of(bar), bar, received.entry)
                case DecisionMade() as decision:
                    state.decided(key_of(decision), decision)
                case IntentIssued() as intent:
                    if intent.open_time > state.account.of(key_of(intent)).last_intent:
                        state.intents.append(Waiting(received.envelope, received.entry))
                case _:
                    pass


class _Turn:
    """One batch: the state, the time and the fence, and what is written."""

    def __init__(self, state: State, batch: Batch, outputs: list[Encoded]) -> None:
        self.state = state
        self.at = batch.now
        self.halted = batch.halted
        self.outputs = outputs

    def take(self, received: Received) -> None:
        """Handle one event."""
        state = self.state
        match received.envelope.event:
            case BarClosed() as bar:
                state.market_at = id_order(received.entry)[0]
                self._bar(key_of(bar), bar, received.entry)
                self.decide_intents()
            case DecisionMade() as decision:
                state.decided(key_of(decision), decision)
            case IntentIssued():
                state.intents.append(Waiting(received.envelope, received.entry))
                self.decide_intents()
            case BallotLate() | FenceClosed() | FenceOpened() | ReferenceCopied():
                pass
            case FundingPublished() | OpenInterestSampled() | PriceSampled() | BookSampled():
                pass
            case other:
                raise TypeError(f"{GROUP} does not handle {type(other).__name__} on {received.stream}")

    def resume(self) -> None:
        """Execute the open orders whose next bar was read, and decide the intents whose bar was, after a start."""
        for key, holding in self.state.account.holdings.items():
            if holding.working is not None:
                self._execute(key, self.state.bar_after(key, holding.working.order.open_time))
        self.decide_intents()

    def flatten(self, keys: Sequence[Key]) -> None:
        """Place orders that close these holdings, if the newest policy says so. One that has an open order is closed
        once that is executed."""
        policy = self.state.control.execution
        if not policy.flat_on_halt or policy.venue == NO_VENUE:
            return
        for key in keys:
            holding, frontier = self.state.account.of(key), self.state.frontier(key)
            if holding.lots and holding.working is None and frontier.last >= 0:
                venue, at_exchange = venue_of(policy), bool(exchange_of(holding.venue))
                if holding.venue != venue or (at_exchange and self._differs()):
                    continue  # another venue cannot close it
                version, limited = self.state.control.version, policy if at_exchange else None
                closing = closing_order(holding, frontier.last, frontier.close, version, venue, self.at, limited)
                if closing.order != holding.last_closing:
                    self._write(key, closing, ROOT, ROOT, 0)

    def settle(self, answer: Settled) -> None:
        """Write what became of an order at an exchange."""
        for key, holding in self.state.account.holdings.items():
            working = holding.working
            if working is not None and working.order.order == answer.order and working.order.limit is not None:
                policy = self._policy(working.order.control_version)
                for event in list(settled(holding, answer, policy)):
                    self._write(key, event, working.event, working.correlation, working.flags)
                self.state.drop(key)
                return

    def reconcile(self, checked: Checked) -> None:
        """Compare an account with the log, unless either has changed since the exchange was asked."""
        state, ledger = self.state, self.state.ledger
        policy = state.control.execution
        now = (venue_of(policy), state.policy_version, ledger.changes)
        if (checked.venue, checked.version, checked.changes) != now or state.working() or self._differs():
            return
        positions: dict[str, float] = {}
        for holding in state.account.holdings.values():
            if holding.lots and holding.venue == checked.venue:
                positions[holding.symbol] = positions.get(holding.symbol, 0.0) + holding.position
        event = compare(ledger, checked, positions, self.at or 0)
        if event is not None:
            self.outputs.append(encode("orders", event, causation=ROOT, correlation=ROOT))
            _apply_to_account(state, event)
        if not isinstance(event, AccountDiffers):
            state.compared = (state.policy_version, frozenset(checked.bases))

    def _bar(self, key: Key, bar: BarClosed, entry: str) -> None:
        state = self.state
        frontier = state.frontier(key)
        if bar.open_time <= frontier.last:
            return  # seen before, or out of order: the feature builder refuses it too
        frontier.last, frontier.close = bar.open_time, bar.close
        state.keep(key, bar, entry)
        self._execute(key, TradedBar(bar.open_time, bar.origin, bar.open, bar.close, bar.volume))

    def _execute(self, key: Key, bar: TradedBar | None) -> None:
        """Execute the open order of a series by a bar, if the bar follows the order's."""
        holding = self.state.account.of(key)
        working = holding.working
        if working is None or bar is None or bar.open_time <= working.order.open_time:
            return
        policy = self._policy(working.order.control_version)
        for event in list(executed(holding, bar, policy)):
            self._write(key, event, working.event, working.correlation, working.flags)
        self.state.drop(key)
        if self.halted:
            self.flatten([key])

    def decide_intents(self) -> None:
        """Decide the intents that wait, in their order, up to the first whose bar may still come, or whose exchange has
        still to answer."""
        state = self.state
        while state.intents:
            waiting = state.intents[0]
            intent = waiting.envelope.event
            key = key_of(intent)
            missing = state.market_at > id_order(waiting.entry)[0] + MARGIN_MS
            if state.frontier(key).last < intent.open_time and not missing:
                return
            if self._unanswered(key, intent):
                return
            state.intents.popleft()
            self._decide(key, waiting.envelope)

    def _decide(self, key: Key, envelope: Envelope[IntentIssued]) -> None:
        state, intent = self.state, envelope.event
        bar, policy = state.bar_at(key, intent.open_time), self._policy(intent.control_version)
        outcome = state.account.decide(
            key,
            signal_of(envelope),
            policy,
            bar.close if bar is not None else None,
            state.control.partitions,
            at=self.at,
            halted=self.halted,
            forbidden=self._forbidden(policy),
        )
        following = state.bar_after(key, intent.open_time)
        self._write(key, outcome, envelope.id, envelope.correlation, envelope.flags)
        self._execute(key, following)
        state.drop(key)

    def _policy(self, version: int) -> SetExecutionPolicy:
        return self.state.policies[version]

    def _unanswered(self, key: Key, intent: IntentIssued) -> bool:
        """Return whether a live intent has to wait for an exchange: for its answer about an earlier order of the
        series, or about the account. Never longer than the intent is valid, nor in a halt."""
        state = self.state
        if intent.origin != "live" or self.halted or self.at is None or self.at > intent.valid_until:
            return False
        working = state.account.of(key).working
        if working is not None and working.order.limit is not None:
            return True
        policy = self._policy(intent.control_version)
        if not exchange_of(policy.venue) or self._forbidden(policy) is not None:
            return False
        version, symbols = state.compared
        return version != state.policy_version or intent.symbol not in symbols

    def _forbidden(self, policy: SetExecutionPolicy) -> Forbidden | None:
        """Return why no order may go to the exchange of a policy; None if orders may, or it has none."""
        newest = self.state.control.execution
        if not exchange_of(policy.venue):
            return None
        if venue_of(newest) != venue_of(policy):
            return Forbidden("no_venue", f"the newest policy trades at {venue_of(newest)}, not at {venue_of(policy)}")
        if self._differs():
            return Forbidden("account_differs", "the account does not hold what follows from the log")
        return None

    def _differs(self) -> bool:
        return self.state.ledger.differs == self.state.policy_version

    def _write(self, key: Key, event: OrderEvent, causation: bytes, correlation: bytes, flags: int) -> None:
        """Write an event of a holding and the trades that it closes, and apply both."""
        written = encode("orders", event, causation=causation, correlation=correlation, flags=flags)
        self.outputs.append(written)
        for trade in _applied(self.state, key, written.envelope):
            envelope = written.envelope
            self.outputs.append(
                encode("trades", trade, causation=envelope.id, correlation=envelope.correlation, flags=flags)
            )


def _applied(state: State, key: Key, envelope: Envelope[OrderEvent]) -> Iterator[object]:
    event = envelope.event
    working = (
        Working(event, envelope.id, envelope.correlation, envelope.flags) if isinstance(event, OrderPlaced) else None
    )
    state.frontier(key)
    if isinstance(event, OrderPlaced):
        state.ledger.placed(event)
    elif isinstance(event, OrderFilled):
        state.ledger.filled(event)
    return apply(state.account.of(key), event, working)


def _apply_own(state: State, envelope: Envelope[OrderEvent | AccountEvent]) -> None:
    """Apply an event that this service wrote."""
    event = envelope.event
    if isinstance(event, AccountReconciled | AccountDiffers):
        _apply_to_account(state, event)
    else:
        for _ in _applied(state, key_of(event), cast("Envelope[OrderEvent]", envelope)):
            pass


def _apply_to_account(state: State, event: AccountEvent) -> None:
    if isinstance(event, AccountReconciled):
        state.ledger.reconciled(event)
    else:
        state.ledger.differs = event.control_version


def _series(state: State) -> Iterator[Collection[object]]:
    """Yield the kept bars of the series that count for backpressure: those with decisions, or all if none has any."""
    decided = [key for key in state.bars if state.frontiers[key].decided >= 0]
    for key in decided or state.bars:
        yield state.bars[key]
