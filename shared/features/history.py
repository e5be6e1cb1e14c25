"""Compute the vectors of a recorded history of one symbol, for training and replay, bit-identical to those served."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from shared.features.bars import BRIDGE, BarArrays, Doubles, Integers, fill, is_bridged
from shared.features.context_bars import aligned
from shared.features.context_formulas import references_of
from shared.features.graph import LITTLE_ENDIAN, Vectors
from shared.features.plan import ColumnPlan
from shared.features.sets import FeatureSet
from shared.inputs.kinds import kinds_of
from shared.inputs.samples import InputValues, values_at

CHUNK: Final = 4096
"""Rows computed at once, such that they fit in the processor's cache. The result does not depend on it."""


@dataclass(frozen=True, eq=False)
class FeatureHistory:
    """The vectors that the feature builder publishes for a history, where each bar of a reference is there before the
    bars that close with it.

    ``vectors[i]`` is the vector of the given bar ``rows[i]``, with ``bridged[i]`` flat bars in its window. ``warming``,
    ``gap`` and ``undefined`` count the bars that have no vector, by reason; ``undefined_features`` those in which each
    feature has no finite value.
    """

    open_times: Integers
    vectors: Vectors
    bridged: Integers
    rows: Integers
    warming: int
    gap: int
    undefined: int
    undefined_features: Mapping[str, int] = field(default_factory=dict)


def compute(feature_set: FeatureSet, bars: BarArrays, references: Mapping[str, BarArrays] | None = None) -> Vectors:
    """Return the vectors of contiguous bars, ``[bars - lookback + 1, features]``.

    The first is the vector of bar ``lookback - 1``. Undefined values are NaN or infinite. Raises ``ValueError`` if a
    bar is missing; ``history`` accepts gaps, and says more about ``references``.
    """
    gaps = np.diff(bars.open_time) != bars.interval_ms
    if gaps.any():
        row = int(np.argmax(gaps)) + 1
        raise ValueError(f"bars are missing before row {row}, open_time {bars.open_time[row]}; use history()")
    plan = _plan(feature_set)
    start = int(bars.open_time[0]) if len(bars) else 0
    slots = bars.open_time // bars.interval_ms
    context = aligned(plan.context, references or {}, bars.interval_ms, slots, BRIDGE)
    sampled = _sampled(plan, bars, slots)
    every = np.concatenate([bars.values(plan.own), context.values, sampled.values], axis=1)
    return _contiguous(plan, every, start, bars.interval_ms)


def _sampled(plan: ColumnPlan, bars: BarArrays, slots: Integers) -> InputValues:
    """Return the values of the inputs that a set reads, at successive slots."""
    return values_at(plan.sampled, plan.kinds, bars.inputs, (slots + 1) * bars.interval_ms, bars.interval_ms)


@lru_cache(maxsize=16)
def _plan(feature_set: FeatureSet) -> ColumnPlan:
    return ColumnPlan([feature_set])


def _contiguous(plan: ColumnPlan, values: Doubles, start: int, interval_ms: int) -> Vectors:
    rows = len(values) - plan.lookback + 1
    if rows <= 0:
        return np.empty((0, len(plan.sets[0])), LITTLE_ENDIAN)
    times = start + interval_ms * np.arange(len(values), dtype=np.int64)
    fields = {name: np.ascontiguousarray(values[:, i, None]) for i, name in enumerate(plan.inputs)}
    series = {**fields, "open_time": times[:, None]}
    result = np.empty((rows, len(plan.sets[0])), LITTLE_ENDIAN)
    for first in range(0, rows, CHUNK):
        last = min(first + CHUNK, rows)
        window = {name: array[first : last + plan.lookback - 1] for name, array in series.items()}
        result[first:last] = plan.evaluate(window, last - first)[0][:, 0]
    return result


def history(
    feature_set: FeatureSet, bars: BarArrays, bridge: int = BRIDGE, references: Mapping[str, BarArrays] | None = None
) -> FeatureHistory:
    """Return the vectors of a history with gaps, under the gap policy (``shared.features.bars.is_bridged``).

    ``references``: the bars of the symbols that the set reads. A bar at whose close one of them has no bar has no
    vector, nor has one at whose close an input that the set reads has no value: they count as ``undefined``. Raises
    ``ValueError`` for a reference that is not given."""
    steps = bars.open_time // bars.interval_ms
    missing = np.diff(steps) - 1
    breaks = [int(row) + 1 for row in np.flatnonzero(missing) if not is_bridged(int(missing[row]), bridge)]
    edges = [0, *breaks, len(bars)]
    plan = _plan(feature_set)
    values = bars.values(plan.own)
    vectors, rows, bridged = [], [], []
    lacking: list[list[npt.NDArray[np.bool_]]] = [[] for _ in range(1 + len(plan.kinds))]
    """Of references, then of each kind of input: where there is none."""
    cold = [0, 0]
    for segment, (first, last) in enumerate(pairwise(edges)):
        if first == last:
            continue
        filled = fill(steps[first:last] - steps[first], values[first:last])
        slots = int(steps[first]) + np.arange(len(filled.values))
        context = aligned(plan.context, references or {}, bars.interval_ms, slots, bridge)
        sampled = _sampled(plan, bars, slots)
        every = np.concatenate([filled.values, context.values, sampled.values], axis=1)
        computed = _contiguous(plan, every, int(bars.open_time[first]), bars.interval_ms)
        warm = len(filled.values) - len(computed)
        kept = filled.real[warm:]
        flats = np.concatenate([[0], np.cumsum(~filled.real)])
        vectors.append(computed[kept])
        for parts, known in zip(lacking, (context.known, *sampled.known.values()), strict=True):
            parts.append(~known[warm:][kept])
        rows.append(first + filled.source[warm:][kept])
        bridged.append((flats[warm + 1 :] - flats[: len(computed)])[kept])
        cold[segment > 0] += int(filled.real[:warm].sum())
    if not vectors:
        nothing = np.empty(0, np.int64)
        empty = np.empty((0, len(feature_set)), LITTLE_ENDIAN)
        return FeatureHistory(nothing, empty, nothing, nothing, cold[0], cold[1], 0)
    every = np.concatenate(vectors)
    finite = np.isfinite(every)
    read = [one.expression.fields for one in feature_set.features]
    finite[np.concatenate(lacking[0])] &= np.array([not references_of(fields) for fields in read])
    for kind, parts in zip(plan.kinds, lacking[1:], strict=True):
        finite[np.concatenate(parts)] &= np.array([kind not in kinds_of(fields) for fields in read])
    defined = finite.all(axis=1)
    absent = (~finite).sum(axis=0).tolist()
    chosen, counts = np.concatenate(rows)[defined], np.concatenate(bridged)[defined]
    undefined = len(every) - len(chosen)
    names = {name: count for name, count in zip(feature_set.names, absent, strict=True) if count}
    return FeatureHistory(bars.open_time[chosen], every[defined], counts, chosen, cold[0], cold[1], undefined, names)
