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


def newest_stamp(received: Sequence[Received]) -> Stamp:
    """Return the newest version among the stamps of these events, and its head; None if none of them records it."""
    newest: Stamp = (0, None)
    for event in received:
        version, head = stamp_of(event)
        if version >= newest[0]:
            newest = version, head if version > newest[0] else head or newest[1]
    return newest


def holds(state: State, stamp: Stamp) -> bool:
    """Return whether the log that ``state`` was folded from contains the version of a stamp, with its head."""
    version, head = stamp
    return version <= state.version and (version == 0 or head is None or state.past[version].head == head)
