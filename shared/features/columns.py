"""Keep the last bars of many symbols of one interval."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from shared.features.bars import Doubles, Integers
from shared.features.buffers import DelayBuffers, pieces, selection
from shared.features.graph import OperatorGraph, Vectors

_NEVER: Final = np.iinfo(np.int64).max


class SymbolColumns:
    """Delay buffers with one column for each symbol, so that bars that close at the same time are computed together.

    For each of the last ``lookback - 1`` bars, on which later vectors may depend, there is a ``mark``: the index of
    the event with the bar.
    """

    def __init__(self, graph: OperatorGraph, interval_ms: int) -> None:
        self.interval_ms: Final = interval_ms
        self._buffers = DelayBuffers(graph, interval_ms)
        self._size = max(graph.lookback - 1, 1)
        self._marks: Integers = np.zeros((self._size, 8), np.int64)
        self._oldest: Integers = np.full(8, _NEVER)
        self._free = list(range(7, -1, -1))

    def claim(self) -> int:
        """Return a column for a new symbol: the lowest free one."""
        if not self._free:
            self._grow()
        return self._free.pop()

    def _grow(self) -> None:
        width = len(self._oldest)
        self._buffers.widen(width)
        self._marks = np.pad(self._marks, ((0, 0), (0, width)))
        self._oldest = np.pad(self._oldest, (0, width), constant_values=_NEVER)
        self._free = list(range(2 * width - 1, width - 1, -1))

    def drop(self, column: int) -> None:
        """Free a column."""
        self._oldest[column] = _NEVER
        self._free.append(column)
        self._free.sort(reverse=True)

    def oldest(self, without: Sequence[int] = ()) -> int | None:
        """Return the smallest mark of a bar on which a later vector may depend; None without bars. ``without``: columns
        of which none depends on bars that are there."""
        mark = int((np.delete(self._oldest, without) if without else self._oldest).min(initial=_NEVER))
        return None if mark == _NEVER else mark

    def push(
        self, columns: Sequence[int], slot: int, values: Doubles, marks: Integers, counts: Sequence[int], want: bool
    ) -> list[Vectors]:
        """Append bars, and return the vectors ``[row, column, feature]`` of each feature set if ``want``.

        The first row is at ``slot``. ``values`` is ``[column, row, graph.inputs]``, ``marks`` ``[column, row]``;
        ``columns`` are ascending. ``counts`` is the number of bars in each column's window afterwards. Vectors of a
        column whose window is not full are meaningless.
        """
        vectors = self._buffers.push(columns, slot, values.transpose(2, 1, 0), want)
        rows, where = values.shape[1], selection(columns)
        skipped = max(rows - self._size, 0)
        for at, part in pieces(slot + skipped, slot + rows, self._size):
            self._marks[at, where] = marks.T[skipped:][part]
        first = slot + rows - np.minimum(counts, self._size)
        self._oldest[where] = self._marks[first % self._size, np.asarray(columns)]
        return vectors
