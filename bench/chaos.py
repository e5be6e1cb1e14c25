"""Simulate an installation in memory under random faults, without tampering: the real cores, driven by one seed.

Services are called in any order, read any number of entries, stall, crash before or after a commit, and restart from
their last commit. Commands are issued at any time (promotions, rollbacks, shadows, weights, halts). Artifacts load
late. Bars are missing, duplicated or live. The guarantees of the runtime hold: commits are atomic, a service gets an
event only after all commands up to the event's stamp, and the fence is checked when a batch with intents is committed.
"""

import random
from collections.abc import Sequence
from typing import Any, Final

from bench.recorded_rounds import START_MS, Control, Recorded, digest
from schemas.codec import Encoded, decode, encode
from schemas.common import ACTIONS
from schemas.control import (
    Command,
    Found,
    Halt,
    Promote,
    RegisterArtifact,
    Resume,
    Rollback,
    SetVotingPolicy,
    SetWeights,
    StartShadow,
    StopShadow,
)
from schemas.decisions import FenceClosed, FenceOpened
from schemas.market import BarClosed
from schemas.operations import DeadLetter
from services.ensemble_voter.core import Voter
from services.feature_builder.core import FeatureBuilder
from services.model_worker.core import ModelWorker
from services.model_worker.members import Fault, Loaded
from shared.audit.source import Ends, RecordedExtent, places_of
from shared.log import START, StreamKey
from shared.log.leases import id_order
from shared.runtime.service import Backpressure, Batch, Received, Service
from tests.simulation.artifacts import SET, Opinion

MODELS: Final = ("alpha", "beta", "gamma")
ARTIFACTS: Final = 3
"""Number of artifacts of each model."""
MINUTE: Final = 60_000
SYMBOLS: Final = {"LIVE": "live", "SYN": "synthetic"}
REFUSED: Final = 0.003
"""The share of events on which a core raises an error; they become dead letters."""
THIRD: Final = (-1.1, -1.0, -1.2)


class Loads:
    """A loader whose artifacts are loaded at once, or some time after the request."""

    def __init__(self, world: "World | None") -> None:
        self._world = world
        self._due: dict[str, int] = {}
        self._found: dict[str, Loaded] = {}

    def load(self, artifact: str) -> Loaded | Fault:
        """See ``Loader``."""
        self._due.pop(artifact, None)
        return self._found.setdefault(artifact, Loaded(Opinion(artifact, MINUTE), 0, 0))

    def request(self, artifact: str) -> None:
        """See ``Loader``."""
        if self._world is None:
            self.load(artifact)
        elif artifact not in self._found:
            self._due.setdefault(artifact, self._world.now + self._world.draw.randrange(90_000))

    def outcome(self, artifact: str) -> Loaded | Fault | None:
        """See ``Loader``."""
        if self._world is not None and self._due.get(artifact, self._world.now + 1) <= self._world.now:
            return self.load(artifact)
        return self._found.get(artifact)

    def forget(self, artifact: str) -> None:
        """See ``Loader``."""
        self._due.pop(artifact, None)
        self._found.pop(artifact, None)


def worker_of(model: str) -> ModelWorker:
    """Return a worker whose artifacts are all loaded, for a replay."""
    return ModelWorker(model, Loads(None), "a replay", "00000000")


class Process:
    """One service as the runtime hosts it: its committed state, and its state in memory."""

    def __init__(self, world: "World", service: Service[Any], loads: Loads | None = None) -> None:
        self.world, self.service, self.loads = world, service, loads
        self.committed = dict.fromkeys(service.reads, START)
        self.memo, self.since = b"", {}  # type: tuple[bytes, dict[str, str]]
        self.stalled = 0
        self.aside: set[tuple[str, str]] = set()
        self.start()

    def start(self) -> None:
        """Start, or start again, from the last commit."""
        service = self.service
        if self.loads is not None:
            self.loads.__init__(self.world)  # type: ignore[misc]  # a new process has loaded nothing
        self.state = service.initial(self.memo)
        self.folded = len(self.world.control.envelopes) if service.follows_control else 0
        service.apply(self.state, Batch(self.world.control.envelopes[: self.folded], ()))
        self.positions = dict(self.committed)
        for stream, since in self.since.items():
            events = self._kept(self.world.received(stream, since, self.positions[stream]))
            while events:
                size = self.world.draw.randrange(1, len(events) + 1)
                service.apply(self.state, Batch((), events[:size]))
                events = events[size:]

    def turn(self) -> None:
        """Read some new entries, pass them to the service, and commit, unless the process crashes."""
        world, service, draw = self.world, self.service, self.world.draw
        held = service.paused_streams(self.state) if isinstance(service, Backpressure) else ()
        events: list[Received] = []
        refusals: list[Received] = []
        after = dict(self.positions)
        for stream in service.reads:
            found = world.received(stream, self.positions[stream]) if stream not in held else []
            taken = found[: draw.choice((1, 3, 10, 100))]
            refusals += [event for event in taken if draw.random() < REFUSED]
            events += taken
            after[stream] = taken[-1].entry if taken else after[stream]
        control: Sequence[Any] = ()
        if service.follows_control:
            stamped = max((getattr(event.envelope.event, "control_version", 0) for event in events), default=0)
            upto = max(stamped, draw.randint(self.folded, len(world.control.envelopes)))
            control, self.folded = world.control.envelopes[self.folded : upto], max(upto, self.folded)
        before = set(self.aside)
        self.aside |= {(event.stream, event.entry) for event in refusals}
        events = self._kept(events)
        fence = world.fence
        now = world.now if service.ticks else None
        outputs = service.handle(self.state, Batch(control, events, now, halted=not fence))
        world.pass_time(300)
        if draw.random() < 0.02:
            world.operate()
        crashed = draw.random()
        refused = isinstance(service, Voter) and fence != world.fence
        if crashed < 0.01 or refused:
            self.aside = before  # the batch was not written
            self.start()
            return
        self.positions = after
        world.append([self._refusal(event) for event in refusals])
        if outputs or refusals or draw.random() < 0.3:
            world.append(outputs)
            self.committed, self.memo = dict(after), service.snapshot(self.state)
            self.since = dict(service.replay_from(self.state))
        if crashed > 0.99:
            self.start()
        elif draw.random() < 0.05:
            self.stalled = world.now + draw.randrange(40_000)

    def _kept(self, events: list[Received]) -> list[Received]:
        """Return the events without those that became dead letters."""
        return [event for event in events if (event.stream, event.entry) not in self.aside]

    def _refusal(self, event: Received) -> Encoded:
        """Return the dead letter of an event on which a core raised an error."""
        source, raw = f"{event.stream}@{event.entry}", event.envelope.id.hex()
        return encode(
            "dead",
            DeadLetter(service=self.service.group, source=source, reason="handler_failed", detail="chaos", raw=raw),
        )


class World:
    """A log, its services and an operator.

    ``more`` are services in addition to those that decide. ``fence`` is True while intents may be written. ``history``
    is the number of bars of each symbol at the start: scores need volatility."""

    def __init__(self, seed: int, more: Sequence[Service[Any]] = (), history: int = 0) -> None:
        self.draw = random.Random(seed)
        self.source = Recorded()
        self.now = START_MS
        self.fence = True
        self.control = Control(self.source)
        self._given = 0
        self._found()
        self.bars = dict.fromkeys(SYMBOLS, self.now // MINUTE * MINUTE)
        loads = {model: Loads(self) for model in MODELS}
        self.processes = [
            Process(self, FeatureBuilder([SET])),
            *(
                Process(self, ModelWorker(model, loads[model], f"worker {model}", "00000000"), loads[model])
                for model in MODELS
            ),
            Process(self, Voter(ticks=50)),
            *(Process(self, service) for service in more),
        ]
        for number in range(history):
            for symbol in SYMBOLS:
                self._bar(symbol, self.bars[symbol] - (history - number) * MINUTE)

    def _found(self) -> None:
        self.issue(Found(1, "log-of-chaos"))
        for number, model in enumerate(MODELS, 1):
            for each in range(ARTIFACTS):
                registered = RegisterArtifact(
                    model=model,
                    artifact=digest(model, each),
                    family="prior",
                    feature_set=SET.digest.hex(),
                    feature_set_name=SET.name,
                    interval_ms=MINUTE,
                    classes=ACTIONS,
                    centre=THIRD,
                    prior=(0.3, 0.4, 0.3),
                    features=SET.names,
                    horizon=2,
                    kappa=0.5,
                )
                self.issue(registered)
            if number < 3 or self.draw.random() < 0.5:
                self.issue(Promote(model, digest(model), forced=True, weight=1 / number))
        self.issue(SetVotingPolicy(edge=0.05, quorum_count=1, deadline_ms=self.draw.choice((1_000, 5_000))))

    def issue(self, *commands: Command) -> None:
        """Record commands. Invalid ones are refused, as a control writer would refuse them."""
        for command in commands:
            self.control.attempt(command, self.now)

    def operate(self) -> None:
        """Issue one random command of an operator, and move the fence if the command does so."""
        model = self.draw.choice(MODELS)
        artifact = digest(model, self.draw.randrange(ARTIFACTS))
        made: Command = self.draw.choice(
            (
                Promote(model, artifact, forced=True, weight=0.3),
                Promote(model, artifact, forced=True),
                StartShadow(model, artifact),
                StopShadow(model, artifact),
                Rollback(),
                SetVotingPolicy(edge=self.draw.choice((0.02, 0.1)), quorum_count=self.draw.choice((1, 2))),
                Halt(),
                Resume(),
                Resume(),
                self._weights(),
            )
        )
        number = self.control.state.version + 1
        if isinstance(made, Halt) and not self.control.state.halted:
            self._mark(FenceClosed(f"c{number}", "ada", "chaos", self.now))
        self.issue(made)
        if isinstance(made, Resume) and self.control.state.version == number:
            self.pass_time(50)
            self._mark(FenceOpened(f"c{number}", "ada", "chaos", self.now))

    def _weights(self) -> SetWeights:
        voting = self.control.state.voting
        return SetWeights(dict.fromkeys(voting, 1 / len(voting)) if voting else {})

    def _mark(self, mark: FenceClosed | FenceOpened) -> None:
        self.fence = isinstance(mark, FenceOpened)
        self.append([encode("decisions", mark)])

    def pass_time(self, most: int) -> None:
        """Advance the clock by a random time of at most ``most`` ms."""
        self.now += self.draw.randrange(most + 1)

    def append(self, outputs: Sequence[Any]) -> None:
        """Append encoded events to their streams, at the same time."""
        for sealed in outputs:
            self.source.append(sealed.stream, sealed.data, self.now)

    def received(self, stream: str, after: str, until: str = "+") -> list[Received]:
        """Return the decoded entries of a stream after ``after``, up to and including ``until``."""
        return [
            Received(stream, entry.id, decode(stream, entry.data))
            for entry in self.source.replay_from(StreamKey(stream), after)
            if until == "+" or id_order(entry.id) <= id_order(until)
        ]

    def feed(self) -> None:
        """Write the next bar of a symbol if it has closed. A few bars are left out or written twice."""
        symbol = self.draw.choice(list(SYMBOLS))
        if self.bars[symbol] + MINUTE > self.now:
            return
        if self.draw.random() < 0.03:
            self.bars[symbol] += MINUTE
            return
        self._bar(symbol, self.bars[symbol])
        self.bars[symbol] += MINUTE

    def _bar(self, symbol: str, open_time: int) -> None:
        close = 100.0 + self.draw.random()
        bar = BarClosed(
            symbol=symbol,
            interval_ms=MINUTE,
            open_time=open_time,
            open=100.0,
            high=102.0,
            low=99.0,
            close=close,
            volume=5.0,
            origin=SYMBOLS[symbol],  # type: ignore[arg-type]
        )
        for _ in range(2 if self.draw.random() < 0.02 else 1):
            self.append([encode("market", bar)])

    def step(self) -> None:
        """Simulate one event: a command, a bar, or a turn of a service."""
        self.pass_time(3_000)
        chance = self.draw.random()
        if chance < 0.02:
            self.operate()
        elif chance < 0.3:
            self.feed()
        else:
            process = self.draw.choice(self.processes)
            if process.stalled <= self.now:
                process.turn()

    def run(self, steps: int) -> None:
        """Simulate ``steps`` events."""
        for _ in range(steps):
            self.step()

    def ends(self) -> Ends:
        """Return the ends of all streams. The simulation continues meanwhile."""
        extents: dict[StreamKey, RecordedExtent] = {}
        decisions: dict[int, str] = {}
        for place in places_of(1):
            extents[place] = self.source.extent(place)
            if place.stream == "intents":
                decisions[0] = self.source.extent(StreamKey("decisions")).last
            self.run(2)
        return Ends(extents, decisions)
