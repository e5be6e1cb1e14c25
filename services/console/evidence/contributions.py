"""``conclave gates contributions``: how much each voting model contributes to the ensemble."""

import click
from rich.table import Table

from schemas.gates import ContributionsMeasured
from services.console.context import asynchronous, settings_of
from services.console.output import OUTPUT, echo_json, echo_unreadable, terminal
from shared.log import Log, StreamKey
from shared.log.events import Unreadable, events_of
from shared.runtime.process import reached_log

NEWEST_EVENTS = 20_000
"""How many of the newest events on ``gates`` are searched."""


@click.command()
@OUTPUT
@click.pass_context
@asynchronous
async def contributions(context: click.Context, /, output: str) -> None:
    """Show the contribution of each voting model: Shapley value and leave-one-out, in thousandths of a nat per round.

    The partition with the most rounds is shown. Exit code 3 if nothing was measured yet."""
    settings = settings_of(context)
    async with reached_log(settings, "conclave:console") as log:
        measures = [await newest(log, partition) for partition in range(settings.installation.partitions)]
    measured = max((one for one in measures if one is not None), key=lambda one: one.rounds, default=None)
    if measured is None:
        click.echo(
            "nothing was measured yet: this needs two voting models and 256 rounds with a ballot of each", err=True
        )
        context.exit(3)
    if output == "json":
        echo_json(measured)
        return
    table = Table(title=f"over {measured.rounds:,} rounds since version {measured.control_version} or before")
    table.add_column("model")
    table.add_column("Shapley (mnat)", justify="right")
    table.add_column("without it, the pool loses (mnat)", justify="right")
    for name, worth in sorted(measured.members.items(), key=lambda item: -item[1].shapley):
        table.add_row(name, f"{1000 * worth.shapley:+.2f}", f"{1000 * worth.leave_one_out:+.2f}")
    terminal().print(table)


async def newest(log: Log, partition: int = 0) -> ContributionsMeasured | None:
    """Return the newest measured contributions in a partition; None if there are none."""
    unreadable = Unreadable()
    entries = reversed(await log.tail(StreamKey("gates", partition), NEWEST_EVENTS))
    events = (envelope.event for _, envelope in events_of(entries, unreadable))
    newest = next((event for event in events if isinstance(event, ContributionsMeasured)), None)
    echo_unreadable(unreadable)
    return newest
