"""Show a table of text on a terminal."""

from typing import Final

from rich.table import Column, Table
from rich.text import Text

from shared.report.tables import TextTable

COLOURS: Final = {"passed": "green", "failed": "red", "inconclusive": "yellow"}
"""Of a verdict."""


def terminal_table(shown: TextTable, caption: str | None = None) -> Table:
    """Return the table for a terminal. Text is shown as it is: square brackets are no markup."""
    heads = (Column(Text(head)) for head in shown.heads)
    table = Table(*heads, title=Text(shown.title), caption=Text(caption) if caption else None)
    for row in shown.rows:
        table.add_row(*(
            Text(value, COLOURS.get(value, "") if head == "verdict" else "")
            for head, value in zip(shown.heads, row, strict=True)
        ))  # fmt: skip
    return table
