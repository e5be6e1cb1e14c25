"""The scores of the verdict on a voting policy, as a proof pack states and carries them, and their recount."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

from schemas.gates import VerdictReached
from schemas.scores import PredictionScored
from shared.audit.configurations import Configurations
from shared.audit.proof_subject import Subject
from shared.audit.source import ReadEvent
from shared.gates.policies import digest_of

MOST: Final = 20_000
"""Scores that a pack carries for a partition, at most. One takes about 700 bytes of the file."""
FLOOR: Final = 0.01
"""Where probabilities are cut for a gain in log score, as in the gates."""
WITHIN: Final = 1e-9


def verdict_before(verdicts: Iterable[ReadEvent], promoted: Subject, version: int) -> ReadEvent | None:
    """Return the verdict that a promotion names, if it is among those of this partition; otherwise the last one that
    was reached before the promotion."""
    last: ReadEvent | None = None
    for read in verdicts:
        event = read.opened.envelope.event
        if isinstance(event, VerdictReached) and event.artifact == promoted.artifact:
            if read.opened.envelope.id.hex() == promoted.verdict:
                return read
            last = read if event.control_version < version else last
    return last


def scores_of_verdict(
    verdict: ReadEvent, partition: int, scores: Sequence[ReadEvent], configurations: Configurations
) -> tuple[dict[str, Any], Sequence[ReadEvent]]:
    """Return what the scores of a verdict come to, and those that a pack carries. ``scores``: those of the policy
    in this partition, in order. A pack that would be too long, or that cannot find all of them, has the reason."""
    event: VerdictReached = verdict.opened.envelope.event
    claim = {
        "partition": partition, "verdict": verdict.opened.envelope.id.hex(), "in_force": event.champion,
        "first": event.first_score, "last": event.last_score,
    }  # fmt: skip
    counted = _between(event, scores, configurations)
    if len(counted) != event.scores:
        return {**claim, "left_out": f"{len(counted)} scores are recorded, and the verdict counts {event.scores}"}, ()
    if len(counted) > MOST:
        return {**claim, "left_out": f"{len(counted)} scores, and a pack carries at most {MOST} of a partition"}, ()
    return {**claim, **recount(each.opened.envelope.event for each in counted)}, counted


def recount(scores: Iterable[PredictionScored]) -> dict[str, Any]:
    """Return the number of scores of a voting policy, and its means a row over the policy in force: the gain in log
    score (nats), and the gain in return after costs (a fraction)."""
    gains, returns, actions = [], [], 0
    for score in scores:
        if score.incumbent is None or score.incumbent_return is None:
            continue
        at = ("SELL", "HOLD", "BUY").index(score.outcome)
        gains.append(math.log(max(score.probabilities[at], FLOOR)) - math.log(max(score.incumbent[at], FLOOR)))
        returns.append(score.signed_return - score.incumbent_return)
        actions += score.action != "HOLD"
    count = max(len(gains), 1)
    return {
        "scores": len(gains),
        "acts": actions,
        "gain": math.fsum(gains) / count,
        "return": math.fsum(returns) / count,
    }


def same(claim: dict[str, Any], found: dict[str, Any]) -> bool:
    """Return whether a claim is what a recount comes to."""
    return all(abs(claim[name] - found[name]) <= WITHIN for name in found)


def _between(
    verdict: VerdictReached, scores: Sequence[ReadEvent], configurations: Configurations
) -> Sequence[ReadEvent]:
    """Return the scores of a verdict: from its first to its last, those about the same as the first (policy in force,
    label, gate policy). Others were late: the evidence had restarted without them."""
    names = [each.opened.envelope.id.hex() for each in scores]
    if verdict.first_score not in names or verdict.last_score not in names:
        return ()
    part = scores[names.index(verdict.first_score) : names.index(verdict.last_score) + 1]
    label = _label(part[0].opened.envelope.event) if part else None
    return [
        each
        for each in part
        for score in [each.opened.envelope.event]
        if _in_force(score) == verdict.champion
        and _label(score) == label
        and digest_of(configurations.states[score.control_version - 1].gate) == verdict.policy_digest
    ]


def _label(score: PredictionScored) -> tuple[int, float, int]:
    return score.horizon, score.kappa, score.interval_ms


def _in_force(score: PredictionScored) -> str | None:
    return score.incumbent_artifact.hex() if score.incumbent_artifact is not None else None
