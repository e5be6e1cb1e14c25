"""The configuration as a fold: ``decide`` says whether a command may stand, ``fold`` applies it.

Both are pure and deterministic, so every service, the console and a replay agree on every version.
The log is a hash chain: an entry names the head before it, and the head after it is the SHA-256 of
the entry's canonical bytes, so a decision that records (version, head) pins the whole history.

An entry that does not extend the chain, or that ``decide`` refuses, raises ``ControlError``: its
reader stops, since guessing what the configuration is would be worse.
"""

import hashlib
import math
from typing import Final, NamedTuple, assert_never

import msgspec
from immutables import Map
from msgspec import Struct, structs

from schemas.common import ACTIONS
from schemas.control import (
    Command,
    CommandRecorded,
    Found,
    Halt,
    Promote,
    RegisterArtifact,
    Resume,
    Retire,
    SetVotingPolicy,
    SetWeights,
    StartShadow,
    StopShadow,
)

GENESIS: Final = "0" * 64
WEIGHTS_SUM_WITHIN: Final = 1e-9

_encode = msgspec.json.Encoder(order="deterministic").encode


class Model(Struct, frozen=True):
    """One voting slot: who speaks for it, who is watched beside it, and how much it weighs."""

    champion: str | None = None
    shadows: tuple[str, ...] = ()
    weight: float | None = None


class State(Struct, frozen=True):
    """A version of the configuration. ``seen`` maps each command id to the version it made."""

    version: int = 0
    head: str = GENESIS
    partitions: int = 0
    log_id: str = ""
    artifacts: Map[str, RegisterArtifact] = Map()
    retired: frozenset[str] = frozenset()
    models: Map[str, Model] = Map()
    policy: SetVotingPolicy = SetVotingPolicy()
    halted: bool = False
    seen: Map[str, int] = Map()

    @property
    def voting(self) -> tuple[str, ...]:
        """The models with a champion, by name."""
        return tuple(sorted(name for name, model in self.models.items() if model.champion))


EMPTY: Final = State()


class Rejected(NamedTuple):
    """A command that may not stand: what is wrong with it, and the way out."""

    reason: str


class Repeated(NamedTuple):
    """A command that was issued before, and the version it made then. Nothing is to be done."""

    version: int


class ControlError(ValueError):
    """The control log cannot be trusted from this entry on. Names the entry and the fault."""


def head_of(recorded: CommandRecorded) -> str:
    """SHA-256 (hexadecimal) of an entry's canonical bytes: JSON, keys in order, no spaces."""
    return hashlib.sha256(_encode(recorded)).hexdigest()


def propose(
    state: State, command: Command, *, command_id: str, actor: str, reason: str, at: int, expects: int | None = None
) -> CommandRecorded | Rejected | Repeated:
    """The entry that would record ``command`` as the next version, or why there is none."""
    if command_id in state.seen:
        return Repeated(state.seen[command_id])
    if expects is not None and expects != state.version:
        return Rejected(
            f"expected version {expects}, but the configuration is at {state.version}; "
            "look at what changed (conclave control log), then decide again"
        )
    refused = decide(state, command)
    if refused is not None:
        return refused
    return CommandRecorded(state.version + 1, state.head, command_id, at, actor, reason, command, expects)


def fold(state: State, recorded: CommandRecorded) -> State:
    """The configuration after an entry. Raises ``ControlError`` where the chain breaks."""
    where = f"control entry {recorded.version}"
    if recorded.version != state.version + 1:
        raise ControlError(f"{where}: expected version {state.version + 1}; entries are missing or out of order")
    if recorded.previous != state.head:
        raise ControlError(
            f"{where}: it follows head {recorded.previous[:12]}, but the head of version {state.version} is "
            f"{state.head[:12]}; the log was changed behind the chain"
        )
    if recorded.command_id in state.seen:
        raise ControlError(f"{where}: command id {recorded.command_id!r} stands at {state.seen[recorded.command_id]}")
    refused = decide(state, recorded.command)
    if refused is not None:
        raise ControlError(f"{where}: a command that may not stand was recorded: {refused.reason}")
    return structs.replace(
        _apply(state, recorded.command),
        version=recorded.version,
        head=head_of(recorded),
        seen=state.seen.set(recorded.command_id, recorded.version),
    )


def decide(state: State, command: Command) -> Rejected | None:
    """Whether ``command`` may stand on top of ``state``: None where it may."""
    if isinstance(command, Found):
        return Rejected("this installation was founded before; a log is founded once") if state.version else None
    if state.version == 0:
        return Rejected("no installation here yet: the first command is `conclave control found`")
    match command:
        case RegisterArtifact():
            return _decide_register(state, command)
        case StartShadow(model=model, artifact=artifact):
            return _decide_start_shadow(state, model, artifact)
        case StopShadow(model=model, artifact=artifact):
            shadows = state.models.get(model, Model()).shadows
            return None if artifact in shadows else Rejected(f"{_short(artifact)} is not in shadow for {model!r}")
        case Promote():
            return _decide_promote(state, command)
        case SetWeights(weights=weights):
            return _decide_weights(state, weights)
        case SetVotingPolicy(quorum_count=count):
            voting = len(state.voting)
            if voting and count > voting:
                return Rejected(f"a quorum of {count} cannot be reached: {voting} models vote")
            return None
        case Halt():
            return Rejected("halted already") if state.halted else None
        case Resume():
            return None if state.halted else Rejected("not halted")
        case Retire(model=model, artifact=artifact):
            if state.models.get(model, Model()).champion == artifact:
                return Rejected(f"{_short(artifact)} is the champion of {model!r}; promote another one first")
            return _known(state, model, artifact)
        case _:
            assert_never(command)


def _decide_register(state: State, command: RegisterArtifact) -> Rejected | None:
    known = state.artifacts.get(command.artifact)
    if known is not None:
        return Rejected(f"{_short(command.artifact)} is registered already, for {known.model!r}")
    if command.classes != ACTIONS:
        return Rejected(f"class order is {command.classes}, expected {ACTIONS}; train again with this order")
    if not all(math.isfinite(value) and value <= 0 for value in command.centre):
        return Rejected(f"centre {command.centre} is not three log probabilities; the manifest is wrong")
    if abs(sum(command.prior) - 1) > 1e-6 or min(command.prior) <= 0:
        return Rejected(f"prior {command.prior} is not three shares that sum to one; the manifest is wrong")
    return None


def _decide_start_shadow(state: State, model: str, artifact: str) -> Rejected | None:
    current = state.models.get(model, Model())
    if artifact == current.champion:
        return Rejected(f"{_short(artifact)} is the champion of {model!r}; it votes and needs no shadow")
    if artifact in current.shadows:
        return Rejected(f"{_short(artifact)} is in shadow for {model!r} already")
    return _known(state, model, artifact)


def _decide_promote(state: State, command: Promote) -> Rejected | None:
    current = state.models.get(command.model, Model())
    if current.champion == command.artifact:
        return Rejected(f"{_short(command.artifact)} is the champion of {command.model!r} already")
    refused = _known(state, command.model, command.artifact)
    if refused is not None:
        return refused
    if not command.forced:
        return Rejected(f"no passing gate verdict for {_short(command.artifact)}; --force with a reason overrides")
    others = [name for name in state.voting if name != command.model]
    if current.weight is None and command.weight is None:
        return Rejected(f"{command.model!r} has no weight yet; state one (--weight), the others shrink in proportion")
    if command.weight is not None and not others and command.weight != 1.0:
        return Rejected(f"{command.model!r} is the only voting model: its weight is 1, not {command.weight}")
    if command.weight is not None and others and command.weight == 1.0:
        return Rejected(f"weight 1 would leave nothing for {', '.join(others)}; retire them or choose less")
    return None


def _decide_weights(state: State, weights: dict[str, float]) -> Rejected | None:
    extra, missing = sorted(set(weights) - set(state.voting)), sorted(set(state.voting) - set(weights))
    if extra or missing:
        return Rejected(
            f"weights are for exactly the voting models ({', '.join(state.voting) or 'none'}); "
            f"without a member: {', '.join(extra) or 'none'}; without a weight: {', '.join(missing) or 'none'}"
        )
    total = math.fsum(weights.values())
    if abs(total - 1) > WEIGHTS_SUM_WITHIN:
        return Rejected(f"weights sum to {total:.6g}, expected 1: {weights}")
    return None


def _known(state: State, model: str, artifact: str) -> Rejected | None:
    registered = state.artifacts.get(artifact)
    if registered is None:
        return Rejected(f"artifact {_short(artifact)} is not registered; `conclave control register` first")
    if registered.model != model:
        return Rejected(f"{_short(artifact)} is registered for {registered.model!r}, not for {model!r}")
    if artifact in state.retired:
        return Rejected(f"{_short(artifact)} was retired; train or register another one")
    return None


def _apply(state: State, command: Command) -> State:
    match command:
        case Found(partitions=partitions, log_id=log_id):
            return structs.replace(state, partitions=partitions, log_id=log_id)
        case RegisterArtifact(artifact=artifact):
            return structs.replace(state, artifacts=state.artifacts.set(artifact, command))
        case StartShadow(model=model, artifact=artifact):
            current = state.models.get(model, Model())
            return _with(state, model, structs.replace(current, shadows=(*current.shadows, artifact)))
        case StopShadow(model=model, artifact=artifact) | Retire(model=model, artifact=artifact):
            current = state.models.get(model, Model())
            left = tuple(shadow for shadow in current.shadows if shadow != artifact)
            if isinstance(command, Retire):
                state = structs.replace(state, retired=state.retired | {artifact})
            return _with(state, model, structs.replace(current, shadows=left))
        case Promote():
            return _promoted(state, command)
        case SetWeights(weights=weights):
            for name, weight in weights.items():
                state = _with(state, name, structs.replace(state.models[name], weight=weight))
            return state
        case SetVotingPolicy():
            return structs.replace(state, policy=command)
        case Halt() | Resume():
            return structs.replace(state, halted=isinstance(command, Halt))
        case _:
            assert_never(command)


def _promoted(state: State, command: Promote) -> State:
    """The former champion stays, in shadow: warm for a rollback, and paired with its successor."""
    current = state.models.get(command.model, Model())
    shadows = tuple(shadow for shadow in current.shadows if shadow != command.artifact)
    if current.champion is not None:
        shadows = (*shadows, current.champion)
    weight = current.weight if command.weight is None else command.weight
    assert weight is not None
    if command.weight is not None:
        others = [name for name in state.voting if name != command.model]
        total = math.fsum(state.models[name].weight or 0.0 for name in others)
        for name in others:
            model = state.models[name]
            share = (model.weight or 0.0) / total if total else 1 / len(others)
            state = _with(state, name, structs.replace(model, weight=(1 - weight) * share))
    return _with(state, command.model, Model(command.artifact, shadows, weight))


def _with(state: State, name: str, model: Model) -> State:
    return structs.replace(state, models=state.models.set(name, model))


def _short(digest: str) -> str:
    return digest[:12]
