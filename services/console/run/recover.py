"""``conclave recover``: what the server lost, where it can be had, and how it comes back or is given up."""

import getpass
from collections.abc import Sequence
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from services.archiver.main import store_of
from services.console.context import asynchronous, settings_of
from services.console.control.issuing import tag_of
from services.console.output import OUTPUT, echo_json
from shared.archive.files import Files
from shared.archive.history import SealedHistory, entries
from shared.archive.store import StoreError
from shared.control import ControlReader, State
from shared.control.issuing import RefusedError, current
from shared.control.stream import CONTROL, marks_of, now_ms, read_control
from shared.log import Commit, Entry, Log
from shared.recovery.fencing import open_fence
from shared.recovery.missing import Missing
from shared.runtime.process import check_installation, opened_log, owner, record_of
from shared.settings import Settings

NOWHERE: Final = "nowhere"


@click.command()
@click.option("--append", is_flag=True, help="Append the lost commands again, byte for byte.")
@click.option("--accept", is_flag=True, help="Give the lost commands up: the log goes on as it is.")
@click.option("--forget", metavar="GROUP", help="Let a group whose record is gone begin with an empty memory.")
@click.option("--partition", default=0, show_default=True, help="Of the group to forget.")
@click.option("--reason", help="Why. It is recorded; required with --append, --accept and --forget.")
@OUTPUT
@click.pass_context
@asynchronous
async def recover(
    context: click.Context,
    /,
    append: bool,
    accept: bool,
    forget: str | None,
    partition: int,
    reason: str | None,
    output: str,
) -> None:
    """Shows which commands the control log lost, by what this machine noted, and from where each can be had.

    Exit code 0 nothing is missing (any more), 1 something is, 2 it cannot run, 3 there is nothing to compare with."""
    if append + accept + (forget is not None) > 1:
        raise click.UsageError("--append, --accept and --forget are three ways; choose one")
    if (append or accept or forget is not None) and not reason:
        raise click.UsageError("--reason says why, and is recorded: give one")
    settings, why = settings_of(context), f"{getpass.getuser()}: {reason}"
    async with opened_log(settings, "conclave:console") as log:
        if forget is not None:
            await _forget(log, forget, partition, why)
            return
        record = record_of(settings)
        if record is None:
            raise click.UsageError("this log is declared ephemeral: nothing is noted of it")
        state = await current(log)
        check_installation(settings, state)
        sealed = await _sealed(settings)
        found = record.missing(state, ("archive", sealed))
        if found is not None and append:
            await _append(log, found)
        elif found is not None and accept:
            record.give_up(found, state, why, now_ms())
        opened = await _open(log, state, why) if append or accept else []
        _show(found, output, done="appended" if append else "given up" if accept else "", opened=opened)
        if found is None and record.empty() and not sealed:
            context.exit(3)
        context.exit(0 if found is None or append or accept else 1)


async def _sealed(settings: Settings) -> list[Entry]:
    """The control log as far as it was archived."""
    try:
        store = store_of(settings)
        return [entry async for entry in entries(SealedHistory(store), CONTROL)] if Files(store, CONTROL).end() else []
    except StoreError:
        return []


async def _append(log: Log, found: Missing) -> None:
    """The lost commands again, under their ids. Raises ``RefusedError`` where that cannot be."""
    if found.replaced:
        raise RefusedError(
            f"{found}: the lost ones cannot be appended behind those. Give them up (--accept), then issue again what "
            "still holds"
        )
    if not found.complete:
        unknown = ", ".join(str(lost.version) for lost in found.lost if lost.copied is None)
        raise RefusedError(f"the command of version {unknown} is held nowhere; give up what is lost (--accept)")
    reader = ControlReader()
    await read_control(log, reader)
    for lost in found.lost:
        assert lost.copied is not None
        entry = lost.copied.entry
        if not await log.append_at(CONTROL, entry.id, entry.data, marks=marks_of(reader)):
            raise RefusedError(f"the stream takes no entry {entry.id}: somebody appended meanwhile; look again")
        await read_control(log, reader)
        if reader.state.head != lost.head:
            raise RefusedError(f"entry {entry.id} was appended and does not count; look at `conclave history`")


async def _open(log: Log, state: State, why: str) -> list[int]:
    """The partitions whose fence was closed for the loss, and is open again."""
    return [number for number in range(state.partitions) if await open_fence(log, number, "console", why, now_ms())]


async def _forget(log: Log, group: str, partition: int, why: str) -> None:
    view = next((view for view in await log.groups(partition) if view.group == group), None)
    if view is None:
        raise click.BadParameter(f"no group {group!r} in partition {partition}")
    claim = await log.claim(group, list(view.positions), partition, owner(f"console: {why}"[:64]))
    if claim.restored:
        await log.commit(claim, Commit((), {}, {}))
    await log.release(claim)
    if not claim.restored:
        click.echo(f"the record of {group} is there; nothing was done")
        return
    stands = ", ".join(f"{stream} after {claim.positions[stream].id}" for stream in claim.restored)
    click.echo(f"{group} begins with an empty memory: {stands}; {why}")


def _show(found: Missing | None, output: str, *, done: str, opened: Sequence[int]) -> None:
    rows = _rows(found)
    if output == "json":
        facts: dict[str, Any] = {"missing": rows, "done": done if found is not None else "", "opened": list(opened)}
        if found is not None:
            facts |= {"common": found.common, "version": found.version, "replaced": found.replaced}
        echo_json(facts)
        return
    if found is None:
        click.echo("nothing is missing from the control log, by what this machine noted of it")
    else:
        table = Table("version", "entry", "command", "by", "reason", "held by")
        for row in rows:
            table.add_row(*(str(row[name]) for name in ("version", "entry", "command", "actor", "reason", "held")))
        Console().print(table)
        click.echo(f"{found}{f': {done}' if done else ''}")
        if not done and found.replaced:
            click.echo("it went on: `conclave recover --accept --reason ...`, then issue again what still holds")
        elif not done:
            way = "--append" if found.complete else "--accept"
            click.echo(f"`conclave recover {way} --reason ...`")
    for number in opened:
        click.echo(f"intents are issued again in partition {number}")


def _rows(found: Missing | None) -> list[dict[str, Any]]:
    rows = []
    for lost in found.lost if found is not None else ():
        row: dict[str, Any] = {"version": lost.version, "head": lost.head, "held": NOWHERE}
        row |= {"entry": "", "command": "", "actor": "", "reason": ""}
        if lost.copied is not None:
            recorded = lost.copied.recorded
            row |= {"entry": lost.copied.entry.id, "command": tag_of(recorded.command), "held": lost.copied.source}
            row |= {"actor": recorded.actor, "reason": recorded.reason}
        rows.append(row)
    return rows
