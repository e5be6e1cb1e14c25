"""The chain: an entry names the head before it, and the head after it is the SHA-256 of its bytes."""

import hashlib
from typing import Final

import msgspec
from msgspec import structs

from schemas.control import Command, CommandRecorded
from shared.control.decider import decide, may
from shared.control.evolve import WorkedOut, evolve
from shared.control.signing import Signer, sign, verify
from shared.control.state import ControlError, Past, Rejected, Repeated, State

canonical: Final = msgspec.json.Encoder(order="deterministic").encode
"""An entry as the bytes that are hashed, signed and written: JSON, fields in the order of the schema,
mappings in the order of their keys, no spaces."""
_decode: Final = msgspec.json.Decoder(CommandRecorded).decode


def head_of(recorded: CommandRecorded) -> str:
    """SHA-256 (hexadecimal) of an entry's canonical bytes."""
    return hashlib.sha256(canonical(recorded)).hexdigest()


def propose(
    state: State,
    command: Command,
    *,
    command_id: str,
    actor: str,
    reason: str,
    at: int,
    expects: int | None = None,
    signer: Signer | None = None,
) -> CommandRecorded | Rejected | Repeated:
    """The entry that would record ``command`` as the next version, or why there is none. Signed by
    ``signer`` wherever keys count. Raises ``msgspec.ValidationError`` for values out of range."""
    made = state.past.version_of(command_id)
    if made is not None:
        return Repeated(made)
    if expects is not None and expects != state.version:
        return Rejected(
            f"expected version {expects}, but the configuration is at {state.version}; "
            "look at what changed (`conclave history`), then decide again"
        )
    refused = decide(state, command)
    if refused is not None:
        return refused
    key = signer.key_id if signer is not None and not state.open else None
    entry = CommandRecorded(state.version + 1, state.head, command_id, at, actor, reason, command, expects, key)
    entry = _decode(canonical(entry))  # as its readers will see it: a float is a float
    if key is not None and signer is not None:
        entry = structs.replace(entry, signature=sign(canonical(entry), signer))
    return unauthorised(state, entry) or entry


def fold(state: State, recorded: CommandRecorded) -> State:
    """The configuration after an entry. Raises ``ControlError`` where the chain breaks, and for a
    command that may not stand or was not signed by one who may issue it."""
    version = recorded.version
    if version != state.version + 1:
        raise _broken(recorded, f"expected version {state.version + 1}; entries are missing or out of order")
    if recorded.previous != state.head:
        raise _broken(
            recorded,
            f"it follows head {recorded.previous[:12]}, but the head of version {state.version} is "
            f"{state.head[:12]}; the log was changed behind the chain",
        )
    made = state.past.version_of(recorded.command_id)
    if made is not None:
        raise _broken(recorded, f"command id {recorded.command_id!r} stands at {made}")
    refused = unauthorised(state, recorded)
    if refused is not None:
        raise _broken(recorded, refused.reason)
    refused = None if isinstance(recorded.command, WorkedOut) else decide(state, recorded.command)
    after = refused or evolve(state, recorded.command, recorded.at)
    if isinstance(after, Rejected):
        raise _broken(recorded, f"a command that may not stand was recorded: {after.reason}")
    head = head_of(recorded)
    past = Past(
        head=head,
        models=after.models,
        policy=after.policy,
        gate=after.gate,
        ladder=after.ladder,
        before=after.before,
        probations=after.probations,
        partitions=after.partitions,
    )
    return structs.replace(
        after,
        version=version,
        head=head,
        past=state.past.extended(past, recorded.command_id),
    )


def unauthorised(state: State, recorded: CommandRecorded) -> Rejected | None:
    """Why an entry's signature, or the lack of one, does not do; None where it does."""
    if state.open:
        if recorded.key is None and recorded.signature is None:
            return None
        return Rejected(f"signed by {recorded.key!r}, but no key is trusted here yet; trust one first, unsigned")
    if recorded.key is None or recorded.signature is None:
        return Rejected("it is not signed, and this installation accepts signed commands only; give a key (--key)")
    key = state.keys.get(recorded.key)
    if key is None:
        gone = "was revoked" if recorded.key in state.revoked else "is not trusted"
        return Rejected(f"key {recorded.key!r} {gone}; the keys are {', '.join(sorted(state.keys))}")
    if not may(key, type(recorded.command)):
        tag = type(recorded.command).__struct_config__.tag
        return Rejected(f"key {recorded.key!r} of {key.holder} may not {tag}; it may {', '.join(key.may)}")
    if not verify(canonical(structs.replace(recorded, signature=None)), recorded.signature, key.public_key):
        return Rejected(f"the signature is not that of key {recorded.key!r} over this entry")
    return None


def _broken(recorded: CommandRecorded, fault: str) -> ControlError:
    return ControlError(f"control entry {recorded.version}: {fault}")
