"""Value each member's contribution to the ensemble: leave-one-out and exact Shapley values.

The value of a coalition is minus the mean log loss of its pool (``shared.voting.pool``) with the weights unchanged. The
Shapley value of a member is its mean gain over all orders of joining (Shapley 1953), here computed over all 2^N
coalitions. The values of the members sum to the gain of the whole ensemble over its prior. A copy of another member has
a leave-one-out value near zero and shares the Shapley value with it. A constant member has exactly zero of both.

Rounds are valued 256 at a time, at fixed counts, so that a restart changes no bit.
"""

from collections.abc import Iterator, Sequence
from math import factorial
from typing import Final

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from shared.gates.evidence import FLOOR
from shared.gates.rounds import MemberScore, RoundAssembly, ScoredRound, join
from shared.gates.rows import Triple
from shared.voting.arithmetic import FLOOR as LOG_FLOOR
from shared.voting.pool import PoolRule

CHUNK: Final = 256
MOST_MEMBERS: Final = 10

Values = NDArray[np.float64]


class ContributionPanel(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The voting ensemble: members sorted by name, with weights and centres; the pool's log prior, temperature and
    rule. ``moving``: how far each member counts in a mean, empty under ``logpool``."""

    members: tuple[str, ...]
    weights: tuple[float, ...]
    centres: tuple[Triple, ...]
    log_prior: Triple
    temperature: float = 1.0
    rule: PoolRule = "logpool"
    moving: tuple[float, ...] = ()


class Contributions(Struct, array_like=True, forbid_unknown_fields=True):
    """Sums over the rounds valued so far.

    ``gains`` holds the gain of every coalition over the prior, indexed by the bit set of its members. ``pending`` holds
    rounds that are not valued yet: the members' probabilities in one row, and the outcome."""

    panel: ContributionPanel
    rounds: RoundAssembly
    gains: list[float]
    valued: int = 0
    pending: list[tuple[list[float], int]] = field(default_factory=list)


def initial(panel: ContributionPanel) -> Contributions:
    """Return a state without rounds. Raises ``ValueError`` for more than ten members, which need 2^N pools a round."""
    count = len(panel.members)
    if count > MOST_MEMBERS:
        raise ValueError(
            f"exact Shapley values of {count} members take {2**count} pools a round; at most {MOST_MEMBERS}"
        )
    return Contributions(panel, RoundAssembly(panel.members), [0.0] * 2**count)


def evolve(state: Contributions, score: MemberScore) -> Contributions:
    """Add one member's scored prediction; value the rounds when 256 are complete."""
    complete = join(state.rounds, score)
    if complete is not None:
        _add_round(state, complete)
    return state


def _add_round(state: Contributions, complete: ScoredRound) -> None:
    state.pending.append(([p for answer in complete.probabilities for p in answer], complete.outcome))
    if len(state.pending) == CHUNK:
        probabilities = np.array([row for row, _ in state.pending]).reshape(CHUNK, -1, 3)
        outcomes = np.array([outcome for _, outcome in state.pending])
        for coalition, gain in enumerate(coalition_gains(state.panel, probabilities, outcomes).tolist()):
            state.gains[coalition] += gain
        state.valued += CHUNK
        state.pending = []


def coalition_gains(panel: ContributionPanel, probabilities: Values, outcomes: NDArray[np.int64]) -> Values:
    """Return [2^N] the gain in log score of each coalition's pool over the prior's, summed over the rounds.

    ``probabilities`` is [R, N, 3], ``outcomes`` [R]."""
    scores = np.empty(2 ** len(panel.members))
    rows = np.arange(len(outcomes))
    for coalition, pooled in enumerate(coalition_pools(panel, probabilities)):
        scores[coalition] = np.log(np.maximum(pooled[rows, outcomes], FLOOR)).sum()
    gains: Values = scores - scores[0]
    return gains


def coalition_pools(panel: ContributionPanel, probabilities: Values) -> Iterator[Values]:
    """Yield the pool [R, 3] of each coalition, in the order of their bit sets: what ``shared.voting.pool.vote`` returns
    where only its members have a ballot."""
    weights, prior = np.array(panel.weights), np.array(panel.log_prior)
    votes = probabilities if panel.rule == "mean" else np.log(np.maximum(probabilities, LOG_FLOOR))
    if panel.rule == "logpool":
        votes = votes - np.array(panel.centres)
    else:
        weights = weights * np.array(panel.moving)
    votes = votes * weights[:, None]
    sums = [np.zeros((len(probabilities), 3))]
    totals = [0.0]
    for coalition in range(2 ** len(panel.members)):
        if coalition:
            last = coalition.bit_length() - 1
            sums.append(sums[coalition ^ 1 << last] + votes[:, last])
            totals.append(totals[coalition ^ 1 << last] + float(weights[last]))
        if panel.rule == "logpool":
            logits = prior + sums[coalition]
        elif not totals[coalition]:
            yield np.tile(_softmax(prior), (len(probabilities), 1))
            continue
        else:
            mean = sums[coalition] / totals[coalition]
            logits = np.log(np.maximum(mean, LOG_FLOOR)) if panel.rule == "mean" else mean
        yield _softmax(logits / panel.temperature)


def _softmax(logits: Values) -> Values:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    pooled: Values = powers / powers.sum(axis=-1, keepdims=True)
    return pooled


def shapley(gains: Sequence[float], members: int) -> list[float]:
    """Return the exact Shapley value of each member, from the value of every coalition by bit set."""
    share = [factorial(size) * factorial(members - size - 1) / factorial(members) for size in range(members)]
    out = []
    for member in range(members):
        bit = 1 << member
        terms = [
            share[coalition.bit_count()] * (gains[coalition | bit] - gains[coalition])
            for coalition in range(2**members)
            if not coalition & bit
        ]
        out.append(sum(terms))
    return out


def leave_one_out(gains: Sequence[float], members: int) -> list[float]:
    """Return how much the ensemble would lose without each member."""
    whole = 2**members - 1
    return [gains[whole] - gains[whole ^ 1 << member] for member in range(members)]


class MemberContribution(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A member's mean contribution a round, in nats."""

    model: str
    shapley: float
    leave_one_out: float


def member_contributions(state: Contributions) -> tuple[MemberContribution, ...]:
    """Return each member's contribution over the rounds valued so far; empty before the first 256."""
    if not state.valued:
        return ()
    means = [gain / state.valued for gain in state.gains]
    count = len(state.panel.members)
    fair, alone = shapley(means, count), leave_one_out(means, count)
    return tuple(MemberContribution(name, *pair) for name, *pair in zip(state.panel.members, fair, alone, strict=True))
