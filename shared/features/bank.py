"""The last bars of many symbols of one interval, in rings that time turns."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from shared.features.bars import PRICES_AND_VOLUME, Doubles, Integers
from shared.features.plan import Plan, Vectors

_NEVER: Final = np.iinfo(np.int64).max
_TIME: Final = "open_time"


class Bank:
    """One ring for each field and kept term that the plan looks back on: ``[slot modulo size, column]``, where a symbol
    is a column and a slot is ``open_time / interval``. So symbols whose bars close together stand in the
    same rows and are computed in one go.

    A ring holds the bars before the next one that its vectors may depend on, ``plan.lookback - 1`` of them.
    With each bar stands its ``mark``: the index of the event that brought it.
    """

    def __init__(self, plan: Plan, interval_ms: int) -> None:
        self.interval_ms: Final = interval_ms
        self._plan = plan
        self._size = max(plan.lookback - 1, 1)
        kept = [name for name, rows in plan.history.items() if rows and name != _TIME]
        self._rings: dict[str, Doubles] = {name: np.zeros((self._size, 8)) for name in kept}
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
        self._rings = {name: np.pad(ring, ((0, 0), (0, width))) for name, ring in self._rings.items()}
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
        rows = values.shape[1]
        fields = dict(zip(PRICES_AND_VOLUME, np.ascontiguousarray(values.transpose(2, 1, 0)), strict=True))
        series = {name: self._window(name, columns, slot, fields.get(name)) for name in self._rings}
        series = {**fields, **series, _TIME: self._times(slot, rows)}
        vectors, kept = self._plan.evaluate(series, rows, want=want)
        fields.update(kept)
        place = _selection(columns)
        for at, taken in self._pieces(slot + max(rows - self._size, 0), slot + rows):
            new = slice(taken.start + max(rows - self._size, 0), taken.stop + max(rows - self._size, 0))
            for name, ring in self._rings.items():
                ring[at, place] = fields[name][new]
            self._marks[at, place] = marks.T[new]
        first = slot + rows - np.minimum(counts, self._size)
        self._oldest[place] = self._marks[first % self._size, np.asarray(columns)]
        return vectors

    def _window(self, name: str, columns: Sequence[int], slot: int, new: Doubles | None) -> Doubles:
        """The history of a series, followed by its new rows if there are any."""
        history = self._plan.history[name]
        window = np.empty((history + (0 if new is None else len(new)), len(columns)))
        place = _selection(columns)
        for at, taken in self._pieces(slot - history, slot):
            window[taken] = self._rings[name][at, place]
        if new is not None:
            window[history:] = new
        return window

    def _times(self, slot: int, rows: int) -> npt.NDArray[Any]:
        first = slot - self._plan.history.get(_TIME, 0)
        return (np.arange(first, slot + rows, dtype=np.int64) * self.interval_ms)[:, None]

    def _pieces(self, start: int, stop: int) -> Iterator[tuple[slice, slice]]:
        """The slots from ``start`` to ``stop`` (at most a ring's size) as at most two runs: where they
        stand in the ring, and which of the slots they are."""
        at = start % self._size
        split = min(stop - start, self._size - at)
        yield slice(at, at + split), slice(0, split)
        if split < stop - start:
            yield slice(0, stop - start - split), slice(split, stop - start)


def _selection(columns: Sequence[int]) -> Any:
    """Ascending columns as a slice where they are neighbours: a view instead of a copy."""
    if columns[-1] - columns[0] + 1 == len(columns):
        return slice(columns[0], columns[-1] + 1)
    return np.asarray(columns)
