"""Commands that restore an earlier configuration: a rollback, and the end of a probation without confirmation.

The configuration is the champions with their weights, the voting and gate policies, and the ladder. Each change
records the version it replaced (``State.before``). A rollback restores that version together with its ``before``,
so a second rollback goes further back and does not undo the first. Shadows are not part of the configuration: a
displaced champion becomes a shadow, and so does a voting policy that was promoted. Every other shadow run goes on, and
no model votes that did not vote then.
"""

from collections.abc import Mapping

from immutables import Map
from msgspec import structs

from schemas.common import ENSEMBLE
from schemas.control import RevertProbation, Rollback
from shared.control.apply.policies import with_policy
from shared.control.apply.weights import rescale_others, with_weight
from shared.control.policies import champion_of, policy_digest
from shared.control.state import Model, Past, Rejected, State, short


def rollback(state: State, command: Rollback) -> State | Rejected:
    """Restore the whole configuration, one model's champion, or the voting policy (model ``ENSEMBLE``): of version
    ``to``, or from before the last change."""
    if command.to is not None and command.to >= state.version:
        return Rejected(f"version {command.to} is not before the present one, {state.version}; choose an earlier one")
    if command.model == ENSEMBLE and state.policies:
        return _restore_policy(state, command.to)
    if command.model is not None:
        return _restore_model(state, command.model, command.to)
    target = command.to if command.to is not None else state.before
    while command.to is None and target and _decides_alike(state, state.past[target]):
        target = state.past[target].before
    if target == 0:
        return Rejected("nothing to go back to: this is the first configuration that decides")
    return _restore_all(state, target)


def revert_probation(state: State, command: RevertProbation) -> State | Rejected:
    """Restore the champion or the voting policy that a promotion on probation replaced. A weight that came with the
    promotion is reverted too, unless weights were changed since."""
    name = command.model
    probation = state.probations.get(name)
    if probation is None or probation.artifact != command.artifact:
        return Rejected(f"no probation of {short(command.artifact)} for {name!r} is open")
    if command.decisions < probation.decisions:
        return Rejected(
            f"{command.decisions} of {probation.decisions} decisions of the probation have been scored; "
            "wait, or roll back by hand"
        )
    if name == ENSEMBLE and state.policies:
        return _restore_policy(state, None)
    current = state.models[name]
    former = state.model_at(current.before, name)
    after = _restore_champion(state, name, former)
    unchanged = current.weight == state.model_at(probation.version, name).weight
    if isinstance(after, Rejected) or former.weight is None or former.weight == current.weight or not unchanged:
        return after
    return structs.replace(after, models=with_weight(after.models, name, former.weight))


def _restore_all(state: State, target: int) -> State | Rejected:
    past = state.past[target]
    former = {name: model for name, model in past.models.items() if model.champion is not None}
    if not former:
        return Rejected(f"no model voted at version {target}; `halt` stops intents, a promotion changes who votes")
    retired = [f"{short(model.champion or '')} of {name!r}" for name, model in former.items() if _retired(state, model)]
    if retired:
        return Rejected(f"version {target} voted with {', '.join(sorted(retired))}, retired since; go back elsewhere")
    if _decides_alike(state, past):
        return Rejected(f"version {target} decides as the present one, {state.version}, does; there is nothing to do")
    names = sorted({*state.models, *former})
    models = {name: _restored(state.model(name), former.get(name, Model())) for name in names}
    restored = state
    if past.policy != state.policy:
        restored = structs.replace(with_policy(state, past.policy), policy_before=past.policy_before)
    after = structs.replace(restored, models=models, gate=past.gate, ladder=past.ladder, before=past.before)
    return _checked(state, after)


def _restore_policy(state: State, to: int | None) -> State | Rejected:
    """Restore an earlier voting policy, under the present champions and weights."""
    target = state.policy_before if to is None else to
    if target == 0:
        return Rejected("the voting policy in force is the first one; there is none to go back to")
    past, now = state.past[target], short(policy_digest(state.policy))
    if past.policy == state.policy:
        return Rejected(f"voting policy {now} was in force at version {target} as at the present one; nothing to do")
    after = structs.replace(with_policy(state, past.policy), policy_before=past.policy_before)
    before = state.before
    while before and (state.past[before].policy == state.policy or _decides_alike(after, state.past[before])):
        before = state.past[before].before
    return _checked(state, structs.replace(after, before=before))


def _restore_model(state: State, name: str, to: int | None) -> State | Rejected:
    current = state.model(name)
    if to is None and current.champion is None:
        return Rejected(f"{name!r} does not vote; the voting models are {', '.join(state.voting) or 'none'}")
    target = current.before if to is None else to
    if target == 0:
        return Rejected(
            f"{short(current.champion or '')} is the first champion of {name!r}; "
            "`--to` a version in which it did not vote takes the model out"
        )
    former = state.model_at(target, name)
    if former.champion == current.champion:
        who = f"{short(current.champion)} voted" if current.champion else "nobody voted"
        return Rejected(f"{who} for {name!r} at version {target} as at the present one; there is nothing to do")
    return _restore_champion(state, name, former)


def _restore_champion(state: State, name: str, former: Model) -> State | Rejected:
    """Restore one model's earlier champion under the present weights. If it had none, the model stops voting and the
    others share its weight. If it has none now, it gets its earlier weight back."""
    current = state.models[name]
    if _retired(state, former):
        return Rejected(f"{short(former.champion or '')} of {name!r} was retired since; go back elsewhere")
    if former.champion is None and state.voting == (name,):
        return Rejected(f"{name!r} is the only voting model; promote another one, or `halt`")
    models: Mapping[str, Model] = {**state.models, name: _restored(current, former)}
    if current.champion is None:
        models = rescale_others(models, name, former.weight or 0.0)
    elif former.champion is None:
        models = rescale_others(models, name, 0.0)
    else:
        models = {**models, name: structs.replace(models[name], weight=current.weight)}
    after = structs.replace(state, models=models)
    before = state.before
    while before and (_champion_left(state, before, name) or _decides_alike(after, state.past[before])):
        before = state.past[before].before
    return _checked(state, structs.replace(after, before=before))


def _champion_left(state: State, version: int, name: str) -> bool:
    """Return whether restoring ``version`` would bring back the champion that this rollback replaces."""
    current = state.models[name].champion
    return current is not None and state.model_at(version, name).champion == current


def _restored(current: Model, former: Model) -> Model:
    """Return ``former`` with the present shadows, and with the displaced champion among them."""
    if current.champion == former.champion:
        return structs.replace(former, shadows=current.shadows)
    shadows = tuple([shadow for shadow in current.shadows if shadow != former.champion])
    if current.champion is not None:
        shadows = (*shadows, current.champion)
    return structs.replace(former, shadows=shadows)


def _checked(state: State, after: State) -> State | Rejected:
    """Refuse ``after`` if its voting models no longer reach its quorum; end the probations whose artifact no longer
    votes."""
    count, voters = after.policy.quorum_count, len(after.voting)
    if voters < count and len(state.voting) >= state.policy.quorum_count:
        return Rejected(f"a quorum of {count} cannot be reached by {voters} voting models; set the voting policy first")
    if not state.probations:
        return after
    open_ones = {name: each for name, each in after.probations.items() if champion_of(after, name) == each.artifact}
    return structs.replace(after, probations=Map(open_ones))


def _retired(state: State, model: Model) -> bool:
    return model.champion is not None and model.champion in state.retired


def _decides_alike(state: State, past: Past) -> bool:
    return (state.policy, state.gate, state.ladder) == (past.policy, past.gate, past.ladder) and (
        state.models is past.models or _votes(state.models) == _votes(past.models)
    )


def _votes(models: Mapping[str, Model]) -> dict[str, tuple[str, float | None]]:
    return {name: (model.champion, model.weight) for name, model in models.items() if model.champion is not None}
