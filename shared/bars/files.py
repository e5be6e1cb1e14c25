"""Recognise a file of bars: its format by its content, its symbol and interval by rows, name, or the caller."""

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from shared.bars.chunks import UNREADABLE, Chunk, RowReader, milliseconds
from shared.bars.columns import NOTHING_STATED, Stated
from shared.bars.formats import Positional
from shared.bars.names import SYMBOL, SeriesName, from_name, interval_text, parse_interval
from shared.bars.responses import Json, recognise_json
from shared.bars.rows import SourceError
from shared.bars.tables import FIRST_FEATHER, MAGIC, ArrowTable, recognise_table
from shared.bars.text import BROKEN, Text, compressed, layout_of, open_binary, text_of
from shared.bars.times import NO_DATE, written_as_calendar

HEAD: Final = 200
"""The number of lines by which a file without a header is recognised."""


class BarFile(NamedTuple):
    """A file whose rows can be read. ``symbol`` is None if rows have their own. ``first`` is the open time (ms) of the
    first readable row, None if there are no rows. ``program`` is the format. ``times`` is what its times are, if they
    are no whole numbers."""

    name: str
    path: Path
    reader: RowReader
    symbol: str | None
    interval_ms: int
    first: int | None
    program: str = ""
    times: str = ""


class Recognised(NamedTuple):
    """The reader of a file, its format, and what its content and its name show of its series."""

    reader: Text | Json | ArrowTable
    symbol: str | None
    named: SeriesName


def recognise(path: Path, name: str, stated: Stated = NOTHING_STATED) -> Recognised:
    """Return the reader for a file: its format by its content alone. ``name`` is for errors. Raises ``SourceError``."""
    named = from_name(path.name)
    symbol = stated.symbol or named.symbol
    try:
        with open_binary(path) as file:
            head = file.read(512).removeprefix(b"\xef\xbb\xbf").lstrip()
        if head.startswith(FIRST_FEATHER):
            raise SourceError(f"{name}: version 1 of Feather is not read; write the table again as Feather or Parquet")
        kind = next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), None)
        if kind is not None:
            if compressed(path):
                raise SourceError(f"{name}: a compressed {kind} file: unpack it first")
            return Recognised(recognise_table(path, name, kind, stated, symbol), None, named)
        if head.startswith((b"[", b"{")):
            reader, inner, form = recognise_json(path, name, stated, symbol)
            return Recognised(reader, inner, _also_named(named, form, path.name))
        with text_of(path) as text:
            lines = [line.strip("\r\n") for line in islice(text, HEAD)]
    except BROKEN as error:
        raise SourceError(f"{name}: cannot be read: {error}") from error
    lines = [line for line in lines if line.strip()]
    if not lines:
        raise SourceError(f"{name}: the file is empty")
    layout, form = layout_of(lines, name, stated, symbol)
    return Recognised(Text(path, name, layout), None, _also_named(named, form, path.name))


def _also_named(named: SeriesName, form: Positional | None, name: str) -> SeriesName:
    """Return what a file's name shows by the rule of its format, if the general rule finds nothing."""
    match = form.file_name.fullmatch(name) if form is not None and form.file_name is not None else None
    if match is None or named != SeriesName(None, None):
        return named
    return SeriesName(match["symbol"], parse_interval(f"{int(match['minutes'])}m"))


def probe(path: Path, name: str, stated: Stated, *, backwards: bool = False) -> BarFile:
    """Return a file with its symbol and interval, as the caller states them, or else from its rows and its name.

    ``backwards``: accept rows that are not in the order of time. Raises ``SourceError`` with what to state.
    """
    reader, inner, named = recognise(path, name, stated)
    symbol = stated.symbol
    if reader.has_symbol and symbol is not None:
        first = next(reader.chunks(), None)
        others = set(first.symbols or ()) - {symbol} if first is not None else ()
        if others:
            found = ", ".join(sorted(others))[:80]
            raise SourceError(f"{name}: the rows have a symbol column, with {found}; do not state one ({symbol})")
        symbol = None
    if not reader.has_symbol:
        symbol = symbol or inner or named.symbol
        if symbol is None:
            raise SourceError(
                f"{name}: expected a symbol in the file's name (such as BTCUSDT-15m.csv) or in a column, and found"
                " none; state the symbol: --symbol BTCUSDT"
            )
        if not SYMBOL.fullmatch(symbol):
            raise SourceError(f"{name}: {symbol!r} is not a symbol: expected at most 32 letters, digits and . _ : / -")
    interval_ms = stated.interval_ms or named.interval_ms
    about = (reader.layout.program, reader.layout.times)
    chunk = next(reader.chunks(), None)
    if chunk is None:
        return BarFile(name, path, reader, symbol, interval_ms or 0, None, *about)
    readable = chunk.opened != UNREADABLE
    times = milliseconds(chunk.opened)[0][readable].tolist()
    if not times:
        reason = next(iter(chunk.bad.values()), "")
        raise SourceError(
            f"{name}: none of the first {len(chunk.lines)} rows has a readable time: {chunk.raw[0][:200]!r}: {reason}"
        )
    _refuse_calendar(name, chunk.opened[readable].tolist())
    no_date = next((why for why in chunk.bad.values() if NO_DATE in why), None)
    if no_date is not None:
        raise SourceError(
            f"{name}: its times are read as dates in eight digits, but {no_date}; correct that row, or state the column"
            " of the time: --columns time=NAME"
        )
    if reader.has_symbol and not backwards:
        _in_time_order(reader, name)
    if not backwards:
        _refuse_backwards(chunk, name)
        _refuse_repeated_times(chunk, name)
    return BarFile(name, path, reader, symbol, _interval(name, interval_ms, chunk), times[0], *about)


def _refuse_calendar(name: str, numbers: list[int]) -> None:
    """Refuse times that are dates in digits, such as 202101041200: as numbers since 1970 they are other times."""
    written = written_as_calendar(numbers)
    if written is not None:
        raise SourceError(
            f"{name}: times such as {written} look like a date in digits, not like a number since 1970; write them as"
            f" {written[:4]}-{written[4:6]}-{written[6:8]}T{written[8:10]}:{written[10:12] or '00'}"
        )


def _interval(name: str, known: int | None, chunk: Chunk) -> int:
    """Return the known interval if the rows agree with it, or else the interval of the rows."""
    if known is not None and not 1000 <= known <= 31 * 86_400_000:
        raise SourceError(f"{name}: an interval of {known} ms: expected between 1,000 (1s) and 2,678,400,000 (31d)")
    steps = _spacings(chunk)
    if known is not None:
        if sum(steps.values()) > 1 and known not in steps:
            raise SourceError(
                f"{name}: the interval should be {interval_text(known)}, but no two neighbours of the first"
                f" {len(chunk.lines)} rows are that far apart (found {_common(steps)}); state the right interval"
            )
        return known
    spans = _spans(chunk)
    if spans:
        (span, count), total = spans.most_common(1)[0], sum(spans.values())
        if 2 * count > total and span >= 1000:
            return span
        raise SourceError(
            f"{name}: close_time minus open_time differs from row to row ({_common(spans)}); state the interval"
        )
    if sum(steps.values()) > 1 and steps.most_common(1)[0][0] == min(steps) >= 1000:
        return min(steps)
    raise SourceError(
        f"{name}: the interval cannot be inferred from the distances of its rows ({_common(steps)}); state the"
        " interval, such as --interval 15m, or name the file like BTCUSDT-15m.csv"
    )


def _spacings(chunk: Chunk) -> Counter[int]:
    """Count the distances (ms) from each row of a symbol to its next row."""
    last: dict[str, int] = {}
    steps: Counter[int] = Counter()
    symbols = chunk.symbols or [""] * len(chunk.lines)
    for symbol, time in zip(symbols, milliseconds(chunk.opened)[0].tolist(), strict=True):
        if time < 0:
            continue
        if symbol in last and time > last[symbol]:
            steps[time - last[symbol]] += 1
        last[symbol] = time
    return steps


def _spans(chunk: Chunk) -> Counter[int]:
    """Count the lengths (ms) of bars by the close times of the rows."""
    if chunk.closed is None:
        return Counter()
    seconds = (chunk.closed >= 0) & (chunk.closed < 10**11)
    ends = milliseconds(chunk.closed)[0] + 1 + 999 * seconds
    spans = (ends - milliseconds(chunk.opened)[0])[(chunk.opened >= 0) & (chunk.closed >= 0)]
    # A close time may be the last millisecond of the bar or the first after it.
    return Counter((spans - (spans % 1000 == 1)).tolist())


def _common(spans: Counter[int]) -> str:
    common = ", ".join(f"{interval_text(span)} {count} times" for span, count in spans.most_common(3))
    return common or "too few rows"


def _refuse_backwards(chunk: Chunk, name: str) -> None:
    """Refuse a file whose newest rows come first: after the first row, all others would be too old."""
    later: dict[bool, int] = {True: 0, False: 0}
    last: dict[str, int] = {}
    symbols = chunk.symbols or [""] * len(chunk.lines)
    for symbol, time in zip(symbols, milliseconds(chunk.opened)[0].tolist(), strict=True):
        if time >= 0 and time != last.get(symbol, time):
            later[time > last[symbol]] += 1
        if time >= 0:
            last[symbol] = time
    if later[False] > later[True]:
        raise SourceError(
            f"{name}: the rows run backwards in time ({later[False]} of the first {len(chunk.lines)} are earlier than "
            "the row before); sort it, the oldest row first: conclave bars merge FILE --out SORTED.parquet"
        )


def _refuse_repeated_times(chunk: Chunk, name: str) -> None:
    """Refuse a file whose rows mostly have the time of the row before and other prices: its times are incomplete."""
    last: dict[str, tuple[int, list[float]]] = {}
    repeated = later = 0
    symbols = chunk.symbols or [""] * len(chunk.lines)
    for symbol, time, numbers in zip(
        symbols, milliseconds(chunk.opened)[0].tolist(), chunk.values.tolist(), strict=True
    ):
        before = last.get(symbol)
        if time >= 0 and before is not None:
            repeated += time == before[0] and numbers != before[1]
            later += time > before[0]
        if time >= 0:
            last[symbol] = time, numbers
    if repeated > later:
        raise SourceError(
            f"{name}: {repeated} of the first {len(chunk.lines)} rows have the time of the row before and other "
            "prices, so the column of times is incomplete, or the rows are of several symbols; state the columns that"
            " say more: --columns time=DATE+TIME, --columns symbol=NAME"
        )


def _in_time_order(reader: RowReader, name: str) -> None:
    """Refuse a file that has its symbols one after another: sorting it by time would need all of it in memory."""
    newest, seen = 0, set[str]()
    for chunk in reader.chunks():
        times = milliseconds(chunk.opened)[0].tolist()
        for symbol, time in zip(chunk.symbols or (), times, strict=True):
            if symbol and symbol not in seen:
                if 0 <= time < newest:
                    raise SourceError(
                        f"{name}: symbol {symbol} begins at {time}, earlier than rows before it ({newest}): sort"
                        " the file by time, or split it into one file for each symbol"
                    )
                seen.add(symbol)
            newest = max(newest, time)
