"""Compute the vectors of all sets from a stream of bars: the feature builder without envelopes and streams.

Sets without context and inputs have their result from the bar alone. A set with context has a vector of a bar if the
bars of all its references that close with it were read before it; one that reads inputs, if each of them has a value
then (``shared.inputs``). Otherwise it is withheld, and other sets are not. Nothing waits here: what is written is a
function of the order of the stream, and the feed sends the bars of references and the inputs first.

A bar whose reference or input is late is kept, so that the next vector has the bits of a history in which nothing was
late. The bars of a reference are taken from the bars of its own symbol, or, in a partition that does not have them,
from copies.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import attrgetter, itemgetter
from types import SimpleNamespace
from typing import Any, Final, NamedTuple, TypeAlias, cast

import numpy as np

from schemas.market import BarClosed, MarketEvent, ReferenceCopied
from shared.features.bars import BRIDGE, Doubles, Integers
from shared.features.context_bars import Key, ReferenceBars
from shared.features.context_formulas import references_of
from shared.features.engine import (
    SWEEP_EVERY,
    Accepted,
    AcceptedBars,
    ComputedVector,
    Engine,
    SlotSamples,
    Withheld,
    detail_of,
    silence,
)
from shared.features.graph import OperatorGraph
from shared.features.refusal import RefusedBar
from shared.features.sets import FeatureSet
from shared.inputs.kinds import BOUNDS, KINDS, SOURCES, Kind, kinds_of
from shared.inputs.reading import ReadInputs, ReadSample

_NEVER: Final = 2**62
_READ: Final = {kind: attrgetter(*source.attributes) for kind, source in SOURCES.items()}
_EVENT: Final = itemgetter(0)
_MARK: Final = itemgetter(1)
_NO_EVENT: Final = SimpleNamespace(**{name: math.nan for source in SOURCES.values() for name in source.attributes})
_ABSENT: Final[Any] = (_NO_EVENT, _NEVER, 0)
"""Stands for a sample at a bar without one."""


class _Lacking(NamedTuple):
    """An accepted bar at whose close references have no bar, or inputs no value."""

    symbols: tuple[str, ...]
    kinds: tuple[Kind, ...]


class _Sampled:
    """The inputs of the sets of a group. See ``SampledInputs``."""

    def __init__(self, inputs: ReadInputs, sets: Sequence[FeatureSet], reader: int) -> None:
        graph = OperatorGraph(sets)
        self.kinds: Final = graph.kinds
        fields = [name for kind in graph.kinds for name in KINDS[kind]]
        self._places = [fields.index(name) for name in graph.sampled]
        self._inputs = inputs
        self._reader = reader

    def known(self, key: Key, slot: int) -> list[ReadSample | None]:
        """Return the sample of each kind at the close of a slot, None where there is none."""
        symbol, interval_ms, synthetic = key
        return self._inputs.at(self.kinds, (symbol, synthetic), (slot + 1) * interval_ms, interval_ms)

    def next(self, key: Key, slot: int, index: int) -> list[ReadSample | None]:
        """Return the same, and drop what only earlier slots read."""
        symbol, interval_ms, synthetic = key
        reader = self._reader, interval_ms
        return self._inputs.next(self.kinds, (symbol, synthetic), reader, (slot + 1) * interval_ms, index)

    def drop_old(self, key: Key, first: int, index: int) -> None:
        """Drop what only slots before ``first`` read."""
        symbol, interval_ms, synthetic = key
        self._inputs.computed((symbol, synthetic), (self._reader, interval_ms), (first + 1) * interval_ms, index)

    def at(self, key: Key, slot: int) -> SlotSamples:
        """See ``SampledInputs``."""
        return [sample or _ABSENT for sample in self.known(key, slot)]

    def values(self, samples: Sequence[SlotSamples]) -> tuple[Doubles, Integers]:
        """See ``SampledInputs``."""
        flat = list(chain.from_iterable(samples))
        count, kinds = len(samples), len(self.kinds)
        events = list(map(_EVENT, flat))
        values = [
            np.array([*map(_READ[kind], events[place::kinds])], np.float64).reshape(count, -1)
            for place, kind in enumerate(self.kinds)
        ]
        marks = np.fromiter(map(_MARK, flat), np.int64, len(flat)).reshape(count, kinds)
        return np.concatenate(values, axis=1)[:, self._places], marks.min(axis=1)


@dataclass(eq=False, slots=True)
class _Group:
    """The sets that read the same references and inputs. ``places`` are their positions among all sets. ``waiting`` are
    the bars of a series, with their indices, that are not in the engine yet."""

    symbols: tuple[str, ...]
    sets: list[FeatureSet]
    places: list[int]
    engine: Engine
    lookback: int
    sampled: _Sampled | None
    waiting: dict[Key, list[tuple[BarClosed, int]]] = field(default_factory=dict)

    def take(self, references: ReferenceBars, bar: Accepted, index: int) -> Accepted | _Lacking:
        """Append a bar that the first engine accepted, and those that waited for what it has; or keep it."""
        key, slot = bar.key, bar.bar.open_time // bar.bar.interval_ms
        symbols = references.lacking(self.symbols, key, slot) if self.symbols else ()
        earlier = self.waiting.get(key) if self.waiting else None
        if self.sampled is None:
            samples = []
        elif bar.missing or earlier or symbols:
            samples = self.sampled.known(key, slot)
        else:
            samples = self.sampled.next(key, slot, index)
        if symbols or not all(samples):
            return self._wait(key, bar.bar, index, symbols, samples)
        if earlier is not None:
            for waiting, of_waiting in self.waiting.pop(key):
                self._append(key, waiting, of_waiting)
        accepted = self.engine.append(key, bar.bar, index, cast(SlotSamples, samples))
        if self.sampled is not None and (bar.missing or earlier):
            self.sampled.drop_old(key, slot, index)
        return accepted

    def _append(self, key: Key, bar: BarClosed, index: int) -> None:
        samples = self.sampled.at(key, bar.open_time // bar.interval_ms) if self.sampled is not None else ()
        self.engine.append(key, bar, index, samples)

    def _wait(
        self, key: Key, bar: BarClosed, index: int, symbols: tuple[str, ...], samples: list[ReadSample | None]
    ) -> _Lacking:
        waiting = self.waiting.setdefault(key, [])
        waiting.append((bar, index))
        del waiting[: -self.lookback]  # older bars are in no later window
        if self.sampled is None:
            return _Lacking(symbols, ())
        oldest = waiting[0][0]
        alone = len(waiting) == self.lookback  # no vector will read the flat bars before it
        first = oldest.open_time // oldest.interval_ms if alone else self.engine.first_slot(key, oldest)
        self.sampled.drop_old(key, first, index)
        kinds = zip(self.sampled.kinds, samples, strict=True)
        return _Lacking(symbols, tuple([kind for kind, sample in kinds if sample is None]))

    def results(self, bar: Accepted, taken: Accepted | _Lacking) -> list[ComputedVector | Withheld]:
        """Return the result of each set of a bar."""
        if isinstance(taken, Accepted):
            return self.engine.results(taken)
        return [_withheld(bar, chosen, taken) for chosen in self.sets]


_Added: TypeAlias = tuple[Accepted, list[Accepted | _Lacking]]
"""An accepted bar in the engine of sets without context, and what became of it in each group."""


class Streaming:
    """The windows of many symbols and intervals, with the vectors of all sets.

    Guaranteed: as for ``Engine``. Vectors are bit-identical to those of ``shared.features.history``."""

    def __init__(self, sets: Sequence[FeatureSet], bridge: int = BRIDGE) -> None:
        self._sets = tuple(sets)
        own = [place for place, chosen in enumerate(self._sets) if not (chosen.references or chosen.inputs)]
        self._engine = Engine([self._sets[place] for place in own], bridge)
        self._own = bool(own)
        lookback = max(chosen.lookback for chosen in self._sets)
        symbols = {symbol for chosen in self._sets for symbol in chosen.references}
        self._references = ReferenceBars(symbols, lookback, bridge)
        self._inputs = ReadInputs(kind for chosen in self._sets for kind in chosen.inputs)
        self._groups: list[_Group] = []
        for read in dict.fromkeys((chosen.references, chosen.inputs) for chosen in self._sets):
            if any(read):
                self._groups.append(self._group(read, bridge))
        places = [*own, *(place for group in self._groups for place in group.places)]
        self._order = None if places == sorted(places) else [places.index(place) for place in range(len(places))]
        """Where the result of each set is among those of the engines, None if in order."""

    def _group(self, read: tuple[tuple[str, ...], tuple[Kind, ...]], bridge: int) -> _Group:
        symbols, kinds = read
        places = [place for place, one in enumerate(self._sets) if (one.references, one.inputs) == read]
        chosen = [self._sets[place] for place in places]
        sampled = _Sampled(self._inputs, chosen, len(self._groups)) if kinds else None
        engine = Engine(chosen, bridge, self._references if symbols else None, sampled)
        return _Group(symbols, chosen, places, engine, max(one.lookback for one in chosen), sampled)

    def handle(self, events: Sequence[MarketEvent], first: int) -> list[AcceptedBars | RefusedBar | None]:
        """Append bars and return the result of each, None for a copy or an input. ``first`` is the index of the first
        of these events in the stream; the indices of the others follow without a gap."""
        if not self._groups and all(isinstance(event, BarClosed) for event in events):
            return [*self._engine.handle(cast(Sequence[BarClosed], events), first)]
        added = self._add(events, first)
        self._close(want=True)
        return [
            self._outcome(*one) if isinstance(one, tuple) and not isinstance(one, RefusedBar) else one for one in added
        ]

    def apply(self, events: Sequence[MarketEvent], first: int) -> None:
        """Append bars like ``handle``, without results."""
        self._add(events, first)
        self._close(want=False)

    def oldest(self) -> int | None:
        """Return the index of the oldest event on which a later result may depend; None if there is none."""
        marks = [self._engine.oldest(), self._references.oldest(), self._inputs.oldest()]
        for group in self._groups:
            full = [key for key, bars in group.waiting.items() if len(bars) == group.lookback]
            marks += [group.engine.oldest(full), *(bars[0][1] for bars in group.waiting.values())]
        return min((mark for mark in marks if mark is not None), default=None)

    @property
    def restarted(self) -> tuple[tuple[Key, ...], ...]:
        """The windows that restarted after missing bars and are not full yet, of each engine."""
        return tuple(tuple(sorted(engine.restarted)) for engine in self._engines)

    @restarted.setter
    def restarted(self, windows: Sequence[Sequence[Key]]) -> None:
        for engine, of_engine in zip(self._engines, windows, strict=False):
            engine.restarted = set(of_engine)

    @property
    def _engines(self) -> list[Engine]:
        return [self._engine, *(group.engine for group in self._groups)]

    def _add(self, events: Sequence[MarketEvent], first: int) -> list[_Added | RefusedBar | None]:
        added: list[_Added | RefusedBar | None] = []
        for index, event in enumerate(events, first):
            if index % SWEEP_EVERY == 0:
                self._forget(index)
            if isinstance(event, BarClosed):
                added.append(self._add_bar(event, index))
                continue
            added.append(None)
            if not isinstance(event, ReferenceCopied):
                self._inputs.add(event, index)
            elif event.symbol in self._references.symbols:
                key = (event.symbol, event.interval_ms, event.origin == "synthetic")
                self._references.add(key, event, index)
        return added

    def _add_bar(self, bar: BarClosed, index: int) -> _Added | RefusedBar:
        accepted = self._engine.add(bar, index)
        if isinstance(accepted, RefusedBar):
            return accepted
        if bar.symbol in self._references.symbols:
            self._references.add(accepted.key, bar, index)
        return accepted, [group.take(self._references, accepted, index) for group in self._groups]

    def _forget(self, index: int) -> None:
        """Forget symbols that had no event for too long before ``index``."""
        if not self._groups:
            return
        self._references.forget(index, silence)
        self._inputs.forget(index, lambda interval_ms: silence(("", interval_ms, False)))
        for group in self._groups:
            group.engine.forget(index)
            for key, bars in list(group.waiting.items()):
                if index - bars[-1][1] > silence(key):
                    del group.waiting[key]

    def _close(self, want: bool) -> None:
        for engine in self._engines:
            engine.close(want)
        self._references.drop_old()

    def _outcome(self, bar: Accepted, of_groups: Sequence[Accepted | _Lacking]) -> AcceptedBars:
        results = self._engine.results(bar) if self._own else []
        for group, taken in zip(self._groups, of_groups, strict=True):
            results += group.results(bar, taken)
        ordered = results if self._order is None else [results[place] for place in self._order]
        return AcceptedBars(bar.missing, bar.bridged, tuple(ordered))


def _withheld(bar: Accepted, chosen: FeatureSet, lacking: _Lacking) -> Withheld:
    """Return why a set has no vector of a bar at whose close references have no bar, or inputs no value."""
    need = chosen.lookback
    if bar.have < need:
        return Withheld("gap" if bar.restarted else "warming", bar.have, need)
    symbols, kinds = set(lacking.symbols), set(lacking.kinds)
    reading = [
        one
        for one in chosen.features
        if symbols & references_of(one.expression.fields) or kinds & set(kinds_of(one.expression.fields))
    ]
    reasons = [detail_of(reading, bar.bar)]
    if symbols:
        reasons.append(f"no bar of {', '.join(lacking.symbols)} with this close was read before")
    reasons += [
        f"no {kind} of {bar.bar.symbol} younger than {BOUNDS[kind]} at this close was read before"
        for kind in lacking.kinds
    ]
    return Withheld("undefined", need, need, "; ".join(reasons))
