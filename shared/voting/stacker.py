"""Pool ballots by a stacker: a multinomial logistic regression on top of a pool. Pure.

With the probabilities P of the pool below it, the members' ballots p and their centres c (the mean log probability of
each class over the calibration part),

    logit_k = log P_k + sum_m sum_j W_mkj (log p_mj - c_mj)

W = 0 is the pool. A member that always gives the same probabilities has log p = c, so it contributes nothing. A round
in which a member of the fit has no ballot, or votes with another artifact, is decided by the pool alone: what is
missing is never filled in.

Sums run in the order of the members (by name): the same ballots give the same bits.
"""

from collections.abc import Mapping, Sequence

from schemas.common import Probabilities
from schemas.control import Stacker, Triple
from shared.voting.arithmetic import ZERO, evidence_of, softmax


def complete(stacker: Stacker, present: Mapping[str, str]) -> bool:
    """Return whether every member of the fit has a ballot. ``present``: the artifact of each ballot, by model."""
    return all(present.get(member.model) == member.artifact for member in stacker.members)


def stacked(
    stacker: Stacker, pooled: Probabilities, ballots: Mapping[str, Probabilities], centres: Mapping[str, Triple]
) -> Probabilities:
    """Return the probabilities of a complete round. ``pooled``: those of the pool below."""
    logits: Sequence[float] = evidence_of(pooled, ZERO)
    for member in stacker.members:
        e0, e1, e2 = evidence_of(ballots[member.model], centres[member.model])
        logits = [
            logit + (row[0] * e0 + row[1] * e1 + row[2] * e2) for logit, row in zip(logits, member.rows, strict=True)
        ]
    sell, hold, buy = logits
    return softmax(sell, hold, buy)
