"""Make the streams of an installation without running it, for benchmarks and tests.

They contain commands, and the ballots, decisions and intents of synthetic models, as the services write them."""

import math
import random
from bisect import bisect_right
from collections.abc import Collection, Iterator
from typing import NamedTuple

from schemas.codec import Encoded, Envelope, encode
from schemas.common import ACTIONS, Probabilities
from schemas.control import (
    Command,
    CommandRecorded,
    Found,
    Promote,
    RegisterArtifact,
    SetVotingPolicy,
    SetWeights,
    StartShadow,
)
from schemas.market import BarClosed
from schemas.predictions import PredictionMade
from services.ensemble_voter.core import Voter
from shared.audit.source import RecordedExtent
from shared.control import EMPTY, Rejected, State, fold, propose
from shared.log import START, Entry, StreamKey
from shared.log.leases import id_order
from shared.runtime.service import Batch, Received

MODELS = ("lightgbm", "nhits", "patchtst", "xgboost")
START_MS = 1_704_067_200_000
MINUTE = 60_000
THIRD = (-1.2, -0.8, -1.3)


class Round(NamedTuple):
    """All events of one bar, in the order in which they are written."""

    bar: Encoded
    ballots: tuple[Encoded, ...]
    outputs: tuple[Encoded, ...]


def digest(model: str, number: int = 0) -> str:
    """Return the digest of an artifact that does not exist."""
    return (model.encode().hex() + f"{number:02x}" * 32)[:64]


def commands(models: tuple[str, ...] = MODELS) -> list[Command]:
    """Return commands that promote a champion of each model, with equal weights, and start a shadow of the first."""
    made: list[Command] = [Found(1, "log-of-a-bench")]
    for number, model in enumerate(models, 1):
        made.extend(
            RegisterArtifact(
                model=model,
                artifact=digest(model, each),
                family="prior",
                feature_set="5e" * 32,
                feature_set_name="core-28",
                interval_ms=MINUTE,
                classes=ACTIONS,
                centre=THIRD,
                prior=(0.3, 0.4, 0.3),
            )
            for each in range(2 if number == 1 else 1)
        )
        made.append(Promote(model, digest(model), forced=True, weight=1 / number))
    made.append(StartShadow(models[0], digest(models[0], 1)))
    made.append(SetWeights({model: 1 / len(models) for model in models}))
    made.append(SetVotingPolicy(edge=0.1))
    return made


def control(given: list[Command]) -> tuple[list[CommandRecorded], State]:
    """Return the events that record these commands, and the resulting configuration."""
    state, entries = EMPTY, []
    for number, command in enumerate(given, 1):
        entry = propose(state, command, command_id=f"c{number}", actor="ada", reason="a bench", at=START_MS + number)
        assert isinstance(entry, CommandRecorded), entry
        entries.append(entry)
        state = fold(state, entry)
    return entries, state


def control_entries(given: list[Command]) -> list[Entry]:
    """Return the entries of the control stream with these commands."""
    entries, _ = control(given)
    return [Entry(StreamKey("control"), f"{each.version}-0", encode("control", each).data) for each in entries]


def probabilities(draw: random.Random) -> Probabilities:
    """Return random probabilities of the three classes."""
    powers = [math.exp(draw.gauss(0.0, 0.35)) for _ in range(3)]
    total = sum(powers)
    return (powers[0] / total, powers[1] / total, powers[2] / total)


def rounds(
    count: int, *, models: tuple[str, ...] = MODELS, symbols: int = 8, partition: int = 0, seed: int = 7
) -> Iterator[Round]:
    """Yield ``count`` rounds: bars of several symbols, the ballots of every champion and of the candidate, and the
    output of the voter."""
    given = commands(models)
    entries, state = control(given)
    voter = Voter(ticks=0)
    held = voter.initial(b"")
    voter.apply(held, Batch([encode("control", entry).envelope for entry in entries], ()))
    draw = random.Random(seed + partition)
    for number in range(count):
        symbol, open_time = f"P{partition}S{number % symbols}", START_MS + number // symbols * MINUTE
        bar = encode(
            "market",
            BarClosed(
                symbol=symbol,
                interval_ms=MINUTE,
                open_time=open_time,
                open=100.0,
                high=101.0,
                low=99.0,
                close=100.0 + draw.random(),
                volume=5.0,
                origin="synthetic",
            ),
        )
        who = [(models[0], digest(models[0], 1)), *((model, digest(model)) for model in models)]
        ballots = tuple(
            encode(
                "predictions",
                PredictionMade(
                    symbol=symbol,
                    interval_ms=MINUTE,
                    open_time=open_time,
                    origin="synthetic",
                    model=model,
                    artifact=bytes.fromhex(artifact),
                    probabilities=probabilities(draw),
                    vector=bytes(16),
                    control_version=state.version,
                    control_head=bytes.fromhex(state.head),
                ),
                causation=bar.envelope.id,
                correlation=bar.envelope.id,
            )
            for model, artifact in who
        )
        received = [Received("predictions", f"{number}-{k}", one.envelope) for k, one in enumerate(ballots)]
        yield Round(bar, ballots, tuple(voter.handle(held, Batch((), received))))


class Recorded:
    """A source in memory (``shared.audit.source.CountedSource``): entries by stream."""

    def __init__(self) -> None:
        self.places: dict[StreamKey, list[Entry]] = {}
        self.added: dict[StreamKey, int] = {}
        self._clock = START_MS

    def write(self, stream: str, data: bytes, partition: int = 0) -> Entry:
        """Append an entry with the id of the next millisecond."""
        self._clock += 1
        place = StreamKey(stream, partition)
        entry = Entry(place, f"{self._clock}-0", data)
        self.places.setdefault(place, []).append(entry)
        return entry

    def append(self, stream: str, data: bytes, now: int, partition: int = 0) -> Entry:
        """Append an entry with the id that a server would assign at the time ``now`` (ms)."""
        place = StreamKey(stream, partition)
        entries = self.places.setdefault(place, [])
        moment, number = id_order(entries[-1].id) if entries else (0, 0)
        made = f"{now}-0" if now > moment else f"{moment}-{number + 1}"
        entries.append(Entry(place, made, data))
        return entries[-1]

    def replay_from(self, place: StreamKey, after: str) -> list[Entry]:
        """Return the entries after an id."""
        entries = self.places.get(place, [])
        return entries[bisect_right(entries, id_order(after), key=lambda entry: id_order(entry.id)) :]

    def entries(self, place: StreamKey, after: str = "0-0", until: str = "+") -> Iterator[Entry]:
        """See ``Source``."""
        from shared.audit.source import EntryRange  # one caller

        span = EntryRange(after, until)
        return (entry for entry in self.places.get(place, ()) if span.holds(entry.id))

    def whole(self, place: StreamKey) -> bool:
        """Return True: no stream is trimmed."""
        return True

    def extent(self, place: StreamKey) -> RecordedExtent:
        """Return what a server would report (see ``Counted``); its count includes removed entries."""
        entries = self.places.get(place, [])
        added = max(self.added.get(place, 0), len(entries))
        return RecordedExtent(entries[-1].id if entries else START, added)

    def without(self, place: StreamKey, gone: Collection[str]) -> "Recorded":
        """Return a copy without some entries. As on a server, the count of added entries is unchanged."""
        entries = self.places.get(place, [])
        made = Recorded()
        made.places = {**self.places, place: [entry for entry in entries if entry.id not in gone]}
        made.added = {**self.added, place: len(entries)}
        return made


class Control:
    """The control stream, as a control writer writes it."""

    def __init__(self, source: Recorded) -> None:
        self.source, self.state = source, EMPTY
        self.envelopes: list[Envelope[CommandRecorded]] = []

    def issue(self, *commands: Command) -> None:
        """Record commands, all of which must be valid."""
        for command in commands:
            refused = self.attempt(command)
            assert refused is None, refused

    def attempt(self, command: Command, at: int | None = None) -> Rejected | None:
        """Record a command at the time ``at`` (ms). Return the rejection if it is invalid, otherwise None."""
        number = self.state.version + 1
        at = START_MS + number if at is None else at
        entry = propose(self.state, command, command_id=f"c{number}", actor="ada", reason="a bench", at=at)
        if isinstance(entry, Rejected):
            return entry
        assert isinstance(entry, CommandRecorded), entry
        self.state = fold(self.state, entry)
        sealed: Encoded = encode("control", entry)
        self.envelopes.append(sealed.envelope)
        place = StreamKey("control")
        self.source.places.setdefault(place, []).append(Entry(place, f"{number}-0", sealed.data))
        return None


def recorded(count: int, partition: int = 0) -> Recorded:
    """Return a source with ``count`` rounds."""
    made = Recorded()
    made.places[StreamKey("control")] = control_entries(commands())
    for one in rounds(count, partition=partition):
        made.write("market", one.bar.data, partition)
        for sealed in (*one.ballots, *one.outputs):
            made.write(sealed.stream, sealed.data, partition)
    return made
