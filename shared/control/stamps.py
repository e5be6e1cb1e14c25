"""The stamp of an event: version and head of the configuration under which it is to be handled.

The feature-builder writes it (``schemas.features``). Every event that results from a bar carries the stamp of that bar.
"""

from collections.abc import Sequence

from shared.control import ControlError, State
from shared.control.stream import CONTROL
from shared.log import Lost
from shared.runtime.service import Received

Stamp = tuple[int, str | None]
"""A version of the configuration, and its head (None if it is not recorded)."""


class TruncatedError(ControlError):
    """The control log does not contain the version and head of an event's stamp: its tail was lost, or it was
    rewritten. Nothing of the batch was written."""

    def __init__(self, message: str, stamp: Stamp, last: str) -> None:
        super().__init__(message)
        self.stamp = stamp
        self.lost = Lost(CONTROL, f"{stamp[0]}-0", last, message)


def stamp_of(received: Received) -> Stamp:
    """Return the stamp of an event; version 0 if it has none."""
    content = received.envelope.event
    head = getattr(content, "control_head", None)
    return getattr(content, "control_version", 0), head.hex() if isinstance(head, bytes) else head


def missing_stamp(state: State, received: Sequence[Received]) -> Stamp | None:
    """Return the newest stamp of these events that the log of ``state`` does not hold; None if it holds all.

    Every stamp is compared, not the newest alone: events that were stamped before the log lost its tail may be read
    together with events that were stamped after it."""
    missing: Stamp | None = None
    compared: tuple[int, bytes | str | None] | None = None
    for event in received:
        content = event.envelope.event
        written = getattr(content, "control_version", 0), getattr(content, "control_head", None)
        if written == compared:  # nearly always: one comparison an event
            continue
        compared = written
        stamp = stamp_of(event)
        if not holds(state, stamp) and (missing is None or stamp[0] > missing[0]):
            missing = stamp
    return missing


def holds(state: State, stamp: Stamp) -> bool:
    """Return whether the log that ``state`` was folded from contains the version of a stamp, with its head."""
    version, head = stamp
    return version <= state.version and (version == 0 or head is None or state.past[version].head == head)
