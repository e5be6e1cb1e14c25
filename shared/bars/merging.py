"""Put files of bars together, and bars of one length together to bars of another, as tables of Arrow.

Nothing is decided by the order of files: the same bar with other content is a conflict, which is named, and nothing is
returned for it. A bar is made only of all its parts.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from math import nan
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from shared.bars.checking import Gap
from shared.bars.columns import Stated
from shared.bars.files import probe
from shared.bars.formats import FURTHER
from shared.bars.names import interval_text
from shared.bars.rows import VALUES, Good, LeftOut, RefusedRow, Row, Series, SourceError
from shared.bars.source import FileSource, files_in, named_in
from shared.bars.tables import arrow

HOW: Final = {
    "open": "first",
    "high": "max",
    "low": "min",
    "close": "last",
    "volume": "sum",
    **dict.fromkeys(FURTHER, "sum"),
    "open_time": "count",
}
"""How the values of bars become those of a longer bar."""
COLUMNS: Final = (*VALUES, *FURTHER)
SUFFIXES: Final = (".parquet", ".feather", ".csv", ".csv.gz")
"""The endings of files that are written; each shows its format."""


class BarConflict(NamedTuple):
    """Two rows for one bar, with other content: where each is."""

    symbol: str
    open_time: int
    first: str
    second: str


@dataclass
class MergedBars:
    """One series as a table of Arrow, with the columns ``open_time``, ``VALUES`` and ``FURTHER`` (NaN where a bar
    has no such field), in the order of time, each bar once. ``duplicates``: rows that only repeated a bar.
    ``conflicts`` are left out of the table."""

    symbol: str
    interval_ms: int
    table: Any
    duplicates: int
    conflicts: list[BarConflict]

    def gaps(self) -> list[Gap]:
        """Return the gaps between the bars."""
        times = self.table.column("open_time").to_numpy()
        skipped = np.diff(times) // self.interval_ms - 1
        return [
            Gap(int(times[at]) + self.interval_ms, int(times[at + 1]) - self.interval_ms, int(skipped[at]))
            for at in np.flatnonzero(skipped).tolist()
        ]


class Resampled(NamedTuple):
    """A series of longer bars, and the bars that were not made since parts of them are missing: their open time, and
    how many parts there are."""

    merged: MergedBars
    incomplete: list[tuple[int, int]]
    parts: int


def sources_of(paths: Iterable[Path], stated: Stated) -> list[FileSource]:
    """Return each file as a source of its own, in any order of its rows. Raises ``SourceError``."""
    arrow("bars are merged by pyarrow")
    files = [
        probe(file, str(file if file == path else path / named_in(file, path)), stated, backwards=True)
        for path in paths
        for file in files_in(path)
    ]
    return [FileSource(file.name, "", (file,), "replay") for file in files]


def merge(rows: Iterable[Row], left_out: LeftOut) -> dict[Series, MergedBars]:
    """Return all bars of some rows by series. ``left_out`` is called with the rows that are no bars."""
    columns: dict[Series, tuple[list[int], list[tuple[float, ...]], list[str]]] = {}
    for row in rows:
        match row:
            case RefusedRow():
                left_out(row)
            case Good(bar=bar, where=where):
                times, values, places = columns.setdefault((bar.symbol, bar.interval_ms), ([], [], []))
                times.append(bar.open_time)
                further = (nan if each is None else each for each in (bar.trades, bar.quote_volume, bar.taker_volume))
                values.append((bar.open, bar.high, bar.low, bar.close, bar.volume, *further))
                places.append(where)
    return {series: _merged(series, *columns[series]) for series in sorted(columns)}


def _merged(series: Series, times: list[int], values: list[tuple[float, ...]], places: list[str]) -> MergedBars:
    pyarrow = arrow("bars are merged by pyarrow")
    opened, numbers = np.array(times, dtype=np.int64), np.array(values)
    order = np.argsort(opened, kind="stable")
    opened, numbers = opened[order], numbers[order]
    repeats = np.flatnonzero(np.diff(opened) == 0) + 1
    starts = np.searchsorted(opened, opened[repeats])
    says_more = (np.isnan(numbers[starts]) & ~np.isnan(numbers[repeats])).any(axis=1)
    for first, second in zip(starts[says_more].tolist(), repeats[says_more].tolist(), strict=True):
        absent = np.isnan(numbers[first])
        numbers[first, absent] = numbers[second, absent]
    differ = ((numbers[repeats] != numbers[starts]) & ~np.isnan(numbers[repeats])).any(axis=1)
    conflicts = [
        BarConflict(series[0], int(opened[second]), places[order[first]], places[order[second]])
        for first, second in zip(starts[differ].tolist(), repeats[differ].tolist(), strict=True)
    ]
    keep = np.ones(len(opened), dtype=bool)
    keep[repeats] = False
    keep &= ~np.isin(opened, opened[repeats[differ]])
    table = pyarrow.table({"open_time": opened[keep], **{name: numbers[keep, at] for at, name in enumerate(COLUMNS)}})
    return MergedBars(*series, table, int((~differ).sum()), conflicts)


def resample(bars: MergedBars, interval_ms: int) -> Resampled:
    """Return bars of another length, each made of all its parts: the first open, the highest high, the lowest low,
    the last close and the sum of the volumes and of the numbers of trades. A further field that a part lacks is
    absent. They open at multiples of their length since 1970. Raises ``SourceError`` if the length is no multiple."""
    if interval_ms <= bars.interval_ms or interval_ms % bars.interval_ms:
        raise SourceError(
            f"{bars.symbol}: bars of {interval_text(interval_ms)} cannot be made of bars of"
            f" {interval_text(bars.interval_ms)}: expected a multiple of it that is longer"
        )
    pyarrow = arrow("bars are resampled by pyarrow")
    times = bars.table.column("open_time").to_numpy()
    grouped = (
        bars.table.append_column("bucket", pyarrow.array(times - times % interval_ms))
        .group_by("bucket", use_threads=False)  # only then are first and last in the order of the rows
        .aggregate([*HOW.items()])
        .sort_by("bucket")
    )
    parts = interval_ms // bars.interval_ms
    counts = grouped.column("open_time_count").to_numpy()
    opened = grouped.column("bucket").to_numpy()
    whole = grouped.filter(pyarrow.array(counts == parts))
    table = pyarrow.table(
        {"open_time": whole.column("bucket"), **{name: whole.column(f"{name}_{HOW[name]}") for name in COLUMNS}}
    )
    short = np.flatnonzero(counts < parts).tolist()
    made = MergedBars(bars.symbol, interval_ms, table, 0, [])
    return Resampled(made, [(int(opened[at]), int(counts[at])) for at in short], parts)


def refuse_output(path: Path) -> None:
    """Raise ``SourceError`` if bars cannot be written to a path: its ending names no format, or something is there."""
    if not path.name.endswith(SUFFIXES):
        raise SourceError(f"{path}: expected a name that ends in {', '.join(SUFFIXES)}")
    if path.exists():
        raise SourceError(f"{path} exists; expected the name of a new file")
    if not path.parent.is_dir():
        raise SourceError(f"{path}: there is no folder {path.parent}")


def write(path: Path, series: Sequence[MergedBars]) -> None:
    """Write series of one length to a new file, in the order of time, with a column ``symbol``. The file is there only
    when it is whole. Raises ``SourceError`` if it cannot be written."""
    refuse_output(path)
    pyarrow = arrow("bars are written by pyarrow")
    tables = [
        bars.table.append_column("symbol", pyarrow.array([bars.symbol] * bars.table.num_rows, pyarrow.string()))
        for bars in series
    ]
    table = pyarrow.concat_tables(tables).sort_by([("open_time", "ascending"), ("symbol", "ascending")])
    table = _without_absent(pyarrow, table)
    part = path.with_name(f".{path.name}.part")
    try:
        written = [name for name in ("symbol", "open_time", *COLUMNS) if name in table.column_names]
        _write(pyarrow, table.select(written), part, path.name)
        os.replace(part, path)
    except (OSError, pyarrow.ArrowException) as error:
        part.unlink(missing_ok=True)
        raise SourceError(f"{path}: cannot be written: {error}") from error


def _without_absent(pyarrow: Any, table: Any) -> Any:
    """Return a table with null for further fields that a bar lacks, and without those that all lack."""
    for name in FURTHER:
        column = table.column(name).to_numpy()
        absent, at = np.isnan(column), table.column_names.index(name)
        if absent.all():
            table = table.remove_column(at)
        else:
            kind = pyarrow.int64() if name == "trades" else pyarrow.float64()
            whole = np.where(absent, 0, column)
            table = table.set_column(at, name, pyarrow.array(whole, mask=absent).cast(kind, safe=False))
    return table


def _write(pyarrow: Any, table: Any, part: Path, name: str) -> None:
    from pyarrow import csv, feather  # noqa: PLC0415  # an optional extra

    if name.endswith(".parquet"):
        pyarrow.parquet.write_table(table, part)
    elif name.endswith(".feather"):
        feather.write_feather(table, str(part))
    else:
        compression = "gzip" if name.endswith(".gz") else None
        with pyarrow.output_stream(str(part), compression=compression) as file:
            csv.write_csv(table, file, csv.WriteOptions(quoting_style="none"))


def rows_of(sources: Sequence[FileSource]) -> Iterator[Row]:
    """Yield the rows of sources, one after another."""
    return chain.from_iterable(source.rows() for source in sources)
