"""``conclave status | groups``: show the state of an installation, and repair a group after a gap."""

from typing import Any

import click
import msgspec
from msgspec import UNSET
from rich.table import Table
from rich.text import Text

from schemas.catalogue import STREAMS
from schemas.common import ENSEMBLE
from services.console.context import asynchronous, settings_of
from services.console.control.history import at, proposal_words
from services.console.output import OUTPUT, coloured, echo_json, terminal
from services.console.parsing import COUNT
from services.console.run.acting import recent_acting
from services.feed.core import finished
from shared.control import State
from shared.control.changes import policy_differences, words
from shared.control.fence import Reached, each
from shared.control.issuing import current
from shared.control.serving import why_unserved
from shared.log import CLOSED, Commit, GroupView, Position, StreamKey, preceding
from shared.log.leases import is_open
from shared.recovery.fencing import COMMAND
from shared.report.text import acting_words
from shared.runtime.process import opened_log, owner, reached_log
from shared.voting.pool import panel_of
from shared.voting.quorum import why_undecidable


@click.command()
@click.option("--at", "moment", metavar="VERSION|TIME", help="Show the configuration as of then, without the groups.")
@OUTPUT
@click.pass_context
@asynchronous
async def status(context: click.Context, /, moment: str | None, output: str) -> None:
    """Show the configuration, the fences, the lag of every consumer group, and how often the ensemble acts: in its
    newest decisions with an outcome, and what never and always acting would have earned there."""
    settings = settings_of(context)
    async with reached_log(settings, "conclave:console") as log:
        state = await (current(log) if moment is None else at(log, moment))
        partitions = range(settings.installation.partitions if moment is None else 0)
        groups = [view for partition in partitions for view in await log.groups(partition)]
        fences = await each(partitions, log.fence)
        acted = await recent_acting(log, partitions)
    if output == "json":
        shown: dict[str, Any] = {}
        if moment is None:
            shown = {"fences": _fences(fences), "groups": [_group(view) for view in groups]}
            shown["unserved"] = why_unserved(state, groups)
            shown["acting"] = acted
        echo_json({**_configuration(state), **shown})
        return
    console = terminal()
    console.print(configuration_table(state))
    if moment is None:
        for why in why_unserved(state, groups):
            console.print(Text(why, "red"))
        for line in fence_lines(fences, halted=state.halted):
            console.print(line)
        console.print(groups_table(groups))
        for sentence in acting_words(acted) if acted is not None else ():
            console.print(sentence)


def _configuration(state: State) -> dict[str, Any]:
    models = {name: msgspec.to_builtins(model) for name, model in sorted(state.models.items())}
    return {
        "version": state.version,
        "head": state.head,
        "halted": state.halted,
        "undecidable": why_undecidable(state),
        "open": state.open,
        "policy": msgspec.to_builtins(state.policy),
        "edge_in_force": panel_of(state).policy.edge,
        "policies_in_shadow": {each: msgspec.to_builtins(state.policies[each].policy) for each in state.policy_shadows},
        "gate": msgspec.to_builtins(state.gate),
        "ladder": msgspec.to_builtins(state.ladder),
        "training": msgspec.to_builtins(state.training),
        "execution": msgspec.to_builtins(state.execution),
        "probations": {name: msgspec.to_builtins(found) for name, found in sorted(state.probations.items())},
        "approval": msgspec.to_builtins(state.approval),
        "proposals": {number: msgspec.to_builtins(found) for number, found in sorted(state.proposals.items())},
        "models": models,
    }


def _group(view: GroupView) -> dict[str, Any]:
    facts = view._asdict()
    del facts["memo"]
    facts["positions"] = {stream: position.id for stream, position in view.positions.items()}
    facts["written"] = {
        stream: {**written._asdict(), "digest": written.digest.hex()} for stream, written in view.written.items()
    }
    return facts


def _fences(fences: Reached) -> list[dict[str, Any]]:
    known = [
        {"partition": partition, "mark": mark, "open": is_open(mark)}
        for partition, mark in sorted(fences.marks.items())
    ]
    return known + [
        {"partition": partition, "mark": None, "open": False, "fault": fault}
        for partition, fault in sorted(fences.faults.items())
    ]


def fence_lines(fences: Reached, *, halted: bool) -> list[Text]:
    """Return a line for the fence of each partition, and what to do if it does not match ``control``."""
    lines = []
    for partition, mark in sorted({**fences.marks, **dict.fromkeys(fences.faults, "")}.items()):
        if is_open(mark):
            colour, note = ("red", "but control is halted: `conclave halt` closes it") if halted else ("green", "")
        elif partition in fences.faults:
            colour, note = "red", f"cannot be read, counts as closed: {fences.faults[partition]}"
        elif mark.startswith(CLOSED + COMMAND):
            colour, note = "red", "the log lost its last writes: `conclave recover` shows what is missing"
        else:
            colour, note = "red", "" if halted else "but control is not halted: `conclave resume` opens it"
        line = Text.assemble(f"fence of partition {partition}: ", (mark or "no mark", colour), f" {note}")
        line.rstrip()
        lines.append(line)
    return lines


def configuration_table(state: State) -> Table:
    """Return a table of the models with their weights, champions and shadows."""
    halted = ("  HALTED", "bold red") if state.halted else ""
    open_to_all = "open: everyone with access to the log may issue commands (`conclave keys trust` ends that)"
    caption = Text("\n").join(
        [
            *([Text(why, "yellow")] if (why := why_undecidable(state)) else []),
            *([edge_words(state)] if state.voting else []),
            *[Text(f"voting policy in shadow: {each}") for each in shadow_words(state)],
            *probation_lines(state),
            *([Text(open_to_all)] if state.open else []),
            *approval_lines(state),
        ]
    )
    title = Text.assemble(f"configuration {state.version} ({state.head[:12]}), {state.policy.rule}", halted)
    table = Table(title=title, caption=caption or None)
    for heading in ("model", "weight", "champion", "in shadow"):
        table.add_column(heading)
    for name, model in sorted(state.models.items()):
        shadows = ", ".join(digest[:12] for digest in model.shadows)
        champion = Text((model.champion or "none")[:12])
        if name in state.probations:
            champion.append(f" on probation for {state.probations[name].decisions} decisions", "yellow")
        table.add_row(name, f"{model.weight or 0:.0%}", champion, shadows)
    return table


def shadow_words(state: State) -> list[str]:
    """Return a line for each voting policy in shadow: its digest, and how it differs from the one in force."""
    return [
        f"{digest[:12]}, {', '.join(policy_differences(state.policy, state.policies[digest].policy))}"
        for digest in state.policy_shadows
    ]


def probation_lines(state: State) -> list[Text]:
    """Return a line for the voting policy in force, if it is on probation."""
    probation = state.probations.get(ENSEMBLE)
    if probation is None:
        return []
    trial = f"on probation for {probation.decisions} decisions"
    return [Text(f"voting policy {probation.artifact[:12]} is {trial}", "yellow")]


def approval_lines(state: State) -> list[Text]:
    """Return which commands need a second person, and which proposals wait for one. Whether a proposal has expired is
    known when it is approved."""
    rule = state.approval
    if not rule.commands:
        return []
    lines = [Text(f"a second person is needed to {' and '.join(rule.commands)}: {' or '.join(rule.approvers)}")]
    for number, proposal in sorted(state.proposals.items()):
        what = f"proposal {number} by {proposal.by.person}: {words(proposal.command)} ({proposal.by.reason})"
        lines.append(Text(f"{what}; waits for {proposal_words(state, number)}", "yellow"))
    return lines


def edge_words(state: State) -> Text:
    """Return from which lead on a decision is BUY or SELL, and why."""
    edge, policy = panel_of(state).policy.edge, state.policy
    if policy.rule == "consensus":
        return Text("BUY or SELL where most weight agrees on it")
    why = "edge" if policy.cost is UNSET or edge == policy.edge else f"cost {policy.cost:.2%} over the return of a move"
    return Text(f"BUY or SELL from |P(BUY) - P(SELL)| = {edge:.3f} on: {why}")


def running(view: GroupView) -> str:
    """Return whether a group runs: ``yes``, ``no``, or ``finished`` for a feed whose source is sent."""
    if view.alive:
        return "yes"
    return "finished" if view.group == "feed" and finished(view.memo) else "no"


def groups_table(groups: list[GroupView]) -> Table:
    """Return a table of the consumer groups with their owners and lags."""
    table = Table(title="groups")
    for heading in ("group", "partition", "alive", "owner", "lag"):
        table.add_column(heading)
    for view in sorted(groups):
        lag = ", ".join(f"{stream} {count}" for stream, count in view.lag.items())
        alive = coloured(running(view))
        table.add_row(view.group, str(view.partition), alive, view.owner, lag)
    return table


@click.group()
def groups() -> None:
    """Repair a consumer group that stopped because of a gap."""


@groups.command()
@click.argument("group")
@click.argument("stream", type=click.Choice(list(STREAMS)))
@click.option("--partition", type=COUNT, default=0, show_default=True, help="Partition of the group.")
@click.option("--reason", required=True, help="Why the loss is accepted. It is printed and recorded as the owner.")
@click.pass_context
@asynchronous
async def skip(context: click.Context, /, group: str, stream: str, partition: int, reason: str) -> None:
    """Move a stopped group past entries that were trimmed before the group had read them."""
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
    click.echo(f"{group} continues after {trimmed - before.seen} lost entries of {stream}: {reason}")
