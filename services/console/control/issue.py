"""``conclave issue``: a command from a JSON file.

    {"command": {"type": "halt"}, "actor": "ada", "reason": "exchange outage", "command_id": "outage-7"}

``command`` is any command in the schema of the stream ``control`` (``docs/reference/schemas/control.json``).
``expects`` is optional: the version that the configuration must have.
"""

from typing import IO, Any, Final, get_args

import click
import msgspec
from msgspec import Struct

from schemas.codec import UNDECODABLE
from schemas.control import Approve, Command, Halt, Propose
from services.console.context import asynchronous
from services.console.control.issuing import carry_out, halt_by_all_means, issuing

COMMANDS: Final[dict[str, Any]] = {str(each.__struct_config__.tag): each for each in get_args(Command)}


MOST_BYTES: Final = 1 << 20
"""A file of commands that is longer is not read: it may be a device that never ends."""


class CommandFile(Struct, frozen=True, forbid_unknown_fields=True):
    """A command, its actor and its reason. ``command_id`` is required: with it, issuing the same file twice has the
    effect of issuing it once."""

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
    """Issue the command in a JSON file (- reads standard input).

    The file contains command (with its type and fields), actor, reason, command_id and, optionally, expects."""
    data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise click.UsageError(f"{file.name}: longer than {MOST_BYTES:,} bytes, so it is no command")
    read = command_file(data, file.name)
    command = command_of(read.command, file.name)
    who = {"actor": read.actor, "reason": read.reason, "command_id": read.command_id, "expect": read.expects}
    if isinstance(command, Halt):
        await halt_by_all_means(context, command, {**options, **who})
    else:
        await carry_out(context, lambda _: command, {**options, **who})


def command_file(data: bytes, name: str) -> CommandFile:
    """Parse the file. Raises ``click.UsageError``, which names the first error in it."""
    try:
        return msgspec.json.decode(data, type=CommandFile)
    except UNDECODABLE as error:
        fields = "command, actor, reason, command_id and, optionally, expects"
        raise click.UsageError(f"{name}: {error}; expected a JSON object with {fields}") from None


def command_of(fields: dict[str, Any], name: str) -> Command:
    """Return the command with these fields. Raises ``click.UsageError``, also for a field that does not exist."""
    kind = COMMANDS.get(str(fields.get("type")))
    if kind is None:
        raise click.UsageError(f"{name}: no command of type {fields.get('type')!r}; there are: {', '.join(COMMANDS)}")
    unknown = sorted(set(fields) - {"type", *kind.__struct_fields__})
    if unknown:
        known = ", ".join(kind.__struct_fields__) or "none"
        raise click.UsageError(f"{name}: {fields['type']} has no field {', '.join(unknown)}; its fields: {known}")
    if kind in (Propose, Approve) and isinstance(fields.get("command"), dict):
        command_of(fields["command"], f"{name}: {fields['type']}")
    try:
        command: Command = msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise click.UsageError(f"{name}: {fields['type']}: {error}") from None
    return command
