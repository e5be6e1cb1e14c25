"""What was released stays readable: each kind of break is found, and the current schemas have none."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta, Struct, convert, defstruct
from msgspec.structs import replace

from schemas.catalogue import STREAMS
from schemas.documentation.compatibility import Schema, breaks
from schemas.documentation.documents import schemas, stream_schema

RELEASED = Path(__file__).parents[1] / "released"
VERSIONS = sorted(path.name for path in RELEASED.iterdir())
KEPT = {"0.1.0": "60816e0711c9f77eb7a74b063d27783a9d7da46d431e7f4dc4dcd0303b077d78"}
"""SHA-256 over the files of each release, in the order of their names."""


def text(least: int = 1, most: int = 8, pattern: str | None = None) -> Any:
    return Annotated[str, Meta(min_length=least, max_length=most, pattern=pattern)]


class Part(Struct, frozen=True):
    a: int
    b: str = ""


def packed(fields: list[Any], tag: str = "event") -> Any:
    return defstruct("Event", fields, frozen=True, array_like=True, tag=tag)


def open_(fields: list[Any], tag: str = "event", name: str = "Event") -> Any:
    return defstruct(name, fields, frozen=True, tag=tag)


def schema(events: Any, **changed: Any) -> Schema:
    return stream_schema(replace(STREAMS["market"], **{"events": events, **changed}))


A, B = ("a", int), ("b", str)
ALLOWED: dict[str, tuple[Any, Any]] = {
    "nothing": (packed([A, B]), packed([A, B])),
    "a new event": (open_([A]), open_([A]) | open_([A], tag="other", name="Other")),
    "another name for a struct": (open_([A]), open_([A], name="Renamed")),
    "another order of fields in an object": (open_([A, B]), open_([B, A])),
    "a new field with a default": (open_([A]), open_([A, ("b", str, "")])),
    "a new last place with a default": (packed([A]), packed([A, ("b", str, "")])),
    "a default for a field that had none": (packed([A, B]), packed([A, ("b", str, "")])),
    "a wider limit": (open_([("a", text(2, 8))]), open_([("a", text(1, 9))])),
    "an exclusive limit that includes itself": (
        open_([("a", Annotated[float, Meta(gt=0)])]),
        open_([("a", Annotated[float, Meta(ge=0)])]),
    ),
    "no limit": (open_([("a", text(1, 8, "^[a-z]$"))]), open_([("a", str)])),
    "a new value": (open_([("a", Literal["x", "y"])]), open_([("a", Literal["x", "y", "z"])])),
    "any text for given values": (open_([("a", Literal["x", "y"])]), open_([("a", str)])),
    "or null": (open_([("a", int)]), open_([("a", int | None)])),
    "a new type beside another": (open_([("a", int | None)]), open_([("a", int | str | None)])),
    "more bytes": (
        packed([("a", Annotated[bytes, Meta(max_length=31)])]),
        packed([("a", Annotated[bytes, Meta(max_length=32)])]),
    ),
}
BROKEN: dict[str, tuple[Any, Any, str]] = {
    "an event is gone": (open_([A]) | open_([A], "other", "Other"), open_([A]), "events: 'other' is gone"),
    "the only event is renamed": (open_([A]), open_([A], "another"), "events: 'event' is gone"),
    "an event is an array now": (open_([A]), packed([A]), "event: was object and is array"),
    "a field is gone": (open_([A, B]), open_([A]), "event: field 'b' is gone"),
    "a field is renamed": (open_([A]), open_([("z", int, 0)]), "event: field 'a' is gone"),
    "a last place is gone": (packed([A, B]), packed([A]), "event: field 'b' is gone"),
    "a place is renamed": (packed([A, B]), packed([A, ("z", str)]), "event: field 'b' is gone"),
    "two places changed places": (packed([A, B]), packed([B, A]), "event: field 'a' was at place 1 and is at 2"),
    "a place was inserted": (packed([A]), packed([("n", int), A]), "event: field 'a' was at place 1 and is at 2"),
    "a new field is required": (open_([A]), open_([A, B]), "event: field 'b' is new and required"),
    "a new last place is required": (packed([A]), packed([A, B]), "event: field 'b' is new and required"),
    "a field is required now": (open_([("a", int, 0)]), open_([A]), "event: field 'a' is required now"),
    "a place is required now": (packed([A, ("b", str, "")]), packed([A, B]), "event: field 'b' is required now"),
    "another default": (open_([("a", int, 0)]), open_([("a", int, 1)]), "event.a: the default was 0 and is 1"),
    "another type": (open_([A]), open_([("a", str)]), "event.a: was integer and is string"),
    "a whole number for a float": (open_([("a", float)]), open_([A]), "event.a: was number and is integer"),
    "text for binary": (packed([("a", bytes)]), packed([("a", str)]), "event.a: was string of bytes and is string"),
    "no null": (open_([("a", int | None)]), open_([A]), "event.a: 'null' is gone"),
    "one value less": (
        open_([("a", Literal["x", "y"])]),
        open_([("a", Literal["x"])]),
        "event.a: 'y' is no longer allowed",
    ),
    "given values for any text": (
        open_([("a", str)]),
        open_([("a", Literal["x"])]),
        "event.a: any string was allowed, now only ['x']",
    ),
    "a higher least length": (open_([("a", text(1))]), open_([("a", text(2))]), "event.a: minLength was 1 and is 2"),
    "a lower greatest length": (
        open_([("a", text(1, 8))]),
        open_([("a", text(1, 7))]),
        "event.a: maxLength was 8 and is 7",
    ),
    "a limit where none was": (
        open_([A]),
        open_([("a", Annotated[int, Meta(ge=0)])]),
        "event.a: minimum was not set and is 0",
    ),
    "a limit that excludes itself": (
        open_([("a", Annotated[int, Meta(le=9)])]),
        open_([("a", Annotated[int, Meta(lt=9)])]),
        "event.a: maximum was 9 and is 9",
    ),
    "fewer bytes": (
        packed([("a", Annotated[bytes, Meta(max_length=33)])]),
        packed([("a", Annotated[bytes, Meta(max_length=32)])]),
        "event.a: x-maxBytes was 33 and is 32",
    ),
    "a pattern where none was": (
        open_([("a", text())]),
        open_([("a", text(pattern="^x$"))]),
        "event.a: the pattern was None and is '^x$'",
    ),
    "a longer tuple": (
        open_([("a", tuple[int, int])]),
        open_([("a", tuple[int, int, int])]),
        "event.a: minItems was 2 and is 3",
    ),
    "another type in a tuple": (
        open_([("a", tuple[int, int])]),
        open_([("a", tuple[int, str])]),
        "event.a.1: was integer and is string",
    ),
    "another type in a list": (
        open_([("a", tuple[int, ...])]),
        open_([("a", tuple[str, ...])]),
        "event.a.<items>: was integer and is string",
    ),
    "another type in a mapping": (
        open_([("a", dict[str, int])]),
        open_([("a", dict[str, float])]),
        "event.a.<additionalProperties>: was integer and is number",
    ),
}


@pytest.mark.parametrize("change", ALLOWED)
def test_a_change_that_readers_of_old_entries_survive_is_allowed(change: str) -> None:
    old, new = ALLOWED[change]
    assert breaks(schema(old), schema(new)) == []


@pytest.mark.parametrize("change", BROKEN)
def test_a_break_is_found_and_said(change: str) -> None:
    old, new, says = BROKEN[change]
    assert says in breaks(schema(old), schema(new))


def test_a_break_in_a_struct_inside_is_found_at_its_place() -> None:
    class Old(Struct, tag="event"):
        parts: tuple[Part, ...]

    class Narrow(Struct):
        a: Annotated[int, Meta(ge=0)]
        b: str = ""

    class New(Struct, tag="event"):
        parts: tuple[Narrow, ...]

    assert breaks(schema(Old), schema(New)) == ["event.parts.<items>.a: minimum was not set and is 0"]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"codec": "json"}, "codec of the stream was 'msgpack' and is 'json'"),
        ({"name": "bars"}, "key of the stream was 'conclave:{p0}:market' and is 'conclave:{p0}:bars'"),
        ({"partitioned": False}, "partitioned of the stream was True and is False"),
        ({"version": 2}, "version of the stream was 1 and is 2"),
    ],
)
def test_another_codec_key_or_version_of_a_stream_is_a_break(changed: dict[str, Any], says: str) -> None:
    event = packed([A])
    assert says in breaks(schema(event), schema(event, **changed))


def test_an_array_that_grew_at_its_end_is_read_by_the_grown_struct() -> None:
    assert convert(["event", 3], packed([A, ("b", str, "x")])).b == "x"


@pytest.mark.parametrize("version", VERSIONS)
def test_whatever_was_released_is_readable_under_the_current_schemas(version: str) -> None:
    current = json.loads(json.dumps(schemas()))
    for path in sorted((RELEASED / version).iterdir()):
        assert path.name in current, f"the stream of {path.name} is gone"
        assert breaks(json.loads(path.read_text()), current[path.name]) == [], path.name


def test_no_release_is_without_its_schemas() -> None:
    assert sorted(KEPT) == VERSIONS


@pytest.mark.parametrize("version", KEPT)
def test_the_schemas_of_a_release_are_never_written_again(version: str) -> None:
    digest = hashlib.sha256()
    for path in sorted((RELEASED / version).iterdir()):
        digest.update(path.read_bytes())
    assert digest.hexdigest() == KEPT[version]
