"""Read JSON: an array of rows, an array of objects, or what an exchange's REST interface answers around them.

A file is held whole while it is read. Rows that an exchange gives newest first are read from the last one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from schemas.codec import UNDECODABLE
from shared.bars.chunks import CHUNK, Chunk, milliseconds
from shared.bars.columns import Layout, Stated
from shared.bars.formats import ENVELOPES, Envelope, Positional
from shared.bars.headers import by_names
from shared.bars.names import SYMBOL
from shared.bars.positions import by_position, placed
from shared.bars.rows import SourceError
from shared.bars.text import BROKEN, open_binary, parse

HEAD: Final = 200
NOT_ROWS: Final = (
    "expected an array of rows, an array of objects with names, or the answer of the REST interface of"
    f" {', '.join(envelope.program for envelope in ENVELOPES)}"
)


class Found(NamedTuple):
    """Rows as JSON, the format around them, and the symbol that it names; None if it names none."""

    rows: list[msgspec.Raw]
    envelope: Envelope | None
    symbol: str | None


@dataclass(frozen=True)
class Json:
    """A JSON file. ``Chunk.lines`` are row numbers. ``names`` are those of objects, None if rows are arrays."""

    path: Path
    name: str
    layout: Layout
    names: tuple[str, ...] | None

    @property
    def has_symbol(self) -> bool:
        """Whether rows have a symbol."""
        return self.layout.symbol is not None

    def chunks(self) -> Iterator[Chunk]:
        """See ``RowReader.chunks``."""
        rows = found_in(self.path, self.name).rows
        numbers = range(1, len(rows) + 1)
        if self._newest_first(rows):
            rows, numbers = rows[::-1], numbers[::-1]
        for start in range(0, len(rows), CHUNK):
            yield self._chunk(rows[start : start + CHUNK], numbers[start : start + CHUNK], len(rows))

    def _newest_first(self, rows: Sequence[msgspec.Raw]) -> bool:
        ends = [rows[0], rows[-1]] if rows else []
        opened = milliseconds(self._chunk(ends, range(1, 1 + len(ends)), 0).opened)[0].tolist() if ends else []
        return bool(opened) and opened[0] > opened[-1] >= 0

    def _chunk(self, rows: Sequence[msgspec.Raw], numbers: Sequence[int], last: int) -> Chunk:
        raw = [bytes(row).decode(errors="backslashreplace") for row in rows]
        chunk = parse([cells_of(text, self.names) for text in raw], self.layout, numbers, raw)
        if self.layout.last_open and last in numbers:
            chunk.bad.setdefault(list(numbers).index(last), "incomplete bar: the last row of this answer is still open")
        return chunk


def recognise_json(
    path: Path, name: str, stated: Stated, symbol: str | None
) -> tuple[Json, str | None, Positional | None]:
    """Return the reader of a JSON file, the symbol that it names, and its format if its rows have no names. ``symbol``
    is that of the file's name. Raises ``SourceError``."""
    rows, envelope, inner = found_in(path, name)
    known = stated.symbol or inner or symbol
    texts = [bytes(row).decode(errors="backslashreplace") for row in rows[:HEAD]]
    if not texts:
        raise SourceError(f"{name}: holds no rows; {NOT_ROWS}")
    names = _names(texts)
    head = [cells_of(text, names) for text in texts]
    form = envelope.rows if envelope is not None else None
    if names is not None:
        layout = by_names(names, head, name, stated, known)
        if layout is None:
            raise SourceError(f"{name}: its objects have no names of bars, but {', '.join(names)[:500]}; {NOT_ROWS}")
        if envelope is not None:
            layout = layout._replace(program=envelope.program)
    elif form is not None and not set(dict(stated.columns)) - {"volume"}:
        layout = placed(form, head, name, stated, known)
    else:
        layout, form = by_position(head, "json", name, stated, known)
    return Json(path, name, layout, names), inner, form


def found_in(path: Path, name: str) -> Found:
    """Return the rows of a JSON file. Raises ``SourceError``."""
    try:
        with open_binary(path) as file:
            data = file.read().removeprefix(b"\xef\xbb\xbf").lstrip()
    except BROKEN as error:
        raise SourceError(f"{name}: cannot be read: {error}") from error
    try:
        if data.startswith(b"["):
            return Found(msgspec.json.decode(data, type=list[msgspec.Raw]), None, None)
        fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        for envelope in ENVELOPES:
            if envelope.keys <= set(fields):
                rows = _at(fields, envelope.path)
                symbol = msgspec.json.decode(_at(fields, envelope.symbol)[0]) if envelope.symbol else None
                key = _pair(fields) if "*" in envelope.path else None
                inner = symbol if isinstance(symbol, str) else key
                return Found(rows, envelope, inner if inner and SYMBOL.fullmatch(inner) else None)
    except (*UNDECODABLE, LookupError) as error:
        raise SourceError(f"{name}: not JSON with bars ({error}); {NOT_ROWS}") from None
    raise SourceError(f"{name}: a JSON object with {', '.join(fields)[:200]}; {NOT_ROWS}")


def _at(fields: Mapping[str, msgspec.Raw], path: Sequence[str]) -> list[msgspec.Raw]:
    """Return what is at a path: the elements of an array, or else the value alone."""
    *parents, last = path
    for parent in parents:
        fields = msgspec.json.decode(fields[parent], type=dict[str, msgspec.Raw])
    value = fields[_only_list(fields) if last == "*" else last]
    return msgspec.json.decode(value, type=list[msgspec.Raw]) if bytes(value)[:1] == b"[" else [value]


def _only_list(fields: Mapping[str, msgspec.Raw]) -> str:
    lists = [key for key, value in fields.items() if bytes(value)[:1] == b"["]
    if len(lists) != 1:
        raise LookupError(f"expected one list of rows, found {len(lists)}")
    return lists[0]


def _pair(fields: Mapping[str, msgspec.Raw]) -> str:
    return _only_list(msgspec.json.decode(fields["result"], type=dict[str, msgspec.Raw]))


def _names(texts: Sequence[str]) -> tuple[str, ...] | None:
    """Return the names of the first object among rows; None if rows are arrays."""
    for text in texts:
        row = _decoded(text)
        if isinstance(row, dict):
            return tuple(row)
        if isinstance(row, list):
            return None
    return None


def cells_of(text: str, names: Sequence[str] | None) -> list[str]:
    """Return the values of a row as text; the row as one value if it is of another shape."""
    row = _decoded(text)
    if isinstance(row, dict) and names is not None and set(row) == set(names):
        return [_cell(row[name]) for name in names]
    return [_cell(cell) for cell in row] if isinstance(row, list) and names is None else [text]


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except UNDECODABLE:
        return None


def _cell(value: object) -> str:
    return value if isinstance(value, str) else "null" if value is None else str(value)
