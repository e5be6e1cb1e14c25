"""A stream of bars of many symbols to vectors: what the feature builder does, without envelopes and streams."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np

from schemas.market import BarClosed
from shared.features.bars import BRIDGE, Doubles, Integers, bridged_by, fill, missing_before
from shared.features.columns import SymbolColumns
from shared.features.graph import OperatorGraph, Vectors
from shared.features.refusal import RefusedBar, impossible, out_of_order
from shared.features.sets import FeatureSet

SILENCE: Final = 2**18
"""After how many events without a bar of its own a symbol is forgotten, for each minute of its interval
(at least one): else a symbol that was delisted would be read again at every restart for ever."""
SWEEP: Final = 2**12
"""Every how many events it is looked for such symbols."""

Key: TypeAlias = tuple[str, int, bool]
"""Whose window: symbol, interval, and whether its bars are synthetic. Live and replayed bars of a symbol
are one history; simulated ones never mix with them."""


class ComputedVector(NamedTuple):
    """The vector of one bar and set, little-endian float32; ``bridged`` flat bars stand in its window."""

    values: bytes
    bridged: int


class Withheld(NamedTuple):
    """Why there is no vector; as in ``FeaturesWithheld``."""

    reason: Literal["warming", "gap", "undefined"]
    have: int
    need: int
    detail: str = ""


class AcceptedBars(NamedTuple):
    """A bar that was taken in: how many bars were missing before it, whether they were bridged, and one
    result for each set, in the order of the sets."""

    missing: int
    bridged: bool
    results: tuple[ComputedVector | Withheld, ...]


@dataclass(eq=False, slots=True)
class _Track:
    """Where one symbol stands: ``slot`` of its ``last`` bar, ``count`` bars since its window began (flat ones
    included; ``flats`` are their numbers in that count). ``mark`` is the event that brought the last bar,
    ``touched`` the latest event of the symbol, refused or not."""

    key: Key
    bank: SymbolColumns
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
    """New bars of one symbol without a break, ``rows`` slots from ``slot`` on. ``wave`` counts the breaks
    before it within the batch; ``before`` is the bar, with its mark, that a flat one at its start repeats.
    ``place`` is its own among the columns of ``computed``."""

    track: _Track
    wave: int
    slot: int
    column: int
    before: tuple[BarClosed, int] | None
    bars: list[BarClosed]
    marks: list[int]
    count: int = 0
    rows: int = 0
    wanted: bool = False
    computed: "_Computed | None" = None
    place: int = 0


_COLUMN: Final = attrgetter("column")


class _Computed(NamedTuple):
    """The vectors of a group of runs: arrays ``[row, column, feature]``, their bytes, and where all
    values are finite (None: everywhere)."""

    columns: int
    vectors: list[Vectors]
    data: list[bytes]
    finite: list[list[list[bool]] | None]


class _Accepted(NamedTuple):
    run: _Run
    row: int
    missing: int
    bridged: bool
    have: int
    flats: tuple[int, ...]
    restarted: bool


class Engine:
    """The windows of many symbols and intervals, and the vectors of several sets at once.

    Guaranteed: the outcome of a bar depends on the bars before it, not on how they were cut into calls; and an
    engine that absorbed again every event from ``oldest()`` on, and was given back ``restarted``, goes on like
    the one it was rebuilt from. Vectors are to the bit those of ``shared.features.history``.
    """

    def __init__(self, sets: Sequence[FeatureSet], bridge: int = BRIDGE) -> None:
        self._sets = tuple(sets)
        self._bridge = bridge
        self._circuit = OperatorGraph(self._sets)
        self._lookback = self._circuit.lookback
        self._first_need = min(chosen.lookback for chosen in self._sets)
        self._tracks: dict[Key, _Track] = {}
        self._banks: dict[int, SymbolColumns] = {}
        self._runs: list[_Run] = []
        self.restarted: set[Key] = set()
        """Symbols whose window began after missing bars and is not full yet."""

    def take(self, bars: Sequence[BarClosed], first: int) -> list[AcceptedBars | RefusedBar]:
        """What becomes of each bar. ``first`` is the index of the first of these events in the stream;
        the others follow without a gap."""
        followed = [self._follow(bar, first + i) for i, bar in enumerate(bars)]
        self._close(want=True)
        return [event if isinstance(event, RefusedBar) else self._outcome(event) for event in followed]

    def apply(self, bars: Sequence[BarClosed], first: int) -> None:
        """Takes bars in like ``take``, and says nothing."""
        for i, bar in enumerate(bars):
            self._follow(bar, first + i)
        self._close(want=False)

    def oldest(self) -> int | None:
        """The index of the oldest event that a later outcome may depend on; None if there is none."""
        marks = [mark for bank in self._banks.values() if (mark := bank.oldest()) is not None]
        return min(marks, default=None)

    def _follow(self, bar: BarClosed, index: int) -> _Accepted | RefusedBar:
        if index % SWEEP == 0:
            self._forget(index)
        refused = impossible(bar)
        if refused is not None:
            return refused
        key = (bar.symbol, bar.interval_ms, bar.origin == "synthetic")
        track = self._tracks.get(key)
        if track is None:
            return self._accept(self._begin(key, bar), bar, index, 0, False)
        track.touched = index
        missing = missing_before(track.last.open_time, bar.open_time, bar.interval_ms)
        if missing < 0:
            return out_of_order(track.last, bar)
        return self._accept(track, bar, index, missing, missing > 0 and bridged_by(missing, self._bridge))

    def _begin(self, key: Key, bar: BarClosed) -> _Track:
        bank = self._banks.get(bar.interval_ms)
        if bank is None:
            bank = self._banks[bar.interval_ms] = SymbolColumns(self._circuit, bar.interval_ms)
        slot = bar.open_time // bar.interval_ms - 1
        track = self._tracks[key] = _Track(key, bank, bank.claim(), bar, slot)
        return track

    def _accept(self, track: _Track, bar: BarClosed, index: int, missing: int, bridged: bool) -> _Accepted:
        run = track.run
        if missing and not bridged:
            self.restarted.add(track.key)
            track.count, track.flats = 0, []
            track.slot += missing
            run = self._open(track, run.wave + 1 if run else 0)
        elif run is None:
            run = self._open(track, 0)
        if bridged:
            track.flats += range(track.count + 1, track.count + missing + 1)
            track.count += missing
            track.slot += missing
        track.count += 1
        track.slot += 1
        track.last, track.mark, track.touched = bar, index, index
        if track.flats and track.flats[0] <= track.count - self._lookback:
            track.flats = [flat for flat in track.flats if flat > track.count - self._lookback]
        if self.restarted and track.count >= self._lookback:
            self.restarted.discard(track.key)
        run.bars.append(bar)
        run.marks.append(index)
        run.count, run.rows = track.count, track.slot - run.slot + 1
        run.wanted = run.wanted or track.count >= self._first_need
        flats = tuple(track.flats) if track.flats else ()
        restarted = track.key in self.restarted if self.restarted else False
        return _Accepted(run, run.rows - 1, missing, bridged, track.count, flats, restarted)

    def _open(self, track: _Track, wave: int) -> _Run:
        before = (track.last, track.mark) if track.count else None
        run = track.run = _Run(track, wave, track.slot + 1, track.column, before, [], [])
        self._runs.append(run)
        return run

    def _forget(self, index: int) -> None:
        """Drops symbols that have been silent for too long. Looks only at events up to ``index``."""
        for key, track in list(self._tracks.items()):
            if index - track.touched > SILENCE * max(key[1] // 60_000, 1):
                track.bank.drop(track.column)
                self.restarted.discard(key)
                del self._tracks[key]

    def _close(self, want: bool) -> None:
        """Moves the new bars into the banks, all runs of one shape at once."""
        shapes: dict[tuple[int, int, int, int], list[_Run]] = {}
        for run in self._runs:
            run.track.run = None
            shapes.setdefault((run.wave, run.track.bank.interval_ms, run.slot, run.rows), []).append(run)
        self._runs = []
        for shape in sorted(shapes):
            self._compute(sorted(shapes[shape], key=_COLUMN), want)

    def _compute(self, runs: list[_Run], want: bool) -> None:
        values, marks = _arrays(runs)
        columns = [run.column for run in runs]
        counts = [run.count for run in runs]
        wanted = want and any(run.wanted for run in runs)
        vectors = runs[0].track.bank.push(columns, runs[0].slot, values, marks, counts, wanted)
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

    def _outcome(self, bar: _Accepted) -> AcceptedBars:
        results = tuple([self._result(bar, number, chosen) for number, chosen in enumerate(self._sets)])
        return AcceptedBars(bar.missing, bar.bridged, results)

    def _result(self, bar: _Accepted, number: int, chosen: FeatureSet) -> ComputedVector | Withheld:
        need, run = chosen.lookback, bar.run
        computed = run.computed
        if bar.have < need or computed is None:
            return Withheld("gap" if bar.restarted else "warming", bar.have, need)
        finite = computed.finite[number]
        if finite is not None and not finite[bar.row][run.place]:
            values = computed.vectors[number][bar.row, run.place]
            names = [name for name, value in zip(chosen.names, values, strict=True) if not np.isfinite(value)]
            return Withheld("undefined", need, need, ", ".join(names))
        size = 4 * len(chosen.features)
        start = (bar.row * computed.columns + run.place) * size
        flats = sum([flat > bar.have - need for flat in bar.flats]) if bar.flats else 0
        return ComputedVector(computed.data[number][start : start + size], flats)


def _finite(vectors: Vectors) -> list[list[bool]] | None:
    finite = np.isfinite(vectors)
    return None if finite.all() else [row.tolist() for row in np.logical_and.reduce(finite, axis=2)]


def _arrays(runs: list[_Run]) -> tuple[Doubles, Integers]:
    """The bars of runs of one shape, ``[run, row, 5]``, flat ones filled in, and their marks ``[run, row]``."""
    if all(len(run.bars) == run.rows for run in runs):
        values = _values(bar for run in runs for bar in run.bars)
        marks = np.array([run.marks for run in runs], np.int64)
        return values.reshape(len(runs), -1, 5), marks
    filled = [_filled(run) for run in runs]
    return np.stack([values for values, _ in filled]), np.stack([marks for _, marks in filled])


def _values(bars: Iterable[BarClosed]) -> Doubles:
    return np.array([(bar.open, bar.high, bar.low, bar.close, bar.volume) for bar in bars])


def _filled(run: _Run) -> tuple[Doubles, Integers]:
    """A run with its gaps bridged. A flat bar bears the mark of the bar whose close it repeats."""
    bars, marks = run.bars, run.marks
    if run.before is not None:
        bars, marks = [run.before[0], *bars], [run.before[1], *marks]
    slots = np.array([bar.open_time // bar.interval_ms for bar in bars])
    result = fill(slots - slots[0], _values(bars))
    start = run.slot - int(slots[0])
    return result.values[start:], np.array(marks)[result.source[start:]]
