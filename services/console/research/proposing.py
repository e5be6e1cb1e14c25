"""``conclave vote propose``: find a better voting policy in recorded rounds, and start it in shadow."""

from typing import Any

import anyio
import click
import msgspec

from schemas.control import StartPolicyShadow
from schemas.training import StackerFitted
from services.console.audit.tasks import source_of, where_of
from services.console.audit.verify import entry_range
from services.console.context import login, settings_of
from services.console.control.issuing import always, carry_out
from services.console.output import OUTPUT, echo_json, terminal, terminal_table
from services.console.parsing import SHARE, FilePath
from services.console.progress import progress
from services.console.training.fit_view import show_fit
from shared.audit.configurations import Configurations
from shared.audit.findings import Findings
from shared.audit.source import EntryRange, Recording
from shared.report.tables import TextTable
from shared.report.text import moment
from shared.runtime.process import reached_log
from shared.training.fits import Fit
from shared.training.ledger import TrainingWriter
from shared.tuning.proposal import ComparedPart, NothingToCompareError, PolicyProposal, TriedPolicy
from shared.tuning.proposal import propose as proposed
from shared.tuning.rounds import recorded_rounds


@click.command()
@click.option("--since", metavar="TIME", help="Only rounds decided after this time (ISO 8601). Default: all.")
@click.option("--until", metavar="TIME", help="Only rounds decided until this time.")
@click.option("--share", type=SHARE, default=0.6, show_default=True, help="Part of the rounds on which it is chosen.")
@click.option("--stacker", is_flag=True, help="Fit a stacker on the earlier part too.")
@click.option(
    "--fitted", metavar="JOB", help="Propose the stacker that this job of the trainer fitted, and fit nothing."
)
@click.option("--archive", type=click.Path(exists=True, file_okay=False), help="Read only sealed files, not Redis.")
@click.option("--shadow", is_flag=True, help="Start the best one in shadow (needs --reason).")
@click.option("--reason", help="Why it is started. It is recorded.")
@click.option("--actor", default=login, help="Who starts it (default: your login).")
@click.option("--key", type=FilePath(), help="Sign with this private key (PEM).")
@OUTPUT
@click.pass_context
def propose(
    context: click.Context,
    since: str | None,
    until: str | None,
    share: float,
    stacker: bool,
    fitted: str | None,
    archive: str | None,
    shadow: bool,
    reason: str | None,
    actor: str,
    key: Any,
    output: str,
) -> None:
    """Try other temperatures, rules and edges (or costs) on recorded rounds. What is best on the earlier rounds is
    shown on the later ones.

    Nothing changes by itself: with --shadow the best policy starts in shadow, where the gates judge it. Exit code 0
    done, 3 nothing was better, or there are too few rounds."""
    if shadow and not reason:
        raise click.UsageError("--shadow needs --reason: why this policy is started is recorded")
    options = {"reason": reason, "actor": actor, "key": key, "output": output}
    settings = settings_of(context)
    if fitted is not None:
        if stacker or since or until or archive:
            raise click.UsageError("--fitted takes the rounds of its job; leave --stacker, --since, --until, --archive")
        anyio.run(_propose_fitted, context, fitted, shadow, options)
        return
    with source_of(where_of(settings, archive)) as source, progress("deciding recorded rounds again"):
        try:
            found = proposal(source, entry_range(since, until), share, stacker=stacker)
        except NothingToCompareError as error:
            click.echo(f"conclave: {error}", err=True)
            context.exit(3)
    if output == "json":
        echo_json(found)
    else:
        terminal().print(terminal_table(table(found), f"the later part begins at {moment(found.cut)}"))
        click.echo(words(found))
        if found.no_stacker:
            click.echo(f"no stacker: {found.no_stacker}")
    if found.best is None:
        context.exit(3)
    if shadow:
        command = StartPolicyShadow(found.best.policy, found.scale, found.money_scale)
        anyio.run(_start, context, command, options)


async def _start(context: click.Context, command: StartPolicyShadow, options: dict[str, Any]) -> None:
    options |= {"command_id": None, "expect": None, "wait": False, "dry_run": False}
    await carry_out(context, always(command), options)


async def _propose_fitted(context: click.Context, prefix: str, shadow: bool, options: dict[str, Any]) -> None:
    """Show the evidence of a recorded fit, and start its policy in shadow if ``shadow``."""
    async with reached_log(settings_of(context), "conclave:console") as log:
        jobs = await TrainingWriter(log).read()
    try:
        fit = jobs.find(prefix)
    except LookupError as error:
        raise click.UsageError(f"{error}; see `conclave train status`") from None
    if not isinstance(fit, Fit):
        raise click.UsageError(f"job {fit.id[:12]} trains {fit.model}; expected a job of `conclave train stacker`")
    if options["output"] == "json":
        echo_json({"state": fit.state, **msgspec.to_builtins(fit)})
    else:
        show_fit(terminal(), fit)
    if not isinstance(fit.ended, StackerFitted):
        context.exit(3)
    if shadow:
        await _start(context, StartPolicyShadow(fit.ended.policy, fit.ended.scale, fit.ended.money_scale), options)


def proposal(source: Recording, span: EntryRange, share: float, *, stacker: bool) -> PolicyProposal:
    """Return what was tried on the recorded rounds of all partitions. Raises ``NothingToCompareError``."""
    configurations = Configurations(source, Findings())
    rounds = recorded_rounds(source, configurations, span)
    return proposed(rounds, configurations.newest.policy, share=share, stacker=stacker)


def table(found: PolicyProposal) -> TextTable:
    """Return a row for each policy that was tried, the one in force first and the best marked."""
    heads = ("policy", "by", "earlier mnat", "later mnat", "earlier bp", "later bp", "acts", "")
    rows = [_row(each, found) for each in (found.in_force, *found.tried)]
    return TextTable(
        "voting policies on recorded rounds: gain over the one in force, and return a round after costs", heads, rows
    )


def _row(each: TriedPolicy, found: PolicyProposal) -> tuple[str, ...]:
    earlier, later = each.earlier, each.later
    return (
        each.name,
        each.by,
        f"{1000 * earlier.gain:+.2f}",
        f"{1000 * later.gain:+.2f} [{1000 * later.low:+.2f}, {1000 * later.high:+.2f}]",
        f"{10_000 * earlier.money:+.2f}",
        f"{10_000 * later.money:+.2f} {_more(later)}",
        f"{later.acts:.1%}",
        "best" if each is found.best else "",
    )


def _more(part: ComparedPart) -> str:
    return f"({10_000 * part.money_gain:+.2f} [{10_000 * part.money_low:+.2f}, {10_000 * part.money_high:+.2f}])"


def words(found: PolicyProposal) -> str:
    """Return what follows from the table."""
    if found.best is None:
        return "no policy was better than the one in force on the earlier rounds: nothing is proposed"
    later = found.best.later
    shown = max(later.low, later.money_low) > 0
    confirmed = "confirm it" if shown else "do not show it: zero lies within both intervals, or above them"
    return (
        f"best on the {found.best.earlier.rounds:,} earlier rounds: {found.best.name}. The {later.rounds:,} later ones "
        f"{confirmed}. Start it with --shadow --reason; the gates judge it on new rounds"
    )
