"""A partition's streams after some bars: a market and its features with stamps, artifacts that answer, fail, are
late or dead, the real voter over them, commands in between, and an executor that closes trades."""

import math
import random
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from schemas.codec import Encoded, Envelope, encode
from schemas.common import ACTIONS, Probabilities
from schemas.control import (
    Command,
    CommandRecorded,
    Found,
    Promote,
    PromotePolicy,
    RegisterArtifact,
    SetVotingPolicy,
    StartPolicyShadow,
    StartShadow,
    StopPolicyShadow,
    StopShadow,
)
from schemas.decisions import DecisionMade, FenceClosed, FenceOpened
from schemas.features import FeaturesComputed
from schemas.market import BarClosed
from schemas.predictions import PredictionFailed, PredictionMade
from schemas.trades import TradeClosed
from services.ensemble_voter.core import Voter
from services.shadow_recorder.core import Recorder
from services.shadow_recorder.state import State
from shared.control import EMPTY, fold, propose
from shared.runtime.service import Batch, Received

MINUTE = 60_000
ART = {name: f"{number:02x}" * 32 for number, name in enumerate(("a", "a2", "b", "c"), 0xA0)}
MODEL = {"a": "a", "a2": "a", "b": "b", "c": "c"}
STREAMS = ("market", "features", "predictions", "decisions", "trades")
SET = b"s" * 32
LN3 = -math.log(3)


def register(artifact: str, **also: Any) -> RegisterArtifact:
    about: dict[str, Any] = {"horizon": 3, "kappa": 0.5, **also}
    return RegisterArtifact(
        model=MODEL[artifact],
        artifact=ART[artifact],
        family="prior",
        feature_set="f" * 64,
        feature_set_name="user-8",
        interval_ms=MINUTE,
        classes=ACTIONS,
        centre=(LN3, LN3 + 0.1, LN3),
        prior=(0.25, 0.5, 0.25),
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


@contextmanager
def limits(*, late: int = 2048, margin: int = 60_000, ahead: int = 512, queued: int = 20_000) -> Iterator[None]:
    """Smaller numbers, so that a short world reaches them."""
    package = "services.shadow_recorder"
    with pytest.MonkeyPatch.context() as patch:
        for module in ("state", "retention", "scoring_readiness", "backpressure"):
            patch.setattr(f"{package}.{module}.LATE", late)
        for module in ("decisions", "ordering", "scoring_readiness", "trades", "core"):
            patch.setattr(f"{package}.{module}.MARGIN_MS", margin)
        patch.setattr(f"{package}.backpressure.AHEAD", ahead)
        patch.setattr(f"{package}.backpressure.QUEUED", queued)
        patch.setattr(f"{package}.backpressure.PATIENCE_MOST", 64)
        yield


@dataclass
class World:
    """The streams, and the commands that they were written under."""

    commands: Sequence[Envelope[CommandRecorded]]
    streams: Mapping[str, list[Received]]


class Builder:
    """Writes a world, one event after another. ``stamped`` is False for a log of a release without stamps."""

    def __init__(self, commands: Sequence[Command] = TWO, *, stamped: bool = True) -> None:
        self.commands: list[Envelope[CommandRecorded]] = []
        self.control = EMPTY
        self.stamped = stamped
        self.streams: dict[str, list[Received]] = {name: [] for name in STREAMS}
        self.voter = Voter(ticks=0)
        self.voting = self.voter.initial(b"")
        self.clock = 0
        self.issue(*commands)

    @property
    def version(self) -> int:
        return self.control.version

    def issue(self, *commands: Command) -> None:
        """Commands, which every service reads at once."""
        for command in commands:
            number = str(self.version)
            entry = propose(self.control, command, command_id=number, actor="me", reason="test", at=1)
            assert isinstance(entry, CommandRecorded), entry
            self.follow(encode("control", entry).envelope)

    def follow(self, envelope: Envelope[CommandRecorded]) -> None:
        """A command that was recorded."""
        self.control = fold(self.control, envelope.event)
        self.commands.append(envelope)
        for sealed in self.voter.handle(self.voting, Batch([envelope], [])):
            if sealed.stream == "decisions":
                self.append("decisions", sealed.envelope)

    def head(self, version: int) -> bytes | None:
        return bytes.fromhex(self.control.past[version].head) if self.stamped and version else None

    def world(self) -> World:
        return World(self.commands, self.streams)

    def append(self, stream: str, envelope: Envelope[Any]) -> Received:
        self.clock += 1
        received = Received(stream, f"{self.clock}-0", envelope)
        self.streams[stream].append(received)
        return received

    def bar(self, number: int, close: float, symbol: str = "BTC", *, refused: bool = False) -> Received:
        """A bar, and its features unless the feature-builder refused it."""
        bar = BarClosed(
            symbol=symbol,
            interval_ms=MINUTE,
            open_time=number * MINUTE,
            open=close,
            high=close,
            low=close,
            close=close,
            volume=1.0,
            origin="replay",
        )
        received = self.append("market", encode("market", bar).envelope)
        if not refused:
            self.features(number, symbol)
        return received

    def features(self, number: int, symbol: str = "BTC", version: int = 0) -> None:
        """The features of a bar, under the version in force."""
        known = version or self.version
        event = FeaturesComputed(
            symbol=symbol,
            interval_ms=MINUTE,
            open_time=number * MINUTE,
            origin="replay",
            feature_set=SET,
            values=bytes(4),
            bridged=0,
            control_version=known if self.stamped else 0,
            control_head=self.head(known),
        )
        self.append("features", encode("features", event).envelope)

    def predict(
        self, artifact: str, number: int, p: Probabilities | str, symbol: str = "BTC", version: int = 0
    ) -> None:
        """A prediction, or a failure; the voter reads it at once."""
        known = version or self.version
        about: dict[str, Any] = {
            "symbol": symbol,
            "interval_ms": MINUTE,
            "open_time": number * MINUTE,
            "origin": "replay",
            "model": MODEL[artifact],
            "artifact": bytes.fromhex(ART[artifact]),
            "vector": bytes(16),
            "control_version": known,
            "control_head": self.head(known),
        }
        event: Any
        if isinstance(p, str):
            event = PredictionFailed(**about, reason=p, detail="")  # type: ignore[arg-type]  # a given reason
        else:
            event = PredictionMade(**about, probabilities=p)
        root = f"{symbol:>8}{number:8}".encode()
        received = self.append("predictions", encode("predictions", event, causation=root, correlation=root).envelope)
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
        self.append("trades", encode("trades", trade, causation=made_by.id, correlation=made_by.correlation).envelope)


@dataclass
class Due:
    """What an artifact has still to answer."""

    symbol: str
    number: int
    version: int


def random_world(seed: int, bars: int = 40, warm: int = 110) -> World:
    """Two symbols and every misfortune: bars missing or refused; answers that fail, are late, come twice or never;
    workers that are slow or dead for a while; shadows started and stopped, champions replaced; a symbol that ends;
    fences; names of events that are on no stream."""
    dice = random.Random(seed)
    builder = Builder((*TWO, StartPolicyShadow(SetVotingPolicy(quorum_count=1, edge=0.3))))
    close = {"BTC": 100.0, "ETH": 10.0}
    ends = {"BTC": 10**9, "ETH": dice.choice([10**9, warm + bars // 2])}
    pace = {name: dice.choice([1.0, 1.0, 0.8, 0.1]) for name in ART}
    dead = {name: dice.sample(range(warm, warm + bars), 2) if dice.random() < 0.4 else [0, 0] for name in ART}
    due: dict[str, deque[Due]] = {name: deque() for name in ART}
    for number in range(1, warm + bars):
        builder.clock += dice.choice([0, 0, 0, 5, 50])
        if number > warm and dice.random() < 0.05:
            _command(builder, dice)
        for symbol, last in list(close.items()):
            close[symbol] = last * math.exp(dice.gauss(0, 0.001))
            if number > ends[symbol] or (number > warm and dice.random() < 0.03):
                continue
            refused = dice.random() < 0.02
            builder.bar(number, close[symbol], symbol, refused=refused)
            if number >= warm - 2 and not refused:
                for name in active(builder):
                    due[name].append(Due(symbol, number, builder.version))
        for name in dice.sample(sorted(ART), len(ART)):
            alive = not min(dead[name]) < number <= max(dead[name])
            while due[name] and alive and dice.random() < pace[name]:
                _answer(builder, dice, name, due[name].popleft())
        for received in builder.streams["decisions"][-2:]:
            event = received.envelope.event
            if isinstance(event, DecisionMade) and event.intent == "issued" and dice.random() < 0.5:
                builder.close_trade(received.envelope, **({"decision": "0" * 32} if dice.random() < 0.1 else {}))
    return builder.world()


def active(builder: Builder) -> list[str]:
    """The artifacts that answer the bars of now, by their short names."""
    models = builder.control.models.values()
    digests = {digest for model in models for digest in (model.champion, *model.shadows)}
    return sorted(name for name, digest in ART.items() if digest in digests)


def _command(builder: Builder, dice: random.Random) -> None:
    if dice.random() < 0.4:
        builder.issue(_policy_command(builder, dice))
        return
    model = builder.control.models
    name = dice.choice(["a2", "c", "c", "a"])
    slot = model.get(MODEL[name])
    command: Command
    if slot is not None and ART[name] in slot.shadows:
        command = StopShadow(MODEL[name], ART[name])
        if dice.random() < 0.4:
            command = Promote(MODEL[name], ART[name], forced=True, weight=dice.choice([0.25, 0.5]))
    elif slot is None or slot.champion != ART[name]:
        command = StartShadow(MODEL[name], ART[name])
    else:
        command = SetVotingPolicy(quorum_count=1, edge=dice.choice([0.02, 0.1]))
    builder.issue(command)
    fence = dice.choice([FenceClosed, FenceOpened])("id", "me", "test", 1)
    builder.append("decisions", encode("decisions", fence).envelope)


def _policy_command(builder: Builder, dice: random.Random) -> Command:
    shadows = builder.control.policy_shadows
    if shadows and dice.random() < 0.6:
        chosen = dice.choice(shadows)
        return StopPolicyShadow(chosen) if dice.random() < 0.5 else PromotePolicy(chosen, forced=True)
    temperature = round(dice.uniform(0.5, 2.0), 6)
    policy = SetVotingPolicy(quorum_count=1, rule=dice.choice(["mean", "logmean"]), temperature=temperature)
    return StopPolicyShadow(shadows[0]) if len(shadows) == 4 else StartPolicyShadow(policy)


def _answer(builder: Builder, dice: random.Random, name: str, due: Due) -> None:
    chance = dice.random()
    if chance < 0.06:
        reason = dice.choice(["error", "features_withheld"])
        builder.predict(name, due.number, reason, due.symbol, version=due.version)
    else:
        builder.predict(name, due.number, _probabilities(dice), due.symbol, version=due.version)
    if chance > 0.96:
        number = due.number - dice.choice([0, 1, 7])
        builder.predict(name, number, _probabilities(dice), due.symbol, version=due.version)
    if 0.95 < chance < 0.96:
        builder.predict(name, due.number, _probabilities(dice), "FORGED", version=due.version)


def _probabilities(dice: random.Random) -> Probabilities:
    parts = [dice.random() + 0.05 for _ in range(3)]
    total = sum(parts)
    return (parts[0] / total, parts[1] / total, 1.0 - parts[0] / total - parts[1] / total)


class Run:
    """A recorder over a world, read in whatever order, stopped and started again. Commands are handed over as the
    runtime does: at the latest with the first event that was stamped with them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.recorder = Recorder()
        self.read = dict.fromkeys(STREAMS, 0)
        self.commands = 0
        self.outputs: list[Encoded] = []
        self.state: State = self.recorder.initial(b"")

    def take(self, *streams: str, count: int = 1, ahead: int = 0) -> None:
        """The next ``count`` events of each stream, in one batch, and as many commands more than needed."""
        events: list[Received] = []
        for stream in streams:
            events += self.world.streams[stream][self.read[stream] : self.read[stream] + count]
            self.read[stream] = min(self.read[stream] + count, len(self.world.streams[stream]))
        self._hand_over(events, ahead)

    def _hand_over(self, events: Sequence[Received], ahead: int = 0) -> None:
        stamps = [getattr(received.envelope.event, "control_version", 0) for received in events]
        until = max(self.commands, *stamps, 0) + ahead
        commands = self.world.commands[self.commands : until]
        self.commands += len(commands)
        self.outputs += self.recorder.handle(self.state, Batch(commands, events))

    def restart(self) -> None:
        """As after a crash right after a commit."""
        memo, since = self.recorder.snapshot(self.state), self.recorder.replay_from(self.state)
        self.state = self.recorder.initial(memo)
        self.recorder.apply(self.state, Batch(self.world.commands, ()))
        self.commands = len(self.world.commands)
        for stream, after in since.items():
            entries = [
                received
                for received in self.world.streams[stream][: self.read[stream]]
                if int(received.entry.split("-")[0]) > _milliseconds(after)
            ]
            self.recorder.apply(self.state, Batch((), entries))

    @property
    def done(self) -> bool:
        return all(self.read[stream] == len(self.world.streams[stream]) for stream in STREAMS)

    def in_order(self) -> "Run":
        """Everything, as it was appended."""
        merged = sorted((int(r.entry.split("-")[0]), r) for stream in STREAMS for r in self.world.streams[stream])
        for _, received in merged:
            self._hand_over([received])
        self.read = {stream: len(self.world.streams[stream]) for stream in STREAMS}
        return self

    def events(self, kind: type[Any]) -> list[Any]:
        return [sealed.envelope.event for sealed in self.outputs if isinstance(sealed.envelope.event, kind)]

    @property
    def waiting(self) -> list[bytes]:
        """The predictions that have no score yet."""
        series = self.state.series.values()
        return sorted(one.envelope.id for each in series for line in each.pending.values() for one in line.queue)


def _milliseconds(entry: str) -> int:
    """An id's first part: the entries of a world have whole ones, and what precedes one the one before."""
    return int(entry.partition("-")[0])
