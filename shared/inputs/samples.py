"""The recorded samples of one symbol as arrays, and their values at bars."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from schemas.market import InputEvent
from shared.inputs.kinds import KINDS, Kind, bound, samples_of

Integers: TypeAlias = NDArray[np.int64]
Doubles: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Samples:
    """The samples of one kind: ``times`` (ms) int64 [n], strictly increasing; ``values`` float64 [n, fields of the
    kind]; ``own_ms`` int64 [n], the interval of funding, else 0."""

    kind: Kind
    times: Integers
    values: Doubles
    own_ms: Integers

    def __len__(self) -> int:
        return len(self.times)

    def between(self, first_close: int, last_close: int, interval_ms: int) -> "Samples":
        """Return the samples on which the values at bars with these closes, and closes between them, depend."""
        kept = (self.times <= last_close) & (self.times + bound(self.kind, self.own_ms, interval_ms) > first_close)
        return Samples(self.kind, self.times[kept], self.values[kept], self.own_ms[kept])

    def moved(self, ms: int) -> "Samples":
        """Return the samples at other times."""
        return Samples(self.kind, self.times + ms, self.values, self.own_ms)


InputSamples: TypeAlias = Mapping[Kind, Samples]
"""The samples of a symbol, by kind."""


class InputValues(NamedTuple):
    """Fields for successive bars, ``[bar, field]``, NaN where there is no value, and for each kind that is read in
    which of the bars it has one."""

    values: Doubles
    known: Mapping[Kind, NDArray[np.bool_]]


def values_at(
    fields: Sequence[str], kinds: Sequence[Kind], inputs: InputSamples, closes: Integers, interval_ms: int
) -> InputValues:
    """Return the values at the ``closes`` (ms) of bars."""
    values = np.full((len(closes), len(fields)), np.nan)
    known: dict[Kind, NDArray[np.bool_]] = {}
    for kind in kinds:
        samples = inputs.get(kind)
        if samples is None or not len(samples):
            known[kind] = np.zeros(len(closes), np.bool_)
            continue
        at = np.searchsorted(samples.times, closes, side="right") - 1
        age = closes - samples.times[np.maximum(at, 0)]
        there = (at >= 0) & (age < bound(kind, samples.own_ms[np.maximum(at, 0)], interval_ms))
        known[kind] = there
        for place, field in enumerate(fields):
            if field in KINDS[kind]:
                values[there, place] = samples.values[at[there], KINDS[kind].index(field)]
    return InputValues(values, known)


def gathered(events: Iterable[InputEvent]) -> dict[str, dict[Kind, Samples]]:
    """Return events as arrays, by symbol and kind. Of two samples of one time the first counts."""
    rows: dict[tuple[str, Kind], dict[int, tuple[tuple[float, ...], int]]] = {}
    for event in events:
        for sample in samples_of(event):
            rows.setdefault((event.symbol, sample.kind), {}).setdefault(event.at, (sample.values, sample.own_ms))
    by_symbol: dict[str, dict[Kind, Samples]] = {}
    for (symbol, kind), found in sorted(rows.items()):
        times = sorted(found)
        by_symbol.setdefault(symbol, {})[kind] = Samples(
            kind,
            np.array(times, np.int64),
            np.array([found[time][0] for time in times], np.float64),
            np.array([found[time][1] for time in times], np.int64),
        )
    return by_symbol
