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
KINDS: Final[dict[str, type[DefaultPolicy | ClassicPolicy]]] = {"default": DefaultPolicy, "classic": ClassicPolicy}
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


def policy_of(asked: SetGatePolicy) -> Policy:
    """The rules of a command. Raises ``ValueError``, which names what there is."""
    kind = KINDS.get(asked.name)
    if kind is None:
        raise ValueError(f"no gate policy {asked.name!r}; there are {', '.join(KINDS)}")
    given = {name: value for name, value in asked.parameters.items() if name not in OTHERS}
    if unknown := sorted(set(given) - set(kind.__struct_fields__)):
        known = ", ".join(sorted({*kind.__struct_fields__, *OTHERS}))
        raise ValueError(f"gate policy {asked.name!r} has no parameter {', '.join(unknown)}; it has {known}")
    try:
        thresholds = msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise ValueError(f"gate policy {asked.name!r}: {error}") from None
    every = asked.parameters.get("automatic") is True
    acts = frozenset(act for act in ACTS if every or asked.parameters.get(f"act_{act}") is True)
    return Policy(asked.name, digest_of(asked), thresholds, acts)


def chosen(policy: SetGatePolicy | None) -> Policy:
    """The rules that are in force; never raises, for the command stands."""
    said = policy or IN_FORCE_AT_FIRST
    try:
        return policy_of(said)
    except ValueError as fault:
        thresholds = KINDS.get(said.name, DefaultPolicy)()
        return Policy(said.name, digest_of(policy), thresholds, frozenset(), str(fault))
