"""Read a gate policy from ``SetGatePolicy``: its rules, its thresholds, and the commands it may issue.

Parameters are the fields of the policy's thresholds, and these: ``automatic`` permits the gate-evaluator to issue all
kinds of commands; ``act_rollback``, ``act_steps``, ``act_confirm`` and ``act_weights`` permit one kind each;
``cost_per_side`` is for the shadow-recorder.
"""

import hashlib
from typing import Final, Literal, NamedTuple

import msgspec

from schemas.control import SetGatePolicy
from shared.gates.classic import ClassicPolicy
from shared.gates.policy import DefaultPolicy

Act = Literal["rollback", "steps", "confirm", "weights"]
ACTS: Final[tuple[Act, ...]] = ("rollback", "steps", "confirm", "weights")
OTHER_PARAMETERS: Final = frozenset({"automatic", "cost_per_side", *(f"act_{act}" for act in ACTS)})
KINDS: Final[dict[str, type[DefaultPolicy | ClassicPolicy]]] = {"default": DefaultPolicy, "classic": ClassicPolicy}
DEFAULT: Final = SetGatePolicy("default")


class Policy(NamedTuple):
    """A gate policy.

    ``fault`` is not empty where the parameters cannot be used. Then nothing passes, no command is issued, and the
    thresholds are the defaults."""

    name: str
    digest: str
    thresholds: DefaultPolicy | ClassicPolicy
    acts: frozenset[Act]
    fault: str = ""


def digest_of(policy: SetGatePolicy | None) -> str:
    """Return the SHA-256 of a policy's name and parameters; for None, that of the default policy."""
    chosen = policy or DEFAULT
    return hashlib.sha256(msgspec.json.encode([chosen.name, chosen.parameters], order="sorted")).hexdigest()


def policy_of(command: SetGatePolicy) -> Policy:
    """Return the policy of a command. Raises ``ValueError``, which names the valid choices."""
    kind = KINDS.get(command.name)
    if kind is None:
        raise ValueError(f"no gate policy {command.name!r}; there are {', '.join(KINDS)}")
    given = {name: value for name, value in command.parameters.items() if name not in OTHER_PARAMETERS}
    if unknown := sorted(set(given) - set(kind.__struct_fields__)):
        known = ", ".join(sorted({*kind.__struct_fields__, *OTHER_PARAMETERS}))
        raise ValueError(f"gate policy {command.name!r} has no parameter {', '.join(unknown)}; it has {known}")
    try:
        thresholds = msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise ValueError(f"gate policy {command.name!r}: {error}") from None
    every = command.parameters.get("automatic") is True
    acts = frozenset(act for act in ACTS if every or command.parameters.get(f"act_{act}") is True)
    return Policy(command.name, digest_of(command), thresholds, acts)


def chosen(policy: SetGatePolicy | None) -> Policy:
    """Return the policy in force. It never raises, because the command was accepted; see ``Policy.fault``."""
    command = policy or DEFAULT
    try:
        return policy_of(command)
    except ValueError as fault:
        thresholds = KINDS.get(command.name, DefaultPolicy)()
        return Policy(command.name, digest_of(policy), thresholds, frozenset(), str(fault))


def default_policy(policy: SetGatePolicy | None) -> DefaultPolicy:
    """Return the parameters of the policy ``default`` that are in force; its defaults under another policy."""
    thresholds = chosen(policy).thresholds
    return thresholds if isinstance(thresholds, DefaultPolicy) else DefaultPolicy()
