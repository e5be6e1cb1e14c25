"""``conclave issue``: a command from a JSON file.

    {"command": {"type": "halt"}, "actor": "ada", "reason": "exchange outage", "command_id": "outage-7"}

``command`` is any command of the control stream's schema (``docs/reference/schemas/control.json``);
``expects``, if given, is the version that it was decided on.
"""

from typing import IO, Any, Final, get_args

import click
import msgspec
from msgspec import Struct

from schemas.control import Command
from services.console.context import asynchronous
from services.console.control.issuing import carry_out, issuing

COMMANDS: Final[dict[str, Any]] = {str(each.__struct_config__.tag): each for each in get_args(Command)}


class CommandFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A command with who issues it and why. ``command_id`` is required: it makes publishing the same
    file twice harmless."""

    command: dict[str, Any]
    actor: str
    reason: str
    command_id: str
    expects: int | None = None


@click.command()
@click.argument("file", type=click.File("rb"))
@issuing
@click.pass_context
@asynchronous
async def issue(context: click.Context, /, file: IO[bytes], **options: Any) -> None:
    """Issue the command of a JSON file (- reads standard input).

    The file holds command (with its type and fields), actor, reason, command_id, and maybe expects."""
    read = command_file(file.read(), file.name)
    command = command_of(read.command, file.name)
    who = {"actor": read.actor, "reason": read.reason, "command_id": read.command_id, "expect": read.expects}
    await carry_out(context, lambda _: command, {**options, **who})


def command_file(data: bytes, name: str) -> CommandFile:
    """The file's content. Raises ``click.UsageError`` that says what is wrong with it."""
    try:
        return msgspec.json.decode(data, type=CommandFile)
    except msgspec.DecodeError as error:
        wanted = "command, actor, reason, command_id, and maybe expects"
        raise click.UsageError(f"{name}: {error}; expected a JSON object with {wanted}") from None


def command_of(fields: dict[str, Any], name: str) -> Command:
    """The command that these fields say. A field that does not exist is refused, not passed over."""
    kind = COMMANDS.get(str(fields.get("type")))
    if kind is None:
        raise click.UsageError(f"{name}: no command of type {fields.get('type')!r}; there are: {', '.join(COMMANDS)}")
    unknown = sorted(set(fields) - {"type", *kind.__struct_fields__})
    if unknown:
        known = ", ".join(kind.__struct_fields__) or "none"
        raise click.UsageError(f"{name}: {fields['type']} has no field {', '.join(unknown)}; its fields: {known}")
    try:
        command: Command = msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise click.UsageError(f"{name}: {fields['type']}: {error}") from None
    return command
