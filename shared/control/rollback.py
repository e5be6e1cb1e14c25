"""Going back: what a rollback, or a probation that ran out, makes of the configuration.

A configuration is the champions with their weights, the voting and gate policies, and the ladder.
Changes of it form a trail (``State.before``): each leads back to the version it replaced, and a
rollback takes over the trail of the version it goes back to. So a second rollback goes further back,
and never to and fro. Shadows are no part of it: a displaced champion goes into shadow, nothing that
did not vote in the earlier version votes, and no evidence is cut off.
"""

from collections.abc import Mapping
from typing import NamedTuple

from msgspec import structs

from schemas.control import RevertProbation, Rollback, SetGatePolicy, SetLadder, SetVotingPolicy
from shared.control.state import Model, Past, Rejected, State, short
from shared.control.weights import yielding


class RollbackOutcome(NamedTuple):
    """The configuration after going back."""

    models: Mapping[str, Model]
    policy: SetVotingPolicy
    gate: SetGatePolicy | None
    ladder: SetLadder
    before: int


def rolled_back(state: State, command: Rollback) -> RollbackOutcome | Rejected:
    """What a rollback makes, or why it may not stand."""
    if command.to is not None and command.to >= state.version:
        return Rejected(f"version {command.to} is not before the present one, {state.version}; choose an earlier one")
    if command.model is not None:
        return _one(state, command.model, command.to)
    target = command.to if command.to is not None else state.before
    while command.to is None and target and _same(state, state.past[target]):
        target = state.past[target].before
    if target == 0:
        return Rejected("nothing to go back to: this is the first configuration that decides")
    return _everything(state, target)


def reverted(state: State, command: RevertProbation) -> RollbackOutcome | Rejected:
    """What the end of a probation without confirmation makes, or why it may not stand. A weight that
    the promotion brought goes with it, unless weights were set since."""
    probation = state.probations.get(command.model)
    if probation is None or probation.artifact != command.artifact:
        return Rejected(f"no probation of {short(command.artifact)} for {command.model!r} is open")
    if command.decisions < probation.decisions:
        return Rejected(
            f"{command.decisions} of {probation.decisions} decisions of the probation have been scored; "
            "wait, or roll back by hand"
        )
    current = state.models[command.model]
    former = state.past[current.before].models.get(command.model, Model()) if current.before else Model()
    outcome = _with_champion(state, command.model, former)
    began = state.past[probation.version].models[command.model]
    untouched = current.weight == began.weight and former.weight not in {None, current.weight}
    if isinstance(outcome, Rejected) or not untouched:
        return outcome
    models = yielding(outcome.models, command.model, former.weight or 0.0)
    models = {**models, command.model: structs.replace(models[command.model], weight=former.weight)}
    return outcome._replace(models=models)


def _everything(state: State, target: int) -> RollbackOutcome | Rejected:
    past = state.past[target]
    former = {name: model for name, model in past.models.items() if model.champion is not None}
    if not former:
        return Rejected(f"no model voted at version {target}; `halt` stops intents, a promotion changes who votes")
    gone = [f"{short(model.champion or '')} of {name!r}" for name, model in former.items() if _retired(state, model)]
    if gone:
        return Rejected(f"version {target} voted with {', '.join(sorted(gone))}, retired since; go back elsewhere")
    if _same(state, past):
        return Rejected(f"version {target} decides as the present one, {state.version}, does; there is nothing to do")
    names = sorted({*state.models, *former})
    models = {name: _seated(state.models.get(name, Model()), former.get(name, Model())) for name in names}
    return _reachable(state, RollbackOutcome(models, past.policy, past.gate, past.ladder, past.before))


def _one(state: State, name: str, to: int | None) -> RollbackOutcome | Rejected:
    current = state.models.get(name, Model())
    if to is None and current.champion is None:
        return Rejected(f"{name!r} does not vote; the voting models are {', '.join(state.voting) or 'none'}")
    target = current.before if to is None else to
    if target == 0:
        return Rejected(
            f"{short(current.champion or '')} is the first champion of {name!r}; "
            "`--to` a version in which it did not vote takes the model out"
        )
    former = state.past[target].models.get(name, Model())
    if former.champion == current.champion:
        who = f"{short(current.champion)} voted" if current.champion else "nobody voted"
        return Rejected(f"{who} for {name!r} at version {target} as at the present one; there is nothing to do")
    return _with_champion(state, name, former)


def _with_champion(state: State, name: str, former: Model) -> RollbackOutcome | Rejected:
    """One model's earlier champion (or none) under the present weights. Without one, the others share
    what it weighed; with one where none is now, it takes the share it had."""
    current = state.models[name]
    if _retired(state, former):
        return Rejected(f"{short(former.champion or '')} of {name!r} was retired since; go back elsewhere")
    if former.champion is None and state.voting == (name,):
        return Rejected(f"{name!r} is the only voting model; promote another one, or `halt`")
    models: Mapping[str, Model] = {**state.models, name: _seated(current, former)}
    if current.champion is None:
        models = yielding(models, name, former.weight or 0.0)
    elif former.champion is None:
        models = yielding(models, name, 0.0)
    else:
        models = {**models, name: structs.replace(models[name], weight=current.weight)}
    outcome = RollbackOutcome(models, state.policy, state.gate, state.ladder, state.before)
    after = structs.replace(state, models=models)
    before = state.before
    while before and (_leads_back(state.past[before], name, current) or _same(after, state.past[before])):
        before = state.past[before].before
    return _reachable(state, outcome._replace(before=before))


def _leads_back(past: Past, name: str, left: Model) -> bool:
    """Whether going back there would seat the champion again that has just been left."""
    return left.champion is not None and past.models.get(name, Model()).champion == left.champion


def _seated(current: Model, former: Model) -> Model:
    """``former``'s champion, its share and its trail; the displaced one goes into shadow."""
    if current.champion == former.champion:
        return Model(former.champion, current.shadows, former.weight, former.before)
    shadows = tuple([shadow for shadow in current.shadows if shadow != former.champion])
    if current.champion is not None:
        shadows = (*shadows, current.champion)
    return Model(former.champion, shadows, former.weight, former.before)


def _reachable(state: State, outcome: RollbackOutcome) -> RollbackOutcome | Rejected:
    count, voters = outcome.policy.quorum_count, sum(1 for model in outcome.models.values() if model.champion)
    if voters < count and len(state.voting) >= state.policy.quorum_count:
        return Rejected(f"a quorum of {count} cannot be reached by {voters} voting models; set the voting policy first")
    return outcome


def _retired(state: State, model: Model) -> bool:
    return model.champion is not None and model.champion in state.retired


def _same(state: State, past: Past) -> bool:
    return (state.policy, state.gate, state.ladder) == (past.policy, past.gate, past.ladder) and (
        state.models is past.models or _votes(state.models) == _votes(past.models)
    )


def _votes(models: Mapping[str, Model]) -> dict[str, tuple[str, float | None]]:
    return {name: (model.champion, model.weight) for name, model in models.items() if model.champion is not None}
