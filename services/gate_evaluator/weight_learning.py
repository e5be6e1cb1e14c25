"""Learn the weights of the voting members from their results over complete rounds."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from schemas.control import RegisterArtifact, SetVotingPolicy
from schemas.scores import PredictionScored
from services.gate_evaluator.events import member_score
from shared.control.state import Model
from shared.gates import weights
from shared.gates.weights import Step, WeightedMember, Weights
from shared.voting.pool import member_of, pool_of

SAME_WITHIN: Final = 1e-9


class WeightLearning(Struct, array_like=True):
    """The weights that are learned for ``champions`` (model and artifact). ``in_force``: the weights that control had.
    ``version``: the newest configuration seen in a score."""

    version: int
    champions: tuple[tuple[str, str], ...]
    in_force: dict[str, float]
    fold: Weights


def follow(
    state: WeightLearning | None,
    version: int,
    slots: Mapping[str, Model],
    artifacts: Mapping[str, RegisterArtifact],
    policy: SetVotingPolicy,
    score: PredictionScored,
) -> WeightLearning | None:
    """Return the state for the configuration of a score. It continues while champions and pool are the same, and the
    weights are those of before or those that it proposed. None if there are fewer than two champions with a weight."""
    champions = tuple(sorted((name, slot.champion) for name, slot in slots.items() if slot.champion))
    in_force = {name: slots[name].weight or 0.0 for name, _ in champions}
    if state is not None and state.version >= version:
        return state
    rule = pool_of(policy)
    if state is not None and state.champions == champions and state.fold.rule == rule:
        state.version = version
        if _same(in_force, state.in_force) or _same(in_force, weights.proposal(state.fold)):
            state.in_force = in_force
            return state
    if len(champions) < 2 or sum(in_force.values()) <= 0.0:
        return None
    chosen = [member_of(artifacts[artifact], name, in_force[name]) for name, artifact in champions]
    fold = weights.initial(
        [
            WeightedMember(member.model, member.weight, member.centre, member.prior, moving=member.moving)
            for member in chosen
        ],
        horizon=score.horizon,
        interval_ms=score.interval_ms,
        temperature=policy.temperature,
        rule=rule,
    )
    return WeightLearning(version, champions, in_force, fold)


def evolve(state: WeightLearning, score: PredictionScored) -> Step | None:
    """Add the score of a voting member. Return the step of the block that it closed, if it closed one."""
    if (score.model, score.artifact.hex()) not in state.champions:
        return None
    return weights.evolve(state.fold, member_score(score))


def _same(first: Mapping[str, float], other: Mapping[str, float]) -> bool:
    return first.keys() == other.keys() and all(abs(first[name] - other[name]) <= SAME_WITHIN for name in first)
