"""``conclave money``: equity and its figures, for the ensemble as recorded and for every model alone."""

from collections.abc import Sequence

import click
from rich.console import Console

from services.console.context import asynchronous, settings_of
from services.console.output import OUTPUT, echo_json, echo_unreadable, terminal, terminal_table
from services.console.parsing import moment_ms
from services.console.progress import watched_async
from shared.archive.location import open_archive
from shared.log.events import Unreadable
from shared.money.figures import MoneyFigures
from shared.money.recorded import read_money
from shared.report.money import CAPTION, money_tables, symbol_tables
from shared.report.text import in_force_words
from shared.runtime.process import reached_log


@click.command()
@click.option("--model", help="Only the ensemble and the lines of this model.")
@click.option("--since", metavar="TIME", help="Count from the first bar that closes after this time (ISO 8601).")
@click.option("--symbols", is_flag=True, help="Show each symbol of each line too. JSON always has them.")
@OUTPUT
@click.pass_context
@asynchronous
async def money(context: click.Context, /, model: str | None, since: str | None, symbols: bool, output: str) -> None:
    """Show what the ensemble's trades gained, and what each model and shadow would have gained alone.

    A model's line follows its champion; an artifact in shadow has a line of its own. A symbol of a line has the same
    figures, as if the account had traded it alone. Exit code 3 if there are no bars
    with predictions or orders."""
    settings = settings_of(context)
    unreadable = Unreadable()
    async with reached_log(settings, "conclave:console") as log:
        moment = moment_ms(since) if since else None
        partitions = settings.installation.partitions
        found = await read_money(log, partitions, model, moment, open_archive(settings), unreadable, watched_async)
    if output == "json":
        echo_json(found)
    else:
        show_money(terminal(), found.lines)
        if found.policies:
            terminal().print(in_force_words(found.policies))
        for table in symbol_tables(found.lines) if symbols else ():
            terminal().print(terminal_table(table))
    echo_unreadable(unreadable)
    if found.empty:
        context.exit(3)


def show_money(console: Console, lines: Sequence[MoneyFigures], title: str = "money") -> None:
    """Print the tables on a terminal."""
    gains, trades = money_tables(lines, title)
    console.print(terminal_table(gains))
    console.print(terminal_table(trades, CAPTION))
