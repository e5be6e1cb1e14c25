"""Commands about the keys that may sign commands: trust one, revoke one."""

from typing import Final, get_args

from immutables import Map
from msgspec import structs

from schemas.control import Command, RevokeKey, TrustKey
from shared.control.state import Rejected, State

TAGS: Final = frozenset(command.__struct_config__.tag for command in get_args(Command))
ALL: Final = "*"
_LATER: Final = {
    *("set_execution_policy", "set_approval_rule", "propose", "approve", "refuse"),
    *("start_policy_shadow", "stop_policy_shadow", "promote_policy"),
}
_NAMED: Final = ", ".join(sorted(TAGS - _LATER))
"""The commands that the refusal of an unknown one names. Its text is part of a recorded alarm, so it stays that of the
first release."""


def trust(state: State, command: TrustKey) -> State | Rejected:
    """Trust a public key for some commands, or for all. The first one must be able to trust others."""
    unknown = sorted(set(command.may) - TAGS - {ALL})
    if unknown or not command.may:
        return Rejected(f"no command {', '.join(unknown) or 'given'}; a key may {_NAMED}, or *")
    if command.key_id in state.keys or command.key_id in state.revoked:
        return Rejected(f"key {command.key_id!r} is trusted, or was revoked; a new key needs a new id")
    for key in state.keys.values():
        if key.public_key == command.public_key:
            return Rejected(f"this public key is trusted already, as {key.key_id!r} of {key.holder}")
    if state.open and not may(command, TrustKey):
        return Rejected("the first key must be one that may trust_key, or nobody could ever trust another one")
    return structs.replace(state, keys=state.keys.set(command.key_id, command))


def revoke(state: State, command: RevokeKey) -> State | Rejected:
    """End the trust in a key for good. One key that can trust others must remain.

    Proposals of a holder without another key end: the key may have been stolen before it was revoked."""
    key_id = command.key_id
    if key_id not in state.keys:
        return Rejected(f"key {key_id!r} is not trusted; the keys are {', '.join(sorted(state.keys)) or 'none'}")
    if not any(may(key, TrustKey) for name, key in state.keys.items() if name != key_id):
        return Rejected(f"{key_id!r} is the last key that may trust_key; trust its successor first")
    revoked, keys = state.revoked.set(key_id, state.version + 1), state.keys.delete(key_id)
    holders = {key.holder for key in keys.values()}
    proposals = {number: each for number, each in state.proposals.items() if each.by.holder in holders}
    return structs.replace(state, keys=keys, revoked=revoked, proposals=Map(proposals))


def may(key: TrustKey, command: type[Command]) -> bool:
    """Return whether a trusted key can issue a kind of command."""
    return ALL in key.may or command.__struct_config__.tag in key.may
