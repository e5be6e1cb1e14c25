"""Each link behind a decision is found on its stream and checked."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from bench.locate import flipped, replace
from bench.recorded_rounds import Recorded
from bench.replayed import Replayed
from schemas.codec import decode, encode, opened
from schemas.decisions import DecisionMade
from schemas.readiness import ArtifactReady
from schemas.training import Gain, TrainingCompleted, TrainingEvent, TrainingFailed
from shared.artifacts import ArtifactStore
from shared.audit.blame import BlamedEvent, Link, _loaded, _promotion, _step, find_decision, links
from shared.audit.configurations import Configurations
from shared.audit.findings import Findings
from shared.log import Entry, StreamKey

TRAINING = StreamKey("training")


@pytest.fixture(scope="module")
def name(replayed: Replayed) -> str:
    """The last decision that was counted and issued an intent."""
    events = [decode("decisions", entry.data) for entry in replayed.source.places[StreamKey("decisions")]]
    made = [each for each in events if isinstance(each.event, DecisionMade) and each.event.intent == "issued"]
    last: str = made[-1].id.hex()
    return last


def chain(source: Recorded, name: str, store: ArtifactStore) -> dict[str, Link]:
    found = find_decision(source, 1, name[:10])
    assert found is not None
    return {link.what: link for link in links(source, Configurations(source, Findings()), found, store)}


def test_every_link_is_checked_but_what_was_never_recorded(replayed: Replayed, name: str) -> None:
    found = chain(replayed.source, name, replayed.store)
    absent = {what for what, link in found.items() if link.outcome == "absent"}
    assert absent == {
        *(f"{model}'s training run" for model in ("lightgbm", "logistic")),
        *(f"{model}'s verdict" for model in ("lightgbm", "logistic")),
        *(f"{model} was ready" for model in ("lightgbm", "logistic")),
    }
    assert {link.outcome for what, link in found.items() if what not in absent} == {"checked"}
    assert "ada (a bench)" in found["logistic in service"].description
    assert {"decision", "configuration", "intent", "lightgbm's vector", "lightgbm's bar"} <= found.keys()


@pytest.mark.parametrize("stream", ["predictions", "features", "market"])
def test_a_changed_event_behind_a_decision_fails_its_link(replayed: Replayed, name: str, stream: str) -> None:
    found = chain(replayed.source, name, replayed.store)
    what = {"predictions": "lightgbm's ballot", "features": "lightgbm's vector", "market": "lightgbm's bar"}[stream]
    place = StreamKey(stream)
    entry = found[what].where.partition("@")[2]
    entries = replayed.source.places[place]
    number = next(number for number, each in enumerate(entries) if each.id == entry)
    source = replace(replayed.source, place, number, flipped(entries[number].data, len(entries[number].data) - 14, 0))
    assert chain(source, name, replayed.store)[what].outcome == "failed"


def test_a_ballot_that_is_gone_is_absent_and_a_changed_artifact_fails(
    replayed: Replayed, name: str, tmp_path: Path
) -> None:
    source = Recorded()
    source.places = {**replayed.source.places, StreamKey("predictions"): []}
    assert chain(source, name, replayed.store)["lightgbm's ballot"].outcome == "absent"
    store = tmp_path / "store"
    shutil.copytree(replayed.store.path, store)
    path = store / replayed.champions["lightgbm"] / "model.txt"
    path.write_bytes(flipped(path.read_bytes(), 99, 1))
    assert chain(replayed.source, name, ArtifactStore(store))["lightgbm's artifact"].outcome == "failed"
    shutil.rmtree(store)
    assert chain(replayed.source, name, ArtifactStore(store))["lightgbm's artifact"].outcome == "absent"


def completed(model: str, artifact: str, **changes: Any) -> TrainingCompleted:
    made = TrainingCompleted(
        request="5e" * 16,
        model=model,
        artifact=artifact,
        rows={},
        log_loss=1.0,
        prior_log_loss=1.1,
        gains=(),
        sanity=(),
        seconds=1.0,
        peak_mb=1.0,
        version=3,
        shadow=True,
        at=1,
    )
    return structs.replace(made, **changes)


def test_a_training_run_is_one_that_made_the_artifact_not_one_that_mentions_it(replayed: Replayed, name: str) -> None:
    artifact = replayed.champions["lightgbm"]
    against = Gain(over=f"champion {artifact}", value=0.0, low=-1.0, high=1.0)
    failed = TrainingFailed(request="5e" * 16, model="lightgbm", reason="crashed", detail=f"after {artifact}", at=1)
    others: list[TrainingEvent] = [
        completed("lightgbm", "77" * 32, gains=(against,)),
        completed("another", artifact),
        failed,
    ]

    def link(*events: TrainingEvent) -> Link:
        source = Recorded()
        entries = [Entry(TRAINING, f"{n}-0", encode("training", event).data) for n, event in enumerate(events, 1)]
        source.places = {**replayed.source.places, TRAINING: entries}
        return chain(source, name, replayed.store)["lightgbm's training run"]

    assert link(*others).outcome == "absent"
    run = link(others[0], completed("lightgbm", artifact, request="6f" * 16), *others[1:])
    assert (run.outcome, run.description, run.where) == ("checked", "job 6f6f6f6f6f6f", "training/0@2-0")


def test_a_vector_or_a_bar_of_another_bar_fails(replayed: Replayed, name: str) -> None:
    """An event is there under the id, and it is not what the decision claims of it."""
    found = find_decision(replayed.source, 1, name)
    assert found is not None
    market = replayed.source.places[StreamKey("market")]
    other = next(each for each in market if decode("market", each.data).event.open_time != found.event.open_time)
    recorded = BlamedEvent(StreamKey("market"), other.id, other.data, opened("market", other.data))
    link = _step("a bar", recorded, "77" * 16, found.event)
    assert (link.outcome, link.description[:20]) == ("failed", "it is of another bar")


def test_a_worker_that_loaded_another_artifact_is_no_evidence() -> None:
    event = ArtifactReady(
        model="m", artifact="a1" * 32, owner="me", life="6f1d09b2", control_version=1, took_ms=20, at=1
    )
    assert _loaded(event, "m", "a1" * 32)
    assert not _loaded(event, "m", "b1" * 32)
    assert not _loaded(event, "n", "a1" * 32)


def test_digits_that_several_decisions_begin_with_are_refused(replayed: Replayed, name: str) -> None:
    with pytest.raises(LookupError, match=r"\d+ decisions begin with : "):
        find_decision(replayed.source, 1, "")
    assert find_decision(replayed.source, 1, name) is not None


def test_a_promotion_by_two_persons_names_both() -> None:
    recorded = Path(__file__).parents[2] / "histories" / "two_persons.json"
    control = [
        Entry(StreamKey("control"), entry, data.encode()) for entry, data in json.loads(recorded.read_text())["entries"]
    ]
    source = Recorded()
    source.places[StreamKey("control")] = control
    configurations = Configurations(source)
    entries = [envelope.event for envelope in configurations.envelopes]
    found = {link.what: link for link in _promotion(source, configurations, entries, "a", "a2" * 32)}
    assert found["a in service"].description == "approve by ben (ben has a reason), signed by ben"
    assert found["a proposed"].description == "ada (ada has a reason), signed by ada"
    assert found["a proposed"].where == "control, version 14"
