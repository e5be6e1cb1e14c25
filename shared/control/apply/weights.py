"""Commands about the weights of the voting models: set all, set the ladder, step one. Weights sum to one."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Final

from msgspec import structs

from schemas.control import SetLadder, SetWeights, StepWeight
from shared.control.state import Model, Rejected, State

TOLERANCE: Final = 1e-9
"""Largest difference at which two weights, or a sum of weights and one, count as equal."""


def set_weights(state: State, command: SetWeights) -> State | Rejected:
    """Set the weight of every voting model. Weights as they are change nothing, and leave nothing to roll back."""
    weights, voting = command.weights, state.voting
    extra, missing = sorted(set(weights) - set(voting)), sorted(set(voting) - set(weights))
    if extra or missing:
        return Rejected(
            f"weights are for exactly the voting models ({', '.join(voting) or 'none'}); "
            f"without a member: {', '.join(extra) or 'none'}; without a weight: {', '.join(missing) or 'none'}"
        )
    total = math.fsum(weights.values())
    if abs(total - 1) > TOLERANCE:
        return Rejected(f"weights sum to {total:.6g}, expected 1: {weights}")
    weighed = {name: structs.replace(state.models[name], weight=weight) for name, weight in weights.items()}
    models = {**state.models, **weighed}
    if models == state.models:
        return state
    return structs.replace(state, models=models, before=state.version)


def set_ladder(state: State, command: SetLadder) -> State | Rejected:
    """Set the weights that ``StepWeight`` moves through: ascending, between zero and one."""
    steps = command.steps
    if not steps or steps[0] <= 0 or steps[-1] >= 1 or any(a >= b for a, b in pairwise(steps)):
        return Rejected(f"the steps of a ladder ascend between 0 and 1, such as 0.05 0.1 0.15; got {steps}")
    return state if command == state.ladder else structs.replace(state, ladder=command, before=state.version)


def step_weight(state: State, command: StepWeight) -> State | Rejected:
    """Move a voting model to the next weight of the ladder, up or down; the others keep their proportions."""
    name, ladder = command.model, state.ladder
    model, steps = state.model(name), ladder.steps
    if model.champion is None or model.weight is None:
        return Rejected(f"{name!r} does not vote; the voting models are {', '.join(state.voting) or 'none'}")
    if command.automatic and not ladder.automatic:
        return Rejected("the ladder is for people only; `SetLadder` with automatic lets the gate-evaluator take steps")
    if len(state.voting) == 1:
        return Rejected(f"{name!r} is the only voting model: its weight stays 1")
    if command.up:
        weight = min((step for step in steps if step > model.weight + TOLERANCE), default=None)
    else:
        weight = max((step for step in steps if step < model.weight - TOLERANCE), default=None)
    if weight is None:
        end = f"top, {steps[-1]:g}" if command.up else f"foot, {steps[0]:g}"
        return Rejected(
            f"{name!r} weighs {model.weight:g}: the {end}, of the ladder is reached; "
            "set weights by hand, or another ladder"
        )
    return structs.replace(state, models=with_weight(state.models, name, weight), before=state.version)


def with_weight(models: Mapping[str, Model], name: str, weight: float) -> Mapping[str, Model]:
    """Return ``models`` with ``name`` at ``weight``, and the other voting models scaled to share the rest."""
    return {**rescale_others(models, name, weight), name: structs.replace(models[name], weight=weight)}


def rescale_others(models: Mapping[str, Model], name: str, weight: float) -> Mapping[str, Model]:
    """Return ``models`` with every voting model except ``name`` scaled to what ``weight`` leaves, in their proportions;
    in equal shares if all of them weigh zero."""
    others = sorted(other for other, model in models.items() if model.champion and other != name)
    total = math.fsum(models[other].weight or 0.0 for other in others)
    scaled = {}
    for other in others:
        share = (models[other].weight or 0.0) / total if total else 1 / len(others)
        scaled[other] = structs.replace(models[other], weight=(1 - weight) * share)
    return {**models, **scaled}
