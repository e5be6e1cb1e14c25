"""``conclave status | decisions | groups``: looking, and the one repair that needs a person."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from schemas.catalogue import STREAMS
from schemas.codec import decode
from schemas.decisions import DecisionMade
from services.console.context import asynchronous, settings_of
from services.console.control.history import at
from services.console.output import COLOURS, OUTPUT, echo_json
from shared.control import State
from shared.control.fence import Reached, each
from shared.control.issuing import current
from shared.log import CLOSED, Commit, GroupView, Log, Position, StreamKey, preceding
from shared.log.leases import is_open
from shared.recovery.fencing import COMMAND
from shared.runtime.process import opened_log, owner


@click.command()
@click.option("--at", "moment", metavar="VERSION|TIME", help="The configuration as of then, without the groups.")
@OUTPUT
@click.pass_context
@asynchronous
async def status(context: click.Context, /, moment: str | None, output: str) -> None:
    """The configuration, and where every group stands."""
    settings = settings_of(context)
    async with opened_log(settings, "conclave:console") as log:
        state = await (current(log) if moment is None else at(log, moment))
        partitions = range(settings.installation.partitions if moment is None else 0)
        groups = [view for partition in partitions for view in await log.groups(partition)]
        fences = await each(partitions, log.fence)
    if output == "json":
        shown = {} if moment is not None else {"fences": _fences(fences), "groups": [_group(view) for view in groups]}
        echo_json({**_configuration(state), **shown})
        return
    console = Console()
    console.print(configuration_table(state))
    if moment is None:
        for line in fence_lines(fences, halted=state.halted):
            console.print(line)
        console.print(groups_table(groups))


def _configuration(state: State) -> dict[str, Any]:
    models = {name: msgspec.to_builtins(model) for name, model in sorted(state.models.items())}
    return {
        "version": state.version,
        "head": state.head,
        "halted": state.halted,
        "open": state.open,
        "policy": msgspec.to_builtins(state.policy),
        "gate": msgspec.to_builtins(state.gate),
        "ladder": msgspec.to_builtins(state.ladder),
        "training": msgspec.to_builtins(state.training),
        "probations": {name: msgspec.to_builtins(found) for name, found in sorted(state.probations.items())},
        "models": models,
    }


def _group(view: GroupView) -> dict[str, Any]:
    found = view._asdict()
    found["positions"] = {stream: position.id for stream, position in view.positions.items()}
    found["written"] = {
        stream: {**written._asdict(), "digest": written.digest.hex()} for stream, written in view.written.items()
    }
    return found


def _fences(fences: Reached) -> list[dict[str, Any]]:
    known = [
        {"partition": partition, "mark": mark, "open": is_open(mark)}
        for partition, mark in sorted(fences.marks.items())
    ]
    return known + [
        {"partition": partition, "mark": None, "open": False, "fault": fault}
        for partition, fault in sorted(fences.faults.items())
    ]


def fence_lines(fences: Reached, *, halted: bool) -> list[str]:
    """Each partition's fence, and what to do where it does not say what control says."""
    lines = []
    for partition, mark in sorted({**fences.marks, **dict.fromkeys(fences.faults, "")}.items()):
        if is_open(mark):
            colour, told = ("red", "but control is halted: `conclave halt` closes it") if halted else ("green", "")
        elif partition in fences.faults:
            colour, told = "red", f"cannot be read, counts as closed: {fences.faults[partition]}"
        elif mark.startswith(CLOSED + COMMAND):
            colour, told = "red", "the log lost its last writes: `conclave recover` shows what is missing"
        else:
            told = "" if halted else "but control is not halted: `conclave resume` opens it"
            colour = "red"
        shown = mark or "no mark"
        lines.append(f"fence of partition {partition}: [{colour}]{escape(shown)}[/] {escape(told)}".rstrip())
    return lines


def configuration_table(state: State) -> Table:
    """Who votes with what weight under the current version."""
    halted = "  [bold red]HALTED[/]" if state.halted else ""
    caption = "open: whoever reaches the log may command (`conclave keys trust` ends that)" if state.open else None
    title = f"configuration {state.version} ({state.head[:12]}), {state.policy.rule}{halted}"
    table = Table(title=title, caption=caption)
    for heading in ("model", "weight", "champion", "in shadow"):
        table.add_column(heading)
    for name, model in sorted(state.models.items()):
        shadows = ", ".join(digest[:12] for digest in model.shadows)
        champion = (model.champion or "none")[:12]
        if name in state.probations:
            champion += f" [yellow]on probation for {state.probations[name].decisions} decisions[/]"
        table.add_row(name, f"{model.weight or 0:.0%}", champion, shadows)
    return table


def groups_table(groups: list[GroupView]) -> Table:
    """Every group: who owns it, how far it lags."""
    table = Table(title="groups")
    for heading in ("group", "partition", "alive", "owner", "lag"):
        table.add_column(heading)
    for view in sorted(groups):
        lag = ", ".join(f"{stream} {count}" for stream, count in view.lag.items())
        alive = "[green]yes[/]" if view.alive else "[red]no[/]"
        table.add_row(view.group, str(view.partition), alive, view.owner, lag)
    return table


async def new_decisions(log: Log, partitions: int, *, last: int, follow: bool) -> AsyncIterator[DecisionMade]:
    """The newest ``last`` decisions of each partition, and those that follow if asked."""
    after: dict[StreamKey, str] = {}
    for partition in range(partitions):
        place = StreamKey("decisions", partition)
        entries = await log.tail(place, last)
        after[place] = entries[-1].id if entries else (await log.extent(place)).last
        for entry in entries:
            event = decode("decisions", entry.data).event
            if isinstance(event, DecisionMade):
                yield event
    while follow:
        for entry in await log.read(after, count=1000, block_ms=500):
            after[entry.place] = entry.id
            event = decode("decisions", entry.data).event
            if isinstance(event, DecisionMade):
                yield event


def decision_line(decision: DecisionMade) -> str:
    """One decision in one line of markup, its members behind it."""
    when = datetime.fromtimestamp(decision.open_time / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    colour = COLOURS[decision.action]
    members = "  ".join(
        f"{ballot.model} [{COLOURS[ballot.action]}]{ballot.action}[/] {ballot.confidence:.2f}"
        for ballot in decision.counted
    )
    gone = "  ".join(f"[yellow]{absent.model}: {absent.reason[:40]}[/]" for absent in decision.absent)
    verdict = f"[{colour}]{decision.action:<4}[/] {decision.confidence:.2f}"
    if decision.status == "no_quorum":
        verdict = "[yellow]no quorum[/]"
    return (
        f"{when}  {decision.symbol:<10} {verdict}  {decision.consensus_count}/{decision.total_models}"
        f"  v{decision.control_version}  {decision.intent:<9}  {members}  {gone}"
    )


@click.command()
@click.option("--follow", "-f", is_flag=True, help="Go on as decisions are made.")
@click.option("--last", "-n", default=20, show_default=True, help="How many to begin with.")
@OUTPUT
@click.pass_context
@asynchronous
async def decisions(context: click.Context, /, follow: bool, last: int, output: str) -> None:
    """The newest decisions, with the ballots behind them."""
    settings = settings_of(context)
    console = Console(highlight=False, soft_wrap=True)
    async with opened_log(settings, "conclave:console") as log:
        async for decision in new_decisions(log, settings.installation.partitions, last=last, follow=follow):
            if output == "json":
                echo_json(decision)
            else:
                console.print(decision_line(decision))


@click.group()
def groups() -> None:
    """Consumer groups: the one repair that needs a person."""


@groups.command()
@click.argument("group")
@click.argument("stream", type=click.Choice(list(STREAMS)))
@click.option("--partition", default=0, show_default=True)
@click.option("--reason", required=True, help="Why the loss is accepted; printed, and part of the owner's label.")
@click.pass_context
@asynchronous
async def skip(context: click.Context, /, group: str, stream: str, partition: int, reason: str) -> None:
    """Moves a stopped group past entries that were trimmed before it had read them."""
    async with opened_log(settings_of(context), "conclave:console") as log:
        view = next((view for view in await log.groups(partition) if view.group == group), None)
        if view is None or stream not in view.positions:
            raise click.BadParameter(f"no group {group!r} reads {stream!r} in partition {partition}")
        claim = await log.claim(group, list(view.positions), partition, owner(f"console: {reason}"[:64]))
        extent = await log.extent(StreamKey(stream, partition))
        before = claim.positions[stream]
        trimmed = extent.added - extent.length
        if before.seen >= trimmed:
            await log.release(claim)
            click.echo(f"{group} has lost nothing on {stream}; nothing was done")
            return
        after = Position(preceding(extent.first) if extent.length else extent.last, trimmed)
        since = {name: entry for name, entry in claim.since.items() if name != stream}
        await log.commit(claim, Commit((), {stream: before}, {stream: after}, claim.memo, since))
        await log.release(claim)
    click.echo(f"{group} goes on behind {trimmed - before.seen} lost entries of {stream}: {reason}")


async def all_alive(log: Log, partitions: int, wanted: set[str]) -> bool:
    """Whether every wanted group has a living owner in every partition."""
    for partition in range(partitions):
        if not wanted <= {view.group for view in await log.groups(partition) if view.alive}:
            return False
    return True
