"""Show the result of a command as a table on the terminal, or as one line of JSON (``-o json``)."""

from collections.abc import Iterable
from typing import Any, Final

import click
import msgspec
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

from services.console.layout import fitted, longest_word, wrapped
from shared.log.events import Unreadable
from shared.report.tables import TextTable

OUTPUT: Final = click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Output format."
)

COLOURS: Final = {
    **dict.fromkeys(("passed", "completed", "checked", "good", "same", "yes", "BUY"), "green"),
    **dict.fromkeys(("failed", "wrong", "no", "SELL"), "red"),
    **dict.fromkeys(("inconclusive", "rejected", "absent", "open", "unknown"), "yellow"),
    "running": "cyan",
    "HOLD": "dim",
}
"""The colour of a word that names a result or a state. A word that is not listed has no colour."""


def echo_json(value: Any) -> None:
    """Print a value as one line of JSON. A value that JSON has no type for is written as text, a number that is not
    finite as null."""
    click.echo(msgspec.json.encode(value, enc_hook=str).decode())


def printable(text: str, keep: str = "") -> str:
    """Return text that a terminal shows as it is: characters that control it become escapes like those of Python,
    except those in ``keep``."""
    shown = (each if each.isprintable() or each in keep else each.encode("unicode_escape").decode() for each in text)
    return "".join(shown)


def echo_unreadable(unreadable: Unreadable) -> None:
    """Print on standard error which entries could not be decoded, one sentence for each stream."""
    for sentence in unreadable.sentences():
        click.echo(f"{printable(sentence)}; `conclave dead-letters list` shows what services refused", err=True)


class Terminal(Console):
    """Shows strings as they are written: a reason, a path or a name may have brackets, colons and escapes, which mean
    nothing here. What has colours is a ``Text``. No word is cut at the width of the terminal, in a table or out of one
    (``services.console.layout``)."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """See ``Console``."""
        return super().render_str(printable(text, keep="\n\t"), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See ``Console``."""
        chosen = options or self.options
        if isinstance(renderable, Text):
            renderable = _harmless(renderable)
        if isinstance(renderable, Table):
            for part in fitted(self, chosen, renderable) or (renderable,):
                yield from super().render(part, chosen) if isinstance(part, Table) else self.render(part, chosen)
        elif isinstance(renderable, Text) and not (chosen.no_wrap or renderable.no_wrap):
            too_wide = longest_word(renderable) > chosen.max_width
            for line in wrapped(renderable, chosen.max_width) if too_wide else (renderable,):
                yield from super().render(line, chosen)
        else:
            yield from super().render(renderable, chosen)

    def print(self, *objects: Any, **options: Any) -> None:
        """See ``Console``. A line that is longer than the terminal is wide is not cut."""
        super().print(*objects, **{"crop": False, **options})


def _harmless(text: Text) -> Text:
    """Return a text in which no character controls the terminal. Its length stays, and so do the places of its
    colours."""
    plain = "".join(
        each if each.isprintable() or each in "\n\t" else "\N{REPLACEMENT CHARACTER}" for each in text.plain
    )
    if plain == text.plain:
        return text
    shown = text.copy()
    shown.plain = plain
    return shown


def terminal(*, stderr: bool = False) -> Console:
    """Return the console to print to."""
    return Terminal(stderr=stderr)


def coloured(word: str) -> Text:
    """Return a word in its colour."""
    return Text(word, COLOURS.get(word, ""))


def terminal_table(shown: TextTable, caption: str | None = None) -> Table:
    """Return a table for a terminal."""
    heads = (Column(head) for head in shown.heads)
    table = Table(*heads, title=shown.title, caption=caption)
    for row in shown.rows:
        cells = zip(shown.heads, row, strict=True)
        table.add_row(*(coloured(value) if head == "verdict" else value for head, value in cells))
    return table
