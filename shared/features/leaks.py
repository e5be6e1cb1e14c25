"""Look for leaks in a feature set: values that depend on anything but the last ``lookback`` bars.

A vector of a long history is computed again from a piece of it that is cut after its bar and begins at a random place
before its window; in half of the trials it is moved in time by whole weeks. The bits must be the same. A value that
moves depends on bars that were still to come, on bars before its lookback, or on the date: a model with it is trained
on what it can never be served.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from shared.features.bars import BRIDGE, FURTHER, BarArrays
from shared.features.history import history
from shared.features.sets import FeatureSet
from shared.inputs.samples import InputSamples

Floats = NDArray[np.float32]
TRIALS: Final = 10_000
MOST_BEFORE: Final = 64
"""Bars before the window with which a piece begins, at most."""
WEEK_MS: Final = 7 * 86_400_000
WEEKS: Final = 50


class Alteration(Struct, frozen=True):
    """How a piece differs from the history. ``later``: bars after the vector's that stay; ``before``: bars before its
    window that stay (None: all); ``weeks``: how far it is moved in time."""

    later: int
    before: int | None
    weeks: int


class Leak(Struct, frozen=True):
    """One feature that moved: in how many trials, what it depends on, and the first bar (open time, ms) at which it
    moved, with its value in the history and in the piece (None: it has no vector there)."""

    feature: str
    moved: int
    depends_on: tuple[str, ...]
    open_time: int
    whole: float
    piece: float | None


class _Checked(NamedTuple):
    """A set, the bars of a symbol and those of its references."""

    feature_set: FeatureSet
    bars: BarArrays
    references: Mapping[str, BarArrays]


class LeakError(ValueError):
    """The bars are too few for the set."""


def leaks(
    feature_set: FeatureSet,
    bars: BarArrays,
    trials: Iterable[int],
    seed: int = 1,
    references: Mapping[str, BarArrays] | None = None,
) -> list[Leak]:
    """Return every feature of a set that moved, in the order of the set.

    ``trials``: one item for each trial. ``references``: the bars of the symbols that the set reads, which are cut and
    moved like ``bars``. Raises ``LeakError`` where no bar has a vector."""
    chosen = _Checked(feature_set, bars, references or {})
    whole = history(feature_set, bars, references=chosen.references)
    if not len(whole.rows):
        read = frozenset[str]().union(*(feature.expression.fields for feature in feature_set.features))
        needed = [name for name in FURTHER if name in read]
        further = f" that have {', '.join(needed)}" if needed else ""
        inputs = f", and {', '.join(feature_set.inputs)} at their closes" if feature_set.inputs else ""
        raise LeakError(
            f"no bar has a vector of {feature_set.name}: it needs {feature_set.lookback} bars without a gap"
            f"{further}{inputs}, and there are {len(bars)} bars"
        )
    random = np.random.default_rng(seed)
    counts = [0] * len(feature_set)
    found: dict[int, Leak] = {}
    for _ in trials:
        at = int(random.integers(len(whole.rows)))
        row, expected = int(whole.rows[at]), whole.vectors[at]
        weeks = int(random.integers(1, WEEKS + 1)) if random.random() < 0.5 else 0
        altered = Alteration(0, int(random.integers(MOST_BEFORE + 1)), weeks)
        piece = _vector(chosen, row, altered)
        for number in _differing(expected, piece):
            if weeks and feature_set.features[number].calendar:
                continue  # a date is no leak
            counts[number] += 1
            if number not in found:
                value = None if piece is None else float(piece[number])
                why = _depends_on(chosen, row, number, expected, altered)
                name = feature_set.names[number]
                found[number] = Leak(name, 0, why, int(bars.open_time[row]), float(expected[number]), value)
    return [
        Leak(one.feature, counts[number], one.depends_on, one.open_time, one.whole, one.piece)
        for number, one in sorted(found.items())
    ]


def _vector(chosen: _Checked, row: int, altered: Alteration) -> Floats | None:
    """Return the vector of bar ``row``, computed from a piece of the bars; None if it has none there."""
    feature_set, bars = chosen.feature_set, chosen.bars
    first = 0 if altered.before is None else max(0, row - feature_set.lookback + 1 - altered.before)
    last = min(len(bars), row + 1 + altered.later)
    from_ms, until_ms = int(bars.open_time[first]), int(bars.open_time[last - 1])
    # A flat bar of a reference repeats a close from before it, so some more of its bars are needed.
    from_ms -= BRIDGE * bars.interval_ms
    references = {symbol: _between(one, from_ms, until_ms, altered) for symbol, one in chosen.references.items()}
    piece = history(feature_set, _cut(bars, slice(first, last), altered), references=references)
    at = np.flatnonzero(piece.rows == row - first)
    return piece.vectors[at[0]] if len(at) else None


def _between(bars: BarArrays, from_ms: int, until_ms: int, altered: Alteration) -> BarArrays:
    first, last = np.searchsorted(bars.open_time, [from_ms, until_ms + 1])
    return _cut(bars, slice(int(first), int(last)), altered)


def _cut(bars: BarArrays, rows: slice, altered: Alteration) -> BarArrays:
    fields = {name: column[rows] for name, column in bars.fields().items()}
    opened, moved = bars.open_time[rows], altered.weeks * WEEK_MS
    inputs: InputSamples = {}
    if len(opened):
        closes = int(opened[0]) + bars.interval_ms, int(opened[-1]) + bars.interval_ms
        inputs = {kind: each.between(*closes, bars.interval_ms).moved(moved) for kind, each in bars.inputs.items()}
    return BarArrays(opened + moved, interval_ms=bars.interval_ms, **fields, inputs=inputs)


def _differing(expected: Floats, piece: Floats | None) -> list[int]:
    if piece is None:
        return list(range(len(expected)))
    moved: list[int] = np.flatnonzero(expected.view(np.uint32) != piece.view(np.uint32)).tolist()
    return moved


def _depends_on(chosen: _Checked, row: int, number: int, expected: Floats, altered: Alteration) -> tuple[str, ...]:
    """Return which alterations move a value by themselves."""
    bars = chosen.bars
    alone = {
        "later bars": Alteration(0, None, 0),
        "bars before its lookback": Alteration(len(bars), altered.before, 0),
        "the date": Alteration(len(bars), None, altered.weeks),
    }
    return tuple(name for name, one in alone.items() if number in _differing(expected, _vector(chosen, row, one))) or (
        "several of these together",
    )
