"""A partition's streams as they would stand after some bars: a market, artifacts that answer, fail, keep
silent or are late, the real voter over them, and an executor that closes trades."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.codec import Envelope, Sealed, seal
from schemas.common import ACTIONS, Probabilities
from schemas.control import (
    Command,
    CommandRecorded,
    Found,
    Promote,
    RegisterArtifact,
    SetVotingPolicy,
    StartShadow,
)
from schemas.decisions import DecisionMade
from schemas.market import BarClosed
from schemas.predictions import PredictionFailed, PredictionMade
from schemas.trades import TradeClosed
from services.ensemble_voter.core import Voter
from services.shadow_recorder.core import Recorder
from services.shadow_recorder.state import State
from shared.control import EMPTY, fold, propose
from shared.service import Batch, Received

MINUTE = 60_000
ART = {name: f"{number:02x}" * 32 for number, name in enumerate(("a", "a2", "b", "c"), 0xA0)}
MODEL = {"a": "a", "a2": "a", "b": "b", "c": "c"}
STREAMS = ("market", "predictions", "decisions", "trades")
LN3 = -math.log(3)


def register(artifact: str, **also: Any) -> RegisterArtifact:
    about: dict[str, Any] = {"horizon": 3, "kappa": 0.5, **also}
    return RegisterArtifact(
        MODEL[artifact],
        ART[artifact],
        "prior",
        "f" * 64,
        "user-8",
        MINUTE,
        ACTIONS,
        (LN3, LN3 + 0.1, LN3),
        (0.25, 0.5, 0.25),
        **about,
    )


TWO: tuple[Command, ...] = (
    Found(1, "log-of-a-test"),
    *(register(name) for name in ART),
    SetVotingPolicy(quorum_count=1, edge=0.05),
    Promote("a", ART["a"], forced=True, weight=1.0),
    Promote("b", ART["b"], forced=True, weight=0.5),
    StartShadow("a", ART["a2"]),
    StartShadow("c", ART["c"]),
)


def control(*commands: Command) -> list[Envelope[CommandRecorded]]:
    state, log = EMPTY, []
    for number, command in enumerate(commands):
        entry = propose(state, command, command_id=str(number), actor="me", reason="test", at=1)
        assert isinstance(entry, CommandRecorded), entry
        state = fold(state, entry)
        log.append(seal("control", entry).envelope)
    return log


@dataclass
class World:
    """The streams, and the commands behind them."""

    commands: Sequence[Envelope[CommandRecorded]]
    streams: Mapping[str, list[Received]]


class Builder:
    """Writes a world, one event after another."""

    def __init__(self, commands: Sequence[Command] = TWO) -> None:
        self.commands = control(*commands)
        self.version = len(self.commands)
        self.streams: dict[str, list[Received]] = {name: [] for name in STREAMS}
        self.voter = Voter(ticks=0)
        self.voting = self.voter.begin(b"")
        self.voter.absorb(self.voting, Batch(self.commands, ()))
        self.clock = 0

    def world(self) -> World:
        return World(self.commands, self.streams)

    def append(self, stream: str, envelope: Envelope[Any]) -> Received:
        self.clock += 1
        received = Received(stream, f"{self.clock}-0", envelope)
        self.streams[stream].append(received)
        return received

    def bar(self, number: int, close: float, symbol: str = "BTC") -> Received:
        bar = BarClosed(symbol, MINUTE, number * MINUTE, close, close, close, close, 1.0, "replay")
        return self.append("market", seal("market", bar).envelope)

    def say(self, artifact: str, number: int, p: Probabilities | str, symbol: str = "BTC", version: int = 0) -> None:
        """An answer, or a failure; the voter hears it at once."""
        about = (symbol, MINUTE, number * MINUTE, "replay", MODEL[artifact], bytes.fromhex(ART[artifact]))
        known = version or self.version
        event: Any
        if isinstance(p, str):
            event = PredictionFailed(*about, p, "", bytes(16), known)  # type: ignore[arg-type]  # a given reason
        else:
            event = PredictionMade(*about, p, bytes(16), known)  # type: ignore[arg-type]  # a literal origin
        root = f"{symbol:>8}{number:8}".encode()
        received = self.append("predictions", seal("predictions", event, causation=root, correlation=root).envelope)
        for sealed in self.voter.handle(self.voting, Batch((), [received])):
            if sealed.stream == "decisions":
                self.append("decisions", sealed.envelope)

    def close_trade(self, made_by: Envelope[DecisionMade], **changed: Any) -> None:
        made = made_by.event
        about: dict[str, Any] = {
            "symbol": made.symbol,
            "interval_ms": made.interval_ms,
            "open_time": made.open_time,
            "origin": made.origin,
            "decision": made_by.id.hex(),
            "action": made.action,
            **changed,
        }
        trade = TradeClosed(**about, opened_at=1, closed_at=2, entry_price=100.0, exit_price=101.0, fees=0.002)
        self.append("trades", seal("trades", trade, causation=made_by.id, correlation=made_by.correlation).envelope)


def random_world(seed: int, bars: int = 40, warm: int = 110) -> World:
    """Two symbols, every misfortune: bars missing, answers missing, failed, late, far too late."""
    dice = random.Random(seed)
    builder = Builder()
    close = {"BTC": 100.0, "ETH": 10.0}
    delayed: list[tuple[int, str, str, int, Probabilities]] = []
    for number in range(1, warm + bars):
        for symbol, last in list(close.items()):
            close[symbol] = last * math.exp(dice.gauss(0, 0.001))
            if number > warm and dice.random() < 0.03:
                continue
            builder.bar(number, close[symbol], symbol)
            if number < warm - 2:
                continue
            for artifact in dice.sample(sorted(ART), len(ART)):
                chance = dice.random()
                p = _probabilities(dice)
                if chance < 0.05:
                    continue
                if chance < 0.10:
                    builder.say(artifact, number, dice.choice(["error", "features_withheld"]), symbol)
                elif any(late[1:3] == (artifact, symbol) for late in delayed):
                    continue
                elif chance < 0.20 and artifact in {"a2", "c"}:
                    delayed.append((number + dice.choice([1, 1, 2, 2, 2, 140]), artifact, symbol, number, p))
                else:
                    builder.say(artifact, number, p, symbol)
        for late in [late for late in delayed if late[0] <= number]:
            delayed.remove(late)
            builder.say(late[1], late[3], late[4], late[2])
        for received in builder.streams["decisions"][-2:]:
            event = received.envelope.event
            if isinstance(event, DecisionMade) and event.intent == "issued" and dice.random() < 0.5:
                builder.close_trade(received.envelope)
    return builder.world()


def _probabilities(dice: random.Random) -> Probabilities:
    parts = [dice.random() + 0.05 for _ in range(3)]
    total = sum(parts)
    return (parts[0] / total, parts[1] / total, 1.0 - parts[0] / total - parts[1] / total)


class Run:
    """A recorder over a world, read in whatever order, stopped and started again."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.recorder = Recorder()
        self.read = dict.fromkeys(STREAMS, 0)
        self.outputs: list[Sealed] = []
        self.state: State = self._begin(b"")

    def _begin(self, memo: bytes) -> State:
        state = self.recorder.begin(memo)
        self.recorder.absorb(state, Batch(self.world.commands, ()))
        return state

    def take(self, *streams: str, count: int = 1) -> None:
        """The next ``count`` events of each stream, in one batch."""
        events = []
        for stream in streams:
            events += self.world.streams[stream][self.read[stream] : self.read[stream] + count]
            self.read[stream] = min(self.read[stream] + count, len(self.world.streams[stream]))
        self.outputs += self.recorder.handle(self.state, Batch((), events))

    def restart(self) -> None:
        """As after a crash behind a commit."""
        memo, since = self.recorder.memo(self.state), self.recorder.since(self.state)
        self.state = self._begin(memo)
        for stream, after in since.items():
            entries = [
                received
                for received in self.world.streams[stream][: self.read[stream]]
                if int(received.entry.split("-")[0]) > _milliseconds(after)
            ]
            self.recorder.absorb(self.state, Batch((), entries))

    @property
    def done(self) -> bool:
        return all(self.read[stream] == len(self.world.streams[stream]) for stream in STREAMS)

    def in_order(self) -> "Run":
        """Everything, as it was appended."""
        merged = sorted((int(r.entry.split("-")[0]), r) for stream in STREAMS for r in self.world.streams[stream])
        for _, received in merged:
            self.outputs += self.recorder.handle(self.state, Batch((), [received]))
        self.read = {stream: len(self.world.streams[stream]) for stream in STREAMS}
        return self

    def events(self, kind: type[Any]) -> list[Any]:
        return [sealed.envelope.event for sealed in self.outputs if isinstance(sealed.envelope.event, kind)]


def _milliseconds(entry: str) -> int:
    """An id's first part: the entries of a world have whole ones, and what precedes one the one before."""
    return int(entry.partition("-")[0])
