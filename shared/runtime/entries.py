"""Decode entries for a service, and write a dead letter for each entry that cannot be handled."""

from collections.abc import Sequence

from schemas.codec import Encoded, encode
from schemas.operations import DeadLetter, Refusal
from shared.log import Entry
from shared.log.events import events_of
from shared.runtime.service import Received


def dead_letter(group: str, entry: Entry, reason: Refusal, detail: str) -> Encoded:
    """Return the dead letter of an entry, with its first 1,000 bytes in hexadecimal."""
    letter = DeadLetter(
        service=group,
        source=f"{entry.place.key}@{entry.id}",
        reason=reason,
        detail=detail[:2000],
        raw=entry.data[:1000].hex(),
    )
    return encode("dead", letter)


def decoded(entries: Sequence[Entry], group: str) -> tuple[list[Received], list[Encoded]]:
    """Return the events of these entries, and a dead letter for each entry that is unreadable."""
    letters: list[Encoded] = []

    def refuse(entry: Entry, detail: str) -> None:
        letters.append(dead_letter(group, entry, "unreadable", detail))

    events = [Received(entry.place.stream, entry.id, envelope) for entry, envelope in events_of(entries, refuse)]
    return events, letters
