"""Weights by results: the fold over complete rounds, and when it begins anew."""

from collections.abc import Mapping

from msgspec import Struct

from schemas.common import ACTIONS
from schemas.control import RegisterArtifact
from schemas.scores import PredictionScored
from shared.control.state import Model
from shared.gates import weights
from shared.gates.rounds import MemberScore
from shared.gates.weights import Step, WeightedMember, Weights

SAME_WITHIN = 1e-9


class Learner(Struct, array_like=True):
    """``champions`` are those that the weights are learned for, with the weights that control had;
    ``version`` the newest configuration that was seen in a score."""

    version: int
    champions: tuple[tuple[str, str], ...]
    held: dict[str, float]
    fold: Weights


def follow(
    learner: Learner | None,
    version: int,
    slots: Mapping[str, Model],
    artifacts: Mapping[str, RegisterArtifact],
    temperature: float,
    score: PredictionScored,
) -> Learner | None:
    """The learner for the configuration of a score: the same while champions are the same and weights
    are those it had, or those it proposed; None where there is nothing to weigh."""
    champions = tuple(sorted((name, slot.champion) for name, slot in slots.items() if slot.champion))
    held = {name: slots[name].weight or 0.0 for name, _ in champions}
    if learner is not None and learner.version >= version:
        return learner
    if learner is not None and learner.champions == champions:
        learner.version = version
        if _same(held, learner.held) or _same(held, weights.proposal(learner.fold)):
            learner.held = held
            return learner
    if len(champions) < 2 or sum(held.values()) <= 0.0:
        return None
    members = [
        WeightedMember(name, held[name], artifacts[artifact].centre, artifacts[artifact].prior)
        for name, artifact in champions
    ]
    fold = weights.initial(members, horizon=score.horizon, interval_ms=score.interval_ms, temperature=temperature)
    return Learner(version, champions, held, fold)


def take(learner: Learner, score: PredictionScored) -> Step | None:
    """A voting member's score; the step of the block that it closed, if it did."""
    if (score.model, score.artifact.hex()) not in learner.champions:
        return None
    said = MemberScore(score.model, score.symbol, score.open_time, score.probabilities, ACTIONS.index(score.outcome))
    return weights.evolve(learner.fold, said)


def _same(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    return one.keys() == other.keys() and all(abs(one[name] - other[name]) <= SAME_WITHIN for name in one)
