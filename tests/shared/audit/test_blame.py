"""Each link behind a decision is found on its stream and checked."""

import shutil
from pathlib import Path

import pytest

from bench.locate import flipped, replace
from bench.recorded_rounds import Recorded
from bench.replayed import Replayed
from schemas.codec import decode
from schemas.decisions import DecisionMade
from shared.artifacts import ArtifactStore
from shared.audit.blame import Link, find_decision, links
from shared.audit.configurations import Configurations
from shared.audit.findings import Findings
from shared.log import StreamKey


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
