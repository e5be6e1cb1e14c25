"""The bars of references, by slot: what sets with context read in addition to the bars of a symbol.

A slot is ``open_time / interval``. Up to ``bridge`` missing bars of a reference in a row are flat bars, as those of
any symbol; in a longer gap, and before the first bar, nothing is known (NaN). So what a reference has in a slot follows
from its bars up to the next one, and a vector that is computed once the reference's bar of the same close is known has
the bits of one that is computed from the whole history.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from schemas.market import BarFields
from shared.features.bars import BarArrays, Doubles, Integers, fill, is_bridged
from shared.features.context_formulas import ReferenceField
from shared.features.expressions import BAR_FIELDS

KEPT: Final = 2048
"""The number of slots before a reference's newest bar of which its bars are kept, in addition to the lookback. A bar
that is more than so many slots older than the newest one of its reference has no vector of a set that reads it."""

Key: TypeAlias = tuple[str, int, bool]
"""The key of a series: symbol, interval, and whether the bars are synthetic."""
_CONTENT: Final = attrgetter(*BAR_FIELDS)
_NEVER: Final = np.iinfo(np.int64).max


class Aligned(NamedTuple):
    """Fields of references for successive slots, ``[slot, field]``, and in which of them every reference has a bar."""

    values: Doubles
    known: npt.NDArray[np.bool_]


def aligned(
    fields: Sequence[ReferenceField],
    references: Mapping[str, BarArrays],
    interval_ms: int,
    slots: Integers,
    bridge: int,
) -> Aligned:
    """Return the recorded bars of references for successive ``slots``. Raises ``ValueError`` for a reference that is
    not given, or has bars of another interval."""
    values = np.full((len(slots), len(fields)), np.nan)
    known = np.ones(len(slots), np.bool_)
    for symbol in dict.fromkeys(field.symbol for field in fields):
        bars = references.get(symbol)
        if bars is None or bars.interval_ms != interval_ms:
            given = "none are given" if bars is None else f"those given are of {bars.interval_ms} ms"
            raise ValueError(f"the set reads bars of {symbol} of {interval_ms} ms, and {given}")
        places = [place for place, field in enumerate(fields) if field.symbol == symbol]
        _place(bars, [fields[place].field for place in places], slots, bridge, values, known, places)
    return Aligned(values, known)


def _place(
    bars: BarArrays,
    names: Sequence[str],
    slots: Integers,
    bridge: int,
    values: Doubles,
    known: npt.NDArray[np.bool_],
    places: Sequence[int],
) -> None:
    """Write the fields of one reference into ``values``, and clear ``known`` where it has no bar."""
    if not len(bars) or not len(slots):
        known[:] = False
        return
    # Prices and volume first, as ``fill`` expects them.
    order = [*BAR_FIELDS[:5], *(name for name in names if name not in BAR_FIELDS[:5])]
    steps = bars.open_time // bars.interval_ms
    filled = fill(steps - steps[0], bars.values(order))
    at = slots - int(steps[0])
    inside = (at >= 0) & (at < len(filled.values))
    at = np.where(inside, at, 0)
    gaps = np.diff(steps, append=steps[-1] + 1) - 1
    bridged = np.ones(len(bars), np.bool_)
    for row in np.flatnonzero(gaps):
        bridged[row] = is_bridged(int(gaps[row]), bridge)
    there = inside & (filled.real[at] | bridged[filled.source[at]])
    for place, name in zip(places, names, strict=True):
        values[there, place] = filled.values[at[there], order.index(name)]
    known &= inside & filled.real[at]


class _Kept(NamedTuple):
    """What a reference has in a slot: its fields, in the order of ``BAR_FIELDS``, and the index of the event that they
    are from, which for a flat bar is that of the bar before it."""

    values: tuple[float, ...]
    mark: int
    real: bool


class ReferenceBars:
    """The last bars of the references of a stream, by series and slot.

    ``symbols`` are those whose bars are kept. Guaranteed: one that is given every event from ``oldest()`` on has the
    same content."""

    def __init__(self, symbols: Iterable[str], lookback: int, bridge: int) -> None:
        self.symbols: Final = frozenset(symbols)
        self._span = KEPT + lookback
        self._bridge = bridge
        self._series: dict[Key, dict[int, _Kept]] = {}
        self._asked: dict[tuple[tuple[str, ...], int, bool, int], tuple[str, ...]] = {}
        """The answers of ``lacking`` since a bar was added: the same for all symbols of one close."""
        self._newest: dict[Key, tuple[int, int]] = {}

    def add(self, key: Key, bar: BarFields, index: int) -> None:
        """Keep a bar of a reference. One that is not later than its newest changes nothing."""
        self._asked.clear()
        slot = bar.open_time // bar.interval_ms
        series = self._series.setdefault(key, {})
        last = self._newest.get(key, (slot - 1, index))[0]
        if slot <= last:
            return
        if slot - last - 1 and is_bridged(slot - last - 1, self._bridge):
            before = series[last]
            close = before.values[3]
            values = (close, close, close, close, 0.0, *(0.0 * value for value in before.values[5:]))
            for flat in range(last + 1, slot):
                series[flat] = _Kept(values, before.mark, real=False)
        series[slot] = _Kept(_floats(bar), index, real=True)
        self._newest[key] = (slot, index)

    def lacking(self, symbols: tuple[str, ...], key: Key, slot: int) -> tuple[str, ...]:
        """Return which of these references have no bar in a slot of the series of ``key``, in order."""
        question = (symbols, key[1], key[2], slot)
        answer = self._asked.get(question)
        if answer is None:
            answer = tuple([symbol for symbol in symbols if not self._has((symbol, *key[1:]), slot)])
            self._asked[question] = answer
        return answer

    def _has(self, key: Key, slot: int) -> bool:
        kept = self._series.get(key, {}).get(slot)
        return kept is not None and kept.real and self._newest[key][0] - slot < KEPT

    def rows(self, fields: Sequence[ReferenceField], key: Key, slots: range) -> tuple[Doubles, Integers]:
        """Return fields for slots of a series, ``[slot, field]``, and the oldest mark of each slot."""
        values = np.full((len(slots), len(fields)), np.nan)
        marks = np.full(len(slots), _NEVER)
        for symbol in dict.fromkeys(field.symbol for field in fields):
            series = self._series.get((symbol, *key[1:]), {})
            of_symbol = [(place, BAR_FIELDS.index(f.field)) for place, f in enumerate(fields) if f.symbol == symbol]
            for row, slot in enumerate(slots):
                kept = series.get(slot)
                if kept is not None:
                    marks[row] = min(marks[row], kept.mark)
                    for place, number in of_symbol:
                        values[row, place] = kept.values[number]
        return values, marks

    def drop_old(self) -> None:
        """Drop what no later vector may read."""
        self._asked.clear()
        for key, (newest, _) in self._newest.items():
            series = self._series[key]
            for slot in list(_until(series, newest - self._span)):
                del series[slot]

    def forget(self, index: int, silence: Callable[[Key], int]) -> None:
        """Forget the series that had no bar for more than ``silence`` events before ``index``."""
        for key, (_, newest) in list(self._newest.items()):
            if index - newest > silence(key):
                del self._newest[key], self._series[key]
                self._asked.clear()

    def oldest(self) -> int | None:
        """Return the index of the oldest event of which something is kept; None without one."""
        return min((next(iter(series.values())).mark for series in self._series.values()), default=None)


def _until(series: Mapping[int, _Kept], slot: int) -> Iterator[int]:
    """Yield the slots before ``slot``, which are the first."""
    for one in series:
        if one >= slot:
            return
        yield one


def _floats(bar: BarFields) -> tuple[float, ...]:
    return tuple([np.nan if value is None else float(value) for value in _CONTENT(bar)])
