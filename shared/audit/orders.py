"""The layer of orders: recompute what became of each intent, and what bars made of each order.

This uses the functions of ``shared.money`` that the executor runs: an order or a refusal follows from the intents in
their order, the closes of their bars, the execution policy of their stamp and what is held; a fill or an end follows
from its order and the next bar of the symbol; a closed trade follows from its fill. All are compared to the byte.

Two facts depend on time and are taken from the record: the time of an order or refusal, and that a halt was in force.
The time must agree with the id of the entry, and a halt with the marks of the fence on ``decisions``.

What an exchange answered cannot be recomputed. Orders and fills of other venues than paper, and events that only an
exchange causes, are applied as they were recorded and counted as not recomputed, by name.
"""

from collections import defaultdict, deque
from typing import Any, Final

from schemas.codec import ROOT, Encoded, Envelope, encode
from schemas.control import SetExecutionPolicy
from schemas.decisions import IntentIssued
from schemas.orders import IntentRefused, OrderEnded, OrderEvent, OrderFilled, OrderPlaced
from shared.audit.comparison import Comparison, differences
from shared.audit.configurations import Configurations
from shared.audit.findings import Difference, Findings
from shared.audit.moments import APART_MS, Closures, TradedBars, time_fault
from shared.audit.set_aside import set_aside
from shared.audit.source import EntryRange, ReadEvent, Recording, readable
from shared.audit.trades import DueEvent, check_trades
from shared.log import StreamKey
from shared.log.leases import id_order
from shared.money.account import VENUES, Account, Key, executed, key_of
from shared.money.orders import NO_VENUE, Bounds, closing_order, signal_of
from shared.money.positions import Working, apply

CHECK: Final = "orders"
READ: Final = ("market", "intents")


def check_orders(
    source: Recording, configurations: Configurations, partition: int, span: EntryRange, bounds: Bounds
) -> Findings:
    """Check every order, refusal, fill, end and closed trade of a partition within ``span``."""
    findings = Findings()
    place = StreamKey("orders", partition)
    if next(iter(source.entries(place)), None) is None:
        return findings
    for stream in READ:
        if not source.whole(StreamKey(stream, partition)):
            why = f"orders: the first entries of {stream} are trimmed and not archived"
            findings.skip(why, sum(span.holds(entry.id) for entry in source.entries(place)))
            return findings
    _Replay(source, configurations, partition, span, bounds, findings).run()
    return findings


class _Replay:
    """The account of a partition over its recorded orders. ``due``: by series what is left of the last execution.
    ``placed``: by series the entry of the order that is open. ``read``: the last entry of ``market`` that the executor
    must have read."""

    def __init__(
        self,
        source: Recording,
        configurations: Configurations,
        partition: int,
        span: EntryRange,
        bounds: Bounds,
        findings: Findings,
    ) -> None:
        self.source, self.configurations, self.bounds = source, configurations, bounds
        self.compared = Comparison(CHECK, StreamKey("orders", partition), span, findings)
        self.account = Account()
        aside = set_aside(source, "executor", partition, findings)
        self.unjudged = EntryRange(span.until, span.until)
        intents = readable(source, StreamKey("intents", partition), "file", Findings(), self.unjudged)
        self.intents = (read for read in intents if ("intents", read.entry) not in aside)
        self.waiting: deque[ReadEvent] = deque()
        self.bars = TradedBars(source, partition, self.unjudged, aside)
        self.closures = Closures(source, partition)
        self.due: dict[Key, deque[DueEvent]] = defaultdict(deque)
        self.placed: dict[Key, tuple[str, str]] = {}
        self.trades: deque[DueEvent] = deque()
        self.traded: set[str] = set()
        self.read = (0, 0)

    def run(self) -> None:
        compared = self.compared
        for read in readable(self.source, compared.place, "order", compared.findings, compared.span):
            self.bars.advance(id_order(read.entry)[0] + self.bounds.margin_ms)
            match read.opened.envelope.event:
                case OrderPlaced(cause="intent", order=intent) | IntentRefused(intent=intent):
                    self._outcome(read, intent)
                case OrderPlaced() as closing:
                    self._closing(read, closing)
                case OrderFilled() | OrderEnded() as event:
                    self._execution(read, event)
                case other:
                    self._unknown(read, type(other).__name__)
        self._end()
        trades = Comparison("trades", StreamKey("trades", compared.place.partition), compared.span, compared.findings)
        check_trades(self.source, trades, self.trades, self.traded, self._trade_missing)

    def _outcome(self, read: ReadEvent, name: str) -> None:
        """Compare what became of an intent with what follows."""
        intent = self._intent(name)
        if intent is None:
            self.compared.count("order", read, f"no intent {name[:12]} waits for its outcome")
            return
        policy = self._policy(intent.opened.envelope.event.control_version)
        if policy is None:
            version = intent.opened.envelope.event.control_version
            self.compared.count("order", read, f"its intent has version {version}, which control does not make")
            return
        event = read.opened.envelope.event
        if policy.venue != NO_VENUE and policy.venue not in VENUES:
            self._take(read, policy.venue)
            return
        follows = self._decided(intent, policy, event, id_order(read.entry)[0])
        self._compare(read, follows, self._fault(read, event))
        self._apply(follows, read.entry)

    def _intent(self, name: str) -> ReadEvent | None:
        """Return the intent with this id, and report those before it, which have no outcome. None: it is not among
        those that wait."""
        passed = 0
        while True:
            if passed == len(self.waiting):
                read = next(self.intents, None)
                if read is None:
                    return None
                self.waiting.append(read)
            if self.waiting[passed].opened.envelope.id.hex() == name:
                break
            passed += 1
        for _ in range(passed):
            self._without_outcome(self.waiting.popleft())
        return self.waiting.popleft()

    def _without_outcome(self, intent: ReadEvent) -> None:
        """Report an intent that has no outcome though a later one has, and go on as if it had been decided in time."""
        event = intent.opened.envelope.event
        policy = self._policy(event.control_version)
        self._missing("intents", intent.entry, intent.opened.envelope, "it has no outcome on orders")
        if policy is not None and (policy.venue == NO_VENUE or policy.venue in VENUES):
            self._apply(self._decided(intent, policy, None, id_order(intent.entry)[0]), intent.entry)

    def _decided(
        self, intent: ReadEvent, policy: SetExecutionPolicy, recorded: OrderPlaced | IntentRefused | None, moment: int
    ) -> Encoded:
        """Return the outcome of an intent. ``recorded``: the event that says when, and whether a halt was in force."""
        envelope: Envelope[IntentIssued] = intent.opened.envelope
        signal, key = signal_of(envelope), key_of(envelope.event)
        reason = recorded.reason if isinstance(recorded, IntentRefused) else ""
        at = _time_of(recorded)
        at = moment if at is not None and at > moment + APART_MS else at
        until = id_order(intent.entry)[0] + self.bounds.margin_ms
        bar = self.bars.at(key, signal.open_time)
        if bar is not None and bar.entry[0] <= until:
            self._executed_by(key, signal.open_time)
            self.read = max(self.read, bar.entry)
        late = bar is not None and self.bars.later(key, signal.open_time, moment) >= self.bounds.bars
        if reason == "no_bar" and bar is not None and (late or bar.entry[0] > until):
            bar = None  # dropped, or written later than the executor waits for it
        outcome = self.account.decide(
            key,
            signal,
            policy,
            None if bar is None else bar.bar.close,
            self.configurations.newest.partitions,
            at=at,
            halted=reason == "halted",
        )
        caused: dict[str, Any] = {"causation": envelope.id, "correlation": envelope.correlation}
        return encode("orders", outcome, **caused, flags=envelope.flags)

    def _fault(self, read: ReadEvent, event: OrderPlaced | IntentRefused) -> str:
        """Return what is wrong with the time of an event, or with the halt that it names; empty where nothing is."""
        moment = id_order(read.entry)[0]
        match event:
            case IntentRefused(reason="halted") if not self.closures.possible(moment):
                return "it was refused for a halt, though the fence was open"
            case OrderPlaced(cause="halt") if not self.closures.possible(moment):
                return "it closes a position for a halt, though the fence was open"
            case OrderPlaced(cause="intent") if self.closures.certain(moment):
                return "it was placed though the fence was closed"
            case _:
                return time_fault(event.origin, _time_of(event), moment, self.compared.findings)

    def _closing(self, read: ReadEvent, event: OrderPlaced) -> None:
        """Compare an order that closes a position during a halt with the one that follows from the position."""
        key = key_of(event)
        holding, policy = self.account.of(key), self._policy(event.control_version)
        bar = self.bars.at(key, event.open_time)
        if event.venue not in VENUES:
            self._take(read, event.venue)
        elif policy is None or not policy.flat_on_halt:
            self.compared.count("order", read, f"version {event.control_version} of control closes nothing on a halt")
        elif not holding.lots or holding.working is not None:
            self.compared.count("order", read, "it closes a position that is not held, or that an order may still move")
        elif bar is None:
            self.compared.count("order", read, "the bar that it names is not on market")
        else:
            at = event.placed_at
            close = bar.bar.close
            closing = closing_order(holding, event.open_time, close, event.control_version, policy.venue, at)
            follows = encode("orders", closing, causation=ROOT, correlation=ROOT, flags=0)
            self._compare(read, follows, self._fault(read, event))
            self._apply(follows, read.entry)

    def _execution(self, read: ReadEvent, event: OrderFilled | OrderEnded) -> None:
        """Compare what became of an order with what its next bar makes of it."""
        key = key_of(event)
        working = self.account.of(key).working
        if working is None:
            self.compared.count("order", read, "no order of the symbol is open")
            return
        if working.order.venue not in VENUES:
            self._take(read, working.order.venue)
            return
        due = self.due[key] or self._execute(key)
        if all(type(each.encoded.envelope.event) is not type(event) for each in due):
            self.compared.count("order", read, "no bar of the symbol after its order makes this of it")
            return
        while type(due[0].encoded.envelope.event) is not type(event):
            self._not_there(due.popleft())
        follows = due.popleft().encoded
        self._compare(read, follows)
        self._apply(follows, read.entry)

    def _execute(self, key: Key) -> deque[DueEvent]:
        """Return what follows from the open order of a series and its next bar; nothing if there is no bar."""
        working = self.account.of(key).working
        due = self.due[key]
        bar = self.bars.after(key, working.order.open_time) if working is not None else None
        policy = self._policy(working.order.control_version) if working is not None else None
        if working is not None and bar is not None and policy is not None:
            self.read = max(self.read, bar.entry)
            where = self.placed[key]
            caused: dict[str, Any] = {"causation": working.event, "correlation": working.correlation}
            for event in list(executed(self.account.of(key), bar.bar, policy)):
                due.append(DueEvent(encode("orders", event, **caused, flags=working.flags), *where))
        return due

    def _executed_by(self, key: Key, open_time: int) -> None:
        """Report the executions of a series that must have come before an intent on the bar at ``open_time``."""
        working = self.account.of(key).working
        if working is None or working.order.venue not in VENUES:
            return
        bar = self.bars.after(key, working.order.open_time)
        if self.due[key] or (bar is not None and bar.bar.open_time <= open_time):
            due = self.due[key] or self._execute(key)
            while due:
                self._not_there(due.popleft())

    def _not_there(self, due: DueEvent) -> None:
        """Report an event that must be there, and go on as if it were."""
        event = due.encoded.envelope.event
        self._missing("orders", due.entry, due.encoded.envelope, f"its {type(event).__name__} is missing", due.event)
        self._apply(due.encoded, due.entry)

    def _trade_missing(self, due: DueEvent, detail: str) -> None:
        self._missing("orders", due.entry, due.encoded.envelope, detail, due.event)

    def _missing(self, stream: str, entry: str, envelope: Envelope[Any], detail: str, event: str = "") -> None:
        if self.compared.span.holds(entry):
            about, where = envelope.event, (stream, self.compared.place.partition, entry, event or envelope.id.hex())
            self.compared.findings.see(CHECK, equal=False)
            self.compared.findings.differ(
                Difference("order", *where, detail, about.symbol, about.open_time, missing=True)
            )

    def _take(self, read: ReadEvent, venue: str) -> None:
        """Apply an event of an exchange as it was recorded: only the exchange knows whether it is true."""
        if self.compared.span.holds(read.entry):
            self.compared.findings.skip(f"orders: at the venue {venue}, which alone knows what was traded")
        self._apply(Encoded(self.compared.place.stream, read.opened.envelope, read.data), read.entry)

    def _unknown(self, read: ReadEvent, kind: str) -> None:
        if self.compared.span.holds(read.entry):
            self.compared.findings.skip(f"orders: {kind}, which only an exchange causes")

    def _compare(self, read: ReadEvent, follows: Encoded, fault: str = "") -> None:
        if fault:
            self.compared.count("order", read, fault)
        elif not self.compared.settled(read, follows):
            self.compared.count("order", read, differences(read.opened.envelope.event, follows.envelope.event))

    def _apply(self, written: Encoded, entry: str) -> None:
        """Apply an event to the account, and note the trades that it closes. ``entry``: its entry, or of an event that
        is not there that of the one before it."""
        envelope = written.envelope
        event: OrderEvent = envelope.event
        key = key_of(event)
        holding, working = self.account.of(key), None
        if isinstance(event, OrderPlaced):
            self.traded.add(event.decision)
            working = Working(event, envelope.id, envelope.correlation, envelope.flags)
            self.due[key].clear()
            self.placed[key] = (entry, envelope.id.hex())
        for trade in apply(holding, event, working):
            caused: dict[str, Any] = {"causation": envelope.id, "correlation": envelope.correlation}
            encoded = encode("trades", trade, **caused, flags=envelope.flags)
            self.trades.append(DueEvent(encoded, entry, envelope.id.hex()))
        oldest = holding.working.order.open_time if holding.working is not None else holding.last_intent
        self.bars.drop(key, min(oldest, holding.last_intent))

    def _policy(self, version: int) -> SetExecutionPolicy | None:
        configuration = self.configurations.at(version)
        return SetExecutionPolicy() if version == 0 else configuration and configuration.state.execution

    def _end(self) -> None:
        """Report the executions that are missing at the end: those by bars that the executor had read."""
        for key, holding in self.account.holdings.items():
            if holding.working is None or holding.working.order.venue not in VENUES:
                continue
            bar = self.bars.after(key, holding.working.order.open_time)
            due = self.due[key]
            if due or (bar is not None and bar.entry <= self.read):
                for each in list(due or self._execute(key)):
                    self._not_there(each)


def _time_of(event: OrderPlaced | IntentRefused | None) -> int | None:
    return event.at if isinstance(event, IntentRefused) else event.placed_at if event is not None else None
