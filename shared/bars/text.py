"""Read text formats: CSV with a header, an exchange's klines without a header, and its REST responses in JSON.

A row is split at commas and its numbers are parsed by ``int`` and ``float``, so that a price is the double nearest to
its decimal text, as everywhere in Python. If a chunk cannot be parsed at once, it is parsed row by row, to find the
faulty rows.
"""

import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import IO, Final, NamedTuple, cast

import msgspec
import numpy as np

from schemas.codec import UNDECODABLE
from shared.bars.chunks import CHUNK, UNREADABLE, Chunk
from shared.bars.rows import SourceError

BROKEN: Final = (EOFError, OSError, zlib.error, zipfile.BadZipFile)
KLINE_WIDTH: Final = 12
TIME_NAMES: Final = ("open_time", "timestamp", "datetime", "date", "time")
MISSING: Final = ("", "null", "none", "na", "nan")
PRICE_NAMES: Final = ("open", "high", "low", "close", "volume")
FURTHER_NAMES: Final = (
    ("count", "number_of_trades", "trades"),
    ("quote_volume", "quote_asset_volume"),
    ("taker_buy_volume", "taker_buy_base_asset_volume", "taker_buy_base_volume", "taker_volume"),
)
"""The names of the further columns: number of trades, quote volume, volume that takers bought. The first of each is the
name in files that Binance publishes."""
Further = tuple[int | None, int | None, int | None]


class Layout(NamedTuple):
    """The indices of the columns; ``prices`` are open, high, low, close, volume. ``further``: see ``FURTHER_NAMES``."""

    width: int
    time: int
    prices: tuple[int, int, int, int, int]
    close_time: int | None
    symbol: int | None
    header: bool
    further: Further = (None, None, None)


KLINES: Final = Layout(KLINE_WIDTH, 0, (1, 2, 3, 4, 5), 6, None, header=False, further=(8, 7, 9))
"""An exchange's kline row: open time, OHLCV, close time, quote volume, trades, taker volumes, unused."""


def open_binary(path: Path) -> IO[bytes]:
    """Open a file for reading, decompressed if its first bytes are those of gzip or zip."""
    with path.open("rb") as file:
        magic = file.read(4)
    if magic[:2] == b"\x1f\x8b":
        return cast(IO[bytes], gzip.open(path, "rb"))
    if magic == b"PK\x03\x04":
        return _only_member(path)
    return path.open("rb")


def _only_member(path: Path) -> IO[bytes]:
    with zipfile.ZipFile(path) as archive:
        members = [name for name in archive.namelist() if not name.endswith("/")]
        if len(members) != 1:
            raise SourceError(f"{path.name}: expected one file in the archive, found {len(members)}: unpack it first")
        return archive.open(members[0])


def layout_of(head: Sequence[str], name: str) -> Layout:
    """Return the columns of a file by its first lines: by the names of a header, or else by the shape of klines.

    Raises ``SourceError`` with the first line.
    """
    cells = [_bare(cell).lower().replace(" ", "_") for cell in head[0].split(",")]
    layout = by_names(cells, name)
    if layout is not None:
        return layout
    if any(_is_kline(line.split(",")) for line in head):
        return KLINES
    raise SourceError(
        f"{name}: not a file of bars: expected a header with {TIME_NAMES[0]} (or {', '.join(TIME_NAMES[1:])}), "
        f"{', '.join(PRICE_NAMES)}, or an exchange's {KLINE_WIDTH} columns without one;"
        f" the first line is {head[0][:200]!r}"
    )


def by_names(cells: Sequence[str], name: str) -> Layout | None:
    """Return the columns by their lower-case names; None if no name is known. Raises ``SourceError`` if some are
    missing."""
    times = [name for name in TIME_NAMES if name in cells]
    missing = [name for name in PRICE_NAMES if name not in cells]
    if not times and len(missing) == len(PRICE_NAMES):
        return None
    if not times or missing:
        lacking = missing if times else [f"one of {', '.join(TIME_NAMES)}", *missing]
        raise SourceError(f"{name}: the header has no {', '.join(lacking)}; it has {', '.join(cells)[:500]}")
    first, high, low, last, volume = (cells.index(name) for name in PRICE_NAMES)
    return Layout(
        len(cells),
        cells.index(times[0]),
        (first, high, low, last, volume),
        cells.index("close_time") if "close_time" in cells else None,
        cells.index("symbol") if "symbol" in cells else None,
        header=True,
        further=_further(cells),
    )


def _further(cells: Sequence[str]) -> Further:
    trades, quote, taker = (
        next((cells.index(name) for name in names if name in cells), None) for names in FURTHER_NAMES
    )
    return trades, quote, taker


def _is_kline(cells: Sequence[str]) -> bool:
    return len(cells) == KLINE_WIDTH and _bare(cells[0]).isdecimal()


def _bare(cell: str) -> str:
    return cell.strip().strip('"').strip()


@dataclass(frozen=True)
class Csv:
    """A comma-separated file. Blank lines are ignored. Bytes that are not UTF-8 are shown as ``\\xNN``. A time is a
    whole number, or ISO 8601 text, which is UTC if it has no time zone."""

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
                if self.layout.header:
                    file.readline()
                    number += 1
                while lines := list(islice(file, CHUNK)):
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
        cells = [row.split(",") for row in rows]
        return parse(cells, self.layout, numbers, rows)


def text_of(path: Path) -> IO[str]:
    """Open a file as text, decompressed and without a byte-order mark."""
    return io.TextIOWrapper(open_binary(path), encoding="utf-8-sig", errors="backslashreplace", newline="\n")


@dataclass(frozen=True)
class Json:
    """A REST response: an array of kline arrays, with prices as text. The whole file is in memory while it is read.
    ``Chunk.lines`` are row numbers."""

    path: Path
    name: str
    has_symbol: bool = False

    def chunks(self) -> Iterator[Chunk]:
        """See ``RowReader.chunks``."""
        try:
            with open_binary(self.path) as file:
                rows = msgspec.json.decode(file.read(), type=list[msgspec.Raw])
        except BROKEN as error:
            raise SourceError(f"{self.name}: cannot be read: {error}") from error
        except UNDECODABLE as error:
            raise SourceError(f"{self.name}: not a REST response with bars: {error}") from None
        for start in range(0, len(rows), CHUNK):
            raw = [bytes(row).decode(errors="backslashreplace") for row in rows[start : start + CHUNK]]
            numbers = range(start + 1, start + 1 + len(raw))
            yield parse([_json_cells(text) for text in raw], KLINES, numbers, raw)


def _json_cells(text: str) -> list[str]:
    try:
        row = msgspec.json.decode(text)
    except UNDECODABLE:
        return [text]
    return [cell if isinstance(cell, str) else str(cell) for cell in row] if isinstance(row, list) else [text]


def parse(cells: list[list[str]], layout: Layout, lines: Sequence[int], raw: Sequence[str]) -> Chunk:
    """Return a chunk of rows, parsed at once if every row is well formed, or else row by row."""
    try:
        if not _plain("".join(raw)):
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
            opened[index] = _moment(row[layout.time])
            if closed is not None and layout.close_time is not None:
                closed[index] = _moment(row[layout.close_time])
            values[index] = [_number(row[price]) for price in layout.prices]
            if symbols is not None and layout.symbol is not None:
                symbols[index] = _bare(row[layout.symbol])
            if further is not None:
                further[index] = [np.nan if each is None else _absent_or(row[each]) for each in layout.further]
        except (ValueError, OverflowError) as error:
            bad[index] = str(error)
    return Chunk(lines, opened, closed, values, symbols, raw, bad, further)


def _absent_or(cell: str) -> float:
    """Return a number; NaN for an empty cell or the text of a missing value."""
    return np.nan if _bare(cell).lower() in MISSING else _number(cell)


def _number(cell: str) -> float:
    text = _bare(cell)
    try:
        if _plain(text):
            return float(text)
    except ValueError:
        pass
    raise ValueError(f"{cell[:50]!r} is not a number")


def _moment(cell: str) -> int:
    text = _bare(cell)
    if text.isascii() and text.isdecimal():
        return int(text)
    try:
        if (number := _number(text)).is_integer():
            return int(number)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{cell[:50]!r} is not a time: expected a whole number or ISO 8601") from None
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (zoned - datetime(1970, 1, 1, tzinfo=UTC)) // _MICROSECOND


_MICROSECOND: Final = datetime.resolution
