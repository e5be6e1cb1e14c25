"""Have an entry signed elsewhere: make the entry, and append it with the signature that comes back.

    entry = await draft(writer, Halt(), actor="ada", reason="exchange outage", public_key=key)
    signature = ...                                   # by the holder of the key, over ``canonical(entry)``
    issued = await submit(writer, structs.replace(entry, signature=signature))

So a person's private key can stay where the person is, as in a browser, while another process appends the entry. The
entry names its version and the head before it, and the signature covers both: it fits this place in the log and no
other. If another command takes the place first, the entry is made and signed again.
"""

import secrets

from schemas.control import Command, CommandRecorded, Halt
from shared.control import Rejected, Repeated, State, decide, may, unauthorised
from shared.control.chain import issuer_of, unsigned
from shared.control.fence import Authority, Move
from shared.control.issuing import ControlWriter, Issued, RefusedError, meanwhile


class OvertakenError(RefusedError):
    """Another command was appended first. The message names it, who issued it and why."""


async def draft(
    writer: ControlWriter,
    command: Command,
    *,
    actor: str,
    reason: str,
    public_key: str,
    command_id: str | None = None,
    expects: int | None = None,
) -> CommandRecorded | Issued:
    """Return the entry to be signed with the private half of ``public_key`` (64 hexadecimal digits).

    Return ``Issued`` where nothing is to be signed: for a command id that was recorded before, and for a halt or resume
    that is in force already and whose fences had to be set. Raises as ``shared.control.issuing.issue`` does."""
    chosen = command_id or secrets.token_hex(8)
    state = await writer.state()
    _refuse_lost(writer, command)
    entry = unsigned(
        state,
        command,
        command_id=chosen,
        actor=actor,
        reason=reason,
        at=await writer.log.time(),
        expects=expects,
        key=trusted_key(state, public_key, type(command)),
    )
    match entry:
        case Repeated(version):
            await writer.refuse_another(version, command, chosen)
            return Issued(version, state, repeated=True)
        case Rejected(why):
            repaired = await writer.repair_fences(state, command, actor, reason) if expects is None else ()
            if repaired:
                return Issued(state.version, state, repeated=True, repaired=repaired)
            known = state.version if expects is None else min(expects, state.version)
            raise RefusedError(why + meanwhile(await writer.since(known)))
        case _:
            return entry


async def submit(writer: ControlWriter, entry: CommandRecorded) -> Issued:
    """Append a signed entry. Raises ``OvertakenError`` if another one has its place, and as
    ``shared.control.issuing.issue`` does."""
    state = await writer.state()
    _refuse_lost(writer, entry.command)
    recorded = state.past.version_of(entry.command_id)
    if recorded is not None:
        await writer.refuse_another(recorded, entry.command, entry.command_id)
        return Issued(recorded, state, repeated=True)
    if (entry.version, entry.previous) != (state.version + 1, state.head):
        raise await _overtaken(writer, entry)
    issuer = issuer_of(state, entry.actor, entry.key, entry.reason)
    at = max(entry.at, await writer.log.time())  # what has expired since it was drafted has expired
    refused = unauthorised(state, entry) or decide(state, entry.command, at, issuer)
    if refused is not None:
        raise RefusedError(refused.reason)
    fences = Move(writer.log, entry.command, Authority(entry.command_id, entry.actor, entry.reason), state.partitions)
    issued = await writer.write(entry, fences)
    if issued is None:
        raise await _overtaken(writer, entry, fences.kept)
    return issued


def trusted_key(state: State, public_key: str, command: type[Command]) -> str:
    """Return the id under which a public key is trusted. Raises ``RefusedError`` if it is not, or may not issue this
    kind of command."""
    key = next((key for key in state.keys.values() if key.public_key == public_key), None)
    if key is None:
        raise RefusedError(
            f"the key {public_key[:12]} is not trusted here; the keys are {', '.join(sorted(state.keys)) or 'none'}. "
            f"Trust it: conclave keys trust NAME {public_key} --holder NAME --reason ..."
        )
    if not may(key, command):
        tag = command.__struct_config__.tag
        raise RefusedError(f"key {key.key_id!r} of {key.holder} may not {tag}; it may {', '.join(key.may)}")
    return key.key_id


def _refuse_lost(writer: ControlWriter, command: Command) -> None:
    if not isinstance(command, Halt) and (missing := writer.missing()) is not None:
        raise RefusedError(missing)


async def _overtaken(writer: ControlWriter, entry: CommandRecorded, kept: str = "") -> OvertakenError:
    first = meanwhile(await writer.since(entry.version - 1)) if entry.version <= writer.reader.state.version else ""
    return OvertakenError(
        f"another command was appended first, so this one is not version {entry.version}{first}{kept}"
    )
