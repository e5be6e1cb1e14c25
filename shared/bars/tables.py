"""Read tables of Arrow: Parquet and Feather, with the columns of a CSV with a header; times are whole numbers, dates,
timestamps or text."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.codec import UNDECODABLE
from shared.bars.chunks import CHUNK, UNREADABLE, Chunk
from shared.bars.columns import Layout, Stated
from shared.bars.headers import by_names
from shared.bars.rows import SourceError
from shared.bars.text import number_or_absent
from shared.bars.times import DATE, EARLIEST_S, EARLY, joined, moment, since_1970, whole
from shared.distribution import install_command

HEAD: Final = 200
MAGIC: Final = {b"PAR1": "Parquet", b"ARROW1": "Feather"}
FIRST_FEATHER: Final = b"FEA1"
INDEX: Final = "__index_level_0__"
"""The name that pandas gives to the column of an index without one."""
PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def arrow(need: str) -> Any:
    """Return ``pyarrow``. Raises ``SourceError`` with what needs it and the command that installs it."""
    try:
        import pyarrow  # noqa: PLC0415  # an optional extra
        import pyarrow.compute  # noqa: PLC0415  # an optional extra
        import pyarrow.ipc  # noqa: PLC0415  # an optional extra
        import pyarrow.parquet  # noqa: PLC0415  # an optional extra
    except ImportError:
        raise SourceError(f"{need}, and pyarrow is missing: {install_command('parquet')}") from None
    return pyarrow


def recognise_table(path: Path, name: str, kind: str, stated: Stated, symbol: str | None) -> "ArrowTable":
    """Return the reader of a Parquet or Feather file, with its columns by name. Raises ``SourceError``."""
    pyarrow = arrow(f"{name} is a {kind} file")
    with _readable(pyarrow, f"{name}: not a readable {kind} file"):
        schema, batches = _opened(pyarrow, path, kind, None)
        with batches as rows:
            first = next(rows, None)
        columns = schema.names
        named = [_index_name(schema, column) for column in columns]
        head = [] if first is None else _as_text(first.slice(0, HEAD), columns)
    layout = by_names(named, head, name, stated, symbol)
    if layout is None:
        raise SourceError(
            f"{name}: expected columns open_time, open, high, low, close, volume; it has {', '.join(columns)[:500]}"
        )
    times = schema.field(columns[layout.time]).type
    if str(times).startswith(("timestamp", "date")):
        layout = layout._replace(times=f"{times}{f' in {layout.zone}' if layout.zone else ''}")
    return ArrowTable(path, name, kind, tuple(columns), layout)


def _index_name(schema: Any, column: str) -> str:
    """Return the name of a column; that of a time for the index of pandas that has no name and holds timestamps."""
    if column != INDEX or schema.field(column).type.id != _timestamp_id():
        return column
    try:
        described = msgspec.json.decode((schema.metadata or {}).get(b"pandas", b"{}"))
    except UNDECODABLE:
        return column
    return "timestamp" if isinstance(described, dict) and INDEX in described.get("index_columns", ()) else column


def _timestamp_id() -> int:
    return int(arrow("").timestamp("us").id)


@contextmanager
def _readable(pyarrow: Any, what: str) -> Iterator[None]:
    """Turn the errors of pyarrow into ``SourceError``."""
    try:
        yield
    except SourceError:
        raise
    except (OSError, ValueError, LookupError, NotImplementedError, MemoryError, pyarrow.ArrowException) as error:
        raise SourceError(f"{what}: {error}") from error


def _opened(pyarrow: Any, path: Path, kind: str, columns: list[str] | None) -> tuple[Any, Any]:
    """Return the schema of a file, and a context with its batches of rows."""
    if kind == "Feather":
        file = pyarrow.ipc.open_file(pyarrow.OSFile(str(path)))
        return file.schema, _batches(file)
    file = pyarrow.parquet.ParquetFile(path)
    return file.schema_arrow, _closing(file, file.iter_batches(batch_size=CHUNK, columns=columns))


@contextmanager
def _closing(file: Any, batches: Iterator[Any]) -> Iterator[Iterator[Any]]:
    with file:
        yield batches


@contextmanager
def _batches(file: Any) -> Iterator[Iterator[Any]]:
    with file:
        yield (
            batch.slice(start, CHUNK)
            for batch in map(file.get_batch, range(file.num_record_batches))
            for start in range(0, batch.num_rows, CHUNK)
        )


def _as_text(batch: Any, columns: Sequence[str]) -> list[list[str]]:
    cells = [[_text(value) for value in _values(batch.column(index))] for index in range(len(columns))]
    return [list(row) for row in zip(*cells, strict=True)]


def _values(column: Any) -> list[Any]:
    """Return the values of a column, a time as ``datetime``; one that has none of these (year 10000) as None."""
    return [_value(scalar) for scalar in column]


def _value(scalar: Any) -> Any:
    if getattr(scalar.type, "unit", "") == "ns" and scalar.is_valid:
        scalar = scalar.cast(arrow("").timestamp("us", scalar.type.tz), safe=False)
    try:
        return scalar.as_py()
    except (ValueError, OverflowError):
        return None


def _text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else "" if value is None else str(value)


@dataclass(frozen=True)
class ArrowTable:
    """A Parquet or Feather file. ``Chunk.lines`` are row numbers. A timestamp without a time zone is UTC, if no other
    zone is stated."""

    path: Path
    name: str
    kind: str
    columns: tuple[str, ...]
    layout: Layout

    @property
    def has_symbol(self) -> bool:
        """Whether there is a symbol column."""
        return self.layout.symbol is not None

    def chunks(self) -> Iterator[Chunk]:
        """See ``RowReader.chunks``."""
        pyarrow = arrow(f"{self.name} is a {self.kind} file")
        number = 1
        layout = self.layout
        others = (layout.close_time, layout.symbol, layout.clock, layout.closed, *layout.further)
        indices = {layout.time, *layout.prices, *others} - {None}
        wanted = [column for index, column in enumerate(self.columns) if index in indices]
        try:
            with _readable(pyarrow, ""):
                _, batches = _opened(pyarrow, self.path, self.kind, wanted)
                with batches as rows:
                    for batch in rows:
                        yield _Batch(pyarrow, self, batch).chunk(number)
                        number += batch.num_rows
        except SourceError as error:
            text = str(error).removeprefix(": ")
            if not text.startswith(f"{self.name}: "):
                text = f"{self.name}: cannot be read on after row {number - 1}: {text}"
            raise SourceError(text) from error


def rows_in(table: ArrowTable) -> int:
    """Return the number of rows of a table. Raises ``SourceError``."""
    pyarrow = arrow(f"{table.name} is a {table.kind} file")
    with _readable(pyarrow, table.name):
        if table.kind == "Parquet":
            return int(pyarrow.parquet.read_metadata(table.path).num_rows)
        with pyarrow.ipc.open_file(pyarrow.OSFile(str(table.path))) as file:
            return sum(file.get_batch(at).num_rows for at in range(file.num_record_batches))


class _Batch:
    """Some rows of a table, and what is wrong with them."""

    def __init__(self, pyarrow: Any, table: ArrowTable, batch: Any) -> None:
        self.pyarrow, self.table, self.batch = pyarrow, table, batch
        self.bad: dict[int, str] = {}

    def chunk(self, number: int) -> Chunk:
        """Return the rows, the first of which has this number."""
        layout = self.table.layout
        opened = self._moments(layout.time, layout.clock)
        closed = self._moments(layout.close_time) if layout.close_time is not None else None
        values = np.stack([self._prices(price) for price in layout.prices], axis=1)
        symbols: Sequence[str] | None = None
        if layout.symbol is not None:
            symbols = [self._symbol(row, value) for row, value in enumerate(_values(self._column(layout.symbol)))]
        if layout.closed is not None:
            for row, value in enumerate(_values(self._column(layout.closed))):
                if str(value).lower() not in {"1", "true"}:
                    self.bad.setdefault(row, f"incomplete bar: it was still open ({value})")
        further = None
        if any(index is not None for index in layout.further):
            further = np.stack([self._further(index) for index in layout.further], axis=1)
        numbers = range(number, number + self.batch.num_rows)
        return Chunk(numbers, opened, closed, values, symbols, _Raw(self.batch), self.bad, further)

    def _column(self, index: int) -> Any:
        return self.batch.column(self.table.columns[index])

    def _symbol(self, row: int, value: object) -> str:
        if value is None:
            self.bad.setdefault(row, "its symbol is null")
        return "" if value is None else str(value)

    def _prices(self, index: int) -> NDArray[np.float64]:
        column = self._column(index).cast(self.pyarrow.float64())
        return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)

    def _further(self, index: int | None) -> NDArray[np.float64]:
        """Return the numbers of a column that a bar may lack, NaN where it does."""
        found = np.full(self.batch.num_rows, np.nan)
        if index is None:
            return found
        column, types = self._column(index), self.pyarrow.types
        if any(is_kind(column.type) for is_kind in (types.is_integer, types.is_floating, types.is_decimal)):
            numbers = column.cast(self.pyarrow.float64(), safe=False)
            return np.asarray(numbers.to_numpy(zero_copy_only=False), dtype=np.float64)
        for row, value in enumerate(_values(column)):
            try:
                found[row] = number_or_absent(_text(value))
            except ValueError as error:
                self.bad.setdefault(row, str(error))
        return found

    def _moments(self, index: int, clock: int | None = None) -> NDArray[np.int64]:
        """Return the times of a column, each in a unit that its size shows."""
        column, types = self._column(index), self.pyarrow.types
        kind, zone, name = column.type, self.table.layout.zone, self.table.columns[index]
        for row in np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)).tolist():
            self.bad[row] = f"{name} is null"
        naive = types.is_timestamp(kind) and kind.tz is None
        if clock is None and types.is_integer(kind):
            return self._numbers(column, EARLIEST_S)
        if clock is None and types.is_timestamp(kind) and not (naive and zone is not None):
            return self._numbers(column, EARLIEST_S * PER_SECOND[kind.unit])
        if clock is None and types.is_date(kind):
            return self._numbers(column.cast(self.pyarrow.timestamp("ms")), EARLIEST_S * 1000)
        readable = (types.is_string, types.is_large_string, types.is_date, types.is_floating)
        if not any(is_kind(kind) for is_kind in readable) and not (naive and clock is None):
            raise SourceError(
                f"{self.table.name}: column {name} is {kind}; expected whole numbers, timestamps, dates or text"
            )
        clocks = _values(self._column(clock)) if clock is not None else [None] * len(column)
        opened = np.full(len(column), UNREADABLE, dtype=np.int64)
        for row, (value, time) in enumerate(zip(_values(column), clocks, strict=True)):
            if value is None:
                self.bad.setdefault(row, f"{name} is no time")
                continue
            try:
                if clock is not None:
                    date = value.isoformat().removesuffix("T00:00:00") if isinstance(value, datetime) else str(value)
                    opened[row] = joined(date, "" if time is None else str(time), zone)
                else:
                    opened[row] = since_1970(value, zone) if isinstance(value, datetime) else moment(str(value), zone)
            except (ValueError, OverflowError) as error:
                self.bad.setdefault(row, str(error))
        return opened

    def _numbers(self, column: Any, earliest: int) -> NDArray[np.int64]:
        filled = self.pyarrow.compute.fill_null(column.cast(self.pyarrow.int64()), UNREADABLE)
        numbers = np.asarray(filled.to_numpy(zero_copy_only=False), dtype=np.int64)
        early = np.flatnonzero(numbers < earliest).tolist()
        numbers = np.where(numbers < earliest, UNREADABLE, numbers)
        for row in early:
            text = str(_value(column[row]))
            try:
                if len(text) != DATE or not whole(text):
                    raise ValueError(f"{text} is not a time: {EARLY}")
                numbers[row] = moment(text, self.table.layout.zone)
            except ValueError as error:
                self.bad.setdefault(row, str(error))
        return numbers


class _Raw(Sequence[str]):
    """The rows of a batch as text, each made when it is accessed."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __len__(self) -> int:
        return int(self._batch.num_rows)

    def __getitem__(self, row: Any) -> Any:
        return ", ".join(str(_value(column[row])) for column in self._batch.columns)
