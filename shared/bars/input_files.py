"""Recognise a file of inputs by its columns, and read its rows: funding rates, open interest, mark and index prices,
the top of the book. The accepted formats are documented in ``docs/reference/bar-files.md``.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import numpy as np

from schemas.market import BookSampled, FundingPublished, InputEvent, OpenInterestSampled, PriceSampled
from shared.bars.chunks import faults
from shared.bars.columns import NOTHING_STATED, SYMBOL_NAMES, TIME_NAMES, moment_of, plain
from shared.bars.files import BarFile, probe
from shared.bars.names import SYMBOL
from shared.bars.rows import InputRow, RefusedRow, SourceError
from shared.bars.text import BROKEN, MISSING, bare, text_of

E = TypeVar("E", FundingPublished, OpenInterestSampled, PriceSampled, BookSampled)
HOUR_MS: Final = 3_600_000
THINNED_MS: Final = 60_000
"""Of a book, the last row up to each whole minute is read."""
KLINES: Final = {"markPriceKlines": "mark", "indexPriceKlines": "index"}
"""The folders of klines whose close is a mark or index price. Their rows look like those of traded bars."""
_NAME: Final = re.compile(
    r"(?P<symbol>[A-Z0-9]+(?:[-_][A-Z0-9]*[A-Z][A-Z0-9]*)*)[-_](?:fundingRate|metrics|bookTicker)\b.*"
)


class Timed(NamedTuple):
    """A row, and its time (ms): of a refused row that of the row before it."""

    at: int
    row: InputRow | RefusedRow


class Columns(NamedTuple):
    """A format with names for its columns. ``time``: the names of its time, of which the first counts; ``fields``: the
    names of each field. It has one of the groups of ``GROUPS`` in full. ``thinned``: its rows are thinned."""

    program: str
    time: tuple[str, ...]
    fields: Mapping[str, str]
    thinned: bool = False


GROUPS: Final[tuple[tuple[str, ...], ...]] = (
    ("funding_rate",),
    ("open_interest",),
    ("mark_price",),
    ("index_price",),
    ("best_bid_price", "best_bid_qty", "best_ask_price", "best_ask_qty"),
)
"""The fields that are needed for an event."""
OPTIONAL: Final = ("funding_interval_hours", "open_interest_value")
_ITSELF: Final = {name: name for name in (*chain.from_iterable(GROUPS), *OPTIONAL)}
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


class InputFile(NamedTuple):
    """A file of inputs. ``first`` is the earliest time (ms) of its rows, None if it has none. ``rows`` reads them, in
    the order of time."""

    name: str
    program: str
    first: int | None
    rows: Callable[[], Iterator[Timed]]


def recognise_inputs(path: Path, name: str, symbol: str | None = None) -> InputFile:
    """Return a file of inputs: its kind by its columns, its symbol by a column or its name, or as stated. A kline is
    recognised by its folder. Raises ``SourceError``."""
    folder = next((part for part in path.resolve().parts[:-1] if part in KLINES), None)
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
    raise SourceError(
        f"{name}: not a file of inputs: expected a header of Binance's fundingRate, metrics or bookTicker files, or"
        f" {TIME_NAMES[0]}, symbol and one of {', '.join(', '.join(group) for group in GROUPS)}; or klines in a folder"
        f" {' or '.join(KLINES)}; the header is {', '.join(header)[:300]}"
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
            at = _milliseconds(cells[self._time]) if len(cells) == self._width else None
            now = None if at is None else (at - 1) // THINNED_MS
            if kept is not None and now != minute:
                yield kept
            kept, minute = (number, line), now
        if kept is not None:
            yield kept

    def _row(self, text: str, where: str, before: int) -> Iterator[Timed]:
        cells = [bare(cell) for cell in text.split(",")]
        symbol = self._symbol
        try:
            if len(cells) != self._width:
                raise ValueError(f"expected {self._width} columns, found {len(cells)}")
            at = _milliseconds(cells[self._time])
            if at is None:
                raise ValueError(f"{cells[self._time][:50]!r} is not a time")
            if self._symbol_at is not None:
                symbol = cells[self._symbol_at]
            numbers = {field: _number(cells[place]) for field, place in self._fields.items()}
            events = tuple(_events(str(symbol), at, numbers))
        except (ValueError, msgspec.ValidationError) as error:
            named = symbol if symbol is not None and SYMBOL.fullmatch(symbol) else None
            yield Timed(before, RefusedRow("bad_row", str(error), where, text[:2000], named))
            return
        yield from (Timed(at, InputRow(event, where)) for event in events)


def _milliseconds(text: str) -> int | None:
    moment = moment_of(bare(text))
    return None if moment is None else moment // 1000


def _number(cell: str) -> float | None:
    """Return a number, None for a cell without one. Raises ``ValueError``."""
    return None if cell.lower() in MISSING else float(cell)


def _events(symbol: str, at: int, numbers: Mapping[str, float | None]) -> Iterator[InputEvent]:
    """Yield the events of a row. Raises ``msgspec.ValidationError`` for a value out of its limits."""
    where = (symbol, at, "replay")
    rate, amount = numbers.get("funding_rate"), numbers.get("open_interest")
    mark, index = numbers.get("mark_price"), numbers.get("index_price")
    book = [numbers.get(name) for name in GROUPS[-1]]
    if rate is not None:
        hours = numbers.get("funding_interval_hours")
        yield _valid(FundingPublished, (*where, rate, None if hours is None else round(hours * HOUR_MS)))
    if amount is not None:
        yield _valid(OpenInterestSampled, (*where, amount, numbers.get("open_interest_value")))
    if mark is not None or index is not None:
        yield _valid(PriceSampled, (*where, mark, index))
    if None not in book:
        yield _valid(BookSampled, (*where, *book))


def _valid(kind: type[E], values: tuple[Any, ...]) -> E:
    return msgspec.convert((kind.__struct_config__.tag, *values), kind)


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
                yield Timed(at, InputRow(_valid(PriceSampled, (symbol, at, "replay", *prices)), where))

    first = None if file.first is None else file.first + file.interval_ms
    return InputFile(file.name, f"Binance {field} prices", first, rows)
