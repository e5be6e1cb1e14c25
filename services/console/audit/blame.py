"""``conclave blame DECISION``: everything that a decision was made from, link by link."""

import click
from rich.table import Table

from services.console.audit.tasks import source_of, where_of
from services.console.context import settings_of
from services.console.control.issuing import store_of
from services.console.output import OUTPUT, coloured, echo_json, terminal
from services.console.progress import progress
from shared.audit.blame import find_decision, links
from shared.audit.configurations import Configurations
from shared.audit.findings import Findings

FEWEST_DIGITS = 6


@click.command()
@click.argument("decision")
@click.option("--archive", type=click.Path(exists=True, file_okay=False), help="Read only sealed files, not Redis.")
@OUTPUT
@click.pass_context
def blame(context: click.Context, decision: str, archive: str | None, output: str) -> None:
    """Show what a decision was made from: ballots, vectors, bars, artifacts, training, verdict, and who approved it.

    DECISION is an event id or its first digits. Exit code 0 every link is checked, 1 one fails, 3 one is absent."""
    if len(decision) < FEWEST_DIGITS or not set(decision) <= set("0123456789abcdef"):
        raise click.BadParameter(f"expected an event id, or at least its first {FEWEST_DIGITS} hexadecimal digits")
    settings = settings_of(context)
    store = store_of(settings)
    with source_of(where_of(settings, archive, store.path)) as source:
        configurations = Configurations(source, Findings())
        found = find_decision(source, configurations.newest.partitions or 1, decision)
        if found is None:
            raise click.BadParameter(f"no decision begins with {decision}")
        with progress("checking each link"):
            chain = list(links(source, configurations, found, store))
    if output == "json":
        echo_json({"decision": found.opened.envelope.id.hex(), "links": [link._asdict() for link in chain]})
    else:
        table = Table("link", "", "description", "where", title=f"decision {found.opened.envelope.id.hex()}")
        for link in chain:
            table.add_row(link.what, coloured(link.outcome), link.description, link.where)
        terminal().print(table)
    outcomes = {link.outcome for link in chain}
    context.exit(1 if "failed" in outcomes else 3 if "absent" in outcomes else 0)
