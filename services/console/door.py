"""How a command leaves the console: its options, its issuing, and what is shown of it."""

import getpass
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import click
import msgspec
from rich.console import Console

from schemas.codec import unseal
from schemas.control import Command
from schemas.decisions import DecisionMade
from services.console.differences import Change, changes, table
from services.console.main import settings_of
from shared.artifacts.store import Store
from shared.commands import Door, Issued, RefusedError, current
from shared.control import State
from shared.following import CONTROL, now_ms
from shared.gates.passing import with_verdict
from shared.log import Log, Place
from shared.process import opened_log, record_of
from shared.readiness import with_evidence
from shared.recovery.record import Record
from shared.settings import Settings
from shared.signing import Signer, load_private

F = TypeVar("F", bound=Callable[..., Any])
Build = Callable[[State], Command]
"""A command, from the configuration it is for."""

OUTPUT: Final = click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)


WAIT_S: Final = 60.0
"""How long ``--wait`` waits."""


class NoDecisionError(RuntimeError):
    """``--wait`` saw no decision: the command stands, whether it took effect was not seen."""


class First(NamedTuple):
    """The first decision under a new version: its event id, and how long after the command (ms)."""

    id: str
    decision: DecisionMade
    ms: float


def issuing(command: F) -> F:
    """The options of issuing, whatever is issued."""
    for option in (
        OUTPUT,
        click.option("--key", type=click.Path(exists=True, path_type=Path), help="Sign with this private key (PEM)."),
        click.option("--wait", is_flag=True, help="Return when the first decision under the new version is out."),
        click.option("--dry-run", is_flag=True, help="Decide, show what would change, append nothing."),
    ):
        command = option(command)
    return command


def changing(command: F) -> F:
    """The options of every command that changes something."""
    command = issuing(command)
    for option in (
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


def artifact_of(state: State, model: str, prefix: str) -> str:
    """The artifact registered for ``model`` that begins with ``prefix``. The store is not asked: what
    control knows is enough to move a pointer."""
    known = sorted(digest for digest, registered in state.artifacts.items() if registered.model == model)
    found = [digest for digest in known if digest.startswith(prefix)]
    if len(found) == 1:
        return found[0]
    if len(prefix) == 64:
        return prefix
    there = ", ".join(digest[:12] for digest in known) or "none"
    raise RefusedError(
        f"{len(found)} artifacts registered for {model!r} begin with {prefix!r}, expected one; there are: {there} "
        "(`conclave register` makes one known)"
    )


async def carry_out(context: click.Context, build: Build, options: Mapping[str, Any]) -> None:
    """Builds a command on the configuration as it is, issues it and shows what became of it."""
    settings = settings_of(context)
    async with opened_log(settings, "conclave:console") as log:
        record = record_of(settings)
        door = Door(log, signer_of(options["key"]), record.why if record is not None else None)
        await submit(door, build, options, record)


def signer_of(key: Path | None) -> Signer | None:
    """The private key of ``--key``; its file's name without the suffix is the key's id."""
    return None if key is None else load_private(key)


async def submit(door: Door, build: Build, options: Mapping[str, Any], record: Record | None = None) -> None:
    """Issues a command as ``options`` (those of ``changing``) say, and shows what became of it. What was appended is
    copied to ``record``, so that a server that loses it can have it again."""
    before = await door.state()
    command, unready = await with_evidence(door.log, before, build(before))
    command, unjudged = await with_verdict(door.log, before, command)
    waiting = options["wait"] and not options["dry_run"]
    after = await _ends(door.log, before.partitions) if waiting else {}
    begun = time.perf_counter()
    try:
        issued = await door.issue(
            command,
            actor=options["actor"],
            reason=options["reason"],
            command_id=options["command_id"],
            expects=options["expect"],
            dry_run=options["dry_run"],
        )
    except RefusedError as error:
        raise RefusedError("\n  ".join([str(error), *unready, *unjudged])) from None
    except msgspec.ValidationError as error:
        raise click.UsageError(f"{tag_of(command)}: {error}") from None
    if issued.repeated:
        show(issued, command, [], options)
        return
    if record is not None and not options["dry_run"]:
        entries = await door.log.tail(CONTROL, 1)
        record.keep([entry for entry in entries if entry.id == f"{issued.version}-0"], issued.state, now_ms())
    if before.version != issued.version - 1:
        before = await current(door.log, issued.version - 1)
    show(issued, command, changes(before, issued.state), options, await _first(door.log, issued, after, begun))


def show(
    issued: Issued, command: Command, found: list[Change], options: Mapping[str, Any], first: First | None = None
) -> None:
    """What became of a command."""
    name = tag_of(command)
    dry_run = options["dry_run"]
    if options["output"] == "json":
        said: dict[str, Any] = {"command": name, "version": issued.version, "head": issued.state.head}
        said |= {"repeated": issued.repeated, "dry_run": dry_run, "changes": [change._asdict() for change in found]}
        if first is not None:
            event = msgspec.to_builtins(first.decision)
            said["first_decision"] = {"id": first.id, "ms": round(first.ms, 2), "event": event}
        click.echo(json.dumps(said))
        return
    if issued.repeated:
        click.echo(f"{name}: issued before, as version {issued.version}; nothing was done")
        return
    verb = "would be" if dry_run else "is"
    click.echo(f"{name}: {verb} version {issued.version}, head {issued.state.head[:12]}")
    if found and dry_run:
        Console().print(table(found, f"version {issued.version - 1} to {issued.version}"))
    if first is not None:
        event = first.decision
        click.echo(
            f"first decision under version {issued.version}: {first.id} ({event.symbol} {event.action} "
            f"{event.confidence:.2f}), {first.ms:.1f} ms after the command"
        )


def tag_of(command: Command) -> str:
    """What a command is called on the stream."""
    return str(type(command).__struct_config__.tag)


async def _ends(log: Log, partitions: int) -> dict[Place, str]:
    places = [Place("decisions", partition) for partition in range(partitions)]
    return {place: (await log.extent(place)).last for place in places}


async def _first(log: Log, issued: Issued, after: dict[Place, str], begun: float) -> First | None:
    """The first decision under the issued version, or a later one; None where nobody waits. Raises
    ``NoDecisionError``."""
    if not after:
        return None
    click.echo(f"waiting for a decision under version {issued.version}; the command stands either way", err=True)
    while time.perf_counter() - begun < WAIT_S:
        for entry in await log.read(after, count=1000, block_ms=500):
            after[entry.place] = entry.id
            envelope = unseal("decisions", entry.data)
            if isinstance(envelope.event, DecisionMade) and envelope.event.control_version >= issued.version:
                return First(envelope.id.hex(), envelope.event, 1000 * (time.perf_counter() - begun))
    raise NoDecisionError(
        f"version {issued.version} stands, but nothing was decided under it within {WAIT_S:.0f} s; "
        "see `conclave status` whether bars come in and every group lives"
    )
