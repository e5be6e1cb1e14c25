"""How a command leaves the console: its options, its issuing, and what is shown of it."""

import getpass
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import click
import msgspec
from rich.console import Console

from schemas.codec import decode
from schemas.control import Command, Halt
from schemas.decisions import DecisionMade
from services.console.context import settings_of
from services.console.control.differences import Change, changes, table
from services.console.output import OUTPUT, echo_json
from shared.artifacts.store import ArtifactStore
from shared.control import State
from shared.control.issuing import ControlWriter, Issued, RefusedError, current
from shared.control.readiness import with_evidence
from shared.control.signing import Signer, load_private
from shared.control.stream import CONTROL, now_ms
from shared.gates.passing import with_verdict
from shared.log import Log, StreamKey
from shared.recovery.record import ControlRecord
from shared.runtime.process import opened_log, record_of
from shared.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])
Build = Callable[[State], Command]
"""A command, from the configuration it is for."""

WAIT_S: Final = 60.0
"""How long ``--wait`` waits."""
LOOK_S: Final = 2.0
"""How often ``--wait`` looks whether the command is still on the log while nothing is decided."""
WAY_OUT: Final = (
    "The server lost its last writes, or the control stream was rewritten: look at `conclave status` and `conclave "
    "history`, then issue the command again if it is not there"
)


class NoDecisionError(RuntimeError):
    """``--wait`` saw no decision: the command stands, whether it took effect was not seen."""


class OtherLogError(RuntimeError):
    """``--wait`` found that the log there is is not the log that the command was appended to."""


class PassedError(RuntimeError):
    """``halt --wait`` found intents that were written after the halt was accepted, and while it was in force."""


class First(NamedTuple):
    """The first decision under a new entry: its event id, and how long after the command (ms). ``intents``: how many
    were written from the command's acceptance until then."""

    id: str
    decision: DecisionMade
    ms: float
    intents: int


def issuing(command: F) -> F:
    """The options of issuing, whatever is issued."""
    for option in (
        OUTPUT,
        click.option("--key", type=click.Path(exists=True, path_type=Path), help="Sign with this private key (PEM)."),
        click.option("--wait", is_flag=True, help="Return when the first decision under this very entry is out."),
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


def store_of(settings: Settings) -> ArtifactStore:
    """The artifact store of this installation."""
    return ArtifactStore(Path(settings.installation.state) / "artifacts")


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
        door = ControlWriter(log, signer_of(options["key"]), record.why if record is not None else None)
        await submit(door, build, options, record)


def signer_of(key: Path | None) -> Signer | None:
    """The private key of ``--key``; its file's name without the suffix is the key's id."""
    return None if key is None else load_private(key)


async def submit(
    door: ControlWriter, build: Build, options: Mapping[str, Any], record: ControlRecord | None = None
) -> None:
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
    if issued.repeated or not waiting:
        accepted: dict[StreamKey, int] = {}
    else:
        accepted = await _written(door.log, before.partitions)
    if issued.repeated:
        show(issued, command, [], options)
        return
    if record is not None and not options["dry_run"]:
        entries = await door.log.tail(CONTROL, 1)
        record.keep([entry for entry in entries if entry.id == f"{issued.version}-0"], issued.state, now_ms())
    if before.version != issued.version - 1:
        before = await current(door.log, issued.version - 1)
    first = await _first(door.log, issued, after, accepted, begun)
    if first is not None and isinstance(command, Halt):
        await _refuse_passed(door.log, issued, first)
    show(issued, command, changes(before, issued.state), options, first)


def show(
    issued: Issued, command: Command, found: list[Change], options: Mapping[str, Any], first: First | None = None
) -> None:
    """What became of a command."""
    name = tag_of(command)
    dry_run = options["dry_run"]
    if options["output"] == "json":
        said: dict[str, Any] = {"command": name, "version": issued.version, "head": issued.state.head}
        said |= {"repeated": issued.repeated, "dry_run": dry_run, "changes": [change._asdict() for change in found]}
        said |= {"fences_set": list(issued.repaired)} if issued.repaired else {}
        if first is not None:
            event = msgspec.to_builtins(first.decision)
            said["first_decision"] = {"id": first.id, "ms": round(first.ms, 2), "event": event}
            said["intents_since"] = first.intents
        echo_json(said)
        return
    if issued.repaired:
        verb = "closed" if isinstance(command, Halt) else "opened"
        where = ", ".join(str(partition) for partition in issued.repaired)
        click.echo(
            f"{name}: in force already, under version {issued.version}, but not in the fences of partitions {where}: "
            f"they are {verb} now; nothing was appended"
        )
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
        if isinstance(command, Halt):
            click.echo(f"intents since it was accepted: {first.intents}")


def tag_of(command: Command) -> str:
    """What a command is called on the stream."""
    return str(type(command).__struct_config__.tag)


async def _ends(log: Log, partitions: int) -> dict[StreamKey, str]:
    places = [StreamKey("decisions", partition) for partition in range(partitions)]
    return {place: (await log.extent(place)).last for place in places}


async def _written(log: Log, partitions: int) -> dict[StreamKey, int]:
    """How many intents each partition has ever had."""
    places = [StreamKey("intents", partition) for partition in range(partitions)]
    return {place: (await log.extent(place)).added for place in places}


async def _first(
    log: Log, issued: Issued, after: dict[StreamKey, str], accepted: Mapping[StreamKey, int], begun: float
) -> First | None:
    """The first decision under the entry that was issued, or a later one; None where nobody waits. Raises
    ``NoDecisionError``, ``OtherLogError``."""
    if not after:
        return None
    click.echo(f"waiting for a decision under version {issued.version}; the command stands either way", err=True)
    looked = time.perf_counter()
    while time.perf_counter() - begun < WAIT_S:
        for entry in await log.read(after, count=1000, block_ms=500):
            after[entry.place] = entry.id
            envelope = decode("decisions", entry.data)
            decision = envelope.event
            if not isinstance(decision, DecisionMade) or decision.control_version < issued.version:
                continue
            await _refuse_another_log(log, issued, decision)
            ms = 1000 * (time.perf_counter() - begun)
            now = await _written(log, len(accepted))
            return First(envelope.id.hex(), decision, ms, sum(now.values()) - sum(accepted.values()))
        if time.perf_counter() - looked > LOOK_S:
            await _refuse_another_log(log, issued)
            looked = time.perf_counter()
    await _refuse_another_log(log, issued)
    raise NoDecisionError(
        f"version {issued.version} stands, but nothing was decided under it within {WAIT_S:.0f} s; "
        "see `conclave status` whether bars come in and every group lives"
    )


async def _refuse_another_log(log: Log, issued: Issued, decision: DecisionMade | None = None) -> None:
    """Raises ``OtherLogError`` unless ``control`` holds the entry that was issued, and the decision (if any) was made
    under it, or under one that follows it."""
    head = issued.state.head
    if decision is not None and decision.control_version == issued.version:
        if decision.control_head == head:
            return
        raise OtherLogError(
            f"the log there is is not the log this command was appended to: it is version {issued.version} with head "
            f"{head[:12]}, and {decision.symbol} {decision.open_time} was decided under version {issued.version} with "
            f"head {decision.control_head[:12]}. {WAY_OUT}"
        )
    there = await current(log, issued.version)
    if there.version < issued.version:
        what = f"ends at version {there.version}"
    elif there.head != head:
        what = f"has version {issued.version} with head {there.head[:12]}"
    else:
        return
    raise OtherLogError(
        f"the log there is is not the log this command was appended to: it was version {issued.version} with head "
        f"{head[:12]}, and control {what} now. {WAY_OUT}"
    )


async def _refuse_passed(log: Log, issued: Issued, first: First) -> None:
    """Raises ``PassedError`` for intents after a halt, unless it was ended meanwhile."""
    if first.intents and (await current(log)).version == issued.version:
        raise PassedError(
            f"{first.intents} intents were written after the halt was accepted as version {issued.version}: something "
            "writes to `intents` that does not ask the fence; look for a voter of an older release, stop it, and "
            "compare `conclave verify`"
        )
