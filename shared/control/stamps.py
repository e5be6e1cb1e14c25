"""The stamp of an event: the version of the configuration under which it is to be handled.

The feature-builder writes it (``schemas.features``), everything that follows from a bar carries it on.
"""

from collections.abc import Sequence

from shared.control import ControlError, State
from shared.control.stream import CONTROL
from shared.log import Lost
from shared.runtime.service import Received

Stamp = tuple[int, str | None]
"""A version of control and its head (None where it is not recorded)."""


class TruncatedError(ControlError):
    """The control log does not hold what an event was stamped with: its tail was lost, or it was rewritten. Nothing
    of the batch was written."""

    def __init__(self, message: str, stamp: Stamp, last: str) -> None:
        super().__init__(message)
        self.stamp = stamp
        self.lost = Lost(CONTROL, f"{stamp[0]}-0", last, message)


def stamp_of(received: Received) -> Stamp:
    """The version and head that an event was stamped with; version 0 where it has no stamp."""
    content = received.envelope.event
    head = getattr(content, "control_head", None)
    return getattr(content, "control_version", 0), head.hex() if isinstance(head, bytes) else head


def newest_stamp(received: Sequence[Received]) -> Stamp:
    """The newest version among the stamps of these events, and its head; None where none of them records it."""
    newest = 0
    head: bytes | str | None = None
    for event in received:
        content = event.envelope.event
        version = getattr(content, "control_version", 0)
        if version > newest:
            newest, head = version, getattr(content, "control_head", None)
        elif version == newest:
            head = getattr(content, "control_head", None) or head
    return newest, head.hex() if isinstance(head, bytes) else head


def holds(state: State, stamp: Stamp) -> bool:
    """Whether the control log that made ``state`` has the version of a stamp, with its head."""
    version, head = stamp
    return version <= state.version and (version == 0 or head is None or state.past[version].head == head)
