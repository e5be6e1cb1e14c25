"""Compare two generated schema documents of a stream, and report incompatible changes.

The guarantee is to readers of old entries: an entry written under a released schema is readable, with the same
meaning, under every later schema. Events, fields and values may therefore be added and never removed. In an array,
where a field is identified by its position, fields are added at the end only. An added field has a default.
"""

from collections.abc import Iterator
from typing import Any, Final

Schema = dict[str, Any]

LOWER: Final = (("minimum", "exclusiveMinimum"), ("minLength", ""), ("minItems", ""), ("x-minBytes", ""))
UPPER: Final = (("maximum", "exclusiveMaximum"), ("maxLength", ""), ("maxItems", ""), ("x-maxBytes", ""))
FIXED: Final = ("codec", "key", "partitioned", "version")


def breaks(old: Schema, new: Schema) -> list[str]:
    """Return the reasons why entries written under ``old`` cannot be read, or change meaning, under ``new``.

    The list is empty if ``new`` is compatible. Both are documents of one stream as ``schemas.documentation.documents``
    makes them. Changes that no schema shows are not found: a new unit, or a new meaning of a field.
    """
    changed = [
        f"{key} of the stream was {was!r} and is {now!r}"
        for key in FIXED
        if (was := old.get("x-conclave", {}).get(key)) != (now := new.get("x-conclave", {}).get(key))
    ]
    return changed + list(_Comparison(old, new).compare("", old, new))


class _Comparison:
    def __init__(self, old: Schema, new: Schema):
        self._old, self._new = old, new
        self._seen: set[tuple[str, str]] = set()

    def compare(self, path: str, old: Schema, new: Schema) -> Iterator[str]:
        """Yield the incompatible changes at and below one path of both documents."""
        pair = (old.get("$ref", ""), new.get("$ref", ""))
        if all(pair):
            if pair in self._seen:
                return
            self._seen.add(pair)
        befores, afters = _alternatives(old, self._old), _alternatives(new, self._new)
        if len(befores) == len(afters) == 1 and "" in {_tag(befores[0]), _tag(afters[0])}:
            yield from self._compare_type(path, befores[0], afters[0])
            return
        candidates = {_kind(each): each for each in afters}
        for before in befores:
            if _kind(before) not in candidates:
                yield f"{path or 'events'}: {_kind(before)!r} is gone"
            else:
                yield from self._compare_type(_below(path, _tag(before)), before, candidates[_kind(before)])

    def _compare_type(self, path: str, old: Schema, new: Schema) -> Iterator[str]:
        if _base(old) != _base(new):
            yield f"{path}: was {_base(old)} and is {_base(new)}"
            return
        yield from _narrowed(path, old, new)
        if "properties" in old or "properties" in new:
            yield from self._fields(path, old, new)
        if "prefixItems" in old or "prefixItems" in new:
            yield from self._places(path, old, new)
        for key in ("items", "additionalProperties", "propertyNames"):
            if isinstance(old.get(key), dict) and isinstance(new.get(key), dict):
                yield from self.compare(_below(path, f"<{key}>"), old[key], new[key])

    def _fields(self, path: str, old: Schema, new: Schema) -> Iterator[str]:
        befores, afters = old.get("properties", {}), new.get("properties", {})
        for name, before in befores.items():
            if name not in afters:
                yield f"{path}: field {name!r} is gone"
            else:
                yield from _default(_below(path, name), before, afters[name])
                yield from self.compare(_below(path, name), before, afters[name])
        for name in sorted(set(new.get("required", ())) - set(old.get("required", ()))):
            state = "is required now" if name in befores else "is new and required"
            yield f"{path}: field {name!r} {state}"

    def _places(self, path: str, old: Schema, new: Schema) -> Iterator[str]:
        befores, afters = old.get("prefixItems", []), new.get("prefixItems", [])
        names = [each.get("title", "") for each in afters]
        for place, before in enumerate(befores):
            name = before.get("title", "")
            if name and name not in names:
                yield f"{path}: field {name!r} is gone"
            elif name and names.index(name) != place:
                yield f"{path}: field {name!r} was at place {place} and is at {names.index(name)}"
            elif place >= len(afters):
                yield f"{path}: place {place} is gone"
            else:
                yield from _default(_below(path, name or str(place)), before, afters[place])
                yield from self.compare(_below(path, name or str(place)), before, afters[place])
        for place in range(old.get("minItems", 0), min(new.get("minItems", 0), len(afters))):
            state = "is required now" if place < len(befores) else "is new and required"
            yield f"{path}: field {names[place] or place!r} {state}"


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


def _resolved(schema: Schema, document: Schema) -> Schema:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    definition: Schema = document["$defs"][reference.removeprefix("#/$defs/")]
    return definition


def _alternatives(schema: Schema, document: Schema) -> list[Schema]:
    resolved = _resolved(schema, document)
    return [_resolved(each, document) for each in resolved.get("anyOf", [resolved])]


def _tag(schema: Schema) -> str:
    """Return the tag of a struct in a union, or an empty text if there is none."""
    if "properties" in schema:
        head = schema["properties"].get("type", {})
    else:
        head = (schema.get("prefixItems") or [{}])[0]
        if head.get("title") != "type":
            return ""
    values = head.get("enum", [])
    return values[0] if len(values) == 1 else ""


def _base(schema: Schema) -> str:
    """Return the encoded type. Binary differs from text, and an object from an array."""
    if "enum" in schema:
        return "/".join(sorted({type(value).__name__ for value in schema["enum"]})).replace("str", "string")
    return f"{schema.get('type', 'anything')}{' of bytes' if 'contentEncoding' in schema else ''}"


def _kind(schema: Schema) -> str:
    return _tag(schema) or _base(schema)


def _narrowed(path: str, old: Schema, new: Schema) -> Iterator[str]:
    if "enum" in new:
        if "enum" not in old:
            yield f"{path}: any {_base(old)} was allowed, now only {new['enum']}"
        elif gone := [value for value in old["enum"] if value not in new["enum"]]:
            yield f"{path}: {', '.join(map(repr, gone))} is no longer allowed"
    if new.get("pattern", old.get("pattern")) != old.get("pattern"):
        yield f"{path}: the pattern was {old.get('pattern')!r} and is {new['pattern']!r}"
    structs = bool(_tag(old)) or any("title" in each for each in old.get("prefixItems", []))
    for sign, limits in ((1, LOWER), (-1, UPPER)):
        for inclusive, exclusive in limits:
            if structs and inclusive in {"minItems", "maxItems"}:
                continue  # reported by field
            was, now = _bound(old, inclusive, exclusive), _bound(new, inclusive, exclusive)
            if now is not None and (was is None or (sign * now[0], now[1]) > (sign * was[0], was[1])):
                yield f"{path}: {inclusive} was {was[0] if was else 'not set'} and is {now[0]}"


def _bound(schema: Schema, inclusive: str, exclusive: str) -> tuple[float, bool] | None:
    """Return the limit, and whether the limit itself is excluded."""
    if exclusive in schema:
        return schema[exclusive], True
    return (schema[inclusive], False) if inclusive in schema else None


def _default(path: str, old: Schema, new: Schema) -> Iterator[str]:
    """Report a changed default: entries without the field would be read with another value."""
    if "default" in old and "default" in new and old["default"] != new["default"]:
        yield f"{path}: the default was {old['default']!r} and is {new['default']!r}"
