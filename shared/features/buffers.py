"""Evaluate an operator graph bar by bar, keeping only the past values that later bars read."""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from shared.features.bars import Doubles, Integers
from shared.features.expressions import Operation
from shared.features.graph import LITTLE_ENDIAN, DelayedRead, OperatorGraph, Vectors, without_negative_zero

SCALAR_LIMIT: Final = 6
"""The largest number of bars that are computed one by one, as single floats. An operation on a short array takes
several times as long as one on a float. The result does not depend on it."""

Selector: TypeAlias = Callable[[list[Any]], Sequence[Any]]
"""Selects some values of a list."""


class _Step(NamedTuple):
    """One node: ``inputs`` selects its inputs from the list of values, and its own value is stored at ``place``."""

    apply: Operation
    inputs: Selector
    place: int


class _Delay(NamedTuple):
    """One delayed read: the value of ``source``, ``delay`` bars ago, is stored at ``place`` of the list of values. Its
    ring buffer is ``length`` rows of the memory, from row ``start``."""

    start: int
    length: int
    delay: int
    source: int
    place: int


class _Program(NamedTuple):
    """The steps for a bar, in order: ``steps`` on arrays, ``scalar_steps`` on single floats. ``moves`` are the array
    steps with the delayed reads in between, each directly after the step that computes its source."""

    steps: list[_Step]
    scalar_steps: list[_Step]
    moves: list[_Step | _Delay]


class DelayBuffers:
    """Ring buffers with the past values of the nodes that are read with a delay.

    A ring is ``[slot modulo length, column]``: a slot is ``open_time / interval``, a column is a symbol. It is as long
    as the node's longest delay, rounded up to a power of two so that the modulus is cheap. A new bar therefore costs
    one operation a node, however long the lookback of the features.

    For slots without a bar of the symbol, the values of its column are arbitrary. Vectors computed from them are
    meaningless; callers must not use them.
    """

    def __init__(self, graph: OperatorGraph, interval_ms: int) -> None:
        self._interval_ms = interval_ms
        reads = sorted({read for read in graph.reads() if read.delay})
        lengths = {node: 1 << (delay - 1).bit_length() for node, delay in reads}  # sorted: the longest delay is last
        starts = dict(zip(lengths, accumulate(lengths.values(), initial=0), strict=False))
        self._memory: Doubles = np.zeros((sum(lengths.values()), 8))

        # The list of values: the delayed reads, then the nodes, which begin with the fields of a bar.
        places = {read: place for place, read in enumerate(reads)}
        places |= {DelayedRead(number, 0): len(reads) + number for number in range(len(graph.nodes))}
        delays = [
            _Delay(starts[read.node], lengths[read.node], read.delay, places[DelayedRead(read.node, 0)], places[read])
            for read in reads
        ]
        every, lasting = set(range(len(graph.nodes))), graph.with_inputs(lengths)
        self._programs = {
            want: _program(graph, places, delays, wanted) for want, wanted in ((True, every), (False, lasting))
        }
        self._past = [None] * len(reads)
        self._empty = [None] * (len(graph.nodes) - len(graph.fields))
        self._kept = [(starts[node], length, places[DelayedRead(node, 0)]) for node, length in lengths.items()]
        self._take_kept = _selector([place for _, _, place in self._kept])
        self._read_at = _columns([(start, length - 1, delay) for start, length, delay, _, _ in delays], 3)
        self._keep_at = _columns([(start, length - 1) for start, length, _ in self._kept], 2)
        self._outputs = [(len(outputs), _selector([places[read] for read in outputs])) for outputs in graph.outputs]

    def widen(self, columns: int) -> None:
        """Add columns."""
        self._memory = np.pad(self._memory, ((0, 0), (0, columns)))

    def push(self, columns: Sequence[int], slot: int, fields: Doubles, want: bool) -> list[Vectors]:
        """Append bars, and return the vectors ``[row, column, feature]`` of each feature set if ``want``.

        The first row is at ``slot``. ``fields`` is ``[graph.inputs, row, column]``; ``columns`` are
        ascending. An undefined value is NaN or infinite.
        """
        rows, width = fields.shape[1:]
        vectors = [np.empty((rows, width, count), LITTLE_ENDIAN) for count, _ in self._outputs] if want else []
        with np.errstate(all="ignore"):
            if rows * width <= SCALAR_LIMIT:
                self._scalars(columns, slot, fields, vectors)
            else:
                compute = self._row if rows == 1 else self._rows
                values = compute(columns, slot, np.ascontiguousarray(fields), want)
                for result, (_, outputs) in zip(vectors, self._outputs, strict=False):
                    for feature, value in enumerate(outputs(values)):
                        result[:, :, feature] = value
            return [without_negative_zero(result) for result in vectors]

    def _scalars(self, columns: Sequence[int], slot: int, fields: Doubles, vectors: list[Vectors]) -> None:
        """Compute bar by bar, with single floats."""
        memory, scalar_steps = self._memory, self._programs[bool(vectors)].scalar_steps
        for row in range(fields.shape[1]):
            read_at, keep_at = self._places(slot + row)
            for number, column in enumerate(columns):
                values: list[Any] = memory[read_at, column].tolist()
                values += fields[:, row, number].tolist()
                values.append((slot + row) * self._interval_ms)
                values += self._empty
                for apply, inputs, place in scalar_steps:
                    values[place] = apply(*inputs(values))
                memory[keep_at, column] = self._take_kept(values)
                for result, (_, outputs) in zip(vectors, self._outputs, strict=False):
                    result[row, number] = outputs(values)

    def _row(self, columns: Sequence[int], slot: int, fields: Doubles, want: bool) -> list[Any]:
        """Compute one bar of many symbols, with arrays ``[column]``."""
        where = selection(columns)
        read_at, keep_at = self._places(slot)
        if isinstance(where, np.ndarray):
            read_at, keep_at = read_at[:, None], keep_at[:, None]
        values = [*self._memory[read_at, where], *fields[:, 0], slot * self._interval_ms, *self._empty]
        for apply, inputs, place in self._programs[want].steps:
            values[place] = apply(*inputs(values))
        if self._kept:
            self._memory[keep_at, where] = self._take_kept(values)
        return values

    def _rows(self, columns: Sequence[int], slot: int, fields: Doubles, want: bool) -> list[Any]:
        """Compute many bars of some symbols, with arrays ``[row, column]``."""
        rows, where = fields.shape[1], selection(columns)
        times = np.arange(slot, slot + rows, dtype=np.int64)[:, None] * self._interval_ms
        values: list[Any] = [*self._past, *fields, times, *self._empty]
        for move in self._programs[want].moves:
            if isinstance(move, _Delay):
                values[move.place] = self._delayed(move, slot, values[move.source], where)
            else:
                values[move.place] = move.apply(*move.inputs(values))
        for start, length, place in self._kept:
            skipped = max(rows - length, 0)
            for at, part in pieces(slot + skipped, slot + rows, length):
                self._memory[start:][at, where] = values[place][skipped:][part]
        return values

    def _places(self, slot: int) -> tuple[Integers, Integers]:
        """Return the rows of the memory that are read and written for one slot."""
        starts, masks, delays = self._read_at
        kept_starts, kept_masks = self._keep_at
        return (slot - delays & masks) + starts, (slot & kept_masks) + kept_starts

    def _delayed(self, read: _Delay, slot: int, new: Doubles, where: Any) -> Doubles:
        """Return the values ``delay`` bars before each of the new rows: from the ring, then from the new rows."""
        rows = len(new)
        ring = self._memory[read.start : read.start + read.length]
        kept = pieces(slot - read.delay, slot - read.delay + min(rows, read.delay), read.length)
        delayed = [ring[at, where] for at, _ in kept]
        if rows > read.delay:
            delayed.append(new[: rows - read.delay])
        return np.concatenate(delayed)  # a copy: the ring is overwritten before the vectors are made


def _program(graph: OperatorGraph, places: dict[DelayedRead, int], delays: list[_Delay], wanted: set[int]) -> _Program:
    program = _Program([], [], [])
    for number, node in enumerate(graph.nodes):
        inputs, place = _selector([places[read] for read in node.reads]), places[DelayedRead(number, 0)]
        if node.reads and number in wanted:
            program.steps.append(_Step(node.apply, inputs, place))
            program.scalar_steps.append(_Step(node.scalar, inputs, place))
            program.moves.append(program.steps[-1])
        program.moves.extend(delay for delay in delays if delay.source == place)
    return program


def _columns(rows: list[tuple[int, ...]], count: int) -> list[Integers]:
    return list(np.array(rows, np.int64).reshape(-1, count).T.copy())


def _selector(places: Sequence[int]) -> Selector:
    """Return a function that selects these positions of a list, as a sequence for any number of positions."""
    if len(places) > 1:
        return itemgetter(*places)
    return itemgetter(slice(places[0], places[0] + 1) if places else slice(0))


def pieces(start: int, stop: int, length: int) -> Iterator[tuple[slice, slice]]:
    """Yield the slots from ``start`` to ``stop`` as one or two contiguous pieces of a ring of ``length`` rows.

    There are at most ``length`` slots. A piece is a slice of the ring and a slice of the slots.
    """
    at = start % length
    split = min(stop - start, length - at)
    yield slice(at, at + split), slice(0, split)
    if split < stop - start:
        yield slice(0, stop - start - split), slice(split, stop - start)


def selection(columns: Sequence[int]) -> Any:
    """Return ascending columns as a slice if they are contiguous (a view instead of a copy), else as an array."""
    if columns[-1] - columns[0] + 1 == len(columns):
        return slice(columns[0], columns[-1] + 1)
    return np.asarray(columns)
