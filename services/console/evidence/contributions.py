"""``conclave gates contributions``: what each voting member is worth to the ensemble."""

import click
from rich.console import Console
from rich.table import Table

from schemas.codec import UnreadableError, decode
from schemas.gates import ContributionsMeasured
from services.console.context import asynchronous, settings_of
from services.console.output import OUTPUT, echo_json
from shared.log import Log, StreamKey
from shared.runtime.process import opened_log

LOOK_BACK = 20_000
"""Events on ``gates`` looked at, newest first."""


@click.command()
@OUTPUT
@click.pass_context
@asynchronous
async def contributions(context: click.Context, /, output: str) -> None:
    """What each voting member is worth: Shapley value and leave-one-out, in thousandths of a nat a round. Of
    several partitions that with the most rounds is shown.

    Exit code 3 where nothing was measured yet."""
    settings = settings_of(context)
    async with opened_log(settings, "conclave:console") as log:
        measures = [await newest(log, partition) for partition in range(settings.installation.partitions)]
    found = max((one for one in measures if one is not None), key=lambda one: one.rounds, default=None)
    if found is None:
        click.echo(
            "nothing was measured yet: it takes two voting models and 256 rounds in which all of them spoke", err=True
        )
        context.exit(3)
    if output == "json":
        echo_json(found)
        return
    table = Table(title=f"over {found.rounds:,} rounds since version {found.control_version} or before")
    table.add_column("model")
    table.add_column("Shapley (mnat)", justify="right")
    table.add_column("without it, the pool loses (mnat)", justify="right")
    for name, worth in sorted(found.members.items(), key=lambda item: -item[1].shapley):
        table.add_row(name, f"{1000 * worth.shapley:+.2f}", f"{1000 * worth.leave_one_out:+.2f}")
    Console().print(table)


async def newest(log: Log, partition: int = 0) -> ContributionsMeasured | None:
    """The newest measure of a partition."""
    for entry in reversed(await log.tail(StreamKey("gates", partition), LOOK_BACK)):
        try:
            event = decode("gates", entry.data).event
        except UnreadableError:
            continue
        if isinstance(event, ContributionsMeasured):
            return event
    return None
