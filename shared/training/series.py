"""Data sets: bars of symbols with their feature vectors, computed from bars or read from recorded streams.

Both give the same bits (``shared.features``), so a data set has the same digest either way.
"""

import hashlib
from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from shared.bars import Bars
from shared.families.windows import CutWindows
from shared.features import BarArrays as Columns
from shared.features import FeatureSet, history
from shared.labels.ahead import volatility_ahead
from shared.labels.batch import moves
from shared.training.splits import SplitError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Float32s = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SymbolSeries:
    """One symbol: its ``bars``, and ``vectors`` [N, F] float32 of one feature set for the bars at ``open_time`` [N]. A
    bar has no vector during the warm-up, where its window has a gap, and where a feature is undefined. ``undefined``
    counts those bars by feature, if the vectors were computed from the bars."""

    bars: Bars
    open_time: Ints
    vectors: Float32s
    undefined: Mapping[str, int] = field(default_factory=dict)


class TrainingSpan(Struct, frozen=True, forbid_unknown_fields=True):
    """Bars with ``first`` <= open time <= ``last`` (ms)."""

    first: int
    last: int


class Table(NamedTuple):
    """Labelled windows of all symbols, ordered by time and then by symbol: windows [N, T, F] float32, which are cut as
    they are used, the rest [N].

    ``time`` is the open time of the window's last bar, ``end`` that of the label's last bar (ms), ``z`` the move in
    units of volatility, ``symbol`` the symbol's position in the order of names, ``ahead`` [N, 2] the volatility over
    the horizon (``shared.labels.ahead``)."""

    windows: CutWindows
    time: Ints
    end: Ints
    z: Floats
    symbol: Ints
    ahead: Floats

    def at(self, rows: NDArray[np.intp]) -> Self:
        """Return a table of these rows."""
        return self._replace(
            windows=self.windows.of(rows),
            time=self.time[rows],
            end=self.end[rows],
            z=self.z[rows],
            symbol=self.symbol[rows],
            ahead=self.ahead[rows],
        )


class ReferenceMissingError(SplitError):
    """There are no bars of a symbol that the vectors of all symbols depend on."""


def require_references(feature_set: FeatureSet, symbols: Container[str]) -> None:
    """Check that the bars that a set reads are among those of ``symbols``. Raises ``ReferenceMissingError``."""
    absent = [symbol for symbol in feature_set.references if symbol not in symbols]
    if absent:
        raise ReferenceMissingError(
            f"feature set {feature_set.name} reads bars of {', '.join(feature_set.references)} for all symbols, and"
            f" there are none of {', '.join(absent)}; add them to the bars, or take a set without context (--set)"
        )


def computed(bars: Mapping[str, Bars], feature_set: FeatureSet, bridge: int) -> dict[str, SymbolSeries]:
    """Return series whose vectors are computed from the bars, with gaps of up to ``bridge`` bars filled. Raises
    ``ReferenceMissingError``."""
    require_references(feature_set, bars)
    references = {symbol: columns_of(bars[symbol]) for symbol in feature_set.references}
    by_symbol = {}
    for symbol, series in bars.items():
        vectors = history(feature_set, columns_of(series), bridge, references)
        by_symbol[symbol] = SymbolSeries(series, vectors.open_times, vectors.vectors, vectors.undefined_features)
    return by_symbol


def within(series: Mapping[str, SymbolSeries], span: TrainingSpan) -> dict[str, SymbolSeries]:
    """Return the part of every series within ``span``, without the symbols that have no bar there. Vectors are not
    computed again, so those at the start of the span depend on bars before it."""
    by_symbol = {}
    for symbol, one in series.items():
        bars, kept = one.bars, _inside(one.open_time, span)
        rows = _inside(bars.open_time, span)
        if rows.any():
            by_symbol[symbol] = SymbolSeries(bars.at(rows), one.open_time[kept], one.vectors[kept])
    return by_symbol


def _inside(open_time: Ints, span: TrainingSpan) -> NDArray[np.bool_]:
    return np.asarray((open_time >= span.first) & (open_time <= span.last))


def assemble(series: Mapping[str, SymbolSeries], window: int, *, interval_ms: int, horizon: int) -> Table:
    """Return windows and labels of all symbols, joined by bar. No window and no label spans a gap or two symbols."""
    columns: list[tuple[Float32s, NDArray[np.intp], Ints, Ints, Floats, Ints, Floats]] = []
    before = 0
    for number, symbol in enumerate(sorted(series)):
        one = series[symbol]
        labelled = moves(one.bars.open_time, one.bars.close, interval_ms, horizon)
        ends = window_ends(one.open_time, interval_ms, window)
        _, of_vector, of_label = np.intersect1d(
            one.open_time[ends], labelled.open_time, assume_unique=True, return_indices=True
        )
        time, end, last = labelled.open_time[of_label], labelled.end[of_label], before + ends[of_vector]
        bars, symbol_at = one.bars, np.full(len(time), number)
        ahead = volatility_ahead(bars.open_time, bars.close, bars.high, bars.low, labelled)[of_label]
        columns.append((one.vectors, last, time, end, labelled.z[of_label], symbol_at, ahead))
        before += len(one.vectors)
    vectors, lasts, time, end, z, symbols, ahead = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    order = np.argsort(time, kind="stable")
    windows = CutWindows(vectors, lasts[order], window)
    return Table(windows, time[order], end[order], z[order], symbols[order], ahead[order])


def require_rows(table: Table, series: Mapping[str, SymbolSeries], horizon: int) -> None:
    """Check that a table has rows. Raises ``SplitError`` with the reason why no bar has both a vector and a label."""
    if len(table.time):
        return
    bars = sum(len(one.bars.open_time) for one in series.values())
    vectors = sum(len(one.open_time) for one in series.values())
    undefined = sum((Counter(one.undefined) for one in series.values()), Counter[str]())
    if undefined:
        which = ", ".join(f"{name} of {count:,}" for name, count in undefined.most_common(5))
        raise SplitError(
            f"no labelled rows at all: of {bars:,} bars {vectors:,} have a vector, since features are undefined:"
            f" {which}. A feature is undefined where it divides by zero, as when prices or volumes do not change, and"
            " where what it reads is lacking (number of trades, quote volume, taker volume; funding, open interest and"
            " other inputs at a bar's close); take a feature set without them (--set), or other files"
        )
    raise SplitError(
        f"no labelled rows at all: {bars:,} bars have {vectors:,} vectors, and none has both a whole window of"
        f" {table.windows.shape[1]} and a label over the next {horizon} bars: the bars are fewer than the warm-up plus"
        " the horizon, or full of gaps"
    )


def returns_of(table: Table, series: Mapping[str, SymbolSeries], rows: NDArray[np.intp]) -> Floats:
    """Return the plain return over the horizon of rows of a table that was assembled from the series."""
    out = np.empty(len(rows))
    for number, symbol in enumerate(sorted(series)):
        of_symbol = np.flatnonzero(table.symbol[rows] == number)
        chosen, bars = rows[of_symbol], series[symbol].bars
        first, last = (np.searchsorted(bars.open_time, times[chosen]) for times in (table.time, table.end))
        out[of_symbol] = bars.close[last] / bars.close[first] - 1.0
    return out


def window_ends(open_time: Ints, interval_ms: int, window: int) -> NDArray[np.intp]:
    """Return the rows that end a window of ``window`` successive vectors without a gap."""
    ends: NDArray[np.intp] = np.arange(window - 1, len(open_time))
    whole = open_time[ends] - open_time[ends - window + 1] == (window - 1) * interval_ms
    return np.compress(whole, ends)


def one_interval(series: Mapping[str, SymbolSeries]) -> int:
    """Return the interval of all bars (ms). Raises ``ValueError`` where there are several intervals, or none."""
    intervals = {one.bars.interval_ms for one in series.values()}
    if len(intervals) != 1:
        raise ValueError(
            f"one artifact is trained on bars of one interval; these have {sorted(intervals) or 'none'} ms"
        )
    return intervals.pop()


def digest_of_bars(bars: Mapping[str, Bars]) -> str:
    """Return the SHA-256 over symbols in order: name, interval, then times, prices and volume as little-endian 8-byte
    values. What else the bars have is in the digest of the vectors that are computed from it."""
    digest = hashlib.sha256()
    for symbol in sorted(bars):
        one = bars[symbol]
        digest.update(f"{symbol}\n{one.interval_ms}\n{len(one.open_time)}\n".encode())
        digest.update(one.open_time.astype("<i8").tobytes())
        for column in (one.open, one.high, one.low, one.close, one.volume):
            digest.update(column.astype("<f8").tobytes())
    return digest.hexdigest()


def digest_of_vectors(series: Mapping[str, SymbolSeries]) -> str:
    """Return the SHA-256 over symbols in order: name, then open times and vectors in the encoding of the stream."""
    digest = hashlib.sha256()
    for symbol in sorted(series):
        one = series[symbol]
        digest.update(f"{symbol}\n{len(one.open_time)}\n".encode())
        digest.update(one.open_time.astype("<i8").tobytes())
        digest.update(one.vectors.astype("<f4").tobytes())
    return digest.hexdigest()


def columns_of(bars: Bars) -> Columns:
    """Return bars as features are computed from them."""
    prices = (bars.open, bars.high, bars.low, bars.close, bars.volume)
    further = (bars.trades, bars.quote_volume, bars.taker_volume)
    return Columns(bars.open_time, *prices, bars.interval_ms, *further, inputs=bars.inputs)
