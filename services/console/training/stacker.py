"""``conclave train stacker``: request a fit of a stacker from the trainer."""

import click
import msgspec

from schemas.training import StackedPool, StackerRequested
from services.console.context import asynchronous, login, settings_of
from services.console.output import OUTPUT, echo_json
from services.console.parsing import SHARE, moment_ms
from services.console.training.jobs import watched
from shared.control.issuing import current
from shared.runtime.process import opened_log
from shared.training.ledger import TrainingWriter


@click.command("stacker")
@click.option(
    "--base",
    type=click.Choice(["logpool", "mean", "logmean"]),
    help="The pool below it. Default: that of the policy in force.",
)
@click.option("--since", metavar="TIME", help="Only rounds decided after this time (ISO 8601). Default: all.")
@click.option("--until", metavar="TIME", help="Only rounds decided until this time.")
@click.option("--share", type=SHARE, default=0.6, show_default=True, help="Part of the rounds on which it is fitted.")
@click.option("--force", is_flag=True, help="Ignore the budget of the training policy.")
@click.option("--wait", is_flag=True, help="Wait until the job ends; exit code as for `conclave train watch`.")
@click.option("--actor", default=login, help="Who requests it (default: your login).")
@click.option("--reason", required=True, help="Why. It is recorded.")
@OUTPUT
@click.pass_context
@asynchronous
async def stacker(
    context: click.Context,
    /,
    base: StackedPool | None,
    since: str | None,
    until: str | None,
    share: float,
    force: bool,
    wait: bool,
    actor: str,
    reason: str,
    output: str,
) -> None:
    """Request a stacker from the trainer, fitted on recorded ballots and outcomes.

    It fits what `conclave vote propose --stacker` fits, and records it. Where the gain is certain the policy starts in
    shadow, unless the training policy leaves that to people (`conclave vote propose --fitted JOB`)."""
    after, last = (moment_ms(text) if text is not None else None for text in (since, until))
    if after is not None and last is not None and after >= last:
        raise click.UsageError(f"--since {since} is not before --until {until}, so there are no rounds between them")
    async with opened_log(settings_of(context), "conclave:console") as log:
        request = StackerRequested(
            cause="operator",
            actor=actor,
            reason=reason,
            at=await log.time(),
            base=base,
            since=after,
            until=last,
            share=share,
            forced=force,
        )
        job = await TrainingWriter(log).request(request, (await current(log)).training)
        if output == "json":
            echo_json({"job": job, "request": msgspec.to_builtins(request)})
        else:
            click.echo(f"job {job}")
        if wait:
            context.exit(await watched(TrainingWriter(log), job))
