"""``conclave doctor``: check what this installation depends on, and the security settings of its server."""

from collections.abc import Sequence
from typing import Any

import click
import msgspec
from rich.table import Table

from services.console.context import asynchronous, settings_of
from services.console.output import OUTPUT, coloured, echo_json, terminal
from services.console.run.status import running
from services.feed.core import finished
from shared.doctor.diagnosis import diagnose
from shared.log import GroupView
from shared.server.security import SecurityCheck
from shared.settings import find


@click.command()
@OUTPUT
@click.pass_context
@asynchronous
async def doctor(context: click.Context, /, output: str) -> None:
    """Check settings, servers, disk, clocks, control chain and groups, the files that services cannot write, writes
    that a server lost, and the keys that this server holds for persons who use a phone; mode, slots and replicas of the
    servers, and their settings for encryption, users, persistence, memory and network access. It writes nothing:
    neither to a server nor to a disk.

    Exit code 0 everything is in order, 1 something is wrong, 2 it cannot run, 3 this user may not read everything."""
    settings = settings_of(context)
    diagnosis = await diagnose(settings, "conclave:console")
    report = {
        "settings": str(find(context.find_root().params["path"]) or "defaults"),
        **diagnosis.facts,
        **{f"group {view.group}/{view.partition}": _group(view) for view in diagnosis.groups},
    }
    if output == "json":
        shown = {"in force": diagnosis.server, "on this machine": diagnosis.machine}
        echo_json({**report, **msgspec.to_builtins(shown)})
    else:
        console = terminal()
        console.print(_facts(report))
        console.print(_table(diagnosis.server, "in force at the server"))
        console.print(_table(diagnosis.machine, "disks, clocks, workers and phones"))
    context.exit({"wrong": 1, "unknown": 3, "good": 0}[diagnosis.verdict])


def _group(view: GroupView) -> str:
    states = {"yes": "alive", "finished": f"finished: {finished(view.memo)}"}
    return f"{states.get(running(view), 'NOT RUNNING')}, lag {dict(view.lag)}"


def _facts(report: dict[str, Any]) -> Table:
    table = Table("what", "found", title="doctor")
    for name, value in report.items():
        table.add_row(name, str(value))
    return table


def _table(checks: Sequence[SecurityCheck], title: str) -> Table:
    table = Table("what", "", "found", "what to do", title=title)
    for check in checks:
        table.add_row(check.what, coloured(check.verdict), check.found, check.do)
    return table
