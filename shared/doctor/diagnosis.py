"""Make all checks of an installation. Neither a server nor a disk is written to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from msgspec import Struct

from shared.control import State, checkpoint
from shared.control.issuing import current, refused
from shared.doctor.losses import MISSING, losses
from shared.doctor.machine import clocks, failing, served, state_folder
from shared.doctor.phone import chat_checks, phone_checks
from shared.log import GroupView, Log, StreamKey
from shared.log.connection import ServerError
from shared.log.durability import UnfitServerError, check_server
from shared.runtime.process import check_installation, reached_log
from shared.server.embedded import EmbeddedError, find_program
from shared.server.replication import arranged
from shared.server.security import SecurityCheck, in_force
from shared.settings import Settings, redis_url_with_password


class KnownControl(NamedTuple):
    """The configuration in force, and how many entries of the control stream do not count."""

    state: State
    refused: int


class Diagnosis(Struct, frozen=True):
    """The result of all checks.

    ``facts``: what was found, by name. ``server``: how the server is arranged, and what is in force there. ``machine``:
    disks, clocks, workers, and keys held for persons. ``groups``: the consumer groups. ``wrong``, ``unknown``: whether
    a fact is wrong, or could not be read."""

    facts: dict[str, Any]
    server: Sequence[SecurityCheck]
    machine: Sequence[SecurityCheck]
    groups: Sequence[GroupView]
    wrong: bool = False
    unknown: bool = False

    @property
    def verdict(self) -> Literal["good", "unknown", "wrong"]:
        """``wrong`` if anything is; else ``unknown`` if this user may not read everything."""
        verdicts = {check.verdict for check in (*self.server, *self.machine)}
        if self.wrong or "wrong" in verdicts:
            return "wrong"
        return "unknown" if self.unknown or "unknown" in verdicts else "good"


async def diagnose(settings: Settings, name: str, known: KnownControl | None = None) -> Diagnosis:
    """Check everything, over connections of its own with the client name ``name``. ``known``: what the caller has read
    of control; without it the stream is read from its beginning.

    Raises ``UnavailableError``, ``WrongAddressError``, ``ControlError``, ``InstallationError``."""
    url = redis_url_with_password(settings)
    server = [*await arranged(url), *await in_force(url, settings.redis.ephemeral)]
    facts: dict[str, Any] = {"embedded server": _embedded()}
    machine = [state_folder(Path(settings.installation.state))]
    groups: list[GroupView] = []
    wrong = unknown = False
    try:
        facts |= (await check_server(url, settings.redis.ephemeral))._asdict()
    except UnfitServerError as error:
        facts["log"] = f"not opened by services: {error}"
        wrong = True
    try:
        async with reached_log(settings, name) as log:
            if known is None:
                known = KnownControl(await current(log), len(await refused(log)))
            found = await _log_facts(settings, log, known)
            groups = [view for number in range(settings.installation.partitions) for view in await log.groups(number)]
            machine += [
                *await clocks(log, settings.installation.partitions),
                *await failing(log, settings.installation.partitions),
                *served(known.state, groups),
                *await chat_checks(settings, log),
                *phone_checks(settings, known.state),
            ]
        facts |= found
        wrong |= MISSING in found
    except ServerError as error:
        facts["log"] = f"not read: {error}"
        unknown = True
    return Diagnosis(facts, server, machine, groups, wrong, unknown)


def _embedded() -> str:
    try:
        return str(find_program())
    except EmbeddedError:
        return "none on this machine"


async def _log_facts(settings: Settings, log: Log, known: KnownControl) -> dict[str, Any]:
    facts, state = dict[str, Any](), known.state
    check_installation(settings, state)
    try:
        checkpoint.check(Path(settings.installation.state) / "checkpoints" / "control.jsonl", state)
    except OSError as error:
        facts["checkpoints"] = f"not read: {error}"
    facts["control"] = f"version {state.version}, chain intact, head {state.head[:12]}"
    facts["not written by a control writer"] = known.refused
    facts["commands"] = (
        "open to everyone with access to the log" if state.open else f"signed by one of {len(state.keys)} keys"
    )
    facts |= await losses(settings, log, state)
    for partition in range(settings.installation.partitions):
        facts[f"dead letters/{partition}"] = (await log.extent(StreamKey("dead", partition))).length
        facts[f"alarms/{partition}"] = (await log.extent(StreamKey("alarms", partition))).length
    return facts
