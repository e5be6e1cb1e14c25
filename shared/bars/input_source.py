"""Read files of inputs as one source in the order of time, and put them before the bars that read them."""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

from shared.bars.input_files import recognise_inputs
from shared.bars.input_rows import InputFile, Timed
from shared.bars.rows import Bars, BarSource, Good, InputRow, RefusedRow, Row, SourceError
from shared.bars.source import files_in, named_in, sampled
from shared.inputs.samples import gathered


@dataclass(frozen=True)
class InputSource:
    """Inputs from files, merged by time. A file is read when the merge reaches its first time."""

    name: str
    identity: str
    files: tuple[InputFile, ...]

    def rows(self) -> Iterator[Timed]:
        """Yield all rows in the order of time."""
        merged = heapq.merge(*(_items(file, rank) for rank, file in enumerate(self.files)), key=lambda item: item[:3])
        return (timed for *_, timed in merged if timed is not None)


_Item = tuple[int, int, int, Timed | None]
"""The merge key of a row (time, number of the file, number of the row in the file), and the row."""


def _items(file: InputFile, rank: int) -> Iterator[_Item]:
    """Yield the rows of one file with their keys. The first item has no row: it delays opening the file."""
    if file.first is None:
        return
    yield file.first, rank, -1, None
    for number, timed in enumerate(file.rows()):
        yield timed.at, rank, number, timed


def open_inputs(path: Path | str, symbol: str | None = None) -> InputSource:
    """Return a source of the inputs in a file, or in all files of a folder and its subfolders. ``symbol`` is that of
    files that have none. Raises ``SourceError`` if a file is not recognised."""
    root = Path(path)
    digest = blake2b(repr((1, symbol)).encode(), digest_size=16)
    files = []
    for file in files_in(root):
        name = named_in(file, root)
        files.append(recognise_inputs(file, name, symbol))
        digest.update(repr((name, *sampled(file))).encode())
    return InputSource(root.name or str(root), digest.hexdigest(), tuple(files))


@dataclass(frozen=True)
class WithInputs:
    """The rows of a source of bars, with inputs before the first bar that closes at or after their time. Inputs after
    the last bar are left out: no bar reads them."""

    bars: BarSource
    inputs: InputSource

    @property
    def name(self) -> str:
        """The names of both sources."""
        return f"{self.bars.name} with {self.inputs.name}"

    @property
    def identity(self) -> str:
        """The identities of both sources."""
        return f"{self.bars.identity}+{self.inputs.identity}"

    def rows(self, skip: int = 0) -> Iterator[Row | InputRow]:
        """Yield the rows after the first ``skip``. See ``BarSource.rows``."""
        return islice(self._rows(), skip, None)

    def _rows(self) -> Iterator[Row | InputRow]:
        inputs = self.inputs.rows()
        following = next(inputs, None)
        for row in self.bars.rows():
            if isinstance(row, Good):
                close = row.bar.open_time + row.bar.interval_ms
                while following is not None and following.at <= close:
                    yield following.row
                    following = next(inputs, None)
            yield row


def with_inputs(
    bars: dict[str, Bars], inputs: InputSource, refused: Callable[[RefusedRow], Any] | None = None
) -> dict[str, Bars]:
    """Return bars of symbols with their inputs. ``refused`` is called with every row that is left out. Raises
    ``SourceError`` if no symbol has any."""
    kept = []
    symbols = set()
    for _, row in inputs.rows():
        if isinstance(row, RefusedRow):
            if refused is not None:
                refused(row)
            continue
        symbols.add(row.symbol)
        if row.symbol in bars:
            kept.append(row.event)
    if not kept:
        found = ", ".join(sorted(symbols)[:10]) or "no symbol"
        named = ", ".join(sorted(bars)[:10])
        raise SourceError(
            f"{inputs.name}: inputs of {found}, and the bars are of {named}: expected the same symbols, spelled alike"
        )
    of = gathered(kept)
    return {symbol: replace(one, inputs=of.get(symbol, {})) for symbol, one in bars.items()}
