"""What was recorded is recomputed to the bit; what was changed is found where it was changed."""

import math
import random
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from bench.locate import LAYER, bits, files, forgeries, nudged, rechained, replace
from bench.recorded_rounds import Recorded, recorded
from bench.replayed import Replayed
from schemas.codec import decode, encode
from schemas.decisions import DecisionMade
from schemas.predictions import PredictionMade
from services.console.audit.verify import audited
from shared.artifacts import ArtifactStore
from shared.audit.artifacts import examine, field_at, flipped
from shared.audit.configurations import Configurations
from shared.audit.findings import Difference, Findings, merged
from shared.audit.predictions import differ_by_temperature
from shared.audit.source import EntryRange
from shared.audit.votes import check_votes
from shared.log import Entry, StreamKey

STREAMS = [stream for stream in LAYER if stream != "gates"]


def test_what_was_recorded_is_recomputed_to_the_bit(replayed: Replayed) -> None:
    found = audited(replayed.source, replayed.store.path)
    assert found.differences == []
    assert found.code == 0
    assert found.checked["decisions"] == found.equal["decisions"] == 1200
    assert found.equal["predictions"] == found.checked["predictions"] == 3600
    assert found.equal["features"] == 1200
    assert found.equal["intents"] == len(replayed.source.places[StreamKey("intents")])


@pytest.mark.parametrize("stream", STREAMS)
def test_one_flipped_bit_is_located_at_its_entry(replayed: Replayed, stream: str) -> None:
    for case, source in bits(replayed, stream, 1, random.Random(11)):
        first = audited(source, replayed.store.path).first
        assert first is not None
        assert (first.layer, first.stream, first.entry) == (case.layer, case.stream, case.entry), first


@pytest.mark.parametrize("stream", [stream for stream in STREAMS if stream != "control"])
def test_an_event_that_was_sealed_again_is_located_by_recomputing_it(replayed: Replayed, stream: str) -> None:
    for case, source in forgeries(replayed, stream, 1, random.Random(5)):
        first = audited(source, replayed.store.path).first
        assert first is not None
        assert (first.layer, first.stream, first.entry) == (case.layer, case.stream, case.entry), first


def test_a_control_log_chained_again_contradicts_the_decisions_made_under_it(replayed: Replayed) -> None:
    for case, source in rechained(replayed, 1, random.Random(3)):
        first = audited(source, replayed.store.path, ("votes",)).first
        assert first is not None
        assert (first.layer, first.stream, first.entry) == (case.layer, case.stream, case.entry)


def test_a_bit_of_a_scaler_and_of_the_trees_is_named(replayed: Replayed, tmp_path: Path) -> None:
    for number, (case, change) in enumerate(files(replayed, 4, random.Random(2))):
        store = tmp_path / str(number)
        shutil.copytree(replayed.store.path, store)
        change(store)
        first = audited(replayed.source, store, ("predictions",)).first
        assert first is not None
        assert (first.layer, first.stream, first.entry) == (case.layer, case.stream, case.entry), first
        assert "was changed" in first.detail


def test_a_missing_artifact_is_inconclusive_and_never_a_pass(replayed: Replayed, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(replayed.store.path, store)
    shutil.rmtree(store / replayed.champions["lightgbm"])
    found = audited(replayed.source, store, ("predictions",))
    assert (found.code, found.count) == (3, 0)
    assert any("is not in the store" in reason for reason in found.unchecked)


def test_another_processor_is_tolerated_and_said_so(replayed: Replayed, monkeypatch: pytest.MonkeyPatch) -> None:
    place = StreamKey("predictions")
    envelopes = [decode("predictions", entry.data) for entry in replayed.source.places[place]]
    number = next(number for number, each in enumerate(envelopes) if isinstance(each.event, PredictionMade))
    envelope = envelopes[number]
    p = envelope.event.probabilities
    near = (p[0] + 1e-9, p[1] - 1e-9, p[2])
    made = structs.replace(envelope.event, probabilities=near)
    changed = encode("predictions", made, causation=envelope.causation, correlation=envelope.correlation)
    source = replace(replayed.source, place, number, changed.data)
    assert audited(source, replayed.store.path, ("predictions",)).count == 1
    monkeypatch.setattr("shared.artifacts.artifact.processor", lambda: "another")
    found = audited(source, replayed.store.path, ("predictions",))
    assert (found.count, found.tolerated) == (0, {"predictions": 1})


def test_what_came_in_one_millisecond_is_found_whatever_its_number_in_it(replayed: Replayed) -> None:
    source = Recorded()
    for place, entries in replayed.source.places.items():
        same = [Entry(place, f"1000-{number}", entry.data) for number, entry in enumerate(entries)]
        source.places[place] = entries if place == StreamKey("control") else same
    found = audited(source, replayed.store.path, ("ballots",))
    assert found.differences == []
    assert found.equal["ballots"] == 1200


def test_a_range_is_compared_alone(replayed: Replayed) -> None:
    entries = replayed.source.places[StreamKey("decisions")]
    span = EntryRange(entries[899].id, entries[1099].id)
    found = audited(replayed.source, replayed.store.path, span=span)
    assert found.code == 0
    assert found.checked["decisions"] == 200
    assert found.checked["ballots"] == 200
    assert 0 < found.checked["intents"] < 200
    assert 0 < found.checked["predictions"] < 3600


def test_a_trimmed_market_is_not_recomputed_where_a_window_reaches_beyond_it(replayed: Replayed) -> None:
    source = Recorded()
    source.places = dict(replayed.source.places)
    market, features = StreamKey("market"), StreamKey("features")
    source.places[market] = source.places[market][200:]
    source.places[features] = source.places[features][200:]
    source.whole = lambda place: place != market  # type: ignore[method-assign]  # a trimmed stream
    found = audited(source, replayed.store.path, ("features",))
    assert found.count == 0
    assert found.code == 3
    assert found.equal["features"] > 300


def changed_decision(source: Recorded, number: int, change: Callable[[DecisionMade], DecisionMade]) -> Recorded:
    place = StreamKey("decisions")
    envelope = decode("decisions", source.places[place][number].data)
    made = encode("decisions", change(envelope.event), causation=envelope.causation, correlation=envelope.correlation)
    return replace(source, place, number, made.data)


def with_fields(event: DecisionMade, **fields: Any) -> DecisionMade:
    return structs.replace(event, **fields)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("confidence", lambda e: with_fields(e, confidence=nudged(e.confidence))),
        ("action", lambda e: with_fields(e, action="BUY" if e.action != "BUY" else "SELL")),
        ("a ballot left out", lambda e: with_fields(e, counted=e.counted[1:])),
        ("a shadow left out", lambda e: with_fields(e, shadow=())),
        ("weight", lambda e: with_fields(e, counted=(structs.replace(e.counted[0], weight=0.3), *e.counted[1:]))),
    ],
)  # fmt: skip
def test_any_field_of_a_decision_must_follow(name: str, change: Callable[[DecisionMade], DecisionMade]) -> None:
    source = changed_decision(recorded(40), 17, change)
    first = audited(source, Path("nowhere"), ("votes", "ballots")).first
    assert first is not None, name
    assert (first.layer, first.entry) == ("vote", source.places[StreamKey("decisions")][17].id), first


def test_an_intent_without_a_decision_and_a_decision_without_its_intent_are_found() -> None:
    source = recorded(60)
    place = StreamKey("intents")
    entries = source.places[place]
    source.places[place] = entries[:3] + entries[4:]
    found = audited(source, Path("nowhere"), ("votes",))
    assert (found.count, found.differences[0].layer, found.differences[0].missing) == (1, "intent", True)
    place_ = StreamKey("decisions")
    event = decode("intents", entries[2].data).event
    source.places[place] = entries
    source.places[place_] = [e for e in source.places[place_] if decode("decisions", e.data).id.hex() != event.decision]
    found = audited(source, Path("nowhere"), ("votes",))
    assert [(each.layer, each.entry) for each in found.differences] == [("intent", entries[2].id)]


def test_votes_under_a_version_that_control_does_not_make_are_a_difference() -> None:
    source = recorded(10)
    source.places[StreamKey("control")] = source.places[StreamKey("control")][:-1]
    findings = Findings()
    found = check_votes(source, Configurations(source, findings), 0, EntryRange())
    assert found.count == 10
    assert found.differences[0].layer == "configuration"


def test_nothing_checked_is_no_pass() -> None:
    assert Findings().code == 3
    assert merged([Findings()]).code == 3


def test_what_causes_comes_first() -> None:
    late = Difference("bar", "market", 0, "900-0", "", "")
    early = Difference("vote", "decisions", 0, "100-0", "", "")
    gone = Difference("bar", "market", 0, "50-0", "", "", missing=True)
    assert merged([Findings(differences=[early, gone, late], count=3)]).first == late


def test_one_bit_is_found_again_and_its_field_named() -> None:
    data = b'{"a":{"b":[1,2]},"scaler":{"mean":[0.5]},"z":"q"}'
    at = data.index(b"0.5")
    changed = data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]
    assert flipped(changed, sha256(data).hexdigest()) == at
    assert field_at(changed, at) == "scaler"
    assert flipped(b"else", sha256(data).hexdigest()) is None


def test_an_artifact_that_is_whole_is_given(replayed: Replayed) -> None:
    found = examine(ArtifactStore(replayed.store.path), replayed.candidate)
    assert found.artifact is not None
    assert found.fault == ""


def test_a_temperature_alone_is_told_from_another_answer() -> None:
    p = (0.2, 0.5, 0.3)
    cooler = [math.exp(math.log(x) / 1.3) for x in p]
    q = tuple(x / sum(cooler) for x in cooler)
    assert differ_by_temperature(q, p)
    assert not differ_by_temperature((0.3, 0.4, 0.3), p)
