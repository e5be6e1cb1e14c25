"""Find the events that a service set aside with a dead letter because it raised an error on them; a replay skips them
too.

The error is a fact about a process and cannot be repeated. So these events count as not recomputed.
"""

from schemas.operations import DeadLetter
from shared.audit.findings import Findings
from shared.audit.source import END, EntryRange, Recording, readable
from shared.log import StreamKey

Entry = tuple[str, str]
"""A stream and the id of an entry on it."""


def set_aside(source: Recording, service: str, partition: int, findings: Findings) -> frozenset[Entry]:
    """Return the entries that a service set aside, and count them in ``findings``."""
    entries = set()
    for read in readable(source, StreamKey("dead", partition), "file", Findings(), EntryRange(END)):
        letter = read.opened.envelope.event
        if isinstance(letter, DeadLetter) and letter.service == service and letter.reason == "handler_failed":
            stream, _, entry = letter.source.partition("@")
            entries.add((stream, entry))
    if entries:
        findings.skip(f"events that {service} set aside with an error, which cannot be repeated", len(entries))
    return frozenset(entries)
