"""Report how a recorded event compares with the one that follows from the records: the same for every layer."""

from typing import Any

from msgspec import Struct

from schemas.codec import Encoded
from shared.audit.findings import Findings, Layer
from shared.audit.source import EntryRange, ReadEvent, difference
from shared.log import StreamKey

ENVELOPE = "its envelope is not the one that follows"


class Comparison(Struct, frozen=True):
    """The stream that a layer compares, the range within which it reports, and the findings that it adds to.

    ``check`` is the name under which compared events are counted."""

    check: str
    place: StreamKey
    span: EntryRange
    findings: Findings

    def differ(self, layer: Layer, read: ReadEvent, detail: str) -> None:
        """Record a difference in an event within the range."""
        if self.span.holds(read.entry):
            self.findings.differ(difference(layer, self.place, read.entry, read.opened, detail))

    def count(self, layer: Layer, read: ReadEvent, fault: str = "") -> None:
        """Count an event within the range: as equal where it has no fault, else with its difference.

        A fault of its frame was recorded when the event was read, and is not recorded again."""
        if not self.span.holds(read.entry):
            return
        self.findings.see(self.check, equal=not fault and not read.opened.fault)
        if fault and not read.opened.fault:
            self.differ(layer, read, fault)

    def settled(self, read: ReadEvent, follows: Encoded) -> bool:
        """Return whether an event needs no further comparison: it lies outside the range, its bytes are those that
        follow, or its frame has a fault. In the last two cases it is counted."""
        if not self.span.holds(read.entry):
            return True
        if read.data != follows.data and not read.opened.fault:
            return False
        self.findings.see(self.check, equal=read.data == follows.data)
        return True


def differences(recorded: Any, follows: Any) -> str:
    """Return the fields in which two events differ, by name, with both values."""
    if type(recorded) is not type(follows):
        return f"{type(recorded).__name__} recorded, {type(follows).__name__} follows"
    names = [name for name in recorded.__struct_fields__ if getattr(recorded, name) != getattr(follows, name)]
    pairs = [f"{name}: {getattr(recorded, name)!r} recorded, {getattr(follows, name)!r} follows" for name in names]
    return "; ".join(pairs) or ENVELOPE
