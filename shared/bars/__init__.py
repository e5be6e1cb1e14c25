"""Read bars from files: CSV, an exchange's published klines, its REST responses, and Parquet.

``open_source`` returns rows in time order for the feed, valid and refused rows alike. ``load`` returns columns for
training. A refused row has its reason, file and line, and does not affect the rows around it. The accepted formats
and the reasons for refusals are documented in ``docs/reference/bar-files.md``.
"""

from shared.bars.names import interval_text, parse_interval
from shared.bars.rows import Bars, BarSource, Good, LeftOut, RefusedRow, Row, Series, SourceError, gather, misplaced
from shared.bars.source import FileSource, load, open_source

__all__ = [
    "BarSource",
    "Bars",
    "FileSource",
    "Good",
    "LeftOut",
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
