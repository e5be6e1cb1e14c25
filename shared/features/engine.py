"""Compute feature vectors from a stream of bars of many symbols, for sets that read the same bars.

``shared.features.streaming`` is the feature builder without envelopes and streams: it has one engine for the sets
without context, and one for each choice of references."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np

from schemas.market import BarClosed
from shared.features.bars import BRIDGE, FURTHER, Doubles, Integers, fill, is_bridged, missing_before
from shared.features.columns import SymbolColumns
from shared.features.context_bars import Key, ReferenceBars
from shared.features.feature import Feature
from shared.features.graph import OperatorGraph, Vectors
from shared.features.refusal import RefusedBar, impossible, out_of_order
from shared.features.sets import FeatureSet, feature_set
from shared.inputs.reading import ReadSample

FORGET_AFTER: Final = 2**18
"""The number of events without a bar of a symbol after which it is forgotten, times the minutes of its interval (at
least one). Otherwise a delisted symbol would be read again at every restart, for ever."""
SWEEP_EVERY: Final = 2**12
"""The number of events between two searches for such symbols."""


def silence(key: Key) -> int:
    """Return the number of events without a bar of a series after which it is forgotten."""
    return FORGET_AFTER * max(key[1] // 60_000, 1)


class ComputedVector(NamedTuple):
    """The vector of one bar and set, little-endian float32; ``bridged`` is the number of flat bars in its window."""

    values: bytes
    bridged: int


class Withheld(NamedTuple):
    """Why there is no vector. The fields are those of ``FeaturesWithheld``."""

    reason: Literal["warming", "gap", "undefined"]
    have: int
    need: int
    detail: str = ""


class AcceptedBars(NamedTuple):
    """An accepted bar: how many bars were missing before it, whether they were bridged, and one result for each
    feature set, in the order of the sets."""

    missing: int
    bridged: bool
    results: tuple[ComputedVector | Withheld, ...]


SlotSamples: TypeAlias = Sequence[ReadSample]
"""The samples of each kind at one slot."""


@dataclass(eq=False, slots=True)
class _Window:
    """The window of one symbol.

    ``slot`` is that of its ``last`` bar, and ``mark`` the index of the event with that bar. ``count`` is the number of
    bars since the window began, flat bars included; ``flats`` are the numbers of the flat bars in that count.
    ``touched`` is the index of the latest event of the symbol, refused or not.
    """

    key: Key
    columns: SymbolColumns
    column: int
    last: BarClosed
    slot: int
    mark: int = 0
    touched: int = 0
    count: int = 0
    flats: list[int] = field(default_factory=list)
    run: "_Run | None" = None


@dataclass(eq=False, slots=True)
class _Run:
    """New bars of one symbol without an unbridged gap: ``rows`` slots from ``slot``.

    ``wave`` is the number of unbridged gaps before it in the batch. ``before`` is the bar before the run and its mark;
    a flat bar at the start repeats its close. ``samples`` are those of inputs at each slot, if the engine reads some.
    ``place`` is the index of the run among the columns of ``computed``.
    """

    window: _Window
    wave: int
    slot: int
    column: int
    before: tuple[BarClosed, int] | None
    bars: list[BarClosed]
    marks: list[int]
    samples: list[SlotSamples]
    count: int = 0
    rows: int = 0
    wanted: bool = False
    computed: "_Computed | None" = None
    place: int = 0


_ANY: Final = feature_set("any", "close")
"""The graph of an engine without sets."""
_COLUMN: Final = attrgetter("column")
Content: TypeAlias = Callable[[BarClosed], tuple[float | None, ...]]
"""Returns the fields of a bar that formulas read."""


class _Computed(NamedTuple):
    """The vectors of a group of runs: arrays ``[row, column, feature]``, their bytes, and which vectors are finite
    (None: all)."""

    columns: int
    vectors: list[Vectors]
    data: list[bytes]
    finite: list[list[list[bool]] | None]


class SampledInputs(Protocol):
    """The inputs of a stream, as far as it was read."""

    def at(self, key: Key, slot: int) -> SlotSamples:
        """Return the sample of each kind at the close of a slot, and one without values where there is none."""

    def values(self, samples: Sequence[SlotSamples]) -> tuple[Doubles, Integers]:
        """Return the fields of each slot, ``[slot, field]``, NaN where there is no value, and its oldest mark."""


class Accepted(NamedTuple):
    """A bar in its window: ``have`` is the number of bars since the window began, ``flats`` the numbers of the flat
    ones."""

    bar: BarClosed
    key: Key
    run: _Run | None
    row: int
    missing: int
    bridged: bool
    have: int
    flats: tuple[int, ...]
    restarted: bool


class Engine:
    """The windows of many symbols and intervals, with the vectors of several feature sets.

    Guaranteed: the result of a bar depends on the bars before it, and not on how they were divided into calls. A new
    engine that applies every event from ``oldest()`` on, and is given ``restarted``, continues exactly like the former
    engine. Vectors are bit-identical to those of ``shared.features.history``.

    ``references`` has the bars of references, which must be in it when ``close`` is called, and ``sampled`` the inputs.
    Without sets it accepts and refuses bars, and has no results. Raises ``ValueError`` for a set that reads what is not
    given.
    """

    def __init__(
        self,
        sets: Sequence[FeatureSet],
        bridge: int = BRIDGE,
        references: ReferenceBars | None = None,
        sampled: SampledInputs | None = None,
    ) -> None:
        self._sets = tuple(sets)
        self._bridge = bridge
        self._references = references
        self._sampled = sampled
        self._graph = OperatorGraph(self._sets or [_ANY])
        if self._graph.context and references is None:
            raise ValueError("an engine for sets with context needs the bars of references, got none")
        if self._graph.sampled and sampled is None:
            raise ValueError("an engine for sets that read inputs needs their values, got none")
        self._content = attrgetter(*self._graph.own)
        self._lookback = self._graph.lookback
        self._first_need = min((chosen.lookback for chosen in self._sets), default=1)
        self._windows: dict[Key, _Window] = {}
        self._columns: dict[int, SymbolColumns] = {}
        self._runs: list[_Run] = []
        self.restarted: set[Key] = set()
        """The windows that restarted after missing bars and are not full yet."""

    def handle(self, bars: Sequence[BarClosed], first: int) -> list[AcceptedBars | RefusedBar]:
        """Append bars and return the result of each. ``first`` is the index of the first of these events in the
        stream; the indices of the others follow without a gap."""
        outcomes = [self.add(bar, first + i) for i, bar in enumerate(bars)]
        self.close(want=True)
        return [outcome if isinstance(outcome, RefusedBar) else self.outcome(outcome) for outcome in outcomes]

    def apply(self, bars: Sequence[BarClosed], first: int) -> None:
        """Append bars like ``handle``, without results."""
        for i, bar in enumerate(bars):
            self.add(bar, first + i)
        self.close(want=False)

    def oldest(self, without: Collection[Key] = ()) -> int | None:
        """Return the index of the oldest event on which a later result may depend; None if there is none. ``without``:
        series whose windows no later result reads, since so many bars are still to be added first."""
        if not self._sets:
            return min([window.mark for window in self._windows.values()], default=None)
        windows = [self._windows[key] for key in without if key in self._windows]
        skipped = {interval: [one.column for one in windows if one.key[1] == interval] for interval in self._columns}
        marks = [columns.oldest(skipped[interval]) for interval, columns in self._columns.items()]
        return min((mark for mark in marks if mark is not None), default=None)

    def add(self, bar: BarClosed, index: int) -> Accepted | RefusedBar:
        """Append a bar, the event ``index``, and return what ``outcome`` takes once ``close`` was called."""
        if index % SWEEP_EVERY == 0:
            self.forget(index)
        refused = impossible(bar)
        if refused is not None:
            return refused
        key = (bar.symbol, bar.interval_ms, bar.origin == "synthetic")
        window = self._windows.get(key)
        if window is not None and bar.open_time <= window.last.open_time:
            window.touched = index
            return out_of_order(window.last, bar)
        return self.append(key, bar, index)

    def append(self, key: Key, bar: BarClosed, index: int, samples: SlotSamples = ()) -> Accepted:
        """Append a possible bar that is later than the last one of its series. ``samples`` are those of inputs at it,
        if the engine reads some."""
        window = self._windows.get(key)
        if window is None:
            return self._accept(self._start(key, bar), bar, index, 0, False, samples)
        missing = missing_before(window.last.open_time, bar.open_time, bar.interval_ms)
        return self._accept(window, bar, index, missing, missing > 0 and is_bridged(missing, self._bridge), samples)

    def first_slot(self, key: Key, bar: BarClosed) -> int:
        """Return the slot of the first flat bar that would be appended before a bar; that of the bar without any."""
        window, slot = self._windows.get(key), bar.open_time // bar.interval_ms
        return window.slot + 1 if window is not None and is_bridged(slot - window.slot - 1, self._bridge) else slot

    def _start(self, key: Key, bar: BarClosed) -> _Window:
        columns = self._columns.get(bar.interval_ms)
        if columns is None:
            columns = self._columns[bar.interval_ms] = SymbolColumns(self._graph, bar.interval_ms)
        slot = bar.open_time // bar.interval_ms - 1
        window = self._windows[key] = _Window(key, columns, columns.claim(), bar, slot)
        return window

    def _accept(
        self, window: _Window, bar: BarClosed, index: int, missing: int, bridged: bool, samples: SlotSamples
    ) -> Accepted:
        run = window.run
        if missing and not bridged:
            self.restarted.add(window.key)
            window.count, window.flats = 0, []
            window.slot += missing
            run = self._open(window, run.wave + 1 if run is not None else 0)
        elif run is None:
            run = self._open(window, 0)
        if bridged:
            if self._sampled is not None and run is not None:
                run.samples += [self._sampled.at(window.key, window.slot + 1 + flat) for flat in range(missing)]
            window.flats += range(window.count + 1, window.count + missing + 1)
            window.count += missing
            window.slot += missing
        window.count += 1
        window.slot += 1
        window.last, window.mark, window.touched = bar, index, index
        if window.flats and window.flats[0] <= window.count - self._lookback:
            window.flats = [flat for flat in window.flats if flat > window.count - self._lookback]
        if self.restarted and window.count >= self._lookback:
            self.restarted.discard(window.key)
        flats = tuple(window.flats) if window.flats else ()
        restarted = window.key in self.restarted if self.restarted else False
        if run is None:
            return Accepted(bar, window.key, None, 0, missing, bridged, window.count, flats, restarted)
        run.bars.append(bar)
        run.marks.append(index)
        run.samples.append(samples)
        run.count, run.rows = window.count, window.slot - run.slot + 1
        run.wanted = run.wanted or window.count >= self._first_need
        return Accepted(bar, window.key, run, run.rows - 1, missing, bridged, window.count, flats, restarted)

    def _open(self, window: _Window, wave: int) -> _Run | None:
        if not self._sets:
            return None
        before = (window.last, window.mark) if window.count else None
        run = window.run = _Run(window, wave, window.slot + 1, window.column, before, [], [], [])
        self._runs.append(run)
        return run

    def forget(self, index: int) -> None:
        """Forget symbols that had no event for too long before ``index``."""
        for key, window in list(self._windows.items()):
            if index - window.touched > silence(key):
                window.columns.drop(window.column)
                self.restarted.discard(key)
                del self._windows[key]

    def close(self, want: bool) -> None:
        """Append the new bars to the columns, all runs of one shape together, and compute vectors if ``want``."""
        shapes: dict[tuple[int, int, int, int], list[_Run]] = {}
        for run in self._runs:
            run.window.run = None
            shapes.setdefault((run.wave, run.window.columns.interval_ms, run.slot, run.rows), []).append(run)
        self._runs = []
        for shape in sorted(shapes):
            self._compute(sorted(shapes[shape], key=_COLUMN), want)

    def _compute(self, runs: list[_Run], want: bool) -> None:
        values, marks = _arrays(runs, self._content)
        if self._references is not None:
            values, marks = self._with_context(self._references, runs, values, marks)
        if self._sampled is not None:
            values, marks = _with_inputs(self._sampled, runs, values, marks)
        columns = [run.column for run in runs]
        counts = [run.count for run in runs]
        wanted = want and any(run.wanted for run in runs)
        vectors = runs[0].window.columns.push(columns, runs[0].slot, values, marks, counts, wanted)
        if not vectors:
            return
        computed = _Computed(
            len(runs),
            vectors,
            [array.tobytes() for array in vectors],
            [_finite(array) for array in vectors],
        )
        for place, run in enumerate(runs):
            run.computed, run.place = computed, place

    def _with_context(
        self, references: ReferenceBars, runs: list[_Run], values: Doubles, marks: Integers
    ) -> tuple[Doubles, Integers]:
        """Return the fields of bars and those of their references, and the oldest marks of both."""
        slots = range(runs[0].slot, runs[0].slot + runs[0].rows)
        origins = {run.window.key[1:]: run.window.key for run in runs}
        rows = {origin: references.rows(self._graph.context, key, slots) for origin, key in origins.items()}
        of_runs = [rows[run.window.key[1:]] for run in runs]
        context, oldest = (np.stack(parts) for parts in zip(*of_runs, strict=True))
        return np.concatenate([values, context], axis=2), np.minimum(marks, oldest)

    def outcome(self, bar: Accepted) -> AcceptedBars:
        """Return the result of a bar that was appended before the last ``close``."""
        return AcceptedBars(bar.missing, bar.bridged, tuple(self.results(bar)))

    def results(self, bar: Accepted) -> list[ComputedVector | Withheld]:
        """Return the result of each set of a bar that was appended before the last ``close``."""
        return [self._result(bar, number, chosen) for number, chosen in enumerate(self._sets)]

    def _result(self, bar: Accepted, number: int, chosen: FeatureSet) -> ComputedVector | Withheld:
        need, run = chosen.lookback, bar.run
        if bar.have < need or run is None or run.computed is None:
            return Withheld("gap" if bar.restarted else "warming", bar.have, need)
        computed = run.computed
        finite = computed.finite[number]
        if finite is not None and not finite[bar.row][run.place]:
            values = computed.vectors[number][bar.row, run.place]
            undefined = [one for one, value in zip(chosen.features, values, strict=True) if not np.isfinite(value)]
            return Withheld("undefined", need, need, detail_of(undefined, bar.bar))
        size = 4 * len(chosen.features)
        start = (bar.row * computed.columns + run.place) * size
        flats = sum([flat > bar.have - need for flat in bar.flats]) if bar.flats else 0
        return ComputedVector(computed.data[number][start : start + size], flats)


def _with_inputs(
    sampled: SampledInputs, runs: list[_Run], values: Doubles, marks: Integers
) -> tuple[Doubles, Integers]:
    """Return the fields of bars and the values of inputs, and the oldest marks of both."""
    more, oldest = sampled.values([samples for run in runs for samples in run.samples])
    more, oldest = more.reshape(*marks.shape, -1), oldest.reshape(marks.shape)
    return np.concatenate([values, more], axis=2), np.minimum(marks, oldest)


def detail_of(undefined: Sequence[Feature], bar: BarClosed) -> str:
    """Return the names of undefined features, and what they read that the bar lacks."""
    read = frozenset[str]().union(*(feature.expression.fields for feature in undefined))
    lacking = [name for name in FURTHER if name in read and getattr(bar, name) is None]
    names = ", ".join(feature.name for feature in undefined)
    return f"{names}; the bar has no {', '.join(lacking)}" if lacking else names


def _finite(vectors: Vectors) -> list[list[bool]] | None:
    finite = np.isfinite(vectors)
    return None if finite.all() else [row.tolist() for row in np.logical_and.reduce(finite, axis=2)]


def _arrays(runs: list[_Run], content: Content) -> tuple[Doubles, Integers]:
    """Return the bars of runs of one shape, ``[run, row, field]``, with gaps filled, and their marks ``[run, row]``."""
    if all(len(run.bars) == run.rows for run in runs):
        values = _values((bar for run in runs for bar in run.bars), content)
        marks = np.array([run.marks for run in runs], np.int64)
        return values.reshape(len(runs), -1, values.shape[1]), marks
    filled = [_filled(run, content) for run in runs]
    return np.stack([values for values, _ in filled]), np.stack([marks for _, marks in filled])


def _values(bars: Iterable[BarClosed], content: Content) -> Doubles:
    """Return the fields of bars, ``[bar, field]``. A field that a bar lacks (None) is NaN."""
    return np.array([content(bar) for bar in bars], np.float64)


def _filled(run: _Run, content: Content) -> tuple[Doubles, Integers]:
    """Return a run with its gaps bridged. A flat bar has the mark of the bar whose close it repeats."""
    bars, marks = run.bars, run.marks
    if run.before is not None:
        bars, marks = [run.before[0], *bars], [run.before[1], *marks]
    slots = np.array([bar.open_time // bar.interval_ms for bar in bars])
    result = fill(slots - slots[0], _values(bars, content))
    start = run.slot - int(slots[0])
    return result.values[start:], np.array(marks)[result.source[start:]]
