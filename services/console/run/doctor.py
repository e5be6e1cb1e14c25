"""``conclave doctor``: check what this installation depends on, and the security settings of its server."""

from pathlib import Path
from typing import Any

import click
import msgspec
from rich.table import Table

from services.console.context import asynchronous, settings_of
from services.console.output import OUTPUT, coloured, echo_json, terminal
from services.console.run.losses import MISSING, losses
from services.console.run.machine import clocks, failing, served, state_folder
from services.console.run.phone import phone_checks
from services.console.run.status import running
from services.feed.core import finished
from shared.control import checkpoint
from shared.control.issuing import current, refused
from shared.log import StreamKey
from shared.log.connection import ServerError
from shared.log.durability import UnfitServerError, check_server
from shared.runtime.process import check_installation, reached_log
from shared.server.embedded import EmbeddedError, find_program
from shared.server.replication import arranged
from shared.server.security import SecurityCheck, in_force
from shared.settings import Settings, find, redis_url_with_password


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
    url = redis_url_with_password(settings)
    checks = [*await arranged(url), *await in_force(url, settings.redis.ephemeral)]
    report: dict[str, Any] = {
        "settings": str(find(context.find_root().params["path"]) or "defaults"),
        "embedded server": _embedded(),
    }
    machine = [state_folder(Path(settings.installation.state))]
    verdicts = {check.verdict for check in checks}
    try:
        server = await check_server(redis_url_with_password(settings), settings.redis.ephemeral)
        report |= server._asdict()
    except UnfitServerError as error:
        report["log"] = f"not opened by services: {error}"
        verdicts.add("wrong")
    try:
        report |= await _log_facts(settings)
        machine += await _seen_in_log(settings)
        verdicts |= {"wrong"} if MISSING in report else set()
    except ServerError as error:
        report["log"] = f"not read: {error}"
        verdicts.add("unknown")
    verdicts |= {check.verdict for check in machine}
    if output == "json":
        shown = {"in force": checks, "on this machine": machine}
        echo_json({**report, **msgspec.to_builtins(shown)})
    else:
        console = terminal()
        console.print(_facts(report))
        console.print(_table(checks, "in force at the server"))
        console.print(_table(machine, "disks, clocks, workers and phones"))
    context.exit(1 if "wrong" in verdicts else 3 if "unknown" in verdicts else 0)


def _embedded() -> str:
    try:
        return str(find_program())
    except EmbeddedError:
        return "none on this machine"


async def _log_facts(settings: Settings) -> dict[str, Any]:
    report = dict[str, Any]()
    async with reached_log(settings, "conclave:console") as log:
        state = await current(log)
        check_installation(settings, state)
        try:
            checkpoint.check(Path(settings.installation.state) / "checkpoints" / "control.jsonl", state)
        except OSError as error:
            report["checkpoints"] = f"not read: {error}"
        report["control"] = f"version {state.version}, chain intact, head {state.head[:12]}"
        report["not written by a control writer"] = len(await refused(log))
        report["commands"] = (
            "open to everyone with access to the log" if state.open else f"signed by one of {len(state.keys)} keys"
        )
        report |= await losses(settings, log, state)
        for partition in range(settings.installation.partitions):
            for view in await log.groups(partition):
                alive = {"yes": "alive", "finished": f"finished: {finished(view.memo)}"}.get(
                    running(view), "NOT RUNNING"
                )
                report[f"group {view.group}/{partition}"] = f"{alive}, lag {dict(view.lag)}"
            dead = await log.extent(StreamKey("dead", partition))
            report[f"dead letters/{partition}"] = dead.length
            alarms = await log.extent(StreamKey("alarms", partition))
            report[f"alarms/{partition}"] = alarms.length
    return report


def _facts(report: dict[str, Any]) -> Table:
    table = Table("what", "found", title="doctor")
    for name, value in report.items():
        table.add_row(name, str(value))
    return table


async def _seen_in_log(settings: Settings) -> list[SecurityCheck]:
    partitions = settings.installation.partitions
    async with reached_log(settings, "conclave:console") as log:
        views = [view for partition in range(partitions) for view in await log.groups(partition)]
        state = await current(log)
        checks = [*await clocks(log, partitions), *await failing(log, partitions), *served(state, views)]
        return [*checks, *phone_checks(settings, state)]


def _table(checks: list[SecurityCheck], title: str) -> Table:
    table = Table("what", "", "found", "what to do", title=title)
    for check in checks:
        table.add_row(check.what, coloured(check.verdict), check.found, check.do)
    return table
