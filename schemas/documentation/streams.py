"""The page of streams: one table and one drawing, from the catalogue."""

from collections.abc import Iterator
from typing import Final

from schemas.catalogue import DAY_MS, STREAMS, events_of

HEAD: Final = """\
# Streams

Generated from `schemas/catalogue.py` by `make schemas`; do not edit. Events in full: [schemas](schemas/),
[AsyncAPI](asyncapi.json).

A partitioned stream exists once for each partition, `p0` in the keys below standing for the first; all keys of a
partition share a hash tag. `msgpack` streams carry arrays, `json` streams objects that `redis-cli XRANGE` shows.
Retention is how long entries stay readable in Redis at least. `executor` stands for whatever acts on intents; it is not
part of Conclave.
"""

EVERYTHING: Final = ("archiver", "watcher", "console")
"""Who reads streams for its own sake."""

FLOW: Final = """\
`dead` and `alarms`, written by every service and read by the console, are left out, and so are the
archiver, the watcher and the console where they only look on.
"""


def table() -> str:
    """``docs/reference/streams.md``."""
    return "\n".join([HEAD, *_rows(), "", "## Flow", "", FLOW, "```mermaid", *_drawing(), "```", ""])


def _rows() -> Iterator[str]:
    columns = ("stream", "key", "codec", "events", "writers", "readers", "partitioned", "retention", "summary")
    yield f"| {' | '.join(columns)} |"
    yield "|" + "---|" * len(columns)
    for spec in STREAMS.values():
        cells = (
            f"[`{spec.name}`](schemas/{spec.name}.json)",
            f"`{spec.key(0)}`",
            spec.codec,
            ", ".join(f"`{event.__struct_config__.tag}`" for event in events_of(spec)),
            ", ".join(spec.writers),
            ", ".join(spec.readers),
            "yes" if spec.partitioned else "no",
            "for ever" if spec.retention_ms is None else f"{spec.retention_ms // DAY_MS} days",
            spec.summary,
        )
        yield f"| {' | '.join(cells)} |"


def _drawing() -> Iterator[str]:
    """Services are boxes, streams are drums. Streams that every service writes are left out, and who
    reads everything is drawn only where nobody else reads. The first writer is drawn: an operator's halt, which the
    console marks on ``decisions``, is not part of the flow."""
    yield "flowchart LR"
    for spec in STREAMS.values():
        if set(spec.writers[1:]) - {"console"} or spec.writers[0] in EVERYTHING:
            continue
        yield f"  {spec.name}[({spec.name})]"
        yield f"  {spec.writers[0]} --> {spec.name}"
        others = [reader for reader in spec.readers if reader not in EVERYTHING]
        for reader in others or spec.readers:
            yield f"  {spec.name} --> {reader}"
