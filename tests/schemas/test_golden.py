"""Bytes that a release wrote read as the same values for ever, and their ids vouch for them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from schemas.catalogue import STREAMS
from schemas.codec import ROOT, Envelope, decode, framed, identify
from schemas.documentation.documents import fields_of

GOLDEN = Path(__file__).parent / "golden"
RELEASED = Path(__file__).parent / "released"
ENTRIES = [
    pytest.param(entry, id=f"{path.stem}-{place}-{entry['stream']}")
    for path in sorted(GOLDEN.glob("*.json"))
    for place, entry in enumerate(json.loads(path.read_text()))
]
each_entry = pytest.mark.parametrize("entry", ENTRIES)


def holds(now: Any, then: Any) -> bool:
    """Whether ``now`` has all that ``then`` had, with equal values; fields may have been added."""
    if isinstance(then, dict):
        return all(key in now and holds(now[key], value) for key, value in then.items())
    if isinstance(then, list):
        return len(now) == len(then) and all(map(holds, now, then))
    return bool(now == then)


def payload_of(stream: str, data: bytes) -> bytes:
    """The bytes of the event as they were written, unread."""
    if STREAMS[stream].codec == "json":
        return bytes(msgspec.json.decode(data, type=dict[str, Raw])["event"])
    return bytes(msgspec.msgpack.decode(data, type=Envelope[Raw]).event)


@each_entry
def test_it_reads_as_the_same_values(entry: dict[str, Any]) -> None:
    found = decode(entry["stream"], bytes.fromhex(entry["hex"]))
    assert holds(fields_of(found), entry["envelope"])


@each_entry
def test_its_id_is_that_of_its_bytes(entry: dict[str, Any]) -> None:
    data, said = bytes.fromhex(entry["hex"]), entry["envelope"]
    root = ROOT.hex() if said["correlation"] == said["id"] else said["correlation"]
    payload = payload_of(entry["stream"], data)
    found = identify(entry["stream"], payload, bytes.fromhex(said["causation"]), bytes.fromhex(root))
    assert found.hex() == said["id"]


@each_entry
def test_it_is_authentic(entry: dict[str, Any]) -> None:
    assert not framed(entry["stream"], bytes.fromhex(entry["hex"])).fault


@pytest.mark.parametrize("version", [path.stem for path in sorted(GOLDEN.glob("*.json"))])
def test_every_event_and_command_of_a_release_has_its_golden_bytes(version: str) -> None:
    kept = {tag for entry in json.loads((GOLDEN / f"{version}.json").read_text()) for tag in tags_of(entry["envelope"])}
    for path in (RELEASED / version).iterdir():
        for definition in json.loads(path.read_text())["$defs"].values():
            places = definition.get("prefixItems") or [definition["properties"].get("type", {})]
            assert set(places[0].get("enum", ())) <= kept, f"{definition['title']} of {path.name}"


def tags_of(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "type" in value:
            yield value["type"]
        for each in value.values():
            yield from tags_of(each)
