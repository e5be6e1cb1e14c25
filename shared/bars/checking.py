"""Look through a source of bars before it is used: its series, its gaps, and what would be left out."""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from schemas.market import BarClosed
from shared.bars.chunks import UNREADABLE, Chunk, RowReader
from shared.bars.files import BarFile
from shared.bars.rows import Good, LeftOut, RefusedRow, Row, Series, misplaced, values
from shared.bars.source import FileSource
from shared.bars.times import UNITS

BLOCKS: Final = "▁▂▃▄▅▆▇█"
GAPS_KEPT: Final = 1000
"""The gaps of a series that are kept. All are counted."""


class Gap(NamedTuple):
    """Bars that are missing between two bars of a series: the open times (ms) of the first and the last of them."""

    first: int
    last: int
    bars: int


@dataclass
class SeriesCheck:
    """What was found of one series. Times are open times in ms; ``closes`` are the closing prices, with their
    times. ``future``: bars that are not over yet."""

    symbol: str
    interval_ms: int
    bars: int = 0
    gaps: int = 0
    missing: int = 0
    first_gaps: list[Gap] = field(default_factory=list)
    newest: BarClosed | None = None
    times: "array[int]" = field(default_factory=lambda: array("q"))
    closes: "array[float]" = field(default_factory=lambda: array("d"))
    future: int = 0

    def add(self, bar: BarClosed, now_ms: int) -> None:
        """Add the next bar."""
        self.future += bar.open_time + bar.interval_ms > now_ms
        if self.newest is not None and (skipped := (bar.open_time - self.newest.open_time) // self.interval_ms - 1):
            self.gaps += 1
            self.missing += skipped
            if len(self.first_gaps) < GAPS_KEPT:
                first = self.newest.open_time + self.interval_ms
                self.first_gaps.append(Gap(first, bar.open_time - self.interval_ms, skipped))
        self.bars += 1
        self.newest = bar
        self.times.append(bar.open_time)
        self.closes.append(bar.close)

    def picture(self, width: int) -> str:
        """Return the closing prices as ``width`` blocks at most, over time; a space where all bars are missing."""
        times, closes = np.array(self.times), np.array(self.closes)
        if not len(times):
            return ""
        steps = (times - times[0]) // self.interval_ms
        cells = min(width, int(steps[-1]) + 1)
        places = steps * cells // (steps[-1] + 1)
        sums, counts = np.bincount(places, closes, cells), np.bincount(places, minlength=cells)
        means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
        low, high = np.nanmin(means), np.nanmax(means)
        heights = (means - low) / ((high - low) or 1.0) * (len(BLOCKS) - 1)
        return "".join(" " if np.isnan(height) else BLOCKS[round(float(height))] for height in heights)


@dataclass
class FileCheck:
    """What was found of one file: its format, and its units of time with their numbers of rows."""

    name: str
    program: str
    units: Counter[str] = field(default_factory=Counter)


@dataclass
class SourceCheck:
    """What was found of a source. ``left_out`` counts the rows that would be left out, by reason."""

    files: list[FileCheck]
    series: dict[Series, SeriesCheck]
    left_out: LeftOut

    @property
    def clean(self) -> bool:
        """Whether there are bars, no gap, no bar that is not over, and no row that would be left out."""
        faults = any(series.gaps or series.future for series in self.series.values())
        return bool(self.series) and not faults and not self.left_out.counts


class _Counting:
    """A reader that counts the units of time of the rows that it yields."""

    def __init__(self, file: BarFile, units: Counter[str]) -> None:
        self._file, self._units = file, units

    @property
    def has_symbol(self) -> bool:
        return self._file.reader.has_symbol

    def chunks(self) -> Iterator[Chunk]:
        times = self._file.times
        for chunk in self._file.reader.chunks():
            readable = chunk.opened[chunk.opened != UNREADABLE]
            if times:
                self._units[times] += len(readable)
            else:
                places = np.searchsorted(np.array([*UNITS.values()][:-1]), readable, side="right")
                for place, count in zip(*np.unique(places, return_counts=True), strict=True):
                    self._units[[*UNITS][place]] += int(count)
            yield chunk


def counting_units(source: FileSource) -> tuple[FileSource, list[FileCheck]]:
    """Return a source with the same rows, and what it finds of its files while it is read."""
    checks = [FileCheck(file.name, file.program) for file in source.files]
    files = []
    for file, check in zip(source.files, checks, strict=True):
        reader: RowReader = _Counting(file, check.units)
        files.append(file._replace(reader=reader))
    return FileSource(source.name, source.identity, tuple(files), source.origin), checks


def check(rows: Iterable[Row], files: list[FileCheck], now_ms: int) -> SourceCheck:
    """Look through the rows of a source. The rules are those of training and of the feed (``misplaced``)."""
    found: dict[Series, SeriesCheck] = {}
    left_out = LeftOut()
    for row in rows:
        match row:
            case RefusedRow():
                left_out(row)
            case Good(bar=bar, where=where):
                series = found.setdefault((bar.symbol, bar.interval_ms), SeriesCheck(bar.symbol, bar.interval_ms))
                fault = misplaced(series.newest, bar)
                if fault is None:
                    series.add(bar, now_ms)
                else:
                    left_out(RefusedRow(*fault, where, values(bar), bar.symbol))
    return SourceCheck(files, dict(sorted(found.items())), left_out)
