"""Recognise a file of inputs by its columns, and read its rows: funding rates, open interest, mark and index prices,
the top of the book. The accepted formats are documented in ``docs/reference/bar-files.md``.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from schemas.market import PriceSampled
from shared.bars.chunks import faults
from shared.bars.columns import NOTHING_STATED, SYMBOL_NAMES, TIME_NAMES, plain
from shared.bars.files import BarFile, probe
from shared.bars.input_answers import is_json, recognise_answer
from shared.bars.input_rows import FIELDS, GROUPS, InputFile, Timed, milliseconds, refused, timed, valid
from shared.bars.names import SYMBOL
from shared.bars.rows import InputRow, RefusedRow, SourceError
from shared.bars.text import BROKEN, bare, text_of

THINNED_MS: Final = 60_000
"""Of a book, the last row up to each whole minute is read."""
KLINES: Final = {"markPriceKlines": "mark", "indexPriceKlines": "index"}
"""The folders of klines whose close is a mark or index price. Their rows look like those of traded bars."""
_NAME: Final = re.compile(
    r"(?P<symbol>[A-Z0-9]+(?:[-_][A-Z0-9]*[A-Z][A-Z0-9]*)*)[-_](?:fundingRate|metrics|bookTicker)\b.*"
)


class Columns(NamedTuple):
    """A format with names for its columns. ``time``: the names of its time, of which the first counts; ``fields``: the
    names of each field. It has one of the groups of ``GROUPS`` in full. ``thinned``: its rows are thinned."""

    program: str
    time: tuple[str, ...]
    fields: Mapping[str, str]
    thinned: bool = False


_ITSELF: Final = {name: name for name in FIELDS}
FORMATS: Final = (
    Columns(
        "Binance funding rates",
        ("calc_time",),
        {"funding_rate": "last_funding_rate", "funding_interval_hours": "funding_interval_hours"},
    ),
    Columns(
        "Binance metrics",
        ("create_time",),
        {"open_interest": "sum_open_interest", "open_interest_value": "sum_open_interest_value"},
    ),
    Columns("Binance book ticker", ("transaction_time",), _ITSELF, thinned=True),
    Columns("inputs by name", TIME_NAMES, _ITSELF),
)


def recognise_inputs(path: Path, name: str, symbol: str | None = None) -> InputFile:
    """Return a file of inputs: its kind by its columns, its symbol by a column or its name, or as stated. A kline is
    recognised by its folder. JSON is an answer of Bybit or OKX. Raises ``SourceError``."""
    folder = next((part for part in path.resolve().parts[:-1] if part in KLINES), None)
    if is_json(path):
        return recognise_answer(path, name, symbol, None if folder is None else f"{KLINES[folder]}_price")
    if folder is not None:
        return _klines(probe(path, name, NOTHING_STATED._replace(symbol=symbol)), KLINES[folder], folder)
    try:
        with text_of(path) as file:
            header = [plain(cell) for cell in next(iter(file), "").strip("\r\n").split(",")]
    except BROKEN as error:
        raise SourceError(f"{name}: cannot be read: {error}") from error
    for columns in FORMATS:
        time = next((each for each in columns.time if each in header), None)
        fields = {field: header.index(given) for field, given in columns.fields.items() if given in header}
        if time is not None and any(set(group) <= set(fields) for group in GROUPS):
            table = _Table(path, name, columns, header, header.index(time), fields, symbol)
            return InputFile(name, columns.program, table.first(), table.rows)
    text = ", ".join(header)[:300]
    raise SourceError(
        f"{name}: not a file of inputs: expected a header of Binance's fundingRate, metrics or bookTicker files, or"
        f" {TIME_NAMES[0]}, symbol and one of {', '.join(', '.join(group) for group in GROUPS)}; or klines in a folder"
        f" {' or '.join(KLINES)}; {'the file is empty' if header == [''] else f'the header is {text}'}"
    )


class _Table:
    """A file of lines with a header."""

    def __init__(
        self,
        path: Path,
        name: str,
        columns: Columns,
        header: Sequence[str],
        time: int,
        fields: Mapping[str, int],
        symbol: str | None,
    ) -> None:
        self._path, self._name, self._time, self._fields = path, name, time, fields
        self._thinned = columns.thinned
        self._width = len(header)
        self._symbol_at = next((header.index(each) for each in SYMBOL_NAMES if each in header), None)
        named = _NAME.fullmatch(path.name)
        self._symbol = symbol or (named["symbol"] if named else None)
        if self._symbol_at is None and (self._symbol is None or not SYMBOL.fullmatch(self._symbol)):
            raise SourceError(
                f"{name}: expected a column symbol, or a name such as BTCUSDT-fundingRate-2024-01.csv; rename the file"
            )

    def first(self) -> int | None:
        """Return the earliest time of the rows: of a book, whose files are long, that of the first."""
        times = (timed.at for timed in self._parsed())
        return min(islice(times, 1) if self._thinned else times, default=None)

    def rows(self) -> Iterator[Timed]:
        """Return the rows in the order of time; those of a book as they are."""
        return self._parsed() if self._thinned else iter(sorted(self._parsed(), key=lambda timed: timed.at))

    def _parsed(self) -> Iterator[Timed]:
        number, at = 1, 0
        try:
            with text_of(self._path) as file:
                file.readline()
                lines = enumerate(file, 2)
                for number, line in self._last_of_minutes(lines) if self._thinned else lines:
                    text = line.strip("\r\n")
                    if not text.strip():
                        continue
                    for timed in self._row(text, f"{self._name}:{number}", at):
                        at = timed.at
                        yield timed
        except BROKEN as error:
            raise SourceError(f"{self._name}: cannot be read on after line {number}: {error}") from error

    def _last_of_minutes(self, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
        kept: tuple[int, str] | None = None
        minute = None
        for number, line in lines:
            cells = line.split(",")
            at = milliseconds(cells[self._time]) if len(cells) == self._width else None
            now = None if at is None else (at - 1) // THINNED_MS
            if kept is not None and now != minute:
                yield kept
            kept, minute = (number, line), now
        if kept is not None:
            yield kept

    def _row(self, text: str, where: str, before: int) -> Iterator[Timed]:
        cells = [bare(cell) for cell in text.split(",")]
        if len(cells) != self._width:
            detail = f"expected {self._width} columns, found {len(cells)}"
            return iter([refused(detail, self._symbol, where, text, before)])
        symbol = self._symbol if self._symbol_at is None else cells[self._symbol_at]
        fields = {field: cells[place] for field, place in self._fields.items()}
        return timed(symbol, cells[self._time], fields, where, text, before)


def _klines(file: BarFile, field: str, folder: str) -> InputFile:
    """Return the closes of klines as samples at their close times. Raises ``SourceError`` for klines with a volume,
    which are traded prices."""

    def rows() -> Iterator[Timed]:
        for chunk in file.reader.chunks():
            if np.nansum(chunk.values[:, 4]) > 0:
                raise SourceError(f"{file.name}: in a folder {folder}, but its rows have a volume: these are bars")
            opened, by_row = faults(chunk, file.interval_ms)
            at = 0
            for row, (open_time, values) in enumerate(zip(opened.tolist(), chunk.values.tolist(), strict=True)):
                where = f"{file.name}:{chunk.lines[row]}"
                symbol = file.symbol or (chunk.symbols[row] if chunk.symbols is not None else "")
                if row in by_row:
                    yield Timed(at, RefusedRow(*by_row[row], where, str(chunk.raw[row])[:2000], symbol or None))
                    continue
                at = open_time + file.interval_ms
                prices = (values[3], None) if field == "mark" else (None, values[3])
                yield Timed(at, InputRow(valid(PriceSampled, (symbol, at, "replay", *prices)), where))

    first = None if file.first is None else file.first + file.interval_ms
    return InputFile(file.name, f"Binance {field} prices", first, rows)
