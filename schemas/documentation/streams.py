"""Generate the page of streams: one table and one diagram, from the catalogue."""

from collections.abc import Iterator
from typing import Final

from schemas.catalogue import DAY_MS, STREAMS, events_of

HEAD: Final = """\
# Streams

Generated from `schemas/catalogue.py` by `make schemas`; do not edit. Events in full: [schemas](schemas/),
[AsyncAPI](asyncapi.json).

A partitioned stream exists once for each partition. The keys below are those of the first partition, `p0`; all keys
of a partition share a hash tag. `msgpack` streams carry arrays, `json` streams objects that `redis-cli XRANGE` shows.
Retention is the shortest time for which entries stay readable in Redis. `executor` trades on paper; a program
that trades elsewhere takes its place, and its user.
"""

EVERYTHING: Final = ("archiver", "watcher", "observatory", "phone", "console")
"""Services that read every stream to archive or show it."""

FLOW: Final = """\
The diagram omits `dead` and `alarms`, which most services write and the console reads. It also omits the archiver,
the watcher, the observatory, the phone and the console as readers of streams that have other readers.
"""


def table() -> str:
    """Return the text of ``docs/reference/streams.md``."""
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
    """Yield the Mermaid diagram: services as boxes, streams as cylinders.

    Streams that most services write are omitted. The services in ``EVERYTHING`` are drawn as readers only if a stream
    has no other. Only the first writer is drawn, since an operator's halt, which the console writes to ``decisions``,
    is not part of the flow.
    """
    yield "flowchart LR"
    for spec in STREAMS.values():
        if set(spec.writers[1:]) - {"console"} or spec.writers[0] in EVERYTHING:
            continue
        yield f"  {spec.name}[({spec.name})]"
        yield f"  {spec.writers[0]} --> {spec.name}"
        others = [reader for reader in spec.readers if reader not in EVERYTHING]
        for reader in others or spec.readers:
            yield f"  {spec.name} --> {reader}"
