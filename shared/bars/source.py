"""Read a file, or a folder of files, as one source in time order."""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from hashlib import blake2b
from math import isnan, nan
from pathlib import Path
from typing import Any, Final

from schemas.common import Origin
from schemas.market import BarClosed
from shared.bars.chunks import Chunk, Fault, faults
from shared.bars.columns import Stated
from shared.bars.files import BarFile, probe
from shared.bars.names import SYMBOL, interval_text
from shared.bars.rows import Bars, Good, RefusedRow, Row, Series, SourceError, gather

SUFFIXES: Final = {".csv", ".feather", ".gz", ".json", ".parquet", ".tsv", ".zip"}
"""The endings of files that are read in a folder; other files (checksums, notes) are ignored."""
SAMPLE: Final = 65_536
RAW: Final = 2000
NO_FURTHER: Final = (nan, nan, nan)


class _View:
    """A checked chunk. A row is made when it is accessed."""

    def __init__(self, chunk: Chunk, file: BarFile, origin: Origin) -> None:
        opened, by_row = faults(chunk, file.interval_ms)
        self.file, self.chunk, self.origin = file, chunk, origin
        self.opened: list[int] = opened.tolist()
        self.values: list[list[float]] = chunk.values.tolist()
        self.further: list[list[float]] | None = chunk.further.tolist() if chunk.further is not None else None
        self.symbols = chunk.symbols or [file.symbol or ""] * len(chunk.lines)
        if chunk.symbols is not None:
            for index, symbol in enumerate(chunk.symbols):
                if not SYMBOL.fullmatch(symbol):
                    by_row.setdefault(index, ("bad_row", f"{symbol[:50]!r} is not a symbol"))
        self.faults: dict[int, Fault] = by_row

    def row(self, index: int) -> Row:
        where = f"{self.file.name}:{self.chunk.lines[index]}"
        symbol = self.symbols[index]
        if index in self.faults:
            reason, detail = self.faults[index]
            named = symbol if SYMBOL.fullmatch(symbol) else None
            return RefusedRow(reason, detail, where, self.chunk.raw[index][:RAW], named)
        first, high, low, last, volume = self.values[index]
        trades, quote_volume, taker_volume = self.further[index] if self.further is not None else NO_FURTHER
        span = self.file.interval_ms
        return Good(
            BarClosed(
                symbol=symbol,
                interval_ms=span,
                open_time=self.opened[index],
                open=first,
                high=high,
                low=low,
                close=last,
                volume=volume,
                origin=self.origin,
                trades=None if isnan(trades) else int(trades),
                quote_volume=None if isnan(quote_volume) else quote_volume,
                taker_volume=None if isnan(taker_volume) else taker_volume,
            ),
            where,
        )


_Item = tuple[int, str, int, int, int, _View | None, int]
"""The merge key of a row (close time, symbol, interval, number of the file, number of the row in the file), its chunk,
and its index in the chunk."""


def _items(file: BarFile, rank: int, origin: Origin) -> Iterator[_Item]:
    """Yield the rows of one file with their merge keys.

    The first item has no row. It delays opening the file until the merge reaches its first time. A refused row has the
    time of the row before it, so that it stays directly after that row.
    """
    if file.first is None:
        return
    close, count, symbol = file.first + file.interval_ms, 0, file.symbol or ""
    yield close, symbol, file.interval_ms, rank, -1, None, 0
    for chunk in file.reader.chunks():
        view = _View(chunk, file, origin)
        for index, opened in enumerate(view.opened):
            if index not in view.faults:
                close, symbol = opened + file.interval_ms, view.symbols[index]
            yield close, symbol, file.interval_ms, rank, count, view, index
            count += 1


@dataclass(frozen=True)
class FileSource:
    """Bars from files, merged by (close time, symbol, interval).

    Memory: one chunk for each file that is open at the same time. Files whose times do not overlap, such as months, are
    open one after another. Rows of one file keep their order, also a row that is earlier than the row before it.
    """

    name: str
    identity: str
    files: tuple[BarFile, ...]
    origin: Origin

    @property
    def series(self) -> tuple[Series, ...]:
        """The series by file names or by the caller. Symbols in columns are not listed."""
        return tuple(sorted({(file.symbol, file.interval_ms) for file in self.files if file.symbol is not None}))

    def rows(self, skip: int = 0) -> Iterator[Row]:
        """See ``BarSource.rows``. Skipped rows are parsed and merged, but not made."""
        for *_, view, index in heapq.merge(*(_items(file, rank, self.origin) for rank, file in enumerate(self.files))):
            if view is None:
                continue
            if skip > 0:
                skip -= 1
            else:
                yield view.row(index)

    def __iter__(self) -> Iterator[Row]:
        return self.rows()


def open_source(
    path: Path | str,
    *,
    symbol: str | None = None,
    interval_ms: int | None = None,
    columns: Iterable[tuple[str, str]] = (),
    zone: tzinfo | None = None,
    origin: Origin = "replay",
) -> FileSource:
    """Return a source of the bars in a file, or in all files of a folder and its subfolders.

    What is stated (``shared.bars.columns.Stated``) applies to every file and overrides file names. Raises
    ``SourceError`` if a file has no bars, cannot be read, or has an unknown symbol, interval, column or zone. Only the
    beginning of each file is read, unless its rows have a symbol column.
    """
    root = Path(path)
    stated = Stated(symbol, interval_ms, tuple(columns), zone)
    files = tuple(probe(file, named_in(file, root), stated) for file in files_in(root))
    _refuse_two_contents(files)
    more = (stated.columns, str(zone)) if stated.columns or zone is not None else ()
    digest = blake2b(repr((1, origin, symbol, interval_ms, *more)).encode(), digest_size=16)
    for file in files:
        digest.update(repr((file.name, file.symbol, file.interval_ms, *sampled(file.path))).encode())
    return FileSource(root.name or str(root), digest.hexdigest(), files, origin)


def load(
    path: Path | str,
    *,
    symbol: str | None = None,
    interval_ms: int | None = None,
    columns: Iterable[tuple[str, str]] = (),
    zone: tzinfo | None = None,
    refused: Callable[[RefusedRow], Any] | None = None,
) -> dict[Series, Bars]:
    """Return all series of a file or folder as columns. ``refused`` is called with every row that is left out. Raises
    ``SourceError``."""
    source = open_source(path, symbol=symbol, interval_ms=interval_ms, columns=columns, zone=zone)
    return gather(source.rows(), refused)


def _refuse_two_contents(files: Sequence[BarFile]) -> None:
    """Raise ``SourceError`` if two files of one series begin with the same bar at other prices: they are two series,
    such as traded and mark prices, or two exchanges."""
    begun: dict[tuple[str | None, int, int | None], BarFile] = {}
    for file in files:
        if file.symbol is None or file.first is None:
            continue
        other = begun.setdefault((file.symbol, file.interval_ms, file.first), file)
        if other is not file and _first_bar(other) != _first_bar(file):
            raise SourceError(
                f"{other.name} and {file.name} are both read as {file.symbol}, {interval_text(file.interval_ms)}, and "
                f"begin with the same bar at other prices, so they are two series. Read them one at a time, each with "
                f"its own symbol (--symbol)"
            )


def _first_bar(file: BarFile) -> list[float]:
    chunk = next(iter(file.reader.chunks()))
    opened, by_row = faults(chunk, file.interval_ms)
    at = next((index for index in range(len(opened)) if index not in by_row and opened[index] == file.first), 0)
    found: list[float] = chunk.values[at].tolist()
    return found


def files_in(root: Path) -> list[Path]:
    """Return the file at a path, or the files of bars in the folder there. Raises ``SourceError``."""
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise SourceError(f"{root}: no such file or folder")
    files = sorted(
        path
        for path in root.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    )
    if not files:
        raise SourceError(f"{root}: no file of bars in it; expected names that end in {', '.join(sorted(SUFFIXES))}")
    return files


def named_in(file: Path, root: Path) -> str:
    """Return the name of a file for people: without the folder that was named."""
    return file.name if file == root else file.relative_to(root).as_posix()


def sampled(path: Path) -> tuple[int, bytes, bytes]:
    """Return the size, beginning and end of a file, to identify it without reading all of it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(SAMPLE)
        file.seek(max(size - SAMPLE, 0))
        return size, head, file.read(SAMPLE)
