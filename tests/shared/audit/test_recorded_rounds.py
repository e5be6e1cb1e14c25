"""Rounds as earlier releases wrote them: this release must come to the same decisions, to the bit."""

import base64
import json
from pathlib import Path

import pytest

from bench.recorded_rounds import Recorded
from schemas.catalogue import STREAMS
from services.console.audit.verify import audited
from shared.log import Entry, StreamKey

HISTORIES = sorted((Path(__file__).parents[2] / "histories" / "rounds").glob("*.json"))


def read(path: Path) -> Recorded:
    source = Recorded()
    for stream, entries in json.loads(path.read_text())["streams"].items():
        place, text = StreamKey(stream), STREAMS[stream].codec == "json"
        source.places[place] = [
            Entry(place, entry, data.encode() if text else base64.b64decode(data)) for entry, data in entries
        ]
    return source


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_recorded_rounds_are_decided_as_they_were(path: Path) -> None:
    source = read(path)
    found = audited(source, Path("nowhere"), ("control", "votes", "ballots"))
    assert (found.differences, found.code) == ([], 0)
    assert found.equal["decisions"] == len(source.places[StreamKey("decisions")]) > 0


def test_there_is_one_of_the_first_release() -> None:
    assert [path.stem for path in HISTORIES][:1] == ["first_release"]
