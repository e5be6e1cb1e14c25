"""The generated reference is fresh, valid, and says what is on the wire."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from schemas.catalogue import STREAMS, events_of
from schemas.codec import Encoded
from schemas.documentation.asyncapi import asyncapi, shown_as_json
from schemas.documentation.documents import REFERENCE, documents, freeze, main, schemas, stale, write
from schemas.documentation.examples import examples

SCHEMAS = schemas()
API = asyncapi("0.0.0")
REGISTRY: Any = Registry().with_resources(
    (f"schemas/{name}", Resource.from_contents(schema, default_specification=DRAFT202012))
    for name, schema in SCHEMAS.items()
)
each_example = pytest.mark.parametrize(
    "sealed", examples(), ids=lambda each: f"{each.stream}-{each.envelope.id.hex()[:4]}"
)


def valid(schema: Any, value: Any) -> bool:
    return bool(jsonschema.Draft202012Validator(schema, registry=REGISTRY).is_valid(value))


def message_of(sealed: Encoded) -> Any:
    return API["components"]["messages"][type(sealed.envelope.event).__name__]


def resolved(reference: str) -> Any:
    found: Any = API
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def test_the_committed_documents_are_fresh() -> None:
    assert stale(REFERENCE) == [], "run `make schemas` and commit what it writes"


def test_a_stale_missing_or_left_over_document_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    assert stale(tmp_path) == []
    (tmp_path / "streams.md").unlink()
    (tmp_path / "schemas" / "market.json").write_text("{}")
    (tmp_path / "schemas" / "gone.json").write_text("{}")
    assert stale(tmp_path) == ["schemas/gone.json", "schemas/market.json", "streams.md"]
    write(tmp_path)
    assert stale(tmp_path) == []


def test_checking_exits_with_1_and_names_what_is_stale(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("schemas.documentation.documents.stale", lambda: ["streams.md"])
    assert main(["--check"]) == 1
    assert "stale: docs/reference/streams.md" in capsys.readouterr().err
    monkeypatch.setattr("schemas.documentation.documents.stale", list)
    assert main(["--check"]) == 0
    assert main(["--chekc"]) == 2


def test_a_release_is_frozen_once(tmp_path: Path) -> None:
    freeze("1.2.3", tmp_path)
    assert {path.name for path in (tmp_path / "released" / "1.2.3").iterdir()} == set(SCHEMAS)
    assert len(json.loads((tmp_path / "golden" / "1.2.3.json").read_text())) == len(examples())
    with pytest.raises(FileExistsError):
        freeze("1.2.3", tmp_path)


def test_generating_twice_gives_the_same_text() -> None:
    assert documents() == documents()


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_schema_is_a_valid_schema_with_names_for_all_its_places(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])
    for title, definition in SCHEMAS[name]["$defs"].items():
        assert definition["description"], f"{title} has no docstring"
        assert all(place["title"] for place in definition.get("prefixItems", []))


@each_example
def test_what_is_written_is_valid_under_its_schema_and_its_message(sealed: Encoded) -> None:
    shown = shown_as_json(sealed)
    event = shown["event"] if isinstance(shown, dict) else shown[5]
    assert valid({"$ref": f"schemas/{sealed.stream}.json"}, event)
    assert valid({"$ref": "schemas/envelope.json"}, shown)
    assert valid(message_of(sealed)["payload"]["schema"], shown)


@each_example
def test_what_is_not_an_event_is_invalid_under_its_message(sealed: Encoded) -> None:
    schema = message_of(sealed)["payload"]["schema"]
    shown = shown_as_json(sealed)
    if isinstance(shown, dict):
        assert not valid(schema, {key: value for key, value in shown.items() if key != "causation"})
        assert not valid(schema, shown | {"event": shown["event"] | {"type": "another"}})
    else:
        assert not valid(schema, shown[:5])
        assert not valid(schema, [*shown[:5], ["another", *shown[5][1:]]])


def test_every_message_shows_an_example_that_is_valid() -> None:
    for name, message in API["components"]["messages"].items():
        assert valid(message["payload"]["schema"], message["examples"][0]["payload"]), name


def test_channels_operations_and_messages_are_those_of_the_catalogue() -> None:
    assert list(API["channels"]) == list(STREAMS)
    for spec in STREAMS.values():
        channel = API["channels"][spec.name]
        assert channel["address"].replace("{slot}", "{p0}") == spec.key(0)
        assert ("parameters" in channel) == spec.partitioned == ("{slot}" in channel["address"])
        assert list(channel["messages"]) == [event.__name__ for event in events_of(spec)]
        assert channel["x-retention-ms"] == spec.retention_ms
    assert set(API["operations"]) == {
        f"{service}.{action}.{spec.name}"
        for spec in STREAMS.values()
        for action, services in (("send", spec.writers), ("receive", spec.readers))
        for service in services
    }


def test_the_asyncapi_document_has_the_structure_of_version_3() -> None:
    jsonschema.Draft202012Validator(STRUCTURE).validate(API)
    for operation in API["operations"].values():
        assert resolved(operation["channel"]["$ref"])
    for channel in API["channels"].values():
        assert all(resolved(message["$ref"]) for message in channel["messages"].values())


def test_the_page_of_streams_names_every_stream_event_and_service() -> None:
    page = documents()["streams.md"]
    for spec in STREAMS.values():
        assert f"[`{spec.name}`](schemas/{spec.name}.json)" in page
        assert spec.summary in page
        assert all(f"`{event.__struct_config__.tag}`" in page for event in events_of(spec))
        assert all(service in page for service in (*spec.writers, *spec.readers))


TEXT = {"type": "string", "minLength": 1}
REFERENCED = {"type": "object", "properties": {"$ref": TEXT}, "required": ["$ref"], "additionalProperties": False}
STRUCTURE = {
    "type": "object",
    "required": ["asyncapi", "info", "channels", "operations", "components"],
    "additionalProperties": False,
    "properties": {
        "asyncapi": {"const": "3.0.0"},
        "info": {"type": "object", "required": ["title", "version"]},
        "defaultContentType": TEXT,
        "servers": {"additionalProperties": {"required": ["host", "protocol"]}},
        "channels": {
            "additionalProperties": {
                "required": ["address", "messages"],
                "additionalProperties": False,
                "patternProperties": {"^x-": True},
                "properties": {
                    "address": TEXT,
                    "title": TEXT,
                    "summary": TEXT,
                    "messages": {"additionalProperties": REFERENCED},
                    "parameters": {
                        "additionalProperties": {
                            "properties": {"description": TEXT, "default": TEXT, "examples": {"items": TEXT}},
                            "additionalProperties": False,
                        }
                    },
                },
            }
        },
        "operations": {
            "additionalProperties": {
                "required": ["action", "channel"],
                "additionalProperties": False,
                "properties": {
                    "action": {"enum": ["send", "receive"]},
                    "channel": REFERENCED,
                    "title": TEXT,
                    "tags": {"items": {"required": ["name"]}},
                },
            }
        },
        "components": {
            "additionalProperties": False,
            "properties": {
                "messages": {
                    "additionalProperties": {
                        "required": ["payload"],
                        "additionalProperties": False,
                        "properties": {
                            **dict.fromkeys(("name", "title", "summary", "description", "contentType"), TEXT),
                            "correlationId": {"properties": {"location": {"pattern": r"^\$message\.payload#/"}}},
                            "payload": {"required": ["schemaFormat", "schema"], "additionalProperties": False}
                            | {"properties": {"schemaFormat": TEXT, "schema": {"type": "object"}}},
                            "examples": {"items": {"required": ["payload"]}},
                        },
                    }
                }
            },
        },
    },
}
