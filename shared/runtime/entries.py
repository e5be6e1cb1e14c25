"""Decode entries for a service, and write a dead letter for each entry that cannot be handled."""

from collections.abc import Sequence

from schemas.codec import Encoded, UnreadableError, decode, encode
from schemas.operations import DeadLetter, Refusal
from shared.log import Entry
from shared.runtime.service import Received


def dead_letter(group: str, entry: Entry, reason: Refusal, detail: str) -> Encoded:
    """Return the dead letter of an entry, with its first 1,000 bytes in hexadecimal."""
    letter = DeadLetter(
        service=group,
        source=f"{entry.place.key}@{entry.id}",
        reason=reason,
        detail=detail[:2000],
        raw=entry.data.hex()[:2000],
    )
    return encode("dead", letter)


def decoded(entries: Sequence[Entry], group: str) -> tuple[list[Received], list[Encoded]]:
    """Return the events of these entries, and a dead letter for each entry that is unreadable."""
    events: list[Received] = []
    letters: list[Encoded] = []
    for entry in entries:
        stream = entry.place.stream
        try:
            events.append(Received(stream, entry.id, decode(stream, entry.data)))
        except UnreadableError as error:
            letters.append(dead_letter(group, entry, "unreadable", str(error)))
    return events, letters
