"""``conclave history | diff``: who changed what, when and why, and how two versions differ."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import click
from rich.table import Table

from schemas.control import CommandRecorded
from services.console.context import asynchronous, settings_of
from services.console.output import OUTPUT, echo_json, printable, terminal
from services.console.parsing import moment_ms
from shared.control import State
from shared.control.changes import Change, changes, words
from shared.control.issuing import current, refused
from shared.control.issuing import history as entries_of
from shared.log import Log
from shared.runtime.process import reached_log

REFUSALS: Final = 20
"""The most entries without effect that are listed; the others are counted."""


@click.command()
@click.option("--from", "since", metavar="VERSION|TIME", help="Only commands after this version or time.")
@click.option("--to", "until", metavar="VERSION|TIME", help="Only commands up to this version or time.")
@OUTPUT
@click.pass_context
@asynchronous
async def history(context: click.Context, /, since: str | None, until: str | None, output: str) -> None:
    """Show every command that changed the configuration, and verify the hash chain.

    Entries that no control writer wrote have no effect; they are listed on standard error."""
    async with reached_log(settings_of(context), "conclave:console") as log:
        entries, refusals = await entries_of(log), await refused(log)
        first = 0 if since is None else (await at(log, since)).version
        last = len(entries) if until is None else (await at(log, until)).version
    entries = [entry for entry in entries if first < entry.version <= last]
    for refusal in refusals[:REFUSALS]:
        click.echo(f"entry {refusal.entry} does not count: {printable(refusal.reason)}", err=True)
    if len(refusals) > REFUSALS:
        click.echo(f"nor do {len(refusals) - REFUSALS:,} more, up to entry {refusals[-1].entry}", err=True)
    if output == "json":
        for entry in entries:
            echo_json(entry)
        return
    shown = Table("version", "when (UTC)", "who", "key", "what", "why")
    for entry in entries:
        when = _moment(entry.at)
        shown.add_row(str(entry.version), when, entry.actor, entry.key or "", words(entry.command), entry.reason)
    terminal().print(shown)


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="[B]", required=False)
@OUTPUT
@click.pass_context
@asynchronous
async def diff(context: click.Context, /, a: str, b: str | None, output: str) -> None:
    """Show how version B (default: the newest) differs from version A: models, weights, policies, features by name.

    A and B are version numbers, or times (ISO 8601; UTC without a zone): the version in force at that time."""
    async with reached_log(settings_of(context), "conclave:console") as log:
        before, after = await at(log, a), await (current(log) if b is None else at(log, b))
    differences = changes(before, after)
    if output == "json":
        rows = [change._asdict() for change in differences]
        echo_json({"from": before.version, "to": after.version, "changes": rows})
    elif not differences:
        click.echo(f"versions {before.version} and {after.version} are equal")
    else:
        terminal().print(table(differences, f"version {before.version} to {after.version}"))


def table(differences: Sequence[Change], title: str) -> Table:
    """Return the changes for a terminal."""
    shown = Table("what", "before", "after", title=title)
    for change in differences:
        shown.add_row(*change)
    return shown


def proposal_words(state: State, number: int) -> str:
    """Return who can approve an open proposal, until when, and how."""
    until = _moment(state.proposals[number].until)
    return f"{' or '.join(state.approval.approvers)} until {until} UTC: conclave approve {number}"


async def at_version(log: Log, version: int) -> State:
    """Return the configuration as of ``version``. Raises ``click.BadParameter`` if there is no such version."""
    state = await current(log, version)
    if version < 0 or state.version != version:
        raise click.BadParameter(f"there is no version {version}; the newest is {(await current(log)).version}")
    return state


async def at(log: Log, moment: str) -> State:
    """Return the configuration as of a version (a number) or a time (ISO 8601; UTC if it names no zone)."""
    if moment.isdecimal():
        return await at_version(log, int(moment))
    until = moment_ms(moment, otherwise="a version")
    return await current(log, _newest(await entries_of(log), until))


def _newest(entries: Sequence[CommandRecorded], until: int) -> int:
    """Return the last version issued until ``until`` (ms), by the clocks of the issuers."""
    return max((entry.version for entry in entries if entry.at <= until), default=0)


def _moment(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
