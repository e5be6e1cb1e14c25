"""A market with decisions, for the executor: bars, the decisions about them, and their intents, as the voter writes
them."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from schemas.codec import Encoded, Envelope, encode
from schemas.common import ACTIONS, Action
from schemas.control import Command, CommandRecorded, Found, Halt, SetExecutionPolicy
from schemas.decisions import DecisionMade, IntentIssued
from schemas.market import BarClosed
from services.executor.core import Executor
from services.executor.state import State
from shared.control import EMPTY, fold, propose
from shared.log.leases import id_order
from shared.runtime.service import Batch, Received

MINUTE = 60_000
FIRST = 1_700_000_040_000
VALID_MS = 60_000
FREE = SetExecutionPolicy(fee=0.0, half_spread=0.0, slippage=0.0)
ORIGIN = "replay"


def commands(*policies: SetExecutionPolicy, partitions: int = 1, halt: bool = False) -> list[Envelope[CommandRecorded]]:
    """The control log of an installation with these execution policies; the last ones are in force."""
    state, found = EMPTY, []
    wanted: list[Command] = [Found(partitions, "1932abcd"), *policies, *([Halt()] if halt else [])]
    for number, command in enumerate(wanted):
        entry = propose(state, command, command_id=f"c{number}", actor="me", reason="test", at=number)
        assert isinstance(entry, CommandRecorded), entry
        state = fold(state, entry)
        found.append(encode("control", entry).envelope)
    return found


def bar_of(symbol: str, at: int, opened: float, closed: float | None = None, **other: Any) -> Encoded:
    closed = opened if closed is None else closed
    about = {"symbol": symbol, "interval_ms": MINUTE, "open_time": FIRST + at * MINUTE, "origin": ORIGIN, **other}
    high, low = max(opened, closed), min(opened, closed)
    prices: dict[str, Any] = {"open": opened, "high": high, "low": low, "close": closed, "volume": 1000.0}
    return encode("market", BarClosed(**{**prices, **about}))


def decided(
    bar: Encoded, action: Action, version: int = 2, valid_ms: int = VALID_MS, head: str = "0" * 64
) -> list[Encoded]:
    """The decision about a bar, and its intent unless it is HOLD."""
    event = bar.envelope.event
    decision = encode(
        "decisions",
        DecisionMade(
            symbol=event.symbol,
            interval_ms=event.interval_ms,
            open_time=event.open_time,
            origin=event.origin,
            control_version=version,
            control_head=head,
            policy="logpool",
            status="decided",
            action=action,
            confidence=0.6,
            probabilities=(0.2, 0.2, 0.6),
            consensus_count=1,
            total_models=1,
            counted=(),
            absent=(),
            shadow=(),
            closed_by="complete",
            intent="hold" if action == "HOLD" else "issued",
        ),
        causation=bar.envelope.id,
        correlation=bar.envelope.id,
    )
    if action == "HOLD":
        return [decision]
    intent = IntentIssued(
        symbol=event.symbol,
        interval_ms=event.interval_ms,
        open_time=event.open_time,
        origin=event.origin,
        decision=decision.envelope.id.hex(),
        control_version=version,
        action=action,
        confidence=0.6,
        consensus_count=1,
        total_models=1,
        model_breakdown={},
        valid_until=event.open_time + event.interval_ms + valid_ms,
    )
    caused: dict[str, Any] = {"causation": decision.envelope.id, "correlation": bar.envelope.id}
    return [decision, encode("intents", intent, **caused)]


def story(symbol: str, moves: Iterable[tuple[float, float, str]], first: int = 0, **about: Any) -> list[Encoded]:
    """Bars (open, close) of a symbol from bar ``first`` on, each with the action that was decided about it ('': no
    decision)."""
    told: list[Encoded] = []
    stamped = {name: about.pop(name) for name in ("valid_ms", "version", "head") if name in about}
    for at, (opened, closed, action) in enumerate(moves, first):
        bar = bar_of(symbol, at, opened, closed, **about)
        told.append(bar)
        if action in ACTIONS:
            told += decided(bar, action, **stamped)
    return told


def entries(told: Sequence[Encoded]) -> list[Received]:
    """Events as they stand on the log: entry ids in the order of their writing, a second apart."""
    return [Received(each.stream, f"{10**12 + 1000 * at}-0", each.envelope) for at, each in enumerate(told)]


class Run:
    """An executor that is handed batches, and restarted from its snapshot if asked to."""

    def __init__(self, control: Sequence[Envelope[CommandRecorded]]) -> None:
        self.service = Executor()
        self.control = list(control)
        self.state: State = self.service.initial(b"")
        self.outputs: list[Encoded] = []
        self.read: list[Received] = []
        self.service.apply(self.state, Batch(self.control, ()))

    def take(self, events: Sequence[Received], **more: Any) -> list[Encoded]:
        written = list(self.service.handle(self.state, Batch((), events, **more)))
        self.read += events
        self.outputs += written
        return written

    def restart(self) -> None:
        """Make the state again as the runtime does after a crash: from the snapshot, and what must be read again."""
        memo, since = self.service.snapshot(self.state), self.service.replay_from(self.state)
        self.state = self.service.initial(memo)
        self.service.apply(self.state, Batch(self.control, ()))
        for stream, after in since.items():
            again = [each for each in self.read if each.stream == stream and id_order(each.entry) > id_order(after)]
            self.service.apply(self.state, Batch((), again))

    def events(self, kind: type) -> list[Any]:
        return [each.envelope.event for each in self.outputs if isinstance(each.envelope.event, kind)]


def told_by(outputs: Iterable[Encoded]) -> list[bytes]:
    return [each.data for each in outputs]


def plain(event: Any) -> dict[str, Any]:
    return dict(msgspec.to_builtins(event))
