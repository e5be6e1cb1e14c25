"""Read the answers of the REST interfaces of Bybit and OKX with inputs, as saved files of JSON: funding rates, open
interest, and candles of mark and index prices. A file is held whole while it is read.

Rows with names are recognised by them. Candles of mark and index prices look alike: their folder decides.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from schemas.codec import UNDECODABLE
from shared.bars.input_rows import InputFile, Timed, milliseconds, refused, timed
from shared.bars.names import SYMBOL, from_name, interval_text
from shared.bars.rows import SourceError
from shared.bars.text import BROKEN, open_binary


class Answer(NamedTuple):
    """An answer whose rows have names. ``symbol`` and ``time`` are those of a row, ``fields`` the name of each field;
    a row without a symbol has that of the answer."""

    program: str
    symbol: str
    time: str
    fields: Mapping[str, str]


BYBIT: Final = (
    Answer("Bybit funding rates", "symbol", "fundingRateTimestamp", {"funding_rate": "fundingRate"}),
    Answer("Bybit open interest", "symbol", "timestamp", {"open_interest": "openInterest"}),
)
OKX: Final = (
    Answer("OKX funding rates", "instId", "fundingTime", {"funding_rate": "realizedRate"}),
    Answer("OKX open interest", "instId", "ts", {"open_interest": "oi"}),
)
CANDLE: Final = {"Bybit": 5, "OKX": 6}
"""The number of cells of a candle of mark or index prices: its open time and prices, and of OKX whether it is closed.
A traded one has more."""
CONFIRMED: Final = "1"
TRAILING: Final = "trailing characters"
"""What msgspec says where more follows the first value, as in a file with several answers."""


class _Found(NamedTuple):
    """The content of a file. ``exchange`` is Bybit or OKX; ``at`` is when Bybit answered (ms), None if unknown."""

    exchange: str
    rows: Sequence[Any]
    symbol: str | None
    at: int | None


def is_json(path: Path) -> bool:
    """Return whether a file begins like JSON. Raises ``SourceError``."""
    try:
        with open_binary(path) as file:
            return file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"[")
    except BROKEN as error:
        raise SourceError(f"{path.name}: cannot be read: {error}") from error


def recognise_answer(path: Path, name: str, symbol: str | None, field: str | None) -> InputFile:
    """Return an answer as a file of inputs. ``symbol`` is what is stated for files without one; ``field`` is that of
    candles in this folder, ``mark_price`` or ``index_price``. Raises ``SourceError``."""
    found = _found(path, name)
    first = found.rows[0]
    if isinstance(first, dict):
        kinds = BYBIT if found.exchange == "Bybit" else OKX
        answer = next((each for each in kinds if {each.time, *each.fields.values()} <= set(first)), None)
        if answer is None:
            raise SourceError(
                f"{name}: an answer of {found.exchange} without inputs that are read: expected rows with"
                f" {' or '.join(', '.join((each.time, *each.fields.values())) for each in kinds)}; its rows have"
                f" {', '.join(first)[:300]}"
            )
        named = found.symbol or symbol
        if answer.symbol not in first and named is None:
            raise SourceError(f"{name}: its rows have no {answer.symbol}; state the symbol (--symbol)")
        rows = sorted(_named(found, answer, name, named), key=lambda each: each.at)
        program = answer.program
    else:
        rows = sorted(_candles(found, path, name, symbol, field), key=lambda each: each.at)
        program = f"{found.exchange} {(field or '').replace('_', ' ')}s"
    return InputFile(name, program, min(each.at for each in rows), lambda: iter(rows))


def _found(path: Path, name: str) -> _Found:
    expected = "expected the answer of the REST interface of Bybit (retCode, result) or OKX (code, data) with rows"
    try:
        with open_binary(path) as file:
            content = msgspec.json.decode(file.read().removeprefix(b"\xef\xbb\xbf"))
    except (*BROKEN, *UNDECODABLE) as error:
        pages = "; save each answer as a file of its own" if TRAILING in str(error) else ""
        raise SourceError(f"{name}: cannot be read as JSON ({error}); {expected}{pages}") from error
    exchange, rows, symbol, at = "OKX", None, None, None
    if isinstance(content, dict) and {"retCode", "result"} <= set(content):
        _refuse_error(name, "Bybit", content, "retCode", "retMsg")
        result = content["result"]
        exchange, at = "Bybit", milliseconds(str(content.get("time")))
        rows, symbol = (result.get("list"), result.get("symbol")) if isinstance(result, dict) else (None, None)
    elif isinstance(content, dict) and "code" in content and ("data" in content or "msg" in content):
        _refuse_error(name, "OKX", content, "code", "msg")
        rows = content.get("data")
    if rows == []:
        raise SourceError(
            f"{name}: {exchange} answered with an empty list, so it holds no rows of inputs; {expected}: ask again for "
            "another symbol or other times, or delete the file"
        )
    if not isinstance(rows, list):
        raise SourceError(f"{name}: holds no rows of inputs; {expected}")
    return _Found(exchange, rows, symbol if isinstance(symbol, str) and SYMBOL.fullmatch(symbol) else None, at)


def _refuse_error(name: str, exchange: str, content: Mapping[str, Any], code: str, message: str) -> None:
    """Raise ``SourceError`` for an answer with an error, also where it has rows: they may be a part of what was asked
    for."""
    if str(content[code]) != "0":
        raise SourceError(
            f"{name}: {exchange} answered with an error, {code} {content[code]}: {str(content.get(message))[:300]!r};"
            f" expected {code} 0 and rows: ask again, or delete the file"
        )


def _named(found: _Found, answer: Answer, name: str, symbol: str | None) -> Iterator[Timed]:
    needed = {answer.time, *answer.fields.values()}
    at = 0
    for place, row in enumerate(found.rows, 1):
        where, raw = f"{name}:{place}", msgspec.json.encode(row).decode()
        if not isinstance(row, dict) or not needed <= set(row):
            yield refused(f"expected a row with {', '.join(sorted(needed))}", symbol, where, raw, at)
            continue
        cells = {field: _cell(row[column]) for field, column in answer.fields.items()}
        owner = row.get(answer.symbol, symbol)
        if not isinstance(owner, str):
            yield refused(f"{answer.symbol} is {_cell(owner)[:50]}, expected a symbol", symbol, where, raw, at)
            continue
        for each in timed(owner, _cell(row[answer.time]), cells, where, raw, at):
            at = each.at
            yield each


def _candles(found: _Found, path: Path, name: str, stated: str | None, field: str | None) -> Iterator[Timed]:
    """Yield the closes of candles as samples at their close times. Raises ``SourceError``."""
    width = CANDLE[found.exchange]
    if field is None or not all(isinstance(row, list) and len(row) == width for row in found.rows):
        raise SourceError(
            f"{name}: an answer of {found.exchange} whose rows have no names: candles of mark and index prices, of"
            f" {width} cells, are read from a folder markPriceKlines or indexPriceKlines; its first row is"
            f" {str(found.rows[0])[:200]}"
        )
    known = from_name(path.name)
    symbol = found.symbol or stated or known.symbol
    if symbol is None or known.interval_ms is None:
        raise SourceError(
            f"{name}: the answer does not state its interval or symbol: name the file like BTC-USDT-SWAP-1h.json"
        )
    if (other := _other_interval(found.rows, known.interval_ms)) is not None:
        raise SourceError(
            f"{name}: expected candles of {interval_text(known.interval_ms)}, as the name states, but they are"
            f" {interval_text(other)} apart: rename the file"
        )
    if found.exchange == "Bybit" and found.at is None:
        raise SourceError(f"{name}: without the time of the answer: whether its last candle is closed is not known")
    at = 0
    for place, row in enumerate(found.rows, 1):
        where, raw = f"{name}:{place}", msgspec.json.encode(row).decode()
        opened = milliseconds(_cell(row[0]))
        if opened is None or opened % known.interval_ms:
            yield refused(f"{_cell(row[0])[:50]!r} is not the open time of a candle", symbol, where, raw, at)
            continue
        close = opened + known.interval_ms
        if _cell(row[-1]) != CONFIRMED if found.exchange == "OKX" else close > (found.at or 0):
            yield refused("incomplete candle: it was still open", symbol, where, raw, at)
            continue
        for each in timed(symbol, str(close), {field: _cell(row[4])}, where, raw, at):
            at = each.at
            yield each


def _other_interval(rows: Sequence[Any], stated_ms: int) -> int | None:
    """Return the shortest distance between candles (ms) if none is as long as stated; None otherwise. A close whose
    time is stated too early would be known before it was there."""
    opened = sorted({at for row in rows if (at := milliseconds(_cell(row[0]))) is not None})
    apart = {later - earlier for earlier, later in pairwise(opened)}
    return min(apart) if apart and stated_ms not in apart else None


def _cell(value: object) -> str:
    return "null" if value is None else str(value)
