"""A gate policy as ``SetGatePolicy`` says it: which rules, with which thresholds, and what it may do.

Parameters are the fields of the policy's thresholds, besides these: ``automatic`` lets the gate-evaluator
issue commands, ``act_rollback``, ``act_steps``, ``act_confirm`` and ``act_weights`` one kind of them;
``cost_per_side`` is read by the shadow-recorder.
"""

import hashlib
from typing import Final, Literal, NamedTuple

import msgspec

from schemas.control import SetGatePolicy
from shared.gates.classic import ClassicPolicy
from shared.gates.policy import DefaultPolicy

Act = Literal["rollback", "steps", "confirm", "weights"]
ACTS: Final[tuple[Act, ...]] = ("rollback", "steps", "confirm", "weights")
OTHERS: Final = frozenset({"automatic", "cost_per_side", *(f"act_{act}" for act in ACTS)})
IN_FORCE_AT_FIRST: Final = SetGatePolicy("default")


class Policy(NamedTuple):
    """``fault`` is not empty where the parameters cannot be used: then nothing passes and nothing acts,
    and the thresholds are the defaults."""

    name: str
    digest: str
    thresholds: DefaultPolicy | ClassicPolicy
    acts: frozenset[Act]
    fault: str = ""


def digest_of(policy: SetGatePolicy | None) -> str:
    """SHA-256 of a policy's name and parameters; None: the default with its defaults."""
    chosen = policy or IN_FORCE_AT_FIRST
    return hashlib.sha256(msgspec.json.encode([chosen.name, chosen.parameters], order="sorted")).hexdigest()


def chosen(policy: SetGatePolicy | None) -> Policy:
    """The rules of a command; never raises, for the command stands."""
    said = policy or IN_FORCE_AT_FIRST
    digest = digest_of(policy)
    kind: type[DefaultPolicy | ClassicPolicy] = ClassicPolicy if said.name == "classic" else DefaultPolicy
    if said.name not in {"classic", "default"}:
        return Policy(
            said.name, digest, kind(), frozenset(), f"no gate policy {said.name!r}: there are classic, default"
        )
    try:
        given = {name: value for name, value in said.parameters.items() if name not in OTHERS}
        thresholds = msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        return Policy(said.name, digest, kind(), frozenset(), f"gate policy {said.name}: {error}")
    every = said.parameters.get("automatic") is True
    acts = frozenset(act for act in ACTS if every or said.parameters.get(f"act_{act}") is True)
    return Policy(said.name, digest, thresholds, acts)
