"""Events that a service could not handle and set aside, with a dead letter: a replay leaves them out too."""

from schemas.operations import DeadLetter
from shared.audit.findings import Findings
from shared.audit.source import END, Source, Span, readable
from shared.log import Place

Entry = tuple[str, str]
"""A stream and the id of an entry on it."""


def set_aside(source: Source, service: str, partition: int) -> frozenset[Entry]:
    """The entries that a service set aside since it raised an error on them."""
    found = set()
    for read in readable(source, Place("dead", partition), "file", Findings(), Span(END)):
        letter = read.found.envelope.event
        if isinstance(letter, DeadLetter) and letter.service == service and letter.reason == "handler_failed":
            stream, _, entry = letter.source.partition("@")
            found.add((stream, entry))
    return frozenset(found)
