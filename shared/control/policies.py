"""Name voting policies by their content, and find all that is in shadow."""

import hashlib
from collections.abc import Iterator
from typing import Final

import msgspec

from schemas.common import ENSEMBLE
from schemas.control import SetVotingPolicy
from shared.control.state import State

_canonical: Final = msgspec.json.Encoder(order="deterministic").encode
_decode: Final = msgspec.json.Decoder(SetVotingPolicy).decode


def policy_text(policy: SetVotingPolicy) -> str:
    """Return a voting policy's canonical text: JSON with sorted keys. A number that was given as an integer counts as
    the float that readers decode."""
    return _canonical(_decode(_canonical(policy))).decode()


def policy_digest(policy: SetVotingPolicy) -> str:
    """Return the SHA-256 of a voting policy's canonical text, as 64 hexadecimal digits."""
    return hashlib.sha256(policy_text(policy).encode()).hexdigest()


def champion_of(state: State, model: str) -> str | None:
    """Return what the shadows of a model are compared with: its champion, or for ``ENSEMBLE`` the digest of the voting
    policy in force. None if there is nothing."""
    if model == ENSEMBLE and state.policies:
        return policy_digest(state.policy)
    return state.model(model).champion


def in_shadow(state: State) -> Iterator[tuple[str, str]]:
    """Yield the model and digest of each artifact in shadow, by model, then of each voting policy in shadow."""
    for name, model in sorted(state.models.items()):
        for artifact in model.shadows:
            yield name, artifact
    for digest in state.policy_shadows:
        yield ENSEMBLE, digest
