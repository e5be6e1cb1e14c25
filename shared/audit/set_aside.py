"""Events that a service set aside with a dead letter, since it raised an error on them: a replay leaves them out too.

That there was an error is a fact about a process. It cannot be repeated, so it counts as not recomputed.
"""

from schemas.operations import DeadLetter
from shared.audit.findings import Findings
from shared.audit.source import END, EntryRange, Recording, readable
from shared.log import StreamKey

Entry = tuple[str, str]
"""A stream and the id of an entry on it."""


def set_aside(source: Recording, service: str, partition: int, findings: Findings) -> frozenset[Entry]:
    """The entries that a service set aside; counted in ``findings``."""
    found = set()
    for read in readable(source, StreamKey("dead", partition), "file", Findings(), EntryRange(END)):
        letter = read.found.envelope.event
        if isinstance(letter, DeadLetter) and letter.service == service and letter.reason == "handler_failed":
            stream, _, entry = letter.source.partition("@")
            found.add((stream, entry))
    if found:
        findings.skip(f"events that {service} set aside with an error, which cannot be repeated", len(found))
    return frozenset(found)
