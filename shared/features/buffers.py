"""A circuit in motion: new bars in, vectors out, and between them only what later bars will read."""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from shared.features.bars import Doubles, Integers
from shared.features.expressions import FIELDS, Operation
from shared.features.graph import LITTLE, DelayedRead, OperatorGraph, Vectors, without_negative_zero

FEW: Final = 6
"""Up to how many bars are computed one by one, as single floats: an operation on an array takes several times as
long as one on a float, however short the array is. The result does not depend on it."""

Taking: TypeAlias = Callable[[list[Any]], Sequence[Any]]
"""Picks some values from a list."""


class _Step(NamedTuple):
    """One node, on a list of values: what it takes from there, and where its own value goes."""

    apply: Operation
    taken: Taking
    place: int


class _Delay(NamedTuple):
    """One read of the past, on the same list: the value of ``source``, ``delay`` bars ago, goes to ``place``. Its
    ring is ``length`` rows of the memory from ``start`` on."""

    start: int
    length: int
    delay: int
    source: int
    place: int


class _Program(NamedTuple):
    """What is done for a bar, in order: ``steps`` on arrays, ``ones`` the same on single floats, ``moves`` the steps
    with the delays among them, each as soon as its source is known."""

    steps: list[_Step]
    ones: list[_Step]
    moves: list[_Step | _Delay]


class DelayBuffers:
    """The values of nodes that are read with a delay, each in a ring as long as its longest delay (rounded up to a
    power of two, which makes the modulus cheap): ``[slot modulo length, column]``, where a symbol is a column and a
    slot is ``open_time / interval``. So a new bar costs one operation a node, however far its features look back.

    Where its symbol had no bar, a column holds anything: what is computed from that is meaningless, and harmless.
    """

    def __init__(self, circuit: OperatorGraph, interval_ms: int) -> None:
        self._interval_ms = interval_ms
        reads = sorted({read for read in circuit.reads() if read.delay})
        lengths = {node: 1 << (delay - 1).bit_length() for node, delay in reads}  # a node's longest comes last
        starts = dict(zip(lengths, accumulate(lengths.values(), initial=0), strict=False))
        self._memory: Doubles = np.zeros((sum(lengths.values()), 8))

        # The list of values: what is read from the past, then the nodes, of which the fields are the first.
        places = {read: place for place, read in enumerate(reads)}
        places |= {DelayedRead(number, 0): len(reads) + number for number in range(len(circuit.nodes))}
        delays = [
            _Delay(starts[read.node], lengths[read.node], read.delay, places[DelayedRead(read.node, 0)], places[read])
            for read in reads
        ]
        every, lasting = set(range(len(circuit.nodes))), circuit.below(lengths)
        self._programs = {
            want: _program(circuit, places, delays, wanted) for want, wanted in ((True, every), (False, lasting))
        }
        self._past = [None] * len(reads)
        self._empty = [None] * (len(circuit.nodes) - len(FIELDS))
        self._kept = [(starts[node], length, places[DelayedRead(node, 0)]) for node, length in lengths.items()]
        self._take_kept = _taking([place for _, _, place in self._kept])
        self._read_at = _columns([(start, length - 1, delay) for start, length, delay, _, _ in delays], 3)
        self._keep_at = _columns([(start, length - 1) for start, length, _ in self._kept], 2)
        self._outputs = [(len(outputs), _taking([places[read] for read in outputs])) for outputs in circuit.outputs]

    def widen(self, columns: int) -> None:
        """Adds columns."""
        self._memory = np.pad(self._memory, ((0, 0), (0, columns)))

    def turn(self, columns: Sequence[int], slot: int, fields: Doubles, want: bool) -> list[Vectors]:
        """Takes in bars from ``slot`` on: ``fields`` is ``[(open, high, low, close, volume), row, column]``,
        ``columns`` are ascending. Returns the vectors ``[row, column, feature]`` of each set if they are wanted. An
        undefined value is NaN or infinite."""
        rows, width = fields.shape[1:]
        vectors = [np.empty((rows, width, count), LITTLE) for count, _ in self._outputs] if want else []
        with np.errstate(all="ignore"):
            if rows * width <= FEW:
                self._few(columns, slot, fields, vectors)
            else:
                compute = self._row if rows == 1 else self._rows
                values = compute(columns, slot, np.ascontiguousarray(fields), want)
                for result, (_, outputs) in zip(vectors, self._outputs, strict=False):
                    for feature, value in enumerate(outputs(values)):
                        result[:, :, feature] = value
            return [without_negative_zero(result) for result in vectors]

    def _few(self, columns: Sequence[int], slot: int, fields: Doubles, vectors: list[Vectors]) -> None:
        """Bar by bar, as single floats."""
        memory, ones = self._memory, self._programs[bool(vectors)].ones
        for row in range(fields.shape[1]):
            read_at, keep_at = self._places(slot + row)
            for number, column in enumerate(columns):
                values: list[Any] = memory[read_at, column].tolist()
                values += fields[:, row, number].tolist()
                values.append((slot + row) * self._interval_ms)
                values += self._empty
                for one, taken, place in ones:
                    values[place] = one(*taken(values))
                memory[keep_at, column] = self._take_kept(values)
                for result, (_, outputs) in zip(vectors, self._outputs, strict=False):
                    result[row, number] = outputs(values)

    def _row(self, columns: Sequence[int], slot: int, fields: Doubles, want: bool) -> list[Any]:
        """One bar of many symbols, as arrays ``[column]``."""
        where = selection(columns)
        read_at, keep_at = self._places(slot)
        if isinstance(where, np.ndarray):
            read_at, keep_at = read_at[:, None], keep_at[:, None]
        values = [*self._memory[read_at, where], *fields[:, 0], slot * self._interval_ms, *self._empty]
        for apply, taken, place in self._programs[want].steps:
            values[place] = apply(*taken(values))
        if self._kept:
            self._memory[keep_at, where] = self._take_kept(values)
        return values

    def _rows(self, columns: Sequence[int], slot: int, fields: Doubles, want: bool) -> list[Any]:
        """Many bars of some symbols, as arrays ``[row, column]``."""
        rows, where = fields.shape[1], selection(columns)
        times = np.arange(slot, slot + rows, dtype=np.int64)[:, None] * self._interval_ms
        values: list[Any] = [*self._past, *fields, times, *self._empty]
        for move in self._programs[want].moves:
            if isinstance(move, _Delay):
                values[move.place] = self._delayed(move, slot, values[move.source], where)
            else:
                values[move.place] = move.apply(*move.taken(values))
        for start, length, place in self._kept:
            skipped = max(rows - length, 0)
            for at, part in pieces(slot + skipped, slot + rows, length):
                self._memory[start:][at, where] = values[place][skipped:][part]
        return values

    def _places(self, slot: int) -> tuple[Integers, Integers]:
        """The rows of the memory that are read and written for one slot."""
        starts, masks, delays = self._read_at
        kept_starts, kept_masks = self._keep_at
        return (slot - delays & masks) + starts, (slot & kept_masks) + kept_starts

    def _delayed(self, read: _Delay, slot: int, new: Doubles, where: Any) -> Doubles:
        """What was ``delay`` bars before each of the new rows: from the ring, and then from those rows."""
        rows = len(new)
        ring = self._memory[read.start : read.start + read.length]
        kept = pieces(slot - read.delay, slot - read.delay + min(rows, read.delay), read.length)
        found = [ring[at, where] for at, _ in kept]
        if rows > read.delay:
            found.append(new[: rows - read.delay])
        return np.concatenate(found)  # a copy: the ring is written before the vectors are


def _program(
    circuit: OperatorGraph, places: dict[DelayedRead, int], delays: list[_Delay], wanted: set[int]
) -> _Program:
    program = _Program([], [], [])
    for number, node in enumerate(circuit.nodes):
        taken, place = _taking([places[read] for read in node.reads]), places[DelayedRead(number, 0)]
        if node.reads and number in wanted:
            program.steps.append(_Step(node.apply, taken, place))
            program.ones.append(_Step(node.one, taken, place))
            program.moves.append(program.steps[-1])
        program.moves.extend(delay for delay in delays if delay.source == place)
    return program


def _columns(rows: list[tuple[int, ...]], count: int) -> list[Integers]:
    return list(np.array(rows, np.int64).reshape(-1, count).T.copy())


def _taking(places: Sequence[int]) -> Taking:
    """What picks these places from a list, as a sequence however many they are."""
    if len(places) > 1:
        return itemgetter(*places)
    return itemgetter(slice(places[0], places[0] + 1) if places else slice(0))


def pieces(start: int, stop: int, length: int) -> Iterator[tuple[slice, slice]]:
    """The slots from ``start`` to ``stop`` (at most ``length`` of them) as at most two runs: where they stand in a
    ring, and which of the slots they are."""
    at = start % length
    split = min(stop - start, length - at)
    yield slice(at, at + split), slice(0, split)
    if split < stop - start:
        yield slice(0, stop - start - split), slice(split, stop - start)


def selection(columns: Sequence[int]) -> Any:
    """Ascending columns as a slice where they are neighbours: a view instead of a copy."""
    if columns[-1] - columns[0] + 1 == len(columns):
        return slice(columns[0], columns[-1] + 1)
    return np.asarray(columns)
