"""What each voting member is worth: the fold over complete rounds, and when it begins anew."""

from collections.abc import Mapping

from msgspec import Struct

from schemas.common import ACTIONS
from schemas.control import RegisterArtifact
from schemas.gates import ContributionsMeasured, Worth
from schemas.scores import PredictionScored
from shared.control.state import Past
from shared.gates import contribution
from shared.gates.contribution import MOST_MEMBERS, ContributionPanel, Contributions
from shared.gates.rounds import MemberScore
from shared.voting.pool import log_prior

ANEW = 8
"""Said again once an eighth more rounds have been valued."""


class Measure(Struct, array_like=True):
    """``champions`` with their artifacts and weights; ``version`` the newest configuration seen in a score;
    ``said`` after how many rounds."""

    version: int
    champions: tuple[tuple[str, str, float], ...]
    fold: Contributions
    said: int = 0


def follow(
    measure: Measure | None, version: int, past: Past, artifacts: Mapping[str, RegisterArtifact]
) -> Measure | None:
    """The measure for the configuration of a score; None where there is nobody to compare, or too many for
    exact values."""
    if measure is not None and measure.version >= version:
        return measure
    champions = tuple(
        sorted((name, slot.champion, slot.weight or 0.0) for name, slot in past.models.items() if slot.champion)
    )
    if measure is not None and (champions, past.policy.temperature) == (
        measure.champions,
        measure.fold.panel.temperature,
    ):
        measure.version = version
        return measure
    if not 2 <= len(champions) <= MOST_MEMBERS:
        return None
    known = [artifacts[artifact] for _, artifact, _ in champions]
    shares = [weight for *_, weight in champions]
    panel = ContributionPanel(
        tuple(name for name, *_ in champions),
        tuple(shares),
        tuple(one.centre for one in known),
        log_prior((share, one.prior) for one, share in zip(known, shares, strict=True)),
        past.policy.temperature,
    )
    return Measure(version, champions, contribution.initial(panel))


def take(measure: Measure, score: PredictionScored, event: str, version: int) -> ContributionsMeasured | None:
    """A voting member's score; what is to be said, where enough more was valued."""
    if (score.model, score.artifact.hex()) not in {(name, artifact) for name, artifact, _ in measure.champions}:
        return None
    said = MemberScore(score.model, score.symbol, score.open_time, score.probabilities, ACTIONS.index(score.outcome))
    contribution.evolve(measure.fold, said)
    valued = measure.fold.valued
    if valued == measure.said or valued < measure.said + measure.said // ANEW:
        return None
    measure.said = valued
    members = {
        one.model: Worth(one.shapley, one.leave_one_out) for one in contribution.member_contributions(measure.fold)
    }
    return ContributionsMeasured(members, valued, event, version)
