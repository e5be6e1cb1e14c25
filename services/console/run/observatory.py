"""``conclave observatory``: serve the pages; ``user``, ``token``, ``sign-ins``: who may sign in, and who did."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import click
import msgspec
from rich.table import Table

from schemas.access import InputRetried, Role, SignedIn, SignInRefused
from services.console.context import asynchronous, login, settings_of
from services.console.output import OUTPUT, echo_json, echo_unreadable, terminal
from services.console.parsing import COUNT
from services.console.run.service import missing_observatory, observatory_of, supervised
from shared.log import StreamKey
from shared.log.events import Unreadable, events_of
from shared.people import FILE, NAME, ROLES, Cause, PeopleFile, Person, hashed
from shared.report.text import moment
from shared.runtime.process import reached_log, stop_on_signal
from shared.settings import Settings, SettingsError, address_of
from shared.telemetry import logs

LONGEST: Final = 4096
"""Bytes of a line with a password. A file without line ends may be a device that never ends."""
REFUSED: Final = {"unknown": "unknown name", "password": "wrong password", "limit": "too many attempts"}
ROLE: Final = click.option(
    "--role", type=click.Choice(ROLES), required=True, help="Look; also issue commands; also approve proposals."
)
F = TypeVar("F", bound=Callable[..., Any])


def explained(command: F) -> F:
    """Add who changes the people of the observatory, and why."""
    actor = click.option("--actor", default=login, help="Who does it (default: your login).")
    reason = click.option("--reason", required=True, help="Why. It is kept in the file, and listed by `user changes`.")
    return reason(actor(command))


@click.group(invoke_without_command=True)
@click.pass_context
def observatory(context: click.Context) -> None:
    """Serve pages and an API that show the installation, until Ctrl-C.

    They change nothing until a person may sign in (`conclave observatory user add`). `conclave up` serves them too, if
    the extra is installed. The address: the section [observatory] of the settings."""
    if context.invoked_subcommand is None:
        context.invoke(_served)


@click.command()
@click.pass_context
@supervised
async def _served(context: click.Context) -> None:
    settings = settings_of(context)
    run = observatory_of()
    logs.configure("observatory")
    click.echo(f"the observatory: {address_of(settings.observatory)}. Ctrl-C ends it")
    async with stop_on_signal() as stop:
        await run(settings, stop)


@observatory.group()
def user() -> None:
    """Say who may sign in. From the first person on, nothing is shown to others."""


@user.command("add")
@click.argument("name")
@ROLE
@click.option(
    "--password-file", type=click.File("rb"), help="Read the password from the first line of this file (- for input)."
)
@click.option("--proxy", is_flag=True, help="No password: the person comes through the proxy of the settings.")
@explained
@click.pass_context
def add(
    context: click.Context,
    name: str,
    role: Role,
    password_file: IO[bytes] | None,
    proxy: bool,
    actor: str,
    reason: str,
) -> None:
    """Add a person, or replace role and password of one. Without options it asks for the password."""
    _check(name)
    if (missing := missing_observatory()) is not None:
        raise SettingsError(missing)
    if proxy:
        password = ""
    elif password_file is not None:
        password = _first_line(password_file)
    else:
        password = click.prompt(f"Password of {name}", hide_input=True, confirmation_prompt=True)
    try:
        person = Person(name, role, "" if proxy else hashed(password))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    file_of(settings_of(context)).add(person, Cause(actor, reason))
    click.echo(f"{name} may sign in as {role}")


def _first_line(file: IO[bytes]) -> str:
    """Return the first line without its end. Raises ``click.UsageError`` for what is no line of text."""
    line = file.readline(LONGEST + 1)
    if len(line) > LONGEST:
        raise click.UsageError(f"{file.name}: the first line is longer than {LONGEST:,} bytes, so it is no password")
    try:
        return line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{file.name}: expected a password in UTF-8: {error}") from None


@user.command("remove")
@click.argument("name")
@explained
@click.pass_context
def remove(context: click.Context, name: str, actor: str, reason: str) -> None:
    """Remove a person, or the token of this name. Its sessions end at once."""
    file = file_of(settings_of(context))
    if not file.remove(name, Cause(actor, reason)):
        raise click.UsageError(f"no person or token is called {name!r}; see `conclave observatory user list`")
    click.echo(f"{name} may not sign in any more")


@user.command("list")
@OUTPUT
@click.pass_context
def list_people(context: click.Context, output: str) -> None:
    """List the people and tokens, without passwords."""
    file = file_of(settings_of(context))
    people = file.people()
    rows = [
        *((each.name, each.role, "password" if each.password else "proxy") for each in people.persons),
        *((each.name, each.role, "token") for each in people.tokens),
    ]
    if output == "json":
        echo_json({"people": [dict(zip(("name", "role", "by"), row, strict=True)) for row in rows]})
        return
    if not rows:
        click.echo(
            f"no person may sign in, and nothing is shown: add a person, or delete {file.path}"
            if file.exists()
            else "no sign-in: the observatory shows everything to all who reach it, and only shows"
        )
        return
    shown = Table("name", "role", "signs in by")
    for row in rows:
        shown.add_row(*row)
    terminal().print(shown)


@user.command("changes")
@click.option("--last", "-n", type=COUNT, default=20, show_default=True, help="Number of newest changes to show.")
@OUTPUT
@click.pass_context
def list_changes(context: click.Context, last: int, output: str) -> None:
    """Show who added and removed people and tokens, and why, newest last. The file keeps the newest 1,000."""
    changes = file_of(settings_of(context)).people().changes[-last:] if last else ()
    if output == "json":
        echo_json({"changes": changes})
        return
    shown = Table("at (UTC)", "what", "by", "why")
    for change in changes:
        shown.add_row(moment(change.at), change.what, change.actor, change.reason)
    terminal().print(shown)


@observatory.command()
@click.argument("name")
@ROLE
@explained
@click.pass_context
def token(context: click.Context, name: str, role: Role, actor: str, reason: str) -> None:
    """Make a token for a program and print it, once: the file keeps only its digest.

    The program sends it as `Authorization: Bearer TOKEN`. A second token of the same name replaces the first."""
    _check(name)
    click.echo(file_of(settings_of(context)).add_token(name, role, Cause(actor, reason)))


@observatory.command("sign-ins")
@click.option("--last", "-n", type=COUNT, default=20, show_default=True, help="Number of newest events to show.")
@OUTPUT
@click.pass_context
@asynchronous
async def sign_ins(context: click.Context, /, last: int, output: str) -> None:
    """Show who signed in and out, who was refused, and who retried input in the pages, newest last."""
    unreadable = Unreadable()
    async with reached_log(settings_of(context), "conclave:console") as log:
        entries = await log.tail(StreamKey("access"), last) if last else []
        events = [envelope.event for _, envelope in events_of(entries, unreadable)]
    echo_unreadable(unreadable)
    if output == "json":
        echo_json({"events": [msgspec.to_builtins(event) for event in events]})
        return
    shown = Table("at (UTC)", "name", "what", "from")
    for event in events:
        shown.add_row(moment(event.at), event.person, _what(event), event.address)
    terminal().print(shown)


def file_of(settings: Settings) -> PeopleFile:
    """Return the file of those who may sign in."""
    return PeopleFile(Path(settings.installation.state) / FILE)


def _what(event: Any) -> str:
    match event:
        case SignedIn(role=role, by=by):
            return f"signed in as {role}, by {by}"
        case SignInRefused(reason=reason):
            return f"refused: {REFUSED[reason]}"
        case InputRetried(letter=letter, entry=entry):
            return f"retried dead letter {letter[:12]} as {entry}"
        case _:
            return "signed out"


def _check(name: str) -> None:
    if not re.fullmatch(NAME, name):
        raise click.UsageError(f"{name!r} is no name: expected letters, digits and ._@+-, at most 64")
