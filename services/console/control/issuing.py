"""Issue a command: its options, its evidence, the append to ``control``, and what is shown afterwards."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import click
import msgspec

from schemas.control import Command, Halt, Propose
from schemas.decisions import DecisionMade
from services.console.context import login, settings_of
from services.console.control.history import proposal_words, table
from services.console.output import OUTPUT, echo_json, echo_unreadable, terminal
from services.console.parsing import COUNT, FilePath
from shared.artifacts.store import ArtifactStore
from shared.commands.desk import keep, prepared
from shared.control import State
from shared.control.changes import Change, changes
from shared.control.issuing import ControlWriter, Issued, RefusedError, current
from shared.control.signing import Signer, load_private
from shared.log import Log, StreamKey
from shared.log.events import Unreadable, events_of
from shared.recovery.record import ControlRecord
from shared.runtime.process import opened_log, reached_log, record_of
from shared.settings import Settings
from shared.voting.quorum import why_undecidable

F = TypeVar("F", bound=Callable[..., Any])
Build = Callable[[State], Command]
"""Returns the command to issue on the present configuration."""

WAIT_S: Final = 60.0
"""How long ``--wait`` waits for a decision."""
CHECK_S: Final = 2.0
"""How often ``--wait`` checks, while there is no decision, that the command is still in ``control``."""
WAY_OUT: Final = (
    "The server lost its last writes, or the control stream was rewritten: see `conclave status` and `conclave "
    "history`, then issue the command again if it is not there"
)


class NoDecisionError(RuntimeError):
    """``--wait`` timed out without a decision. The command is recorded; its effect was not observed."""


class OtherLogError(RuntimeError):
    """``--wait`` found that ``control`` no longer contains the entry that was appended."""


class PassedError(RuntimeError):
    """``halt --wait`` found intents that were written after the halt was accepted, while it was in force."""


class FirstDecision(NamedTuple):
    """The first decision under a new entry: its event id, and the time since the command (ms). ``intents``: how many
    intents were written between the acceptance of the command and this decision."""

    id: str
    decision: DecisionMade
    ms: float
    intents: int


def issuing(command: F) -> F:
    """Add the options that every way of issuing a command has."""
    for option in (
        OUTPUT,
        click.option("--key", type=FilePath(), help="Sign with this private key (PEM)."),
        click.option("--wait", is_flag=True, help="Return after the first decision under the new version."),
        click.option("--dry-run", is_flag=True, help="Check it and show what would change, but append nothing."),
    ):
        command = option(command)
    return command


def changing(command: F) -> F:
    """Add the options of every command that changes the configuration."""
    command = issuing(command)
    for option in (
        click.option("--command-id", help="Id of this command. A second command with the same id has no effect."),
        click.option("--expect", type=COUNT, help="Refuse unless the configuration has this version."),
        click.option("--actor", default=login, help="Who issues it (default: your login)."),
        click.option("--reason", required=True, help="Why. It is recorded."),
    ):
        command = option(command)
    return command


def store_of(settings: Settings) -> ArtifactStore:
    """Return the artifact store of this installation."""
    return ArtifactStore(Path(settings.installation.state) / "artifacts")


async def carry_out(context: click.Context, build: Build, options: Mapping[str, Any]) -> None:
    """Build a command on the present configuration, issue it and show the result."""
    await _carried_out(context, opened_log, build, options)


async def halt_by_all_means(context: click.Context, command: Halt, options: Mapping[str, Any]) -> None:
    """Issue a halt and show the result, whatever state the server and the disk of this machine are in."""
    await _carried_out(context, reached_log, lambda _: command, options)


async def _carried_out(
    context: click.Context,
    opened: Callable[[Settings, str], AbstractAsyncContextManager[Log]],
    build: Build,
    options: Mapping[str, Any],
) -> None:
    settings = settings_of(context)
    async with opened(settings, "conclave:console") as log:
        record = record_of(settings)
        writer = ControlWriter(log, signer_of(options["key"]), record.why if record is not None else None)
        await submit(writer, build, options, settings, record)


def always(command: Command) -> Build:
    """Return the ``Build`` of a command that does not depend on the configuration."""
    return lambda _: command


def signer_of(key: Path | None) -> Signer | None:
    """Return the private key of ``--key``. The name of its file without the suffix is the id of the key."""
    return None if key is None else load_private(key)


async def submit(
    writer: ControlWriter,
    build: Build,
    options: Mapping[str, Any],
    settings: Settings,
    record: ControlRecord | None = None,
    echo: Callable[[dict[str, Any]], None] = echo_json,
) -> None:
    """Issue a command with ``options`` (those of ``changing``) and show the result; as JSON by ``echo``. The appended
    entry is copied to ``record``, from which `conclave recover` appends it again if the server loses it."""
    before = await writer.state()
    built = build(before)
    command, lacking = await prepared(writer.log, before, built, settings.models.names)
    waiting = options["wait"] and not options["dry_run"]
    after = await _ends(writer.log, before.partitions) if waiting else {}
    started = time.perf_counter()
    try:
        issued = await writer.issue(
            command,
            actor=options["actor"],
            reason=options["reason"],
            command_id=options["command_id"],
            expects=options["expect"],
            dry_run=options["dry_run"],
        )
    except RefusedError as error:
        raise RefusedError("\n  ".join([str(error), *lacking])) from None
    except msgspec.ValidationError as error:
        raise click.UsageError(f"{tag_of(command)}: {error}") from None
    if issued.repeated or not waiting:
        accepted: dict[StreamKey, int] = {}
    else:
        accepted = await _intents(writer.log, before.partitions)
    if issued.repeated:
        show(issued, command, [], options, echo=echo)
        return
    if record is not None and not options["dry_run"]:
        keep(writer, issued, record)
        for file, why in record.storage.failing.items():
            click.echo(f"the command is in the log, but {file} could not be written: {why}", err=True)
    if before.version != issued.version - 1:
        before = await current(writer.log, issued.version - 1)
    first = await _first(writer.log, issued, after, accepted, started)
    if first is not None and isinstance(command, Halt):
        await _refuse_passed(writer.log, issued, first)
    show(issued, command, changes(before, issued.state), options, first, echo)
    if isinstance(command, Propose) and not options["dry_run"]:
        click.echo(f"it waits for {proposal_words(issued.state, issued.version)}", err=True)
    why = why_undecidable(issued.state)
    if why and why != why_undecidable(before):
        click.echo(f"but {why}", err=True)


def show(
    issued: Issued,
    command: Command,
    differences: list[Change],
    options: Mapping[str, Any],
    first: FirstDecision | None = None,
    echo: Callable[[dict[str, Any]], None] = echo_json,
) -> None:
    """Print what issuing a command changed, as JSON by ``echo``."""
    name = tag_of(command)
    dry_run = options["dry_run"]
    if options["output"] == "json":
        facts: dict[str, Any] = {"command": name, "version": issued.version, "head": issued.state.head}
        facts |= {"repeated": issued.repeated, "dry_run": dry_run}
        facts["changes"] = [change._asdict() for change in differences]
        facts |= {"fences_set": list(issued.repaired)} if issued.repaired else {}
        if first is not None:
            event = msgspec.to_builtins(first.decision)
            facts["first_decision"] = {"id": first.id, "ms": round(first.ms, 2), "event": event}
            facts["intents_since"] = first.intents
        echo(facts)
        return
    if issued.repaired:
        verb = "closed" if isinstance(command, Halt) else "opened"
        where = ", ".join(str(partition) for partition in issued.repaired)
        click.echo(
            f"{name}: already in force as version {issued.version}, but the fences of partitions {where} did not show "
            f"it: they are {verb} now; nothing was appended"
        )
        return
    if issued.repeated:
        click.echo(f"{name}: already issued, as version {issued.version}; nothing was done")
        return
    verb = "would be" if dry_run else "is"
    click.echo(f"{name}: {verb} version {issued.version}, head {issued.state.head[:12]}")
    if differences and dry_run:
        terminal().print(table(differences, f"version {issued.version - 1} to {issued.version}"))
    if first is not None:
        event = first.decision
        click.echo(
            f"first decision under version {issued.version}: {first.id} ({event.symbol} {event.action} "
            f"{event.confidence:.2f}), {first.ms:.1f} ms after the command"
        )
        if isinstance(command, Halt):
            click.echo(f"intents since it was accepted: {first.intents}")


def tag_of(command: Command) -> str:
    """Return the tag of a command on the stream ``control``."""
    return str(type(command).__struct_config__.tag)


async def _ends(log: Log, partitions: int) -> dict[StreamKey, str]:
    places = [StreamKey("decisions", partition) for partition in range(partitions)]
    return {place: (await log.extent(place)).last for place in places}


async def _intents(log: Log, partitions: int) -> dict[StreamKey, int]:
    """Return how many intents were ever written to each partition."""
    places = [StreamKey("intents", partition) for partition in range(partitions)]
    return {place: (await log.extent(place)).added for place in places}


async def _first(
    log: Log, issued: Issued, after: dict[StreamKey, str], accepted: Mapping[StreamKey, int], started: float
) -> FirstDecision | None:
    """Wait for the first decision under the issued version or a later one, and return it; None without ``--wait``
    (``after`` is empty). Raises ``NoDecisionError``, ``OtherLogError``."""
    if not after:
        return None
    click.echo(f"waiting for a decision under version {issued.version}; the command is recorded", err=True)
    checked, unreadable = time.perf_counter(), Unreadable()
    while time.perf_counter() - started < WAIT_S:
        entries = await log.read(after, count=1000, block_ms=500)
        for entry in entries:
            after[entry.place] = entry.id
        for _, envelope in events_of(entries, unreadable):
            decision = envelope.event
            if not isinstance(decision, DecisionMade) or decision.control_version < issued.version:
                continue
            await _refuse_another_log(log, issued, decision)
            ms = 1000 * (time.perf_counter() - started)
            now = await _intents(log, len(accepted))
            return FirstDecision(envelope.id.hex(), decision, ms, sum(now.values()) - sum(accepted.values()))
        echo_unreadable(unreadable)
        if time.perf_counter() - checked > CHECK_S:
            await _refuse_another_log(log, issued)
            checked = time.perf_counter()
    await _refuse_another_log(log, issued)
    raise NoDecisionError(
        f"version {issued.version} is recorded, but nothing was decided under it within {WAIT_S:.0f} s; "
        "`conclave status` shows whether bars arrive and every group is alive"
    )


async def _refuse_another_log(log: Log, issued: Issued, decision: DecisionMade | None = None) -> None:
    """Raise ``OtherLogError`` unless ``control`` contains the issued entry and the decision (if any) was made under
    that entry or a later one."""
    head = issued.state.head
    if decision is not None and decision.control_version == issued.version:
        if decision.control_head == head:
            return
        raise OtherLogError(
            f"this log is not the log to which the command was appended: the command is version {issued.version} with "
            f"head {head[:12]}, but {decision.symbol} {decision.open_time} was decided under version {issued.version} "
            f"with head {decision.control_head[:12]}. {WAY_OUT}"
        )
    there = await current(log, issued.version)
    if there.version < issued.version:
        what = f"ends at version {there.version}"
    elif there.head != head:
        what = f"has version {issued.version} with head {there.head[:12]}"
    else:
        return
    raise OtherLogError(
        f"this log is not the log to which the command was appended: the command was version {issued.version} with "
        f"head {head[:12]}, and control now {what}. {WAY_OUT}"
    )


async def _refuse_passed(log: Log, issued: Issued, first: FirstDecision) -> None:
    """Raise ``PassedError`` for intents written after a halt, unless the halt was ended meanwhile."""
    if first.intents and (await current(log)).version == issued.version:
        raise PassedError(
            f"{first.intents} intents were written after the halt was accepted as version {issued.version}: a process "
            "writes to `intents` without checking the fence; find a voter of an older release, stop it, and run "
            "`conclave verify`"
        )
