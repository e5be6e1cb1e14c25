"""Recorded histories: a later release must read each of them to the same end, or stop at the same entry."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from schemas.codec import encode
from shared.control import ControlError, ControlReader

HISTORIES = sorted(path for path in (Path(__file__).parents[2] / "histories").glob("*.json") if path.stem != "outcomes")
each_history = pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)


def read(history: dict[str, Any]) -> tuple[ControlReader, str | None]:
    """A reader after all it would take, and why it stopped."""
    reader = ControlReader()
    for entry, data in history["entries"]:
        try:
            reader.take(entry, data.encode())
        except ControlError as error:
            return reader, str(error)
    return reader, None


@each_history
def test_a_history_ends_where_it_always_ended(path: Path) -> None:
    history = json.loads(path.read_text())
    reader, stopped = read(history)
    assert (reader.state.version, reader.state.head) == (history["version"], history["head"])
    assert [[refused.entry, refused.reason] for refused in reader.refused] == history["refused"]
    assert stopped == history.get("stops")


def test_there_is_one_that_counts_one_that_goes_on_and_one_that_must_fail() -> None:
    ends = {path.stem: json.loads(path.read_text()) for path in HISTORIES}
    assert ends["first_release"]["version"] == 14
    assert ends["intruder"]["version"] == 10
    assert len(ends["intruder"]["refused"]) == 5
    assert {"deleted", "edited", "newer"} == {name for name, end in ends.items() if "stops" in end}


@each_history
def test_what_counts_is_written_today_as_it_was_then(path: Path) -> None:
    """Byte for byte: an entry's id, head and signature are over its bytes."""
    reader = ControlReader()
    for entry, data in json.loads(path.read_text())["entries"]:
        try:
            found = reader.take(entry, data.encode())
        except ControlError:
            return
        if found is not None:
            assert encode("control", found.event).data == data.encode()


@each_history
def test_every_prefix_reads_the_same_whoever_reads_it(path: Path) -> None:
    """Live or from the beginning: a reader that came later saw the same versions."""
    history = json.loads(path.read_text())
    heads = []
    for end in range(len(history["entries"]) + 1):
        reader, _ = read({"entries": history["entries"][:end]})
        heads.append([reader.state.past[version].head for version in range(1, reader.state.version + 1)])
    assert all(later[: len(earlier)] == earlier for earlier, later in pairwise(heads))
