"""The AsyncAPI 3.0 document: streams as channels, events as messages, services as operations.

Payloads refer to the JSON Schemas in the same folder (``schemas/<stream>.json``), each event in its envelope.
"""

import inspect
from typing import Any, Final, get_args

import msgspec

from schemas.catalogue import STREAMS, Service, StreamSpec, events_of
from schemas.codec import Encoded
from schemas.documentation.examples import examples

Document = dict[str, Any]

CONTENT: Final = {"msgpack": "application/vnd.msgpack", "json": "application/json"}
DIALECT: Final = "application/schema+json;version=draft-2020-12"
SLOT: Final = {
    "description": "The partition as a Redis hash tag, braces included: `{p0}` is the first of an installation.",
    "default": "{p0}",
    "examples": ["{p0}", "{p15}"],
}
ABOUT: Final = """\
Events and commands of Conclave on Redis Streams: one entry is one event in its envelope, in the entry's field `e`.
For MessagePack streams, schemas and examples show the values as JSON, with binary as base64."""


def asyncapi(version: str) -> Document:
    """Return the document of a release."""
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Conclave", "version": version, "description": ABOUT},
        "defaultContentType": CONTENT["json"],
        "servers": {"redis": {"host": "127.0.0.1:6399", "protocol": "redis", "description": "As in the settings."}},
        "channels": {spec.name: _channel(spec) for spec in STREAMS.values()},
        "operations": _operations(),
        "components": {"messages": _messages()},
    }


def _channel(spec: StreamSpec) -> Document:
    address = spec.key(0).replace("{p0}", "{slot}")
    channel: Document = {
        "address": address,
        "title": spec.name,
        "summary": spec.summary,
        "messages": {event.__name__: _message_ref(event) for event in events_of(spec)},
        "x-codec": spec.codec,
        "x-schema-version": spec.version,
        "x-partitioned": spec.partitioned,
        "x-retention-ms": spec.retention_ms,
    }
    return channel | ({"parameters": {"slot": SLOT}} if spec.partitioned else {})


def _message_ref(event: Any) -> Document:
    return {"$ref": f"#/components/messages/{event.__name__}"}


def _operations() -> Document:
    operations: Document = {}
    for spec in STREAMS.values():
        for action, services in (("send", spec.writers), ("receive", spec.readers)):
            for service in services:
                operations[f"{service}.{action}.{spec.name}"] = {
                    "action": action,
                    "title": f"{service} {'writes' if action == 'send' else 'reads'} {spec.name}",
                    "channel": {"$ref": f"#/channels/{spec.name}"},
                    "tags": [{"name": service}],
                }
    order = {service: number for number, service in enumerate(get_args(Service))}
    return dict(sorted(operations.items(), key=lambda each: order[each[1]["tags"][0]["name"]]))


def _messages() -> Document:
    shown: dict[str, Encoded] = {}
    for example in examples():
        shown.setdefault(type(example.envelope.event).__name__, example)
    events = [(spec, event) for spec in STREAMS.values() for event in events_of(spec)]
    if missing := [event.__name__ for _, event in events if event.__name__ not in shown]:
        raise LookupError(f"no example of {', '.join(missing)}: add one to schemas/documentation/examples/")
    return {event.__name__: _message(spec, event, shown[event.__name__]) for spec, event in events}


def _message(spec: StreamSpec, event: Any, example: Encoded) -> Document:
    about = inspect.cleandoc(event.__doc__)
    packed = spec.codec == "msgpack"
    return {
        "name": event.__struct_config__.tag,
        "title": event.__name__,
        "summary": about.partition("\n\n")[0].replace("\n", " "),
        "description": about,
        "contentType": CONTENT[spec.codec],
        "correlationId": {
            "description": "The id of the bar or command at the root of the chain.",
            "location": f"$message.payload#/{4 if packed else 'correlation'}",
        },
        "payload": {"schemaFormat": DIALECT, "schema": _payload(spec, event)},
        "examples": [{"name": event.__struct_config__.tag, "payload": shown_as_json(example)}],
    }


def _payload(spec: StreamSpec, event: Any) -> Document:
    inner = {"$ref": f"schemas/{spec.name}.json#/$defs/{event.__name__}"}
    if spec.codec == "msgpack":
        envelope = "schemas/envelope.json#/$defs/Envelope"
        return {"allOf": [{"$ref": envelope}, {"prefixItems": [True, True, True, True, True, inner]}]}
    envelope = "schemas/envelope.json#/$defs/JsonEnvelope"
    return {"allOf": [{"$ref": envelope}, {"properties": {"event": inner}}]}


def shown_as_json(encoded: Encoded) -> Any:
    """Return an entry as JSON values. Binary of a MessagePack stream becomes base64."""
    if STREAMS[encoded.stream].codec == "json":
        return msgspec.json.decode(encoded.data)
    return msgspec.to_builtins(msgspec.msgpack.decode(encoded.data))
