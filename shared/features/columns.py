"""The last bars of many symbols of one interval."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from shared.features.bars import Doubles, Integers
from shared.features.buffers import DelayBuffers, pieces, selection
from shared.features.graph import OperatorGraph, Vectors

_NEVER: Final = np.iinfo(np.int64).max


class SymbolColumns:
    """Rings where each symbol is a column, so that symbols whose bars close together stand in the same rows and are
    computed in one go; and for each of the ``lookback - 1`` bars that the next vectors may depend on its ``mark``:
    the index of the event that brought it.
    """

    def __init__(self, circuit: OperatorGraph, interval_ms: int) -> None:
        self.interval_ms: Final = interval_ms
        self._rings = DelayBuffers(circuit, interval_ms)
        self._size = max(circuit.lookback - 1, 1)
        self._marks: Integers = np.zeros((self._size, 8), np.int64)
        self._oldest: Integers = np.full(8, _NEVER)
        self._free = list(range(7, -1, -1))

    def claim(self) -> int:
        """A column for a new symbol: the lowest free one."""
        if not self._free:
            self._grow()
        return self._free.pop()

    def _grow(self) -> None:
        width = len(self._oldest)
        self._rings.widen(width)
        self._marks = np.pad(self._marks, ((0, 0), (0, width)))
        self._oldest = np.pad(self._oldest, (0, width), constant_values=_NEVER)
        self._free = list(range(2 * width - 1, width - 1, -1))

    def drop(self, column: int) -> None:
        """Gives a column back."""
        self._oldest[column] = _NEVER
        self._free.append(column)
        self._free.sort(reverse=True)

    def oldest(self) -> int | None:
        """The least mark of a bar that a later vector may depend on; None without bars."""
        mark = int(self._oldest.min())
        return None if mark == _NEVER else mark

    def push(
        self, columns: Sequence[int], slot: int, values: Doubles, marks: Integers, counts: Sequence[int], want: bool
    ) -> list[Vectors]:
        """Appends bars from ``slot`` on: ``values`` is ``[column, row, (open, high, low, close, volume)]``,
        ``marks`` ``[column, row]``, ``counts`` how many bars each column's window holds afterwards, ``columns``
        ascending. Returns the vectors ``[row, column, feature]`` of each set if they are wanted; those of a
        column whose window is not full are meaningless.
        """
        vectors = self._rings.turn(columns, slot, values.transpose(2, 1, 0), want)
        rows, where = values.shape[1], selection(columns)
        skipped = max(rows - self._size, 0)
        for at, part in pieces(slot + skipped, slot + rows, self._size):
            self._marks[at, where] = marks.T[skipped:][part]
        first = slot + rows - np.minimum(counts, self._size)
        self._oldest[where] = self._marks[first % self._size, np.asarray(columns)]
        return vectors
