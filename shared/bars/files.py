"""Recognise a file of bars: its format by its content, its symbol and interval by rows, name, or the caller."""

from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.bars.chunks import UNREADABLE, Chunk, RowReader, milliseconds
from shared.bars.names import SYMBOL, UNITS, from_name, interval_text
from shared.bars.parquet import Parquet, recognise_parquet
from shared.bars.rows import SourceError
from shared.bars.text import BROKEN, CLOCK, DAY, Csv, Json, layout_of, open_binary, text_of

DAY_MS: Final = UNITS["d"]
HEAD: Final = 20
"""The number of lines read to distinguish a file without a header from a file without bars."""


class BarFile(NamedTuple):
    """A file whose rows can be read. ``symbol`` is None if rows have their own. ``first`` is the open time (ms) of the
    first readable row, None if there are no rows."""

    name: str
    path: Path
    reader: RowReader
    symbol: str | None
    interval_ms: int
    first: int | None


def recognise(path: Path, name: str) -> RowReader:
    """Return the reader for a file, by its content alone. ``name`` is for errors. Raises ``SourceError``."""
    try:
        with open_binary(path) as file:
            head = file.read(512).removeprefix(b"\xef\xbb\xbf").lstrip()
        if head.startswith(b"PAR1"):
            return recognise_parquet(path, name)
        if head.startswith(b"["):
            return Json(path, name)
        with text_of(path) as text:
            lines = [line.strip("\r\n") for line in islice(text, HEAD)]
    except BROKEN as error:
        raise SourceError(f"{name}: cannot be read: {error}") from error
    if not head:
        raise SourceError(f"{name}: the file is empty")
    return Csv(path, name, layout_of(lines, name))


def probe(path: Path, name: str, symbol: str | None, interval_ms: int | None) -> BarFile:
    """Return a file with its symbol and interval, as the caller states them, or else from its rows and its name.

    Raises ``SourceError`` with what to state.
    """
    reader = recognise(path, name)
    named = from_name(path.name)
    if reader.has_symbol and symbol is not None:
        raise SourceError(f"{name}: the rows have a symbol column; do not state one ({symbol})")
    if not reader.has_symbol:
        symbol = symbol or named.symbol
        if symbol is None:
            raise SourceError(
                f"{name}: expected a symbol in the file's name (such as BTCUSDT-15m.csv) or in a column, and found"
                " none; state the symbol"
            )
        if not SYMBOL.fullmatch(symbol):
            raise SourceError(f"{name}: {symbol!r} is not a symbol: expected at most 32 letters, digits and . _ : / -")
    _refuse_two_times(reader, name)
    chunk = next(reader.chunks(), None)
    if chunk is None:
        return BarFile(name, path, reader, symbol, interval_ms or named.interval_ms or 0, None)
    times = milliseconds(chunk.opened)[0][chunk.opened != UNREADABLE].tolist()
    if not times:
        why = f" ({chunk.bad[0]})" if 0 in chunk.bad else ""
        raise SourceError(
            f"{name}: none of the first {len(chunk.lines)} rows has a readable time: {chunk.raw[0][:200]!r}{why}"
        )
    if reader.has_symbol:
        _in_time_order(reader, name)
    _refuse_backwards(chunk, name)
    _refuse_repeated_times(chunk, name)
    return BarFile(name, path, reader, symbol, _interval(name, interval_ms or named.interval_ms, chunk), times[0])


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
        " interval, such as 15m, or name the file like BTCUSDT-15m.csv"
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
            "the row before); sort the file by time, the oldest row first"
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
            f"prices, so the column of times is incomplete, or the rows are of several symbols; give each row all of "
            f"its time in one column, or in the columns {DAY} and {CLOCK}, and its symbol in the column symbol"
        )


def _refuse_two_times(reader: RowReader, name: str) -> None:
    """Refuse a file that has two columns of times which disagree. The date of the time does not disagree with it."""
    if not isinstance(reader, Csv | Parquet) or not reader.layout.rivals:
        return
    layout = reader.layout
    opened, whole = _first_times(reader)
    for rival in layout.rivals:
        try:
            other, readable = _first_times(replace(reader, layout=layout._replace(time=rival, rivals=())))
        except SourceError:
            continue  # the column is of no type that can be a time
        both = whole & readable
        differ = np.flatnonzero(both & (other != opened) & (other != opened - opened % DAY_MS))
        if len(differ):
            row = differ[0]
            raise SourceError(
                f"{name}: columns {layout.time + 1} and {rival + 1} both have times and differ: {opened[row]} and "
                f"{other[row]} (ms since 1970) in row {row + 1}; leave the one that is not the time of the open out of "
                "the file"
            )


def _first_times(reader: RowReader) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the times (ms) of the first rows, and which of them can be read."""
    chunk = next(reader.chunks(), None)
    if chunk is None:
        return np.empty(0, np.int64), np.empty(0, np.bool_)
    return milliseconds(chunk.opened)[0], chunk.opened != UNREADABLE


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
