"""The hash chain of the control log: each entry carries the head before it; its SHA-256 is the head after it.

Faults are recorded in alarms and pinned by ``tests/histories``, so their wording is fixed."""

import hashlib
from typing import Final

import msgspec
from msgspec import structs

from schemas.control import Command, CommandRecorded
from shared.control.apply import apply, decide
from shared.control.apply.keys import may
from shared.control.signing import Signer, sign, verify
from shared.control.state import ControlError, Issuer, Past, Rejected, Repeated, State

canonical: Final = msgspec.json.Encoder(order="deterministic").encode
"""Encode an entry to the bytes that are hashed, signed and written: JSON without spaces, fields in the order of the
schema, mappings sorted by key."""
_decode: Final = msgspec.json.Decoder(CommandRecorded).decode


def head_of(recorded: CommandRecorded) -> str:
    """Return the SHA-256 of an entry's canonical bytes, as 64 hexadecimal digits."""
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
    """Return the entry that records ``command`` as the next version, signed by ``signer`` once a key is trusted.
    Return ``Repeated`` for a command id that was recorded before, ``Rejected`` for a command that is refused or if the
    configuration is not at version ``expects``.

    ``at``: when the command is issued (ms since the epoch). Raises ``msgspec.ValidationError`` for values out of
    range."""
    key = signer.key_id if signer is not None and not state.open else None
    entry = unsigned(state, command, command_id=command_id, actor=actor, reason=reason, at=at, expects=expects, key=key)
    if not isinstance(entry, CommandRecorded):
        return entry
    if key is not None and signer is not None:
        entry = structs.replace(entry, signature=sign(canonical(entry), signer))
    return unauthorised(state, entry) or entry


def unsigned(
    state: State,
    command: Command,
    *,
    command_id: str,
    actor: str,
    reason: str,
    at: int,
    expects: int | None = None,
    key: str | None = None,
) -> CommandRecorded | Rejected | Repeated:
    """Return the entry as ``propose`` does, to be signed with the private half of ``key``: what is signed are its
    canonical bytes. Whether the key may issue the command is not checked."""
    recorded = state.past.version_of(command_id)
    if recorded is not None:
        return Repeated(recorded)
    if expects is not None and expects != state.version:
        return Rejected(
            f"expected version {expects}, but the configuration is at {state.version}; "
            "look at what changed (`conclave history`), then decide again"
        )
    refused = decide(state, command, at, issuer_of(state, actor, key, reason))
    if refused is not None:
        return refused
    entry = CommandRecorded(
        version=state.version + 1,
        previous=state.head,
        command_id=command_id,
        at=at,
        actor=actor,
        reason=reason,
        command=command,
        expects=expects,
        key=key,
    )
    return _decode(canonical(entry))  # as readers decode it: an integer given for a float becomes a float


def fold(state: State, recorded: CommandRecorded) -> State:
    """Return the configuration after an entry. Raises ``ControlError`` if the entry does not extend the chain, if its
    command is refused, or if no key that may issue the command signed it."""
    version = recorded.version
    if version != state.version + 1:
        raise _broken(recorded, f"expected version {state.version + 1}; entries are missing or out of order")
    if recorded.previous != state.head:
        raise _broken(
            recorded,
            f"it follows head {recorded.previous[:12]}, but the head of version {state.version} is "
            f"{state.head[:12]}; the log was changed behind the chain",
        )
    former = state.past.version_of(recorded.command_id)
    if former is not None:
        raise _broken(recorded, f"command id {recorded.command_id!r} stands at {former}")
    refused = unauthorised(state, recorded)
    if refused is not None:
        raise _broken(recorded, refused.reason)
    issuer = issuer_of(state, recorded.actor, recorded.key, recorded.reason)
    after = apply(state, recorded.command, recorded.at, issuer)
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
        execution=after.execution,
        policy_shadows=after.policy_shadows,
        policy_before=after.policy_before,
        policies=after.policies,
    )
    return structs.replace(
        after,
        version=version,
        head=head,
        past=state.past.extended(past, recorded.command_id),
    )


def unauthorised(state: State, recorded: CommandRecorded) -> Rejected | None:
    """Return why an entry is refused for its signature or for the lack of one; None if it is not. Until a key is
    trusted, entries must be unsigned."""
    if state.open:
        if recorded.key is None and recorded.signature is None:
            return None
        return Rejected(f"signed by {recorded.key!r}, but no key is trusted here yet; trust one first, unsigned")
    if recorded.key is None or recorded.signature is None:
        return Rejected("it is not signed, and this installation accepts signed commands only; give a key (--key)")
    key = state.keys.get(recorded.key)
    if key is None:
        fault = "was revoked" if recorded.key in state.revoked else "is not trusted"
        return Rejected(f"key {recorded.key!r} {fault}; the keys are {', '.join(sorted(state.keys))}")
    if not may(key, type(recorded.command)):
        tag = type(recorded.command).__struct_config__.tag
        return Rejected(f"key {recorded.key!r} of {key.holder} may not {tag}; it may {', '.join(key.may)}")
    if not verify(canonical(structs.replace(recorded, signature=None)), recorded.signature, key.public_key):
        return Rejected(f"the signature is not that of key {recorded.key!r} over this entry")
    return None


def issuer_of(state: State, actor: str, key: str | None, reason: str) -> Issuer:
    """Return who issues an entry that names ``actor`` and the id of a key."""
    trusted = state.keys.get(key) if key is not None else None
    return Issuer(actor, trusted.holder if trusted is not None else "", reason)


def _broken(recorded: CommandRecorded, fault: str) -> ControlError:
    return ControlError(f"control entry {recorded.version}: {fault}")
