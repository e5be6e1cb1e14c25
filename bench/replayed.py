"""Record an installation with real models in one process, with the cores of the live services."""

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from bench.recorded_rounds import Control, Recorded
from schemas.codec import Envelope, decode, encode
from schemas.control import Command, CommandRecorded, Found, Promote, SetVotingPolicy, StartShadow
from services.ensemble_voter.core import Voter
from services.feature_builder.core import FeatureBuilder
from services.gate_evaluator.core import Evaluator
from services.model_worker.main import service as worker_of
from services.shadow_recorder.core import Recorder
from shared.archive import sealed
from shared.archive.files import Files
from shared.archive.store import open_store
from shared.artifacts import ArtifactStore
from shared.artifacts.registration import registration
from shared.bars.rows import Good, gather
from shared.features.sets import DEFAULT, SETS
from shared.log import StreamKey
from shared.runtime.service import Batch, Received, Service
from shared.synthetic import SyntheticMarket
from shared.training.fitting import train

FED = 3000


class Replayed(NamedTuple):
    """The recorded streams, the artifact store, and the champions and shadows."""

    source: Recorded
    store: ArtifactStore
    champions: Mapping[str, str]
    candidate: str


class Hosted:
    """The core of one service, which reads from a source in memory and writes to it."""

    def __init__(self, service: Service[Any], source: Recorded) -> None:
        self.service, self.source = service, source
        self.state = service.initial(b"")
        self.after = dict.fromkeys(service.reads, 0)
        self.folded = 0

    def turn(self, control: Sequence[Envelope[CommandRecorded]]) -> None:
        """Handle all new entries."""
        new, self.folded = control[self.folded :], len(control)
        if not self.service.follows_control:
            new = ()
        elif new:
            self.service.apply(self.state, Batch(new, ()))
        for stream in self.service.reads:
            entries = self.source.places.get(StreamKey(stream), [])[self.after[stream] :]
            self.after[stream] += len(entries)
            received = [Received(stream, entry.id, decode(stream, entry.data)) for entry in entries]
            for at in range(0, len(received), 500):
                for written in self.service.handle(self.state, Batch((), received[at : at + 500])):
                    self.source.write(written.stream, written.data)


def seal_all(made: Replayed, folder: Path) -> None:
    """Write each stream as two archive files."""
    seal_streams(made.source, folder)


def seal_streams(source: Recorded, folder: Path) -> None:
    """Write each stream of a source as two archive files."""
    store = open_store(folder)
    for place, entries in source.places.items():
        previous, after, before = "0" * 64, "0-0", 0
        middle = max(1, len(entries) // 2)
        for number, part in enumerate((entries[:middle], entries[middle:]), 1):
            if part:
                file, data = sealed.build(place, part, number=number, previous=previous, after=after, before=before)
                store.put(Files(store, place).name(number), data)
                previous, after, before = file.digest, part[-1].id, before + len(part)


def record(
    folder: Path,
    families: Sequence[str] = ("logistic", "lightgbm"),
    fed: int = FED,
    more: Sequence[Command] = (),
    halfway: Sequence[Command] = (),
) -> Replayed:
    """Train a champion of each family and a shadow of the first, feed ``fed`` bars of two symbols, and promote the
    shadow half way. Return the recording. ``more`` and ``halfway``: further commands, at the beginning and then."""
    market = SyntheticMarket(("BTCUSDT", "ETHUSDT"), "sequence", 7, 2500)
    bars = {symbol: columns for (symbol, _), columns in gather(market.rows()).items()}
    store, source = ArtifactStore(folder), Recorded()
    chosen = SETS[DEFAULT]
    control = Control(source)
    control.issue(Found(1, "log-of-a-bench"))
    champions = {}
    for number, family in enumerate(families, 1):
        made = train(bars, family, chosen, source=market.name)
        champions[family] = store.save(made.manifest, made.files)
        control.issue(registration(family, champions[family], made.manifest))
        control.issue(Promote(family, champions[family], forced=True, weight=1 / number))
    made = train(bars, families[0], chosen, source=market.name, horizon=10, seed=2)
    candidate = store.save(made.manifest, made.files)
    control.issue(registration(families[0], candidate, made.manifest), StartShadow(families[0], candidate))
    control.issue(SetVotingPolicy(quorum_count=1, edge=0.05), *more)
    services: list[Service[Any]] = [FeatureBuilder([chosen]), *(worker_of(family, store) for family in families)]
    hosted = [Hosted(each, source) for each in (*services, Voter(ticks=0), Recorder(), Evaluator())]
    rows = (row.bar for row in market.rows() if isinstance(row, Good))
    taken = 0
    while page := list(islice(rows, min(500, fed - taken))):
        taken += len(page)
        for bar in page:
            source.write("market", encode("market", bar).data)
        for one in hosted:
            one.turn(control.envelopes)
        if taken * 2 >= fed and control.state.models[families[0]].champion != candidate:
            control.issue(Promote(families[0], candidate, forced=True, accept_changes=True), *halfway)
    return Replayed(source, store, champions, candidate)
