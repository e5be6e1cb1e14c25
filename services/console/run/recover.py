"""``conclave recover``: show the commands that the server lost and where copies are; append them again or give them
up."""

from collections.abc import Sequence
from typing import Any, Final

import click
from rich.table import Table

from services.console.context import asynchronous, login, settings_of
from services.console.control.issuing import tag_of
from services.console.output import OUTPUT, echo_json, terminal
from services.console.parsing import COUNT
from shared.archive.files import Files
from shared.archive.history import SealedHistory, entries
from shared.archive.installed import store_of
from shared.archive.store import StoreError
from shared.control import ControlReader, State
from shared.control.issuing import RefusedError, current
from shared.control.stream import CONTROL, marks_of, now_ms, read_control
from shared.log import Commit, Entry, Log
from shared.recovery.fencing import open_fence
from shared.recovery.missing import Missing
from shared.runtime.process import check_installation, opened_log, owner, reached_log, record_of
from shared.settings import Settings

NOWHERE: Final = "nowhere"


@click.command()
@click.option("--append", is_flag=True, help="Append the lost commands again, byte for byte.")
@click.option("--accept", is_flag=True, help="Give the lost commands up: the log continues without them.")
@click.option("--forget", metavar="GROUP", help="Let a group whose record is lost start with an empty state.")
@click.option("--partition", type=COUNT, default=0, show_default=True, help="Partition of the group for --forget.")
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
    """Show which commands are missing from the stream control, compared with the records of this machine, and where
    copies of them are.

    Exit code 0 nothing is missing (any more), 1 something is missing, 2 it cannot run, 3 there are no records to
    compare with."""
    if append + accept + (forget is not None) > 1:
        raise click.UsageError("--append, --accept and --forget exclude each other: choose one")
    if (append or accept or forget is not None) and not reason:
        raise click.UsageError("--append, --accept and --forget need a --reason; it is recorded")
    settings, why = settings_of(context), f"{login()}: {reason}"
    opened = opened_log if append or accept or forget is not None else reached_log
    async with opened(settings, "conclave:console") as log:
        if forget is not None:
            await _forget(log, forget, partition, why)
            return
        record = record_of(settings)
        if record is None:
            raise click.UsageError("the settings declare this log ephemeral: no records of it are kept")
        state = await current(log)
        check_installation(settings, state)
        sealed = await _sealed(settings)
        missing = record.missing(state, ("archive", sealed))
        if missing is not None and append:
            await _append(log, missing)
        elif missing is not None and accept:
            record.give_up(missing, state, why, now_ms())
        reopened = await _open(log, state, why) if append or accept else []
        _show(missing, output, done="appended" if append else "given up" if accept else "", opened=reopened)
        if missing is None and record.empty() and not sealed:
            context.exit(3)
        context.exit(0 if missing is None or append or accept else 1)


async def _sealed(settings: Settings) -> list[Entry]:
    """Return the archived entries of ``control``; none if there is no archive."""
    try:
        store = store_of(settings)
        return [entry async for entry in entries(SealedHistory(store), CONTROL)] if Files(store, CONTROL).end() else []
    except StoreError:
        return []


async def _append(log: Log, missing: Missing) -> None:
    """Append the lost commands again, with their entry ids. Raises ``RefusedError`` if that is not possible."""
    if missing.replaced:
        raise RefusedError(
            f"{missing}: the lost commands cannot be appended after those. Give them up (--accept), then issue again "
            "those that are still wanted"
        )
    if not missing.complete:
        unknown = ", ".join(str(lost.version) for lost in missing.lost if lost.copied is None)
        raise RefusedError(f"there is no copy of the command of version {unknown}; give up what is lost (--accept)")
    reader = ControlReader()
    await read_control(log, reader)
    for lost in missing.lost:
        assert lost.copied is not None
        entry = lost.copied.entry
        if not await log.append_at(CONTROL, entry.id, entry.data, marks=marks_of(reader)):
            raise RefusedError(f"entry {entry.id} was not appended: another command was appended first; run this again")
        await read_control(log, reader)
        if reader.state.head != lost.head:
            raise RefusedError(f"entry {entry.id} was appended but has no effect; see `conclave history`")


async def _open(log: Log, state: State, why: str) -> list[int]:
    """Open the fences that were closed because of the loss, and return their partitions."""
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
        click.echo(f"the record of {group} exists; nothing was done")
        return
    positions = ", ".join(f"{stream} after {claim.positions[stream].id}" for stream in claim.restored)
    click.echo(f"{group} starts with an empty state: {positions}; {why}")


def _show(missing: Missing | None, output: str, *, done: str, opened: Sequence[int]) -> None:
    rows = _rows(missing)
    if output == "json":
        facts: dict[str, Any] = {"missing": rows, "done": done if missing is not None else "", "opened": list(opened)}
        if missing is not None:
            facts |= {"common": missing.common, "version": missing.version, "replaced": missing.replaced}
        echo_json(facts)
        return
    if missing is None:
        click.echo("nothing is missing from the stream control, compared with the records of this machine")
    else:
        table = Table("version", "entry", "command", "by", "reason", "held by")
        for row in rows:
            table.add_row(*(str(row[name]) for name in ("version", "entry", "command", "actor", "reason", "held")))
        terminal().print(table)
        click.echo(f"{missing}{f': {done}' if done else ''}")
        if not done and missing.replaced:
            click.echo(
                "other commands were issued since: run `conclave recover --accept --reason ...`, then issue again the "
                "lost ones that are still wanted"
            )
        elif not done:
            option = "--append" if missing.complete else "--accept"
            click.echo(f"run `conclave recover {option} --reason ...`")
    for number in opened:
        click.echo(f"intents are written again in partition {number}")


def _rows(missing: Missing | None) -> list[dict[str, Any]]:
    rows = []
    for lost in missing.lost if missing is not None else ():
        row: dict[str, Any] = {"version": lost.version, "head": lost.head, "held": NOWHERE}
        row |= {"entry": "", "command": "", "actor": "", "reason": ""}
        if lost.copied is not None:
            recorded = lost.copied.recorded
            row |= {"entry": lost.copied.entry.id, "command": tag_of(recorded.command), "held": lost.copied.source}
            row |= {"actor": recorded.actor, "reason": recorded.reason}
        rows.append(row)
    return rows
