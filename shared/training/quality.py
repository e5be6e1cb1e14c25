"""The report on a data set, written before training, with the reasons if it is unfit."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.training import DataReport, SymbolData
from shared.artifacts.artifact import Artifact
from shared.artifacts.scoring import shares
from shared.gates import drift
from shared.training.fitting import Prepared
from shared.training.series import SymbolSeries, digest_of_bars, digest_of_vectors

FEWEST_OF_A_CLASS: Final = 20
"""The least number of rows of each class in the training part."""
MOST_CONSTANT: Final = 0.5
"""The largest share of features that may be constant."""
EQUAL: Final = 1e-7
"""Two columns are duplicates if they differ by at most this share of their standard deviation."""

Matrix = NDArray[np.float64]


def assess(
    prepared: Prepared, series: Mapping[str, SymbolSeries], *, fewest: int, champion: Artifact | None
) -> DataReport:
    """Return the report on a data set, which is unfit with fewer than ``fewest`` labelled rows. Its vectors are
    compared with the training part of ``champion`` if both have the same features."""
    table, parts, y = prepared.table, prepared.parts, prepared.y
    names = prepared.feature_set.names
    newest = table.windows[parts.train, -1].astype(np.float64)
    constant = tuple(name for name, column in zip(names, newest.T, strict=True) if np.ptp(column) == 0)
    drifted, share = _drifted(newest, champion, prepared)
    counts = np.bincount(y[parts.train], minlength=3).tolist()
    unfit = []
    if len(table.time) < fewest:
        unfit.append(f"{len(table.time):,} labelled rows; {fewest:,} are required: train on a longer time span")
    if min(counts) < FEWEST_OF_A_CLASS:
        unfit.append(
            f"SELL, HOLD, BUY have {counts} rows in the training part; {FEWEST_OF_A_CLASS} of each are required: "
            "a class without rows cannot be learned"
        )
    if len(constant) > MOST_CONSTANT * len(names):
        unfit.append(f"{len(constant)} of {len(names)} features are constant: {', '.join(constant[:5])}")
    bars = {symbol: one.bars for symbol, one in series.items()}
    return DataReport(
        interval_ms=prepared.interval_ms,
        first=int(min(one.open_time[0] for one in bars.values())),
        last=int(max(one.open_time[-1] for one in bars.values())),
        rows=len(table.time),
        symbols=_symbols(prepared, series),
        parts={name: len(rows) for name, rows in parts._asdict().items()},
        classes=shares(y[parts.train]),
        kappa=prepared.kappa,
        constant=constant,
        duplicated=_duplicated(names, newest),
        drifted=drifted,
        drift=share,
        against=champion.digest if champion is not None and share is not None else None,
        bars_digest=digest_of_bars(bars),
        vectors_digest=digest_of_vectors(series),
        unfit=tuple(unfit),
    )


def _symbols(prepared: Prepared, series: Mapping[str, SymbolSeries]) -> dict[str, SymbolData]:
    rows = np.bincount(prepared.table.symbol, minlength=len(series)).tolist()
    by_symbol = {}
    for number, symbol in enumerate(sorted(series)):
        one = series[symbol]
        absent = np.diff(one.bars.open_time) // prepared.interval_ms - 1
        by_symbol[symbol] = SymbolData(
            bars=len(one.bars),
            vectors=len(one.open_time),
            rows=rows[number],
            gaps=int((absent > 0).sum()),
            missing=int(absent.sum()),
        )
    return by_symbol


def _duplicated(names: tuple[str, ...], columns: Matrix) -> tuple[tuple[str, str], ...]:
    """Return the pairs of features that are equal up to rounding. Constant features are no pairs."""
    deviation = columns.std(axis=0)
    pairs = []
    for left in range(len(names)):
        for right in range(left + 1, len(names)):
            apart = float(np.abs(columns[:, left] - columns[:, right]).max())
            if deviation[left] > 0 and apart <= EQUAL * float(deviation[left]):
                pairs.append((names[left], names[right]))
    return tuple(pairs)


def _drifted(newest: Matrix, champion: Artifact | None, prepared: Prepared) -> tuple[tuple[str, ...], float | None]:
    """Return the features whose distribution differs from that in the champion's training part, worst first, and their
    share. Effective rows are those of the champion's backtest (``shared.gates.backtest``)."""
    known = champion.manifest.backtest if champion is not None else None
    if champion is None or known is None or champion.feature_set != prepared.feature_set.digest.hex():
        return (), None
    alarms = []
    for name, column, edges, then in zip(prepared.feature_set.names, newest.T, known.edges, known.counts, strict=True):
        now = np.bincount(np.searchsorted(np.array(edges), column, side="left"), minlength=len(then)).tolist()
        judged = drift.judge(now, then, known.effect, known.effect)
        if judged.alarm:
            alarms.append((judged.value, name))
    return tuple(name for _, name in sorted(alarms, reverse=True)), len(alarms) / newest.shape[1]
