"""Check that ``verify`` finds every manipulation of recorded events, and reports its event and its layer.

Events are changed, removed, left out, duplicated or backdated. A change is of one of two kinds. ``bit``: one bit of the
stored bytes is flipped. ``forged``: the changed event is encoded again, so that its id matches its content; only a
recomputation finds those.
"""

import random
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import structs

from bench.chaos import World, worker_of
from bench.harness import Figure
from bench.omissions import FORGERIES, Record, Taken, backdated, doubled, omissions, removals, scores
from bench.recorded_rounds import Recorded
from bench.replayed import Replayed, record, seal_all
from schemas.codec import ROOT, decode, encode
from schemas.decisions import DecisionMade
from schemas.features import FeaturesComputed
from schemas.predictions import PredictionMade
from services.console.audit.tasks import KINDS, Where
from services.console.audit.verify import audited, verified
from shared.artifacts.manifest import MANIFEST
from shared.audit.findings import Findings, Layer
from shared.audit.source import EntryRange
from shared.control.chain import canonical, head_of
from shared.log import Entry, StreamKey

LAYER: dict[str, Layer] = {
    "market": "bar",
    "features": "feature",
    "predictions": "ballot",
    "decisions": "vote",
    "intents": "intent",
    "control": "configuration",
    "gates": "gate",
}


class Case(NamedTuple):
    """The kind of change, and where it must be reported: layer, stream and entry."""

    name: str
    layer: Layer
    stream: str
    entry: str


def flipped(data: bytes, at: int, bit: int) -> bytes:
    """Return ``data`` with one bit flipped."""
    return data[:at] + bytes((data[at] ^ 1 << bit,)) + data[at + 1 :]


def nudged(value: float) -> float:
    """Return the number with its last bit flipped."""
    (bits,) = struct.unpack("<q", struct.pack("<d", value))
    found: float = struct.unpack("<d", struct.pack("<q", bits ^ 1))[0]
    return found


def replace(source: Recorded, place: StreamKey, number: int, data: bytes) -> Recorded:
    """Return a copy of a source with one entry replaced."""
    made = Recorded()
    made.places = dict(source.places)
    entries = list(made.places[place])
    entries[number] = Entry(place, entries[number].id, data)
    made.places[place] = entries
    return made


def forged(stream: str, data: bytes) -> bytes:
    """Return the event with the last bit of one number flipped, encoded again."""
    found = decode(stream, data)
    root = ROOT if found.correlation == found.id else found.correlation
    made = _nudged(found.event)
    return encode(stream, made, causation=found.causation, correlation=root, flags=found.flags).data


def _nudged(event: Any) -> Any:
    match event:
        case FeaturesComputed(values=values):
            return structs.replace(event, values=flipped(values, 0, 0))
        case PredictionMade(probabilities=p):
            return structs.replace(event, probabilities=(nudged(p[0]), p[1], p[2]))
        case DecisionMade() if event.counted:
            return structs.replace(event, confidence=nudged(event.confidence))
        case _:
            name = "close" if hasattr(event, "close") else "confidence"
            if hasattr(event, name):
                return structs.replace(event, **{name: nudged(getattr(event, name))})
            return structs.replace(event, scores=event.scores ^ 1)


def bits(made: Replayed, stream: str, times: int, draw: random.Random) -> Iterator[tuple[Case, Recorded]]:
    """Yield sources in which a random bit of a random entry of a stream is flipped."""
    place = StreamKey(stream)
    entries = made.source.places[place]
    for _ in range(times):
        number = draw.randrange(len(entries))
        data = entries[number].data
        changed = flipped(data, draw.randrange(len(data)), draw.randrange(8))
        case = Case(f"{stream} bit", LAYER[stream], stream, entries[number].id)
        yield case, replace(made.source, place, number, changed)


def forgeries(made: Replayed, stream: str, times: int, draw: random.Random) -> Iterator[tuple[Case, Recorded]]:
    """Yield sources in which a number in an event of a stream is changed, with a new event id."""
    place = StreamKey(stream)
    entries = made.source.places[place]
    kinds = {"features": FeaturesComputed, "predictions": PredictionMade}
    numbers = [
        number
        for number, entry in enumerate(entries)
        if stream not in kinds or isinstance(decode(stream, entry.data).event, kinds[stream])
    ]
    numbers = [number for number in numbers if stream != "gates" or hasattr(_event(entries[number]), "gates")]
    for _ in range(times if numbers else 0):
        number = draw.choice(numbers)
        case = Case(f"{stream} forged", LAYER[stream], stream, entries[number].id)
        yield case, replace(made.source, place, number, forged(stream, entries[number].data))


def _event(entry: Entry) -> Any:
    return decode(entry.place.stream, entry.data).event


def rechained(made: Replayed, times: int, draw: random.Random) -> Iterator[tuple[Case, Recorded]]:
    """Yield sources in which a control entry is changed and the chain after it is computed again, so that it is valid.

    Decisions contradict it. It must be reported at the version of the first such decision."""
    place = StreamKey("control")
    entries = made.source.places[place]
    under = [(_event(entry), entry.id) for entry in made.source.places[StreamKey("decisions")]]
    for _ in range(times):
        number = draw.randrange(len(entries))
        source, previous = made.source, ""
        for at in range(number, len(entries)):
            event = _event(entries[at])
            event = structs.replace(event, reason="another") if at == number else event
            event = structs.replace(event, previous=previous) if at > number else event
            source = replace(source, place, at, encode("control", event).data)
            previous = head_of(msgspec.json.decode(canonical(event), type=type(event)))
        first = next(entry for event, entry in under if event.control_version > number)
        yield Case("control forged, chained again", "configuration", "decisions", first), source


def files(made: Replayed, times: int, draw: random.Random) -> Iterator[tuple[Case, Callable[[Path], None]]]:
    """Yield changes of one bit of an artifact's file: of its scaler, weights or trees, or another field of its
    manifest."""
    artifacts = sorted(made.champions.values())
    for number in range(times):
        digest = artifacts[number % len(artifacts)]
        folder = made.store.path / digest
        manifest = (folder / MANIFEST).read_bytes()
        weights = [path.name for path in folder.iterdir() if path.name not in {MANIFEST, "golden.npz"}]
        scaled = b'"scaler":{' in manifest
        name = MANIFEST if scaled and number % 4 < 2 else draw.choice(weights)
        data = (folder / name).read_bytes()
        start = manifest.index(b'"scaler":{') + 10 if name == MANIFEST else 0
        end = manifest.index(b"}", start) if name == MANIFEST else len(data)
        at, bit = draw.randrange(start, end), draw.randrange(8)
        first = next(
            entry.id
            for entry in made.source.places[StreamKey("predictions")]
            if isinstance(event := _event(entry), PredictionMade) and event.artifact.hex() == digest
        )
        layer: Layer = "scaler" if name == MANIFEST else "model"

        def change(store: Path, digest: str = digest, name: str = name, data: bytes = flipped(data, at, bit)) -> None:
            (store / digest / name).write_bytes(data)

        yield Case(f"{'scaler' if name == MANIFEST else name}", layer, "predictions", first), change


def run(quick: bool) -> dict[str, Figure]:
    """Return the number of cases that were reported at the right place, by kind."""
    times = 2 if quick else 8
    draw = random.Random(7)
    with tempfile.TemporaryDirectory() as folder:
        made = record(Path(folder) / "artifacts", ("logistic", "lightgbm", "patchtst"), fed=2400)
        kinds: dict[str, list[bool]] = {}
        for case, source, store in cases(made, times, draw, Path(folder) / "changed"):
            first = audited(source, store).first
            found = first is not None and (first.layer, first.stream, first.entry) == case[1:]
            if not found:
                print(f"missed {case}: {first}")
            kinds.setdefault(case.name, []).append(found)
        for taken, located in taken_away(made, times, draw):
            kinds.setdefault(taken, []).append(located)
        kinds["sealed file"] = list(sealed_files(made, times, draw, Path(folder) / "sealed"))
    figures = {
        name: Figure(sum(found), f"of {len(found)} located", f">= {len(found)}") for name, found in kinds.items()
    }
    total = [each for found in kinds.values() for each in found]
    return {**figures, "all": Figure(sum(total), f"of {len(total)} located", f">= {len(total)}")}


def taken_away(made: Replayed, times: int, draw: random.Random) -> Iterator[tuple[str, bool]]:
    """Yield the name of each manipulation of ``bench.omissions``, and whether it was found.

    They are made on the recorded installation, and on runs of ``bench.chaos``, which have halts, deadlines and late
    ballots."""
    kinds = tuple(kind for kind in KINDS if kind not in {"scores", "gates"})
    worlds = [World(seed) for seed in range(times)]
    for world in worlds:
        world.run(1_000)
        record_ = Record(world.source)
        for forge in FORGERIES:
            for taken, source in forge(record_, draw, 1):
                found = audited(source, Path("nowhere"), kinds, worker=worker_of)
                yield taken.name, _told(taken, found)
    record_ = Record(made.source)
    for forge in (removals, omissions, backdated, doubled, scores):
        for taken, source in forge(record_, draw, max(1, times // 4)):
            yield taken.name, _told(taken, audited(source, made.store.path))


def _told(taken: Taken, found: Findings) -> bool:
    located = taken.located(found)
    if not located:
        print(f"missed {taken}: {found.first}")
    return located


def sealed_files(made: Replayed, times: int, draw: random.Random, folder: Path) -> Iterator[bool]:
    """Yield for each flipped bit of an archive file whether it is found in that file."""
    seal_all(made, folder)
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.parent.name != "readiness")
    for _ in range(times):
        path = draw.choice(paths)
        data = path.read_bytes()
        path.write_bytes(flipped(data, draw.randrange(len(data)), draw.randrange(8)))
        first = verified(Where("", str(folder), str(made.store.path)), EntryRange(), KINDS, 1).first
        path.write_bytes(data)
        found = first is not None and first.layer == "file" and f"{path.parent.name}/{path.name}" in first.detail
        if not found:
            print(f"missed {path}: {first}")
        yield found


def cases(made: Replayed, times: int, draw: random.Random, changed: Path) -> Iterator[tuple[Case, Recorded, Path]]:
    """Yield each case, with the source and the artifact store that contain the change."""
    for stream in LAYER:
        for case, source in bits(made, stream, times, draw):
            yield case, source, made.store.path
        if stream != "control":
            for case, source in forgeries(made, stream, times, draw):
                yield case, source, made.store.path
    for case, source in rechained(made, times, draw):
        yield case, source, made.store.path
    for case, change in files(made, 2 * times, draw):
        shutil.rmtree(changed, ignore_errors=True)
        shutil.copytree(made.store.path, changed)
        change(changed)
        yield case, made.source, changed
