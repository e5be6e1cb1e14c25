"""``conclave control ...``: commands that change the configuration, and its history."""

import getpass
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from rich.console import Console
from rich.table import Table

from schemas.control import (
    Command,
    Found,
    Halt,
    Promote,
    RegisterArtifact,
    Resume,
    Retire,
    SetVotingPolicy,
    SetWeights,
    StartShadow,
    StopShadow,
)
from services.console.main import asynchronous, settings_of
from shared.artifacts.manifest import Manifest
from shared.artifacts.store import Store
from shared.commands import Issued, history, issue
from shared.log import Log
from shared.process import opened_log
from shared.runtime import now_ms
from shared.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def control() -> None:
    """Change the configuration, or look at its history. Every change says who and why."""


def changing(command: F) -> F:
    """The options of every command that changes something."""
    for option in (
        click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True),
        click.option("--dry-run", is_flag=True, help="Decide, show what it would make, append nothing."),
        click.option("--command-id", help="Names this very command; issuing it twice does nothing."),
        click.option("--expect", type=int, help="Refuse unless the configuration is at this version."),
        click.option("--actor", default=getpass.getuser, help="Who issues it (default: your login)."),
        click.option("--reason", required=True, help="Why. It is recorded."),
    ):
        command = option(command)
    return command


def store_of(settings: Settings) -> Store:
    """The artifact store of this installation."""
    return Store(Path(settings.installation.state) / "artifacts")


def registration(model: str, digest: str, manifest: Manifest) -> RegisterArtifact:
    """The command that makes an artifact known, with what a vote needs to know of it."""
    return RegisterArtifact(
        model=model,
        artifact=digest,
        family=manifest.family,
        feature_set=manifest.feature_set.digest,
        feature_set_name=manifest.feature_set.name,
        interval_ms=manifest.interval_ms,
        classes=manifest.classes,
        centre=manifest.centre,
        prior=manifest.prior,
    )


async def _issue(context: click.Context, command: Command, options: dict[str, Any]) -> None:
    settings = settings_of(context)
    async with opened_log(settings, "conclave:console") as log:
        issued = await issue(
            log,
            command,
            actor=options["actor"],
            reason=options["reason"],
            command_id=options["command_id"],
            expects=options["expect"],
            dry_run=options["dry_run"],
        )
    show(issued, command, options["output"], dry_run=options["dry_run"])


def show(issued: Issued, command: Command, output: str, *, dry_run: bool) -> None:
    """What became of a command."""
    name = type(command).__struct_config__.tag
    if output == "json":
        found = {"version": issued.version, "head": issued.state.head, "repeated": issued.repeated, "dry_run": dry_run}
        click.echo(json.dumps({"command": name, **found}))
    elif issued.repeated:
        click.echo(f"{name}: issued before, as version {issued.version}; nothing was done")
    else:
        verb = "would be" if dry_run else "is"
        click.echo(f"{name}: {verb} version {issued.version}, head {issued.state.head[:12]}")


@control.command()
@changing
@click.pass_context
@asynchronous
async def found(context: click.Context, /, **options: Any) -> None:
    """Begin an installation: the first command, once."""
    settings = settings_of(context)
    async with opened_log(settings, "conclave:console") as log:
        issued = await begin(log, settings, options["actor"], options["reason"])
    show(issued, Found(1, "........"), options["output"], dry_run=False)


async def begin(log: Log, settings: Settings, actor: str, reason: str) -> Issued:
    """Founds the installation with the partitions of the settings and a random log id."""
    log_id = f"{now_ms():x}-{settings.installation.partitions}"
    return await issue(log, Found(settings.installation.partitions, log_id), actor=actor, reason=reason)


@control.command()
@click.argument("model")
@click.argument("artifact")
@changing
@click.pass_context
@asynchronous
async def register(context: click.Context, /, model: str, artifact: str, **options: Any) -> None:
    """Make an artifact of the store known under a model's name (a prefix of its digest is enough)."""
    store = store_of(settings_of(context))
    digest = store.find(artifact)
    loaded = store.load(digest)
    await _issue(context, registration(model, digest, loaded.manifest), options)


@control.command()
@click.argument("model")
@click.argument("artifact")
@click.option("--force", is_flag=True, help="Without a passing gate verdict; recorded as forced.")
@click.option("--weight", type=float, help="Weight of a model that has none yet; the others shrink in proportion.")
@changing
@click.pass_context
@asynchronous
async def promote(
    context: click.Context, /, model: str, artifact: str, force: bool, weight: float | None, **options: Any
) -> None:
    """Make an artifact its model's champion."""
    digest = store_of(settings_of(context)).find(artifact)
    await _issue(context, Promote(model, digest, force, weight), options)


@control.command()
@click.argument("action", type=click.Choice(["start", "stop"]))
@click.argument("model")
@click.argument("artifact")
@changing
@click.pass_context
@asynchronous
async def shadow(context: click.Context, /, action: str, model: str, artifact: str, **options: Any) -> None:
    """Start or stop watching an artifact beside the champion."""
    digest = store_of(settings_of(context)).find(artifact)
    command = StartShadow(model, digest) if action == "start" else StopShadow(model, digest)
    await _issue(context, command, options)


@control.command()
@click.argument("shares", nargs=-1, required=True, metavar="MODEL=WEIGHT...")
@changing
@click.pass_context
@asynchronous
async def weights(context: click.Context, /, shares: tuple[str, ...], **options: Any) -> None:
    """Set the weights of all voting models; they sum to one."""
    try:
        pairs = {name: float(value) for name, _, value in (share.partition("=") for share in shares)}
    except ValueError:
        raise click.BadParameter(f"expected MODEL=WEIGHT, as xgboost=0.5; got {' '.join(shares)}") from None
    await _issue(context, SetWeights(pairs), options)


@control.command()
@click.argument("fields", nargs=-1, required=True, metavar="FIELD=VALUE...")
@changing
@click.pass_context
@asynchronous
async def policy(context: click.Context, /, fields: tuple[str, ...], **options: Any) -> None:
    """Set how ballots become decisions: rule, quorum_weight, quorum_count, deadline_ms, valid_ms, edge,
    temperature. What is not named gets its default."""
    given = {name: value for name, _, value in (field.partition("=") for field in fields)}
    try:
        command = msgspec.convert(given, SetVotingPolicy, strict=False)
    except msgspec.ValidationError as error:
        raise click.BadParameter(str(error)) from None
    unknown = set(given) - set(SetVotingPolicy.__struct_fields__)
    if unknown:
        known = ", ".join(SetVotingPolicy.__struct_fields__)
        raise click.BadParameter(f"no field {', '.join(sorted(unknown))}; there are: {known}")
    await _issue(context, command, options)


@control.command()
@changing
@click.pass_context
@asynchronous
async def halt(context: click.Context, /, **options: Any) -> None:
    """Stop intents at their source, at once; decisions go on being recorded."""
    await _issue(context, Halt(), options)


@control.command()
@changing
@click.pass_context
@asynchronous
async def resume(context: click.Context, /, **options: Any) -> None:
    """End a halt."""
    await _issue(context, Resume(), options)


@control.command()
@click.argument("model")
@click.argument("artifact")
@changing
@click.pass_context
@asynchronous
async def retire(context: click.Context, /, model: str, artifact: str, **options: Any) -> None:
    """Take an artifact out of service for good."""
    await _issue(context, Retire(model, store_of(settings_of(context)).find(artifact)), options)


@control.command("log")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
@click.pass_context
@asynchronous
async def show_log(context: click.Context, /, output: str) -> None:
    """Every command that ever changed the configuration; the chain is checked on the way."""
    async with opened_log(settings_of(context), "conclave:console") as log:
        entries = await history(log)
    if output == "json":
        for entry in entries:
            click.echo(msgspec.json.encode(entry).decode())
        return
    table = Table("version", "when (UTC)", "who", "command", "why")
    for entry in entries:
        when = datetime.fromtimestamp(entry.at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(str(entry.version), when, entry.actor, _words(entry.command), entry.reason)
    Console().print(table)


def _words(command: Command) -> str:
    fields = msgspec.to_builtins(command)
    name = fields.pop("type")
    shown = ("model", "artifact", "weight", "weights", "forced", "rule", "partitions")
    said = [f"{key}={str(value)[:12] if key == 'artifact' else value}" for key, value in fields.items() if key in shown]
    return " ".join([str(name), *said])
