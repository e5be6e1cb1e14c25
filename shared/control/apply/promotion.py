"""Commands about a new champion: promote an artifact, confirm the promotion after its probation."""

from msgspec import structs

from schemas.control import ConfirmPromotion, Promote
from shared.control.apply.artifacts import unusable
from shared.control.apply.weights import rescale_others
from shared.control.differences import differences
from shared.control.state import Model, Probation, Rejected, State, short


def promote(state: State, command: Promote, at: int) -> State | Rejected:
    """Make an artifact its model's champion. The former champion becomes a shadow: it stays loaded for a rollback, and
    its scores can be paired with its successor's. A probation that was open for the model ends."""
    name = command.model
    model = state.model(name)
    refused = _refusal(state, command, model)
    if refused is not None:
        return refused
    shadows = tuple([shadow for shadow in model.shadows if shadow != command.artifact])
    if model.champion is not None:
        shadows = (*shadows, model.champion)
    models, weight = state.models, model.weight
    if command.weight is not None:
        weight = command.weight
        models = rescale_others(models, name, weight)
    before = state.version if model.champion is not None else 0
    models = {**models, name: Model(command.artifact, shadows, weight, before)}
    probations = state.probations.delete(name) if name in state.probations else state.probations
    if command.probation is not None:
        probations = probations.set(name, Probation(command.artifact, state.version + 1, command.probation, at))
    return structs.replace(state, models=models, probations=probations, before=state.version)


def confirm(state: State, command: ConfirmPromotion) -> State | Rejected:
    """End a probation; the champion stays."""
    name, artifact = command.model, command.artifact
    probation = state.probations.get(name)
    if probation is None or probation.artifact != artifact:
        return Rejected(f"no probation of {short(artifact)} for {name!r} is open; there is nothing to confirm")
    return structs.replace(state, probations=state.probations.delete(name))


def _refusal(state: State, command: Promote, model: Model) -> Rejected | None:
    """Return all that keeps an artifact from being promoted, in one message; None if nothing does."""
    if model.champion == command.artifact:
        return Rejected(f"{short(command.artifact)} is the champion of {command.model!r} already")
    refused = unusable(state, command.model, command.artifact)
    if refused is not None:
        return refused
    others = [name for name in state.voting if name != command.model]
    problems = [
        *_evidence_problems(state, command),
        *_unaccepted_changes(state, command, model),
        *_weight_problems(command, model, others),
    ]
    if command.probation is not None and model.champion is None and not others:
        problems.append("a probation needs something to go back to, and nobody else votes; promote without")
    return Rejected("; ".join(problems)) if problems else None


def _evidence_problems(state: State, command: Promote) -> list[str]:
    """Return which evidence is missing: a passing verdict, a ready worker in each partition. ``forced`` needs none."""
    if command.forced:
        return []
    problems, ready = [], len(set(command.ready))
    if command.verdict is None:
        problems.append(f"no passing gate verdict for {short(command.artifact)}; --force with a reason overrides")
    if ready < state.partitions:
        problems.append(
            f"{short(command.artifact)} is ready in {ready} of {state.partitions} partitions; "
            "start it in shadow and wait until its workers have loaded it, or --force"
        )
    return problems


def _unaccepted_changes(state: State, command: Promote, model: Model) -> list[str]:
    """Return the differences from the champion, unless ``accept_changes`` accepts them. A forced promotion passes if
    either artifact was registered without feature names: the first release recorded such promotions."""
    if model.champion is None or command.accept_changes:
        return []
    old, new = state.artifacts[model.champion], state.artifacts[command.artifact]
    if command.forced and not (old.features and new.features):
        return []
    changes = differences(old, new)
    if not changes:
        return []
    artifact, champion = short(command.artifact), short(model.champion)
    return [f"{artifact} differs from the champion {champion}: {'; '.join(changes)}; --accept-changes"]


def _weight_problems(command: Promote, model: Model, others: list[str]) -> list[str]:
    if command.weight is None:
        if model.weight is not None:
            return []
        return [f"{command.model!r} has no weight yet; state one (--weight), the others shrink in proportion"]
    if not others and command.weight != 1.0:
        return [f"{command.model!r} is the only voting model: its weight is 1, not {command.weight}"]
    if others and command.weight == 1.0:
        return [f"weight 1 would leave nothing for {', '.join(others)}; retire them or choose less"]
    return []
