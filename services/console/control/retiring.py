"""``conclave retire``: take artifacts out of service for good, with the verdicts that are the reason."""

from typing import Any

import click

from schemas.control import Retire
from services.console.context import asynchronous, settings_of
from services.console.control.issuing import always, changing, signer_of, submit
from services.console.evidence.gates import statuses
from services.console.evidence.records import read_verdicts
from services.console.output import echo_json, echo_unreadable
from shared.commands.forms import artifact_of
from shared.control import State
from shared.control.issuing import ControlWriter
from shared.log import Log
from shared.runtime.process import opened_log, record_of


@click.command()
@click.argument("model")
@click.argument("artifact", required=False)
@click.option("--failed", is_flag=True, help="Retire every shadow of the model whose newest verdict is failed.")
@changing
@click.pass_context
@asynchronous
async def retire(context: click.Context, /, model: str, artifact: str | None, failed: bool, **options: Any) -> None:
    """Take an artifact out of service permanently, or with --failed every shadow that the gates failed.

    Each command names the verdict that is the evidence: the newest on the artifact that is valid now, if there is one.
    With --failed a shadow that failed in one partition has failed: a promotion needs all of them."""
    if failed == (artifact is not None):
        raise click.UsageError("name an ARTIFACT, or all that the gates failed with --failed")
    if failed and (options["command_id"] or options["expect"] is not None):
        raise click.UsageError("--failed may issue several commands; --command-id and --expect are for one")
    settings = settings_of(context)
    issued: list[dict[str, Any]] = []
    async with opened_log(settings, "conclave:console") as log:
        record = record_of(settings)
        writer = ControlWriter(log, signer_of(options["key"]), record.why if record is not None else None)
        state = await writer.state()
        judged = await _verdicts(log, state, model)
        if failed:
            commands = [Retire(model, digest, verdict) for digest, (overall, verdict) in judged.items() if overall]
        else:
            digest = artifact_of(state, model, artifact or "")
            commands = [Retire(model, digest, judged.get(digest, (False, None))[1])]
        for command in commands:
            await submit(writer, always(command), options, settings, record, echo=issued.append)
    if options["output"] == "json":
        echo_json(issued if failed else issued[0])
    elif not commands:
        click.echo(f"nothing to retire: no shadow of {model!r} has a failed verdict (`conclave gates`)")


async def _verdicts(log: Log, state: State, model: str) -> dict[str, tuple[bool, str]]:
    """Return for each shadow of a model that has a valid verdict whether one failed, and the id of that one, else of
    the last."""
    verdicts = await read_verdicts(log, max(1, state.partitions))
    echo_unreadable(verdicts.unreadable)
    found: dict[str, tuple[bool, str]] = {}
    for status in statuses(state, verdicts):
        if status.model != model or status.verdict is None or found.get(status.artifact, (False, ""))[0]:
            continue
        found[status.artifact] = (status.overall == "failed", status.verdict.id)
    return found
