"""``conclave keys new | trust | revoke | list``: who may issue commands. Without keys, everyone with access to the log
may."""

import re
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.table import Table

from schemas.control import RevokeKey, TrustKey
from services.console.context import asynchronous, settings_of
from services.console.control.issuing import carry_out, changing
from services.console.output import OUTPUT, echo_json, terminal
from shared.control.issuing import current
from shared.control.signing import generate, load_private
from shared.runtime.process import reached_log

EVERYTHING = ("*",)


@click.group()
def keys() -> None:
    """Manage the Ed25519 keys that may sign commands. From the first trusted key on, every command must be signed."""


@keys.command()
@click.argument("file", type=click.Path(path_type=Path))
def new(file: Path) -> None:
    """Make a key pair: write the private key to FILE (PEM, readable by its owner only) and print the public key.

    The name of FILE without its suffix is the id of the key: ada.pem is the key ada."""
    click.echo(generate(file))


@keys.command()
@click.argument("key_id")
@click.argument("public", metavar="PUBLIC|FILE")
@click.option("--holder", required=True, help="The person or service that holds it.")
@click.option("--may", multiple=True, default=EVERYTHING, show_default=True, help="A command it may sign; repeatable.")
@changing
@click.pass_context
@asynchronous
async def trust(
    context: click.Context, /, key_id: str, public: str, holder: str, may: tuple[str, ...], **options: Any
) -> None:
    """Trust a public key, given as 64 hexadecimal digits or as the PEM file of its private key.

    From the first trusted key on, every command must be signed (--key)."""
    public_key = public if re.fullmatch(r"[0-9a-f]{64}", public) else load_private(Path(public)).public_key
    command = TrustKey(key_id, public_key, holder, may)
    try:
        msgspec.convert(msgspec.to_builtins(command), TrustKey)
    except msgspec.ValidationError as error:
        raise click.BadParameter(str(error)) from None
    await carry_out(context, lambda _: command, options)


@keys.command()
@click.argument("key_id")
@changing
@click.pass_context
@asynchronous
async def revoke(context: click.Context, /, key_id: str, **options: Any) -> None:
    """Revoke a key permanently. Commands that it signed before remain valid."""
    await carry_out(context, lambda _: RevokeKey(key_id), options)


@keys.command("list")
@OUTPUT
@click.pass_context
@asynchronous
async def list_keys(context: click.Context, /, output: str) -> None:
    """List the trusted keys and the commands that each may sign, and the revoked keys."""
    async with reached_log(settings_of(context), "conclave:console") as log:
        state = await current(log)
    if output == "json":
        trusted = [msgspec.to_builtins(key) for _, key in sorted(state.keys.items())]
        echo_json({"open": state.open, "keys": trusted, "revoked": sorted(state.revoked)})
        return
    if state.open:
        click.echo("no key is trusted: everyone with access to the log may issue commands")
    shown = Table("key", "holder", "may", "public key")
    for key_id, key in sorted(state.keys.items()):
        shown.add_row(key_id, key.holder, ", ".join(key.may), key.public_key)
    for key_id, version in sorted(state.revoked.items()):
        shown.add_row(key_id, "", f"revoked by version {version}", "")
    terminal().print(shown)
