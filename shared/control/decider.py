"""Whether a command may stand. Pure; a refusal says in one message what is wrong, and the way out.

Recorded histories in ``tests/histories`` pin it: whatever was accepted once stays accepted, whatever
was refused stays refused, or the configuration of every installation would change behind its back.
"""

import math
from typing import Final, assert_never, get_args

from schemas.common import ACTIONS
from schemas.control import (
    Command,
    ConfirmPromotion,
    Found,
    Halt,
    Promote,
    RegisterArtifact,
    Resume,
    Retire,
    RevertProbation,
    RevokeKey,
    Rollback,
    SetGatePolicy,
    SetLadder,
    SetTrainingPolicy,
    SetVotingPolicy,
    SetWeights,
    StartShadow,
    StepWeight,
    StopShadow,
    TrustKey,
)
from shared.control.differences import differences
from shared.control.evolve import evolve
from shared.control.state import Model, Rejected, State, short
from shared.control.weights import refused_ladder, refused_weights

TAGS: Final = frozenset(command.__struct_config__.tag for command in get_args(Command))
EVERYTHING: Final = "*"


def decide(state: State, command: Command) -> Rejected | None:
    """Whether ``command`` may stand on top of ``state``: None where it may."""
    if isinstance(command, Found):
        return Rejected("this installation was founded before; a log is founded once") if state.version else None
    if state.version == 0:
        return Rejected("no installation here yet: the first command is `conclave found`")
    match command:
        case Promote():
            return _promote(state, command)
        case Rollback() | RevertProbation() | StepWeight():
            after = evolve(state, command, 0)
            return after if isinstance(after, Rejected) else None
        case RegisterArtifact():
            return _register(state, command)
        case StartShadow(model=model, artifact=artifact):
            return _start_shadow(state, model, artifact)
        case StopShadow(model=model, artifact=artifact):
            shadows = state.models.get(model, Model()).shadows
            return None if artifact in shadows else Rejected(f"{short(artifact)} is not in shadow for {model!r}")
        case SetWeights(weights=weights):
            return refused_weights(state, weights)
        case SetVotingPolicy(quorum_count=count):
            voting = sum(1 for model in state.models.values() if model.champion)
            return (
                Rejected(f"a quorum of {count} cannot be reached: {voting} models vote") if 0 < voting < count else None
            )
        case SetGatePolicy() | SetTrainingPolicy():
            return None
        case SetLadder():
            return refused_ladder(command)
        case Halt():
            return Rejected("halted already") if state.halted else None
        case Resume():
            return None if state.halted else Rejected("not halted")
        case Retire(model=model, artifact=artifact):
            return _retire(state, model, artifact)
        case ConfirmPromotion(model=model, artifact=artifact):
            probation = state.probations.get(model)
            if probation is not None and probation.artifact == artifact:
                return None
            return Rejected(f"no probation of {short(artifact)} for {model!r} is open; there is nothing to confirm")
        case TrustKey():
            return _trust(state, command)
        case RevokeKey(key_id=key_id):
            return _revoke(state, key_id)
        case _:
            assert_never(command)


def _register(state: State, command: RegisterArtifact) -> Rejected | None:
    known = state.artifacts.get(command.artifact)
    if known is not None:
        return Rejected(f"{short(command.artifact)} is registered already, for {known.model!r}")
    if command.classes != ACTIONS:
        return Rejected(f"class order is {command.classes}, expected {ACTIONS}; train again with this order")
    if not all(math.isfinite(value) and value <= 0 for value in command.centre):
        return Rejected(f"centre {command.centre} is not three log probabilities; the manifest is wrong")
    if abs(sum(command.prior) - 1) > 1e-6 or min(command.prior) <= 0:
        return Rejected(f"prior {command.prior} is not three shares that sum to one; the manifest is wrong")
    return None


def _start_shadow(state: State, model: str, artifact: str) -> Rejected | None:
    current = state.models.get(model, Model())
    if artifact == current.champion:
        return Rejected(f"{short(artifact)} is the champion of {model!r}; it votes and needs no shadow")
    if artifact in current.shadows:
        return Rejected(f"{short(artifact)} is in shadow for {model!r} already")
    return _known(state, model, artifact)


def _promote(state: State, command: Promote) -> Rejected | None:
    current = state.models.get(command.model, Model())
    if current.champion == command.artifact:
        return Rejected(f"{short(command.artifact)} is the champion of {command.model!r} already")
    refused = _known(state, command.model, command.artifact)
    if refused is not None:
        return refused
    problems = [*_unproven(state, command), *_changed(state, command), *_unweighed(state, command, current)]
    if command.probation is not None and current.champion is None and not _others(state, command.model):
        problems.append("a probation needs something to go back to, and nobody else votes; promote without")
    return Rejected("; ".join(problems)) if problems else None


def _unproven(state: State, command: Promote) -> list[str]:
    """What ``forced`` overrides: the verdict of the gates, and that every partition has it loaded."""
    if command.forced:
        return []
    problems, seen = [], len(set(command.ready))
    if command.verdict is None:
        problems.append(f"no passing gate verdict for {short(command.artifact)}; --force with a reason overrides")
    if seen < state.partitions:
        problems.append(
            f"{short(command.artifact)} is ready in {seen} of {state.partitions} partitions; "
            "start it in shadow and wait until its workers have loaded it, or --force"
        )
    return problems


def _changed(state: State, command: Promote) -> list[str]:
    """A difference from the champion is to be acknowledged. A forced promotion of artifacts that were
    registered without the names of their features is not asked: the first release recorded those."""
    champion = state.models.get(command.model, Model()).champion
    if champion is None or command.accept_changes:
        return []
    old, new = state.artifacts[champion], state.artifacts[command.artifact]
    if command.forced and not (old.features and new.features):
        return []
    found = differences(old, new)
    if not found:
        return []
    return [
        f"{short(command.artifact)} differs from the champion {short(champion)}: {'; '.join(found)}; --accept-changes"
    ]


def _unweighed(state: State, command: Promote, current: Model) -> list[str]:
    if command.weight is None:
        if current.weight is not None:
            return []
        return [f"{command.model!r} has no weight yet; state one (--weight), the others shrink in proportion"]
    others = _others(state, command.model)
    if not others and command.weight != 1.0:
        return [f"{command.model!r} is the only voting model: its weight is 1, not {command.weight}"]
    if others and command.weight == 1.0:
        return [f"weight 1 would leave nothing for {', '.join(others)}; retire them or choose less"]
    return []


def _others(state: State, model: str) -> list[str]:
    return [name for name in state.voting if name != model]


def _retire(state: State, model: str, artifact: str) -> Rejected | None:
    current = state.models.get(model, Model())
    if current.champion == artifact:
        return Rejected(f"{short(artifact)} is the champion of {model!r}; promote another one first")
    if model in state.probations and current.before:
        former = state.past[current.before].models.get(model, Model())
        if former.champion == artifact:
            return Rejected(
                f"{short(artifact)} is what the probation of {short(current.champion or '')} would go back to; "
                "confirm or revert that first"
            )
    return _known(state, model, artifact)


def _known(state: State, model: str, artifact: str) -> Rejected | None:
    registered = state.artifacts.get(artifact)
    if registered is None:
        return Rejected(f"artifact {short(artifact)} is not registered; `conclave register` first")
    if registered.model != model:
        return Rejected(f"{short(artifact)} is registered for {registered.model!r}, not for {model!r}")
    if artifact in state.retired:
        return Rejected(f"{short(artifact)} was retired; train or register another one")
    return None


def _trust(state: State, command: TrustKey) -> Rejected | None:
    unknown = sorted(set(command.may) - TAGS - {EVERYTHING})
    if unknown or not command.may:
        return Rejected(f"no command {', '.join(unknown) or 'given'}; a key may {', '.join(sorted(TAGS))}, or *")
    if command.key_id in state.keys or command.key_id in state.revoked:
        return Rejected(f"key {command.key_id!r} is trusted, or was revoked; a new key needs a new id")
    for held in state.keys.values():
        if held.public_key == command.public_key:
            return Rejected(f"this public key is trusted already, as {held.key_id!r} of {held.holder}")
    if state.open and not may(command, TrustKey):
        return Rejected("the first key must be one that may trust_key, or nobody could ever trust another one")
    return None


def _revoke(state: State, key_id: str) -> Rejected | None:
    if key_id not in state.keys:
        return Rejected(f"key {key_id!r} is not trusted; the keys are {', '.join(sorted(state.keys)) or 'none'}")
    if not any(may(key, TrustKey) for name, key in state.keys.items() if name != key_id):
        return Rejected(f"{key_id!r} is the last key that may trust_key; trust its successor first")
    return None


def may(key: TrustKey, command: type[Command]) -> bool:
    """Whether a trusted key may issue a kind of command."""
    return EVERYTHING in key.may or command.__struct_config__.tag in key.may
