"""Compute the vectors of all sets from a stream of bars: the feature builder without envelopes and streams.

Sets without context have their result from the bar alone. A set with context has a vector of a bar if the bars of all
its references that close with it were read before it; otherwise it is withheld, and other sets are not. Nothing waits
here: what is written is a function of the order of the stream, and the feed sends the bars of references first.

A bar whose reference is late is kept, so that the next vector has the bits of a history in which nothing was late. The
bars of a reference are taken from the bars of its own symbol, or, in a partition that does not have them, from copies.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, cast

from schemas.market import BarClosed, MarketEvent, ReferenceCopied
from shared.features.bars import BRIDGE
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
from shared.features.refusal import RefusedBar
from shared.features.sets import FeatureSet, feature_set

_ANY: Final = feature_set("any", "close")
"""A set whose window accepts bars where every installed set has context. It has no results."""


class _Lacking(NamedTuple):
    """An accepted bar whose references have no bar at its close."""

    symbols: tuple[str, ...]


@dataclass(eq=False, slots=True)
class _Group:
    """The sets that read the same references. ``places`` are their positions among all sets. ``waiting`` are the bars
    of a series, with their indices, that are not in the engine yet."""

    symbols: tuple[str, ...]
    sets: list[FeatureSet]
    places: list[int]
    engine: Engine
    lookback: int
    waiting: dict[Key, list[tuple[BarClosed, int]]] = field(default_factory=dict)

    def take(self, references: ReferenceBars, key: Key, bar: BarClosed, index: int) -> Accepted | _Lacking:
        lacking = references.lacking(self.symbols, key, bar.open_time // bar.interval_ms)
        if lacking:
            waiting = self.waiting.setdefault(key, [])
            waiting.append((bar, index))
            del waiting[: -self.lookback]  # older bars are in no later window
            return _Lacking(lacking)
        for earlier in self.waiting.pop(key, ()):
            self.engine.add(*earlier)
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
        self._own = [place for place, chosen in enumerate(self._sets) if not chosen.references]
        self._engine = Engine([self._sets[place] for place in self._own] or [_ANY], bridge)
        lookback = max(chosen.lookback for chosen in self._sets)
        symbols = {symbol for chosen in self._sets for symbol in chosen.references}
        self._references = ReferenceBars(symbols, lookback, bridge)
        self._groups: list[_Group] = []
        for read in dict.fromkeys(chosen.references for chosen in self._sets if chosen.references):
            places = [place for place, chosen in enumerate(self._sets) if chosen.references == read]
            chosen = [self._sets[place] for place in places]
            engine = Engine(chosen, bridge, self._references)
            self._groups.append(_Group(read, chosen, places, engine, max(one.lookback for one in chosen)))

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
        marks = [self._engine.oldest(), self._references.oldest()]
        for group in self._groups:
            marks += [group.engine.oldest(), *(bars[0][1] for bars in group.waiting.values())]
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
        for group in self._groups:
            group.engine.forget(index)
            for key, bars in list(group.waiting.items()):
                if index - bars[-1][1] > silence(key):
                    del group.waiting[key]

    def _close(self, want: bool) -> None:
        for engine in self._engines:
            engine.close(want)
        self._references.drop_old()

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
                    results[place] = _withheld(bar.accepted, chosen, taken.symbols)
        return AcceptedBars(bar.accepted.missing, bar.accepted.bridged, tuple(results))


def _withheld(bar: Accepted, chosen: FeatureSet, lacking: Sequence[str]) -> Withheld:
    """Return why a set has no vector of a bar at whose close references have no bar."""
    need = chosen.lookback
    if bar.have < need:
        return Withheld("gap" if bar.restarted else "warming", bar.have, need)
    wanted = set(lacking)
    reading = [one for one in chosen.features if wanted & references_of(one.expression.fields)]
    detail = f"{detail_of(reading, bar.bar)}; no bar of {', '.join(lacking)} with this close was read before"
    return Withheld("undefined", need, need, detail)
