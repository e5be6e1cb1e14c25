"""Write the generated reference: ``python -m schemas.documentation.documents``.

The files are below ``docs/reference``: one JSON Schema (draft 2020-12) for the events of each stream and one for
the envelope, ``asyncapi.json``, and ``streams.md``. ``--check`` lists the files that are stale. ``--freeze <release>``
saves the schemas and the example events of a release below ``tests/schemas``; later changes are tested against them.
A release cannot be frozen twice.
"""

import inspect
import json
import sys
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, Final, get_origin

import msgspec
from msgspec import UNSET, Struct
from msgspec import inspect as types

from schemas.catalogue import STREAMS, StreamSpec
from schemas.codec import Encoded, Envelope, _JsonEnvelope
from schemas.documentation.asyncapi import asyncapi
from schemas.documentation.compatibility import Schema
from schemas.documentation.examples import examples
from schemas.documentation.streams import table

ROOT: Final = Path(__file__).parents[2]
REFERENCE: Final = ROOT / "docs" / "reference"
RELEASED: Final = ROOT / "tests" / "schemas"
DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
GENERIC: Final = "_Any_"


def stream_schema(spec: StreamSpec) -> Schema:
    """Return the JSON Schema of a stream's events. For a MessagePack stream it describes the values as JSON, with
    binary as base64; ``x-minBytes`` and ``x-maxBytes`` are the lengths in bytes."""
    generated = msgspec.json.schema(spec.events)
    return {
        "$schema": DRAFT,
        "title": spec.name,
        "description": spec.summary,
        "x-conclave": {
            "codec": spec.codec,
            "key": spec.key(0),
            "partitioned": spec.partitioned,
            "version": spec.version,
        },
        **_readable(generated, spec.events),
    }


def envelope_schema() -> Schema:
    """Return the JSON Schema of the envelope: ``Envelope`` on MessagePack streams (an array), ``JsonEnvelope`` on JSON
    streams (an object)."""
    schemas, definitions = msgspec.json.schema_components([Envelope[Any], _JsonEnvelope[Any]])
    document = _readable({"anyOf": list(schemas), "$defs": definitions}, Envelope[Any], _JsonEnvelope[Any])
    text = (
        json.dumps(document)
        .replace(f"_JsonEnvelope{GENERIC}", "JsonEnvelope")
        .replace("_JsonEnvelope[", "JsonEnvelope[")
    )
    named = json.loads(text.replace(GENERIC, "").replace("[Any]", ""))
    return {"$schema": DRAFT, "title": "envelope", "description": "The fields that all events have.", **named}


def schemas() -> dict[str, Schema]:
    """Return every JSON Schema by file name."""
    streams = {f"{spec.name}.json": stream_schema(spec) for spec in STREAMS.values()}
    return streams | {"envelope.json": envelope_schema()}


def documents() -> dict[str, str]:
    """Return the text of every generated document by its path below ``docs/reference``."""
    texts = {f"schemas/{name}": _json(schema) for name, schema in schemas().items()}
    return texts | {"asyncapi.json": _json(asyncapi(release())), "streams.md": table()}


def release() -> str:
    """Return the version of this source tree."""
    version: str = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return version


def stale(folder: Path = REFERENCE) -> list[str]:
    """Return the names of documents that are missing, out of date, or should not exist."""
    wanted = documents()
    outdated = [
        name
        for name, text in wanted.items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    ]
    present = {f"schemas/{path.name}" for path in (folder / "schemas").glob("*.json")}
    return sorted(outdated + [name for name in present if name not in wanted])


def write(folder: Path = REFERENCE) -> None:
    """Write every document, and delete the schemas of streams that no longer exist."""
    (folder / "schemas").mkdir(parents=True, exist_ok=True)
    for path in (folder / "schemas").glob("*.json"):
        path.unlink()
    for name, text in documents().items():
        (folder / name).write_text(text, encoding="utf-8")


def freeze(version: str, folder: Path = RELEASED) -> None:
    """Save the schemas and the example events of a release. Raises ``FileExistsError`` for one that is saved."""
    (folder / "released").mkdir(parents=True, exist_ok=True)
    (folder / "golden").mkdir(parents=True, exist_ok=True)
    (folder / "released" / version).mkdir()
    for name, schema in schemas().items():
        (folder / "released" / version / name).write_text(_json(schema), encoding="utf-8")
    with (folder / "golden" / f"{version}.json").open("x", encoding="utf-8") as file:
        file.write(_json([_golden(example) for example in examples()]))


def fields_of(value: Any) -> Any:
    """Return a value with the fields of its structs by name, also for array-like structs, without those that are not
    set. Bytes become hexadecimal."""
    if isinstance(value, Struct):
        tag = value.__struct_config__.tag
        named = {} if tag is None else {"type": tag}
        fields = {name: getattr(value, name) for name in value.__struct_fields__}
        return named | {name: fields_of(each) for name, each in fields.items() if each is not UNSET}
    if isinstance(value, tuple | list):
        return [fields_of(each) for each in value]
    if isinstance(value, dict):
        return {key: fields_of(each) for key, each in value.items()}
    return value.hex() if isinstance(value, bytes) else value


def _golden(example: Encoded) -> dict[str, Any]:
    return {"stream": example.stream, "envelope": fields_of(example.envelope), "hex": example.data.hex()}


def _json(document: Any) -> str:
    return json.dumps(document, indent=2) + "\n"


def _structs(*roots: Any) -> Iterator[types.StructType]:
    """Yield every struct that the given types contain, each once."""
    seen: set[int] = set()
    queue: list[Any] = list(types.multi_type_info(roots))
    while queue:
        info = queue.pop()
        if id(info) in seen:
            continue
        seen.add(id(info))
        if isinstance(info, types.StructType):
            yield info
            queue += [field.type for field in info.fields]
        elif isinstance(info, types.UnionType):
            queue += info.types
        elif isinstance(info, types.Metadata):
            queue.append(info.type)
        else:
            queue += [each for key in ("item_type", "value_type") if (each := getattr(info, key, None))]
            queue += getattr(info, "item_types", ())


def _readable(generated: Schema, *roots: Any) -> Schema:
    """Add what msgspec leaves out: the field name of each position of an array, and the byte lengths of binary."""
    document = deepcopy(generated)
    structs = {(get_origin(each.cls) or each.cls).__name__: each for each in _structs(*roots)}
    for name, definition in document["$defs"].items():
        if "description" in definition:
            definition["description"] = inspect.cleandoc(definition["description"])
        if "prefixItems" in definition:
            _named(definition["prefixItems"], structs[name.removesuffix(GENERIC)])
    return document


def _named(places: list[Schema], struct: types.StructType) -> None:
    fields: list[types.Field | None] = [None] * (struct.tag is not None) + [*struct.fields]
    for place, field in zip(places, fields, strict=True):
        place["title"] = field.encode_name if field else "type"
        if field and isinstance(field.type, types.BytesType):
            least, most = field.type.min_length, field.type.max_length
            place["description"] = "Binary; base64 where shown as JSON."
            place |= {f"x-{key}Bytes": value for key, value in (("min", least), ("max", most)) if value is not None}


def main(argv: list[str]) -> int:
    """``python -m schemas.documentation.documents [--check | --freeze <release>]``."""
    match argv:
        case []:
            write()
            return 0
        case ["--check"]:
            names = stale()
            for name in names:
                sys.stderr.write(f"stale: docs/reference/{name}; run `make schemas` and commit it\n")
            return 1 if names else 0
        case ["--freeze", version]:
            freeze(version)
            return 0
        case _:
            sys.stderr.write("usage: python -m schemas.documentation.documents [--check | --freeze <release>]\n")
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
