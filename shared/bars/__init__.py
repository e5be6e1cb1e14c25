"""Bars from files: CSV, the exchange's published klines, its REST answers, Parquet.

``open_source`` gives rows in time order, good and refused alike, for the feed; ``load`` gives columns,
for training. Every row that is no bar comes with its reason, its file and its line, and the rows
around it go on. What is read and what is refused: ``docs/reference/bar-files.md``.
"""

from shared.bars.names import interval_text, parse_interval
from shared.bars.rows import Bars, BarSource, Good, RefusedRow, Row, Series, SourceError, gather, misplaced
from shared.bars.source import FileSource, load, open_source

__all__ = [
    "BarSource",
    "Bars",
    "FileSource",
    "Good",
    "RefusedRow",
    "Row",
    "Series",
    "SourceError",
    "gather",
    "interval_text",
    "load",
    "misplaced",
    "open_source",
    "parse_interval",
]
