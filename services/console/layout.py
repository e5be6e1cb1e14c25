"""Fit tables and text into the width of a terminal so that no word is broken: a part of a number or of an id is another
number, or another id.

A table that is too wide keeps short cells on one line and wraps longer text between words. One that is too wide even so
is printed as a block for each row: the first cell, and a ``name: value`` for each of the others; a table of two columns
as one ``name: value`` a row. A word that is longer than a line runs over its end.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from typing import Final, NamedTuple

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

SHORT: Final = 24
"""A cell of up to so many characters is never wrapped, and longer text is given at least so many."""
GAP: Final = "   "
INDENT: Final = "  "
WORD: Final = re.compile(r"\S+")


class Widths(NamedTuple):
    """The least width of a column in which no word of it is broken and no short cell is wrapped, and the width that it
    takes on one line."""

    least: int
    natural: int


def fitted(console: Console, options: ConsoleOptions, table: Table) -> Iterable[RenderableType] | None:
    """Return what to print in place of a table; None if it fits, or is a grid that holds other things than text."""
    rows = _rows(console, table)
    if table.box is None or rows is None:
        return None
    heads = [_text(console, column.header) or Text() for column in table.columns]
    columns = [_widths(head if table.show_header else None, cells) for head, cells in _columns(heads, rows)]
    wide = Measurement.get(console, options.update(width=10**6), table).maximum
    around = wide - sum(column.natural for column in columns)
    titles = [_text(console, each) for each in (table.title, table.caption)]
    if wide <= options.max_width:
        return None if all(each is None or longest_word(each) <= wide for each in titles) else _apart(table, titles)
    room = options.max_width - around - sum(column.least for column in columns)
    if room < 0:
        return _blocks(heads if table.show_header else None, rows, titles, options.max_width)
    narrower = copy(table)
    narrower.columns = [copy(column) for column in table.columns]
    for column, width in zip(narrower.columns, _shares(columns, room), strict=True):
        column.width, column.no_wrap = width, False
    return _apart(narrower, titles)


def longest_word(text: Text) -> int:
    """Return the width of the longest word."""
    return max(map(cell_len, text.plain.split()), default=0)


def wrapped(text: Text, width: int, indent: str = "") -> list[Text]:
    """Return the lines of a text, wrapped between words and indented. A word that is longer than ``width`` has a line
    of its length."""
    lines = []
    for paragraph in text.split("\n", allow_blank=True):
        for line in paragraph.divide(_breaks(paragraph.plain, width - len(indent))):
            line.rstrip()
            lines.append(Text.assemble(indent, line, no_wrap=True, overflow="ignore"))
    if lines:
        lines[-1].end = text.end
    return lines


def _breaks(line: str, width: int) -> list[int]:
    """Return where a line is divided so that each part has at most ``width`` characters, or one word."""
    found, start = [], 0
    for word in WORD.finditer(line):
        if line[start : word.start()].strip() and cell_len(line[start : word.end()]) > width:
            start = word.start()
            found.append(start)
    return found


def _text(console: Console, cell: RenderableType | None) -> Text | None:
    """Return a cell as text; None for none, and for one that is not text."""
    if isinstance(cell, Text):
        return cell
    return console.render_str(cell) if isinstance(cell, str) and cell else None


def _rows(console: Console, table: Table) -> list[list[Text]] | None:
    """Return the cells of a table by row; None if one of them is not text."""
    cells = [list(column.cells) for column in table.columns]
    if not cells or not all(isinstance(cell, str | Text) for column in cells for cell in column):
        return None
    return [[_text(console, cell) or Text() for cell in row] for row in zip(*cells, strict=True)]


def _columns(heads: Sequence[Text], rows: Sequence[Sequence[Text]]) -> Iterator[tuple[Text, list[Text]]]:
    for number, head in enumerate(heads):
        yield head, [row[number] for row in rows]


def _widths(head: Text | None, cells: Sequence[Text]) -> Widths:
    least = 0 if head is None else longest_word(head)
    natural = 0 if head is None else _line(head)
    for cell in cells:
        line = _line(cell)
        least, natural = max(least, longest_word(cell), min(line, SHORT)), max(natural, line)
    return Widths(least, natural)


def _line(text: Text) -> int:
    return max(map(cell_len, text.plain.splitlines()), default=0)


def _shares(columns: Sequence[Widths], room: int) -> list[int]:
    """Return the width of each column: its least, and the room that is left where text wraps most, a character at a
    time."""
    widths = [column.least for column in columns]
    for _ in range(room):
        short = [number for number, column in enumerate(columns) if widths[number] < column.natural]
        if not short:
            break
        widths[max(short, key=lambda number: columns[number].natural / max(1, widths[number]))] += 1
    return widths


def _apart(table: Table, titles: Sequence[Text | None]) -> Iterator[RenderableType]:
    """Yield a table with its title above and its caption below: within it, they would be wrapped at its width."""
    title, caption = titles
    if title is not None:
        yield _styled(title, "table.title")
    bare = copy(table)
    bare.title = bare.caption = None
    yield bare
    if caption is not None:
        yield _styled(caption, "table.caption")


def _blocks(
    heads: Sequence[Text] | None, rows: Sequence[Sequence[Text]], titles: Sequence[Text | None], width: int
) -> Iterator[RenderableType]:
    title, caption = titles
    if title is not None:
        yield _styled(title, "table.title")
    for first, *others in rows:
        if len(others) == 1:
            yield from wrapped(_pair(first, others[0]), width)
            continue
        if first:
            yield from wrapped(_styled(first, "bold"), width)
        names = [Text()] * len(others) if heads is None else heads[1:]
        pairs = [_pair(name, value) for name, value in zip(names, others, strict=True) if value.plain.strip()]
        for line in _flow(pairs, width - len(INDENT)):
            yield from wrapped(line, width, INDENT)
    if caption is not None:
        yield _styled(caption, "table.caption")


def _pair(name: Text, value: Text) -> Text:
    return Text.assemble((f"{name.plain.rstrip(':')}: ", "dim"), value) if name else value.copy()


def _flow(pairs: Sequence[Text], width: int) -> Iterator[Text]:
    """Yield lines with as many pairs each as fit. A pair that is longer has a line of its own."""
    line = Text()
    for pair in pairs:
        if line and cell_len(f"{line.plain}{GAP}{pair.plain}") <= width:
            line = Text.assemble(line, GAP, pair)
        else:
            if line:
                yield line
            line = pair
    if line:
        yield line


def _styled(text: Text, style: str) -> Text:
    styled = text.copy()
    styled.stylize_before(style)
    return styled
