"""Read text with one row a line: with a header, or the rows of a known format without one.

A row is split at its delimiter and its numbers are parsed by ``int`` and ``float``, so that a price is the double
nearest to its decimal text, as everywhere in Python. If a chunk cannot be parsed at once, it is parsed row by row, to
find the faulty rows.
"""

import codecs
import gzip
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Final, cast

import numpy as np

from shared.bars.chunks import CHUNK, UNREADABLE, Chunk
from shared.bars.columns import PRICE_NAMES, TIME_NAMES, Layout, Stated
from shared.bars.formats import Positional
from shared.bars.headers import by_names
from shared.bars.positions import by_position
from shared.bars.rows import SourceError
from shared.bars.times import EARLIEST_S, joined, moment

BROKEN: Final = (
    EOFError,
    OSError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    zipfile.BadZipFile,
    RuntimeError,
    NotImplementedError,
    UnicodeDecodeError,
)
"""What is raised for a file that is damaged, and for an archive that is encrypted or of another kind."""
DELIMITERS: Final = (",", "\t", ";")
MISSING: Final = ("", "null", "none", "na", "nan")


GZIP: Final = b"\x1f\x8b"
ZIP: Final = b"PK\x03\x04"


BEGINNING: Final = 4096
MARKS: Final = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Encodings by the mark at the beginning. That of UTF-16 is also the beginning of that of UTF-32, so it comes later."""


def compressed(path: Path) -> bytes | None:
    """Return the first bytes of a compressed file, ``GZIP`` or ``ZIP``; None if it is not compressed."""
    with path.open("rb") as file:
        magic = file.read(4)
    return next((known for known in (GZIP, ZIP) if magic.startswith(known)), None)


def open_binary(path: Path) -> IO[bytes]:
    """Open a file for reading, decompressed if its first bytes are those of gzip or zip."""
    match compressed(path):
        case b"\x1f\x8b":
            return cast(IO[bytes], gzip.open(path, "rb"))
        case None:
            return path.open("rb")
        case _:
            return _only_member(path)


def _only_member(path: Path) -> IO[bytes]:
    with zipfile.ZipFile(path) as archive:
        members = [name for name in archive.namelist() if not name.endswith("/")]
        if len(members) != 1:
            raise SourceError(f"{path.name}: expected one file in the archive, found {len(members)}: unpack it first")
        return archive.open(members[0])


def layout_of(head: Sequence[str], name: str, stated: Stated, symbol: str | None) -> tuple[Layout, Positional | None]:
    """Return the columns of a file by its first lines: by the names of a header, or else by the rows of a format.

    A line without a delimiter may precede the header, as some sites write their address there. Raises ``SourceError``
    with the first line.
    """
    for skip, line in enumerate(head[:2]):
        for delimiter in DELIMITERS:
            rows = _split(head[skip + 1 :], delimiter)
            if delimiter in line and not _is_row(line, delimiter):
                layout = by_names(line.split(delimiter), rows, name, stated, symbol)
                if layout is not None:
                    return layout._replace(skip=skip + 1, delimiter=delimiter), None
        if any(delimiter in line for delimiter in DELIMITERS):
            break
    delimiter = max(DELIMITERS, key=lambda each: max(line.count(each) for line in head))
    rows = _split(head, delimiter)
    if not any(len(row) > 1 and _is_row(delimiter.join(row), delimiter) for row in rows):
        raise SourceError(
            f"{name}: not a file of bars: expected a header with {TIME_NAMES[0]} (or {', '.join(TIME_NAMES[1:5])}), "
            f"{', '.join(PRICE_NAMES)}, volume, or rows of a known format without one;"
            f" the first line is {head[0][:200]!r}"
        )
    layout, form = by_position(rows, "text", name, stated, symbol)
    return layout._replace(delimiter=delimiter), form


def _split(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    return [[bare(cell) for cell in line.split(delimiter)] for line in lines if line.strip()]


def _is_row(line: str, delimiter: str) -> bool:
    """Return whether a line begins like a row, with a digit."""
    return bare(line.split(delimiter, maxsplit=1)[0])[:1].isdecimal()


def bare(cell: str) -> str:
    """Return a cell without spaces and quotes around it."""
    return cell.strip().strip('"').strip()


@dataclass(frozen=True)
class Text:
    """A file of lines. Blank lines are ignored. Bytes that are not UTF-8 are shown as ``\\xNN``."""

    path: Path
    name: str
    layout: Layout

    @property
    def has_symbol(self) -> bool:
        """Whether there is a symbol column."""
        return self.layout.symbol is not None

    def chunks(self) -> Iterator[Chunk]:
        """See ``RowReader.chunks``."""
        number = 1
        try:
            with text_of(self.path) as file:
                for _ in range(self.layout.skip):
                    file.readline()
                    number += 1
                while lines := list(islice(file, CHUNK)):
                    if any(line.strip("\r\n") for line in lines):
                        yield self._chunk(lines, number)
                    number += len(lines)
        except BROKEN as error:
            raise SourceError(f"{self.name}: cannot be read on after line {number - 1}: {error}") from error

    def _chunk(self, lines: list[str], number: int) -> Chunk:
        numbers: Sequence[int] = range(number, number + len(lines))
        rows = [line.rstrip("\r\n") for line in lines]
        if not all(rows):
            numbers = [line for line, row in zip(numbers, rows, strict=True) if row]
            rows = [row for row in rows if row]
        cells = [row.split(self.layout.delimiter) for row in rows]
        return parse(cells, self.layout, numbers, rows)


def text_of(path: Path) -> IO[str]:
    """Open a file as text, decompressed and without a byte-order mark: in UTF-8, or in what the mark says, as terminals
    and spreadsheets write it."""
    with open_binary(path) as file:
        head = file.read(BEGINNING)
    encoding = next((name for mark, name in MARKS.items() if head.startswith(mark)), "utf-8-sig")
    newline = "\r" if b"\r" in head and b"\n" not in head else "\n"
    return io.TextIOWrapper(open_binary(path), encoding=encoding, errors="backslashreplace", newline=newline)


def parse(cells: list[list[str]], layout: Layout, lines: Sequence[int], raw: Sequence[str]) -> Chunk:
    """Return a chunk of rows, parsed at once if every row is well formed, or else row by row."""
    try:
        if layout.clock is not None or layout.closed is not None or not _plain("".join(raw)):
            raise ValueError
        return _parse_all(cells, layout, lines, raw)
    except (ValueError, OverflowError):
        return _parse_each(cells, layout, lines, raw)


def _plain(text: str) -> bool:
    """Return whether the text has no digits that only Python accepts in numbers (1_000, full-width digits)."""
    return text.isascii() and "_" not in text


def _parse_all(cells: list[list[str]], layout: Layout, lines: Sequence[int], raw: Sequence[str]) -> Chunk:
    columns = list(zip(*cells, strict=True))
    if len(columns) != layout.width:
        raise ValueError
    opened = np.array(list(map(int, columns[layout.time])), dtype=np.int64)
    if (opened < EARLIEST_S).any():
        raise ValueError
    closed = None
    if layout.close_time is not None:
        closed = np.array(list(map(int, columns[layout.close_time])), dtype=np.int64)
    values = np.array([list(map(float, columns[price])) for price in layout.prices]).T
    symbols = columns[layout.symbol] if layout.symbol is not None else None
    further = None
    if any(index is not None for index in layout.further):
        absent = [np.nan] * len(cells)
        further = np.array(
            [absent if index is None else list(map(float, columns[index])) for index in layout.further]
        ).T
    return Chunk(lines, opened, closed, values, symbols, raw, {}, further)


def _parse_each(cells: list[list[str]], layout: Layout, lines: Sequence[int], raw: Sequence[str]) -> Chunk:
    opened = np.full(len(cells), UNREADABLE, dtype=np.int64)
    closed = opened.copy() if layout.close_time is not None else None
    values = np.full((len(cells), 5), np.nan)
    symbols = [""] * len(cells) if layout.symbol is not None else None
    further = np.full((len(cells), 3), np.nan) if any(each is not None for each in layout.further) else None
    bad = {}
    for index, row in enumerate(cells):
        try:
            if len(row) != layout.width:
                raise ValueError(f"expected {layout.width} columns, found {len(row)}")
            opened[index] = _open_time(row, layout)
            if closed is not None and layout.close_time is not None:
                closed[index] = moment(bare(row[layout.close_time]), layout.zone)
            values[index] = [_number(row[price]) for price in layout.prices]
            if symbols is not None and layout.symbol is not None:
                symbols[index] = bare(row[layout.symbol])
            if further is not None:
                further[index] = [np.nan if each is None else number_or_absent(row[each]) for each in layout.further]
            if layout.closed is not None and bare(row[layout.closed]).lower() not in {"1", "true"}:
                raise ValueError(f"incomplete bar: it was still open ({bare(row[layout.closed])[:50]!r})")
        except (ValueError, OverflowError) as error:
            bad[index] = str(error)
    return Chunk(lines, opened, closed, values, symbols, raw, bad, further)


def number_or_absent(cell: str) -> float:
    """Return a number; NaN for an empty cell or the text of a missing value. Raises ``ValueError``."""
    return np.nan if bare(cell).lower() in MISSING else _number(cell)


def _open_time(row: Sequence[str], layout: Layout) -> int:
    time = bare(row[layout.time])
    return moment(time, layout.zone) if layout.clock is None else joined(time, bare(row[layout.clock]), layout.zone)


def _number(cell: str) -> float:
    text = bare(cell)
    try:
        if _plain(text):
            return float(text)
    except ValueError:
        pass
    raise ValueError(f"{cell[:50]!r} is not a number")
