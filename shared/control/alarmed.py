"""The refused entries of the control stream for which an alarm was raised. Pure."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from contextlib import suppress

from schemas.operations import ControlRefused
from shared.control.reader import RefusedEntry
from shared.log.leases import id_order

Order = tuple[int, int]


class AlarmedEntries:
    """The entries that the alarms so far cover.

    An alarm may cover several entries that were refused one after another. Such a range counts only if it holds as
    many refused entries as the alarm says, so that no forged alarm hides others."""

    def __init__(self) -> None:
        self._entries = set[str]()
        self._ranges = set[tuple[Order, Order, int]]()

    def add(self, alarm: ControlRefused) -> None:
        """Add the entries of an alarm. A range whose ends are no entry ids is left out."""
        if alarm.until is None:
            self._entries.add(alarm.entry)
            return
        with suppress(ValueError):
            self._ranges.add((id_order(alarm.entry), id_order(alarm.until), (alarm.more or 0) + 1))

    def missing(self, refused: Sequence[RefusedEntry], start: int = 0) -> list[int]:
        """Return which of the refused entries have no alarm, from the one with index ``start`` on, by their indices.
        ``refused``: all refused entries of the stream so far, in its order."""
        covered = bytearray(len(refused))
        for first, last, count in self._ranges:
            low, high = bisect_left(refused, first, key=_order), bisect_right(refused, last, key=_order)
            if high - low == count:
                covered[low:high] = b"\1" * count
        return [
            index
            for index in range(start, len(refused))
            if not covered[index] and refused[index].entry not in self._entries
        ]


def _order(refused: RefusedEntry) -> Order:
    return id_order(refused.entry)
