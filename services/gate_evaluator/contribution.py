"""Measure the contribution of each voting member over complete rounds."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from schemas.control import RegisterArtifact
from schemas.gates import ContributionsMeasured, Worth
from schemas.scores import PredictionScored
from services.gate_evaluator.events import member_score
from shared.control.state import Past
from shared.gates import contribution
from shared.gates.contribution import MOST_MEMBERS, ContributionPanel, Contributions
from shared.voting.pool import log_prior, member_of, pool_of

GROWTH: Final = 8
"""The contributions are written again once the number of rounds has grown by an eighth."""


class ContributionState(Struct, array_like=True):
    """The contributions of ``champions``: model, artifact and weight of each. ``version``: the newest configuration
    seen in a score; ``written_at``: the number of rounds when they were last written."""

    version: int
    champions: tuple[tuple[str, str, float], ...]
    fold: Contributions
    written_at: int = 0


def follow(
    state: ContributionState | None, version: int, past: Past, artifacts: Mapping[str, RegisterArtifact]
) -> ContributionState | None:
    """Return the state for the configuration of a score: a new one if champions, weights or the pool have changed.
    None if there are fewer than two champions, or too many for exact values."""
    if state is not None and state.version >= version:
        return state
    champions = tuple(
        sorted((name, slot.champion, slot.weight or 0.0) for name, slot in past.models.items() if slot.champion)
    )
    temperature, rule = past.policy.temperature, pool_of(past.policy)
    if state is not None and state.champions == champions and _pool(state) == (temperature, rule):
        state.version = version
        return state
    if not 2 <= len(champions) <= MOST_MEMBERS:
        return None
    members = [member_of(artifacts[artifact], name, weight) for name, artifact, weight in champions]
    panel = ContributionPanel(
        members=tuple(member.model for member in members),
        weights=tuple(member.weight for member in members),
        centres=tuple(member.centre for member in members),
        log_prior=log_prior((member.weight, member.prior) for member in members),
        temperature=temperature,
        rule=rule,
        moving=() if rule == "logpool" else tuple(member.moving for member in members),
    )
    return ContributionState(version, champions, contribution.initial(panel))


def _pool(state: ContributionState) -> tuple[float, str]:
    panel = state.fold.panel
    return panel.temperature, panel.rule


def evolve(state: ContributionState, score: PredictionScored, event: str, version: int) -> ContributionsMeasured | None:
    """Add the score of a voting member. Return the event to write if enough rounds were added since the last one."""
    if (score.model, score.artifact.hex()) not in {(name, artifact) for name, artifact, _ in state.champions}:
        return None
    contribution.evolve(state.fold, member_score(score))
    valued = state.fold.valued
    if valued == state.written_at or valued < state.written_at + state.written_at // GROWTH:
        return None
    state.written_at = valued
    members = {
        member.model: Worth(member.shapley, member.leave_one_out)
        for member in contribution.member_contributions(state.fold)
    }
    return ContributionsMeasured(members, valued, event, version)
