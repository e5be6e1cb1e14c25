"""Weights: whoever takes a share leaves the rest to the others, in their proportions."""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Final

from msgspec import structs

from schemas.control import SetLadder, StepWeight
from shared.control.state import Model, Rejected, State

SUM_WITHIN: Final = 1e-9


def refused_weights(state: State, weights: dict[str, float]) -> Rejected | None:
    """Weights are for exactly the voting models, and sum to one."""
    extra, missing = sorted(set(weights) - set(state.voting)), sorted(set(state.voting) - set(weights))
    if extra or missing:
        return Rejected(
            f"weights are for exactly the voting models ({', '.join(state.voting) or 'none'}); "
            f"without a member: {', '.join(extra) or 'none'}; without a weight: {', '.join(missing) or 'none'}"
        )
    total = math.fsum(weights.values())
    if abs(total - 1) > SUM_WITHIN:
        return Rejected(f"weights sum to {total:.6g}, expected 1: {weights}")
    return None


def refused_ladder(ladder: SetLadder) -> Rejected | None:
    """Steps ascend between zero and one."""
    steps = ladder.steps
    if not steps or steps[0] <= 0 or steps[-1] >= 1 or any(a >= b for a, b in pairwise(steps)):
        return Rejected(f"the steps of a ladder ascend between 0 and 1, such as 0.05 0.1 0.15; got {steps}")
    return None


def step(state: State, command: StepWeight) -> float | Rejected:
    """The weight after a step: the next one of the ladder in that direction."""
    model, steps = state.models.get(command.model, Model()), state.ladder.steps
    if model.champion is None or model.weight is None:
        return Rejected(f"{command.model!r} does not vote; the voting models are {', '.join(state.voting) or 'none'}")
    if command.automatic and not state.ladder.automatic:
        return Rejected("the ladder is for people only; `SetLadder` with automatic lets the gate-evaluator take steps")
    if len(state.voting) == 1:
        return Rejected(f"{command.model!r} is the only voting model: its weight stays 1")
    ahead = [s for s in steps if (s > model.weight + SUM_WITHIN if command.up else s < model.weight - SUM_WITHIN)]
    if not ahead:
        end = f"top, {steps[-1]:g}" if command.up else f"foot, {steps[0]:g}"
        return Rejected(
            f"{command.model!r} weighs {model.weight:g}: the {end}, of the ladder is reached; "
            "set weights by hand, or another ladder"
        )
    return ahead[0] if command.up else ahead[-1]


def yielding(models: Mapping[str, Model], name: str, weight: float) -> Mapping[str, Model]:
    """``models`` with every voting model but ``name`` scaled to what ``weight`` leaves."""
    others = sorted(other for other, model in models.items() if model.champion and other != name)
    total = math.fsum(models[other].weight or 0.0 for other in others)
    scaled = {}
    for other in others:
        share = (models[other].weight or 0.0) / total if total else 1 / len(others)
        scaled[other] = structs.replace(models[other], weight=(1 - weight) * share)
    return {**models, **scaled}
