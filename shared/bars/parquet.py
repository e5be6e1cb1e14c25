"""Read Parquet files with the columns of a CSV with a header; times are whole numbers or timestamps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.bars.chunks import CHUNK, UNREADABLE, Chunk
from shared.bars.rows import SourceError
from shared.bars.text import PRICE_NAMES, Layout, by_names
from shared.distribution import install_command


def arrow(name: str) -> Any:
    """Return ``pyarrow``. Raises ``SourceError`` with the command that installs it."""
    try:
        import pyarrow  # noqa: PLC0415  # an optional extra
        import pyarrow.compute  # noqa: PLC0415  # an optional extra
        import pyarrow.parquet  # noqa: PLC0415  # an optional extra
    except ImportError:
        raise SourceError(f"{name} is a Parquet file, and pyarrow is missing: {install_command('parquet')}") from None
    return pyarrow


def recognise_parquet(path: Path, name: str) -> "Parquet":
    """Return the reader of a Parquet file, with its columns by name. Raises ``SourceError``."""
    try:
        columns = arrow(name).parquet.read_schema(path).names
    except (OSError, ValueError, NotImplementedError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"{name}: not a readable Parquet file: {error}") from error
    layout = by_names([column.strip().lower().replace(" ", "_") for column in columns], name)
    if layout is None:
        raise SourceError(
            f"{name}: expected columns open_time, {', '.join(PRICE_NAMES)}; it has {', '.join(columns)[:500]}"
        )
    return Parquet(path, name, tuple(columns), layout)


@dataclass(frozen=True)
class Parquet:
    """A Parquet file. ``Chunk.lines`` are row numbers. A timestamp without a time zone is UTC."""

    path: Path
    name: str
    columns: tuple[str, ...]
    layout: Layout

    @property
    def has_symbol(self) -> bool:
        """Whether there is a symbol column."""
        return self.layout.symbol is not None

    def chunks(self) -> Iterator[Chunk]:
        """See ``RowReader.chunks``."""
        pyarrow = arrow(self.name)
        number = 1
        layout = self.layout
        indices = (layout.time, *layout.prices, layout.close_time, layout.symbol, *layout.further)
        wanted = [self.columns[index] for index in indices if index is not None]
        try:
            with pyarrow.parquet.ParquetFile(self.path) as file:
                for batch in file.iter_batches(batch_size=CHUNK, columns=wanted):
                    yield self._chunk(pyarrow, batch, number)
                    number += batch.num_rows
        except (OSError, ValueError, NotImplementedError, MemoryError) as error:
            if isinstance(error, SourceError):
                raise
            raise SourceError(f"{self.name}: cannot be read on after row {number - 1}: {error}") from error

    def _chunk(self, pyarrow: Any, batch: Any, number: int) -> Chunk:
        bad: dict[int, str] = {}

        def column(index: int) -> Any:
            return batch.column(self.columns[index])

        def moments(index: int) -> NDArray[np.int64]:
            times = column(index)
            for row in np.flatnonzero(times.is_null().to_numpy(zero_copy_only=False)).tolist():
                bad[row] = f"{self.columns[index]} is null"
            if not pyarrow.types.is_timestamp(times.type) and not pyarrow.types.is_integer(times.type):
                raise SourceError(
                    f"{self.name}: column {self.columns[index]} is {times.type}; expected whole numbers or timestamps"
                )
            filled = pyarrow.compute.fill_null(times.cast(pyarrow.int64()), UNREADABLE)
            return np.asarray(filled.to_numpy(zero_copy_only=False), dtype=np.int64)

        def prices(index: int) -> NDArray[np.float64]:
            return np.asarray(column(index).cast(pyarrow.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)

        opened = moments(self.layout.time)
        closed = moments(self.layout.close_time) if self.layout.close_time is not None else None
        values = np.stack([prices(price) for price in self.layout.prices], axis=1)
        symbols: Sequence[str] | None = None
        if self.layout.symbol is not None:
            symbols = [str(symbol) for symbol in column(self.layout.symbol).to_pylist()]
        further = None
        if any(index is not None for index in self.layout.further):
            absent = np.full(batch.num_rows, np.nan)
            further = np.stack([absent if each is None else prices(each) for each in self.layout.further], axis=1)
        numbers = range(number, number + batch.num_rows)
        return Chunk(numbers, opened, closed, values, symbols, _Raw(batch), bad, further)


class _Raw(Sequence[str]):
    """The rows of a batch as text, each made when it is accessed."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __len__(self) -> int:
        return int(self._batch.num_rows)

    def __getitem__(self, row: Any) -> Any:
        return ", ".join(str(column[row].as_py()) for column in self._batch.columns)
