"""Issuing commands on the control stream: read, decide, append only if nobody else did meanwhile.

    state = await current(log)
    issued = await issue(log, Halt(), actor="ada", reason="exchange outage")

The entry's id is its version, so that of two racing operators one wins and the other decides again on
what the first one made.
"""

import secrets
from typing import Final, NamedTuple

from schemas.codec import seal
from schemas.control import Command, CommandRecorded
from shared.control import EMPTY, Rejected, Repeated, State, fold, propose
from shared.log import START, Log
from shared.runtime import CONTROL, now_ms, read_control

RACES: Final = 20
"""How often a lost race is run again before giving up."""


class RefusedError(ValueError):
    """A command that may not stand. The message says why, and the way out."""


class Issued(NamedTuple):
    """A command that stands: the version it made, and the configuration from there on. ``repeated``
    where it had been issued before and nothing was done."""

    version: int
    state: State
    repeated: bool = False


async def current(log: Log, version: int | None = None) -> State:
    """The configuration now, or as of ``version``. Raises ``ControlError`` if the log cannot be trusted."""
    envelopes, _ = await read_control(log, START)
    state = EMPTY
    for envelope in envelopes:
        if version is not None and state.version >= version:
            break
        state = fold(state, envelope.event)
    return state


async def history(log: Log) -> list[CommandRecorded]:
    """Every entry, oldest first; each was checked against the chain."""
    envelopes, _ = await read_control(log, START)
    state = EMPTY
    for envelope in envelopes:
        state = fold(state, envelope.event)
    return [envelope.event for envelope in envelopes]


async def issue(
    log: Log,
    command: Command,
    *,
    actor: str,
    reason: str,
    command_id: str | None = None,
    expects: int | None = None,
    dry_run: bool = False,
) -> Issued:
    """Appends ``command`` as the next version. ``command_id`` makes a retry harmless; ``expects``
    refuses unless the configuration is at that very version; ``dry_run`` decides without appending.

    Raises ``RefusedError``, ``ControlError``, ``UnavailableError``."""
    chosen = command_id or secrets.token_hex(8)
    for _ in range(RACES):
        state = await current(log)
        entry = propose(state, command, command_id=chosen, actor=actor, reason=reason, at=now_ms(), expects=expects)
        match entry:
            case Rejected(reason=why):
                raise RefusedError(why)
            case Repeated(version=version):
                return Issued(version, state, repeated=True)
            case CommandRecorded():
                after = fold(state, entry)
                if dry_run:
                    return Issued(after.version, after)
                if await log.append_at(CONTROL, f"{entry.version}-0", seal("control", entry).data):
                    return Issued(after.version, after)
    raise RefusedError(f"{RACES} other commands came first, one after another; look at who is writing, then try again")
