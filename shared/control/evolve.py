"""What a command that stands makes of the configuration. Pure.

Of a command whose outcome has to be worked out to know whether it may stand (``WorkedOut``) it says that
too; of the others ``shared.control.decider`` must have been asked."""

from typing import TypeAlias, assert_never

from immutables import Map
from msgspec import structs

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
from shared.control.rollback import RollbackOutcome, reverted, rolled_back
from shared.control.state import Model, Probation, Rejected, State
from shared.control.weights import step, yielding

WorkedOut: TypeAlias = Rollback | RevertProbation | StepWeight


def evolve(state: State, command: Command, at: int) -> State | Rejected:
    """The configuration after ``command``, recorded at ``at`` (ms); version, head and what is kept of
    the past are the fold's to set. ``Rejected`` comes for ``WorkedOut`` commands only."""
    match command:
        case Promote():
            return _promoted(state, command, at)
        case SetWeights() | SetVotingPolicy() | SetGatePolicy() | SetLadder():
            return _changed(state, command)
        case Rollback():
            return _gone_back(state, rolled_back(state, command))
        case RevertProbation():
            return _gone_back(state, reverted(state, command))
        case StepWeight():
            return _stepped(state, command)
        case RegisterArtifact(artifact=artifact):
            return structs.replace(state, artifacts=state.artifacts.set(artifact, command))
        case StartShadow(model=model, artifact=artifact):
            current = state.models.get(model, Model())
            return _with(state, model, structs.replace(current, shadows=(*current.shadows, artifact)))
        case StopShadow(model=model, artifact=artifact):
            return _without_shadow(state, model, artifact)
        case Retire(model=model, artifact=artifact):
            retired = state.retired.set(artifact, state.version + 1)
            return structs.replace(_without_shadow(state, model, artifact), retired=retired)
        case ConfirmPromotion(model=model):
            return structs.replace(state, probations=state.probations.delete(model))
        case SetTrainingPolicy():
            return structs.replace(state, training=command)
        case TrustKey(key_id=key_id):
            return structs.replace(state, keys=state.keys.set(key_id, command))
        case RevokeKey(key_id=key_id):
            revoked = state.revoked.set(key_id, state.version + 1)
            return structs.replace(state, keys=state.keys.delete(key_id), revoked=revoked)
        case Halt() | Resume():
            return structs.replace(state, halted=isinstance(command, Halt))
        case Found(partitions=partitions, log_id=log_id):
            return structs.replace(state, partitions=partitions, log_id=log_id)
        case _:
            assert_never(command)


def _promoted(state: State, command: Promote, at: int) -> State:
    """The former champion stays, in shadow: warm for a rollback, and paired with its successor."""
    name = command.model
    current = state.models.get(name, Model())
    shadows = tuple([shadow for shadow in current.shadows if shadow != command.artifact])
    if current.champion is not None:
        shadows = (*shadows, current.champion)
    models, weight = state.models, current.weight
    if command.weight is not None:
        weight = command.weight
        models = yielding(models, name, weight)
    before = state.version if current.champion is not None else 0
    models = {**models, name: Model(command.artifact, shadows, weight, before)}
    probations = state.probations.delete(name) if name in state.probations else state.probations
    if command.probation is not None:
        probations = probations.set(name, Probation(command.artifact, state.version + 1, command.probation, at))
    return structs.replace(state, models=models, probations=probations, before=state.version)


def _changed(state: State, command: SetWeights | SetVotingPolicy | SetGatePolicy | SetLadder) -> State:
    """A change of weights or of a policy; one that changes nothing leaves no step on the trail."""
    match command:
        case SetWeights(weights=weights):
            weighed = {name: structs.replace(state.models[name], weight=weight) for name, weight in weights.items()}
            models = {**state.models, **weighed}
            if models == state.models:
                return state
            return structs.replace(state, models=models, before=state.version)
        case SetVotingPolicy():
            return state if command == state.policy else structs.replace(state, policy=command, before=state.version)
        case SetGatePolicy():
            return state if command == state.gate else structs.replace(state, gate=command, before=state.version)
        case SetLadder():
            return state if command == state.ladder else structs.replace(state, ladder=command, before=state.version)


def _stepped(state: State, command: StepWeight) -> State | Rejected:
    reached = step(state, command)
    if isinstance(reached, Rejected):
        return reached
    shares = yielding(state.models, command.model, reached)
    models = {**shares, command.model: structs.replace(shares[command.model], weight=reached)}
    return structs.replace(state, models=models, before=state.version)


def _gone_back(state: State, found: RollbackOutcome | Rejected) -> State | Rejected:
    """A probation ends where its artifact stops voting."""
    if isinstance(found, Rejected):
        return found
    probations = state.probations
    if probations:
        kept = {name: held for name, held in probations.items() if found.models[name].champion == held.artifact}
        probations = Map(kept)
    return structs.replace(state, probations=probations, **found._asdict())


def _without_shadow(state: State, name: str, artifact: str) -> State:
    current = state.models.get(name, Model())
    shadows = tuple(shadow for shadow in current.shadows if shadow != artifact)
    return _with(state, name, structs.replace(current, shadows=shadows))


def _with(state: State, name: str, model: Model) -> State:
    return structs.replace(state, models={**state.models, name: model})
