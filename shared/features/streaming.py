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
from typing import Any, Final, NamedTuple, cast

import numpy as np

from schemas.market import BarClosed, MarketEvent, ReferenceCopied
from shared.features.bars import BRIDGE, Doubles, Integers, is_bridged
from shared.features.context_bars import Key, ReferenceBars
from shared.features.context_formulas import references_of
from shared.features.engine import (
    SWEEP_EVERY,
    Accepted,
    AcceptedBars,
    Engine,
    Withheld,
    detail_of,
    silence,
)
from shared.features.graph import OperatorGraph
from shared.features.refusal import RefusedBar
from shared.features.sets import FeatureSet, feature_set
from shared.inputs.kinds import BOUNDS, KINDS, Kind, kinds_of
from shared.inputs.reading import ReadInputs, ReadSample

_NEVER: Final = 2**62
_ANY: Final = feature_set("any", "close")
"""A set whose window accepts bars where every installed set has context. It has no results."""


class _Lacking(NamedTuple):
    """An accepted bar at whose close references have no bar, or inputs no value."""

    symbols: tuple[str, ...]
    kinds: tuple[Kind, ...]


class _Sampled:
    """The values of inputs at the bars that an engine is given, as they were known when it was given them."""

    def __init__(self, inputs: ReadInputs, sets: Sequence[FeatureSet], reader: int, bridge: int) -> None:
        graph = OperatorGraph(sets)
        self.kinds: Final = graph.kinds
        self._places = [
            [KINDS[kind].index(name) for name in graph.sampled if name in KINDS[kind]] for kind in graph.kinds
        ]
        self._none = [(math.nan,) * len(KINDS[kind]) for kind in graph.kinds]
        self._inputs = inputs
        self._reader = reader
        self._bridge = bridge
        self._slots: dict[Key, dict[int, list[ReadSample | None]]] = {}
        self._last: dict[Key, tuple[int, int]] = {}

    def at(self, key: Key, bar: BarClosed) -> list[ReadSample | None]:
        """Return the sample of each kind at the close of a bar, None where there is none."""
        symbol, interval_ms, synthetic = key
        return self._inputs.at(self.kinds, (symbol, synthetic), bar.open_time + interval_ms, interval_ms)

    def note(self, key: Key, bar: BarClosed, index: int, samples: list[ReadSample | None]) -> None:
        """Note the samples at a bar that the engine is given, and those at the flat bars before it."""
        symbol, interval_ms, synthetic = key
        slot = bar.open_time // interval_ms
        slots = self._slots.setdefault(key, {})
        for flat in range(self._first(key, slot), slot):
            close = (flat + 1) * interval_ms
            slots[flat] = self._inputs.at(self.kinds, (symbol, synthetic), close, interval_ms)
        slots[slot] = samples
        self._last[key] = slot, index

    def drop_old(self, key: Key, bar: BarClosed, index: int, *, alone: bool = False) -> None:
        """Drop what is read neither by ``bar``, the oldest that the engine may still be given, nor by later ones.
        ``alone``: no vector will read the flat bars before it."""
        symbol, interval_ms, synthetic = key
        slot = bar.open_time // interval_ms
        first_close = ((slot if alone else self._first(key, slot)) + 1) * interval_ms
        self._inputs.computed((symbol, synthetic), (self._reader, interval_ms), first_close, index)

    def _first(self, key: Key, slot: int) -> int:
        """Return the first of the flat bars before a bar in a slot; the slot itself without any."""
        last = self._last.get(key)
        if last is None or last[0] >= slot - 1:
            return slot
        return last[0] + 1 if is_bridged(slot - last[0] - 1, self._bridge) else slot

    def rows(self, keys: Sequence[Key], slots: range) -> tuple[Doubles, Integers]:
        """See ``SampledRows``."""
        noted = [self._slots[key][slot] for key in keys for slot in slots]
        values = [self._values(samples) for samples in noted]
        marks = [min([_NEVER if each is None else each.mark for each in samples]) for samples in noted]
        shape = len(keys), len(slots)
        return np.array(values).reshape(*shape, -1), np.array(marks).reshape(shape)

    def _values(self, samples: list[ReadSample | None]) -> list[float]:
        return [
            values[place]
            for sample, none, places in zip(samples, self._none, self._places, strict=True)
            for values in (none if sample is None else sample.values,)
            for place in places
        ]

    def close(self) -> None:
        """Drop the values that the engine has computed with."""
        self._slots.clear()

    def forget(self, index: int) -> None:
        """Forget the series that had no bar for too many events before ``index``."""
        self._last = {key: last for key, last in self._last.items() if index - last[1] <= silence(key)}


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

    def take(self, references: ReferenceBars, key: Key, bar: BarClosed, index: int) -> Accepted | _Lacking:
        symbols = references.lacking(self.symbols, key, bar.open_time // bar.interval_ms) if self.symbols else ()
        samples = self.sampled.at(key, bar) if self.sampled is not None else []
        if symbols or None in samples:
            waiting = self.waiting.setdefault(key, [])
            waiting.append((bar, index))
            del waiting[: -self.lookback]  # older bars are in no later window
            if self.sampled is None:
                return _Lacking(symbols, ())
            self.sampled.drop_old(key, waiting[0][0], index, alone=len(waiting) == self.lookback)
            kinds = zip(self.sampled.kinds, samples, strict=True)
            return _Lacking(symbols, tuple([kind for kind, sample in kinds if sample is None]))
        for earlier, of_earlier in self.waiting.pop(key, ()):
            if self.sampled is not None:
                self.sampled.note(key, earlier, of_earlier, self.sampled.at(key, earlier))
            self.engine.add(earlier, of_earlier)
        if self.sampled is not None:
            self.sampled.note(key, bar, index, samples)
            self.sampled.drop_old(key, bar, index)
        accepted = self.engine.add(bar, index)
        assert isinstance(accepted, Accepted), "it accepts what the first engine accepted"
        return accepted


class _Bar(NamedTuple):
    """What became of a bar in the engine of sets without context, and in each group."""

    accepted: Accepted
    of_groups: tuple[Accepted | _Lacking, ...]


class Streaming:
    """The windows of many symbols and intervals, with the vectors of all sets.

    Guaranteed: as for ``Engine``. Vectors are bit-identical to those of ``shared.features.history``."""

    def __init__(self, sets: Sequence[FeatureSet], bridge: int = BRIDGE) -> None:
        self._sets = tuple(sets)
        self._own = [place for place, chosen in enumerate(self._sets) if not (chosen.references or chosen.inputs)]
        self._engine = Engine([self._sets[place] for place in self._own] or [_ANY], bridge)
        lookback = max(chosen.lookback for chosen in self._sets)
        symbols = {symbol for chosen in self._sets for symbol in chosen.references}
        self._references = ReferenceBars(symbols, lookback, bridge)
        self._inputs = ReadInputs(kind for chosen in self._sets for kind in chosen.inputs)
        self._groups: list[_Group] = []
        for read in dict.fromkeys((chosen.references, chosen.inputs) for chosen in self._sets):
            if any(read):
                self._groups.append(self._group(read, bridge))

    def _group(self, read: tuple[tuple[str, ...], tuple[Kind, ...]], bridge: int) -> _Group:
        symbols, kinds = read
        places = [place for place, one in enumerate(self._sets) if (one.references, one.inputs) == read]
        chosen = [self._sets[place] for place in places]
        sampled = _Sampled(self._inputs, chosen, len(self._groups), bridge) if kinds else None
        engine = Engine(chosen, bridge, self._references if symbols else None, sampled)
        return _Group(symbols, chosen, places, engine, max(one.lookback for one in chosen), sampled)

    def handle(self, events: Sequence[MarketEvent], first: int) -> list[AcceptedBars | RefusedBar | None]:
        """Append bars and return the result of each, None for a copy or an input. ``first`` is the index of the first
        of these events in the stream; the indices of the others follow without a gap."""
        if not self._groups and all(isinstance(event, BarClosed) for event in events):
            return [*self._engine.handle(cast(Sequence[BarClosed], events), first)]
        added = [self._add(event, first + i) for i, event in enumerate(events)]
        self._close(want=True)
        return [self._outcome(one) if isinstance(one, _Bar) else one for one in added]

    def apply(self, events: Sequence[MarketEvent], first: int) -> None:
        """Append bars like ``handle``, without results."""
        for i, event in enumerate(events):
            self._add(event, first + i)
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

    def _add(self, bar: MarketEvent, index: int) -> _Bar | RefusedBar | None:
        if index % SWEEP_EVERY == 0:
            self._forget(index)
        if not isinstance(bar, BarClosed | ReferenceCopied):
            self._inputs.add(bar, index)
            return None
        key = (bar.symbol, bar.interval_ms, bar.origin == "synthetic")
        if isinstance(bar, ReferenceCopied):
            if bar.symbol in self._references.symbols:
                self._references.add(key, bar, index)
            return None
        accepted = self._engine.add(bar, index)
        if isinstance(accepted, RefusedBar):
            return accepted
        if bar.symbol in self._references.symbols:
            self._references.add(key, bar, index)
        return _Bar(accepted, tuple([group.take(self._references, key, bar, index) for group in self._groups]))

    def _forget(self, index: int) -> None:
        """Forget symbols that had no event for too long before ``index``."""
        if not self._groups:
            return
        self._references.forget(index, silence)
        self._inputs.forget(index, lambda interval_ms: silence(("", interval_ms, False)))
        for group in self._groups:
            group.engine.forget(index)
            if group.sampled is not None:
                group.sampled.forget(index)
            for key, bars in list(group.waiting.items()):
                if index - bars[-1][1] > silence(key):
                    del group.waiting[key]

    def _close(self, want: bool) -> None:
        for engine in self._engines:
            engine.close(want)
        self._references.drop_old()
        for group in self._groups:
            if group.sampled is not None:
                group.sampled.close()

    def _outcome(self, bar: _Bar) -> AcceptedBars:
        results: list[Any] = [None] * len(self._sets)
        if self._own:
            for place, result in zip(self._own, self._engine.outcome(bar.accepted).results, strict=True):
                results[place] = result
        for group, taken in zip(self._groups, bar.of_groups, strict=True):
            if isinstance(taken, Accepted):
                for place, result in zip(group.places, group.engine.outcome(taken).results, strict=True):
                    results[place] = result
            else:
                for place, chosen in zip(group.places, group.sets, strict=True):
                    results[place] = _withheld(bar.accepted, chosen, taken)
        return AcceptedBars(bar.accepted.missing, bar.accepted.bridged, tuple(results))


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
