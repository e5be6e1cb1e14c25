"""Fit a stacker on recorded rounds: penalised multinomial logistic regression on top of a pool.

With the probabilities P of the pool, the centred evidence x of the members and the outcome y, W minimises

    mean over rounds of -log softmax(log P + W x)_y + penalty / 2 ||W||^2

so the penalty shrinks it towards W = 0, the pool. Each penalty is fitted on the earlier rounds of the fit and tried on
the later ones. If the best of them does not gain two standard errors over the pool there, there is no stacker.

SciPy minimises it (L-BFGS): scikit-learn's logistic regression has no offset, in whose place P stands. The problem is
convex.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from msgspec import UNSET, structs
from numpy.typing import NDArray

from schemas.control import SetVotingPolicy, StackedMember, Stacker
from shared.families.libraries import library
from shared.tuning.rounds import DecidedRound
from shared.voting.arithmetic import FLOOR, evidence_of
from shared.voting.pool import Member, pool_of, vote

PENALTIES: Final = (1.0, 0.3, 0.1, 0.03, 0.01)
INNER: Final = 0.7
"""The part of the rounds on which each penalty is fitted. The others choose among them."""
FEWEST: Final = 500
"""The fewest rounds of a fit."""
CHUNKS: Final = 20
"""Consecutive parts of the later rounds, from whose means the standard error is computed: labels overlap."""
Values = NDArray[np.float64]


class NoStackerError(ValueError):
    """There is no stacker to propose; the message says why."""


def fitted_policy(rounds: Sequence[DecidedRound], policy: SetVotingPolicy) -> SetVotingPolicy:
    """Return ``policy`` with a stacker on top of its pool, fitted on the rounds of its members, which must be in the
    order of their bars. The members are those of the last round. Raises ``NoStackerError``."""
    members = rounds[-1].panel.members if rounds else ()
    whole = [each for each in rounds if _has_all(each, members)]
    if len(whole) < FEWEST:
        raise NoStackerError(f"{len(whole):,} rounds have a ballot of every member as it votes now, expected {FEWEST}")
    base = pool_of(policy)
    below = structs.replace(policy, rule=base, stacker=UNSET)
    pooled = np.array([vote(each.panel._replace(policy=below), each.ballots).probabilities for each in whole])
    evidence = np.array(
        [[evidence_of(each.ballots[member.model], member.centre) for member in members] for each in whole]
    ).reshape(len(whole), -1)
    outcomes = np.array([each.outcome for each in whole])
    offset = np.log(np.maximum(pooled, FLOOR))
    weights = chosen_fit(offset, evidence, outcomes)
    by_member = weights.reshape(3, len(members), 3).transpose(1, 0, 2)
    stacked = tuple(
        StackedMember(member.model, member.artifact, _rows(rows))
        for member, rows in zip(members, by_member, strict=True)
    )
    return structs.replace(below, rule="stacker", stacker=Stacker(base, stacked))


def chosen_fit(offset: Values, evidence: Values, outcomes: NDArray[np.int64]) -> Values:
    """Return W [3, F] under the penalty that predicts the later rounds best, fitted on all of them. Raises
    ``NoStackerError``.

    ``offset`` [N, 3]: the log probabilities of the pool; ``evidence`` [N, F]; ``outcomes`` [N]."""
    cut = int(INNER * len(outcomes))
    later = offset[cut:], evidence[cut:], outcomes[cut:]
    pooled = log_losses(np.zeros((3, evidence.shape[1])), *later)
    gains = {
        penalty: pooled - log_losses(fit(offset[:cut], evidence[:cut], outcomes[:cut], penalty), *later)
        for penalty in PENALTIES
    }
    best = max(PENALTIES, key=lambda penalty: float(gains[penalty].mean()))
    means = np.array([chunk.mean() for chunk in np.array_split(gains[best], CHUNKS)])
    gain, error = float(gains[best].mean()), float(means.std(ddof=1)) / CHUNKS**0.5
    if gain <= 2 * error:
        raise NoStackerError(
            f"its gain over the pool on rounds after those of its fit is {1000 * gain:+.2f} mnat, with a standard "
            f"error of {1000 * error:.2f}"
        )
    return fit(offset, evidence, outcomes, best)


def fit(offset: Values, evidence: Values, outcomes: NDArray[np.int64], penalty: float) -> Values:
    """Return W [3, F] under one penalty."""
    observed = np.eye(3)[outcomes]

    def loss_and_gradient(flat: Values) -> tuple[float, Values]:
        weights = flat.reshape(3, -1)
        logits = offset + evidence @ weights.T
        shifted = logits - logits.max(axis=1, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        loss = -float((observed * logs).sum(axis=1).mean()) + penalty / 2 * float(flat @ flat)
        gradient = (np.exp(logs) - observed).T @ evidence / len(outcomes) + penalty * weights
        return loss, gradient.ravel()

    start = np.zeros(3 * evidence.shape[1])
    found = library("scipy.optimize").minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B")
    return np.asarray(found.x, dtype=np.float64).reshape(3, -1)


def log_losses(weights: Values, offset: Values, evidence: Values, outcomes: NDArray[np.int64]) -> Values:
    """Return the log loss (nats) of the stacker W [3, F] in each round."""
    logits = offset + evidence @ weights.T
    shifted = logits - logits.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return np.asarray(-logs[np.arange(len(outcomes)), outcomes])


def _has_all(each: DecidedRound, members: Sequence[Member]) -> bool:
    artifacts = {member.model: member.artifact for member in each.panel.members}
    return all(artifacts.get(m.model) == m.artifact and m.model in each.ballots for m in members)


def _rows(values: Values) -> tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]:
    sell, hold, buy = ((float(a), float(b), float(c)) for a, b, c in values)
    return sell, hold, buy
