"""Estimate how many rows a source of bars has, for a display of progress."""

import zipfile
from pathlib import Path
from typing import Final

from shared.bars.files import BarFile
from shared.bars.responses import Json, found_in
from shared.bars.rows import BarSource, SourceError
from shared.bars.source import FileSource
from shared.bars.tables import ArrowTable, rows_in
from shared.bars.text import BROKEN, GZIP, ZIP, compressed

MOST_FILES: Final = 2000
"""Files of which the rows are estimated; of more, the estimate would take long itself."""


def estimated_rows(source: BarSource) -> int | None:
    """Return about how many rows a source has; None if that is not known without reading it."""
    if not isinstance(source, FileSource) or len(source.files) > MOST_FILES:
        return None
    try:
        return sum(map(_rows, source.files))
    except (*BROKEN, SourceError):
        return None


def _rows(file: BarFile) -> int:
    reader = file.reader
    if isinstance(reader, ArrowTable):
        return rows_in(reader)
    if isinstance(reader, Json):
        return len(found_in(reader.path, reader.name).rows)
    chunk = next(reader.chunks(), None)
    if chunk is None:
        return 0
    length = sum(len(line) + 1 for line in chunk.raw) / len(chunk.raw)
    return round(_size(file.path) / length)


def _size(path: Path) -> int:
    """Return the size of a text, uncompressed. That of a gzip file of more than 4 GiB is too small."""
    kind = compressed(path)
    if kind == ZIP:
        with zipfile.ZipFile(path) as archive:
            return sum(member.file_size for member in archive.infolist())
    if kind == GZIP:
        with path.open("rb") as file:
            file.seek(-4, 2)
            return int.from_bytes(file.read(4), "little")
    return path.stat().st_size
