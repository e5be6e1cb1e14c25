"""One artifact in shadow: its evidence, and when there is something to say about it."""

import math
from collections.abc import Mapping
from typing import Final

from msgspec import Struct, structs

from schemas.control import Backtest
from schemas.gates import GateVerdict, VerdictReached
from schemas.scores import PredictionScored
from shared.gates import classic, default, evidence
from shared.gates.classic import ClassicPolicy, Tally
from shared.gates.evidence import Evidence
from shared.gates.policies import Policy
from shared.gates.policy import DefaultPolicy
from shared.gates.rows import Key, Plan, row_of
from shared.gates.verdicts import Gate, Judgement, gate

EVERY: Final = 500
"""A verdict is written at least every so many scores."""
LOOK: Final = 250
"""Gates are looked at every so many scores. A look costs a hundred scores; a later one loses no evidence."""


class Candidate(Struct, array_like=True):
    """The evidence about one artifact. ``version`` is the newest configuration that it was scored under;
    ``overall`` the last verdict that was written, ``said`` after how many scores; ``label`` its horizon, threshold
    and interval (ms)."""

    key: Key
    version: int
    evidence: Evidence | None
    tally: Tally | None
    scores: int = 0
    since: int = -1
    until: int = -1
    first_score: str = ""
    last_score: str = ""
    overall: str = ""
    said: int = 0
    label: tuple[int, float, int] = (0, 0.0, 0)


def begin(
    key: Key, version: int, policy: Policy, score: PredictionScored, backtest: Backtest | None = None
) -> Candidate:
    """No evidence yet. ``backtest``: what training left to hold it against."""
    label = (score.horizon, score.kappa, score.interval_ms)
    if isinstance(policy.thresholds, ClassicPolicy):
        return Candidate(key, version, None, classic.initial(policy.thresholds), label=label)
    rules = policy.thresholds
    plan = Plan(key, score.horizon, score.interval_ms)
    if backtest is not None:
        scales = structs.replace(plan.scales, prior=backtest.scale)
        plan = structs.replace(plan, scales=scales, response=backtest.response)
    found = evidence.initial(plan, rules.margin, _whole(rules.block_ms, score))
    return Candidate(key, version, found, None, label=label)


def _whole(block_ms: int, score: PredictionScored) -> int:
    """A block length that the fold takes: whole bars, with room for the purge; else its own choice."""
    lawful = block_ms % score.interval_ms == 0 and block_ms > score.horizon * score.interval_ms
    return block_ms if lawful else 0


def take(candidate: Candidate, score: PredictionScored, event: str) -> None:
    """Folds one score, in place."""
    row = row_of(score)
    if candidate.evidence is not None:
        evidence.evolve(candidate.evidence, row)
    if candidate.tally is not None:
        classic.evolve(candidate.tally, row)
    candidate.scores += 1
    candidate.since = score.open_time if candidate.since < 0 else min(candidate.since, score.open_time)
    candidate.until = max(candidate.until, score.open_time)
    candidate.first_score = candidate.first_score or event
    candidate.last_score = event


def fail(candidate: Candidate) -> None:
    """A prediction that should have come and did not."""
    if candidate.evidence is not None:
        evidence.fail(candidate.evidence)


def judge(candidate: Candidate, policy: Policy, latest: int, rivals: Mapping[str, float]) -> Judgement:
    """What the policy says now; changes nothing."""
    if policy.fault:
        unusable = gate("policy", "inconclusive", 0, 0, 0, "critical", detail=policy.fault)
        return Judgement("inconclusive", (unusable,), 0.0, "correct the gate policy")
    if candidate.tally is not None:
        rules = policy.thresholds if isinstance(policy.thresholds, ClassicPolicy) else ClassicPolicy()
        return classic.judge(candidate.tally, rules)
    assert candidate.evidence is not None
    limits = policy.thresholds if isinstance(policy.thresholds, DefaultPolicy) else DefaultPolicy()
    return default.judge(candidate.evidence, limits, latest=latest, rivals=rivals if len(rivals) > 1 else None)


def claim(candidate: Candidate) -> float | None:
    """What it claims among its rivals; None for a policy that claims nothing."""
    return default.claim(candidate.evidence) if candidate.evidence is not None else None


def verdict(candidate: Candidate, policy: Policy, found: Judgement, version: int) -> VerdictReached:
    """The event, and the note that it was written."""
    candidate.overall, candidate.said = found.outcome, candidate.scores
    key = candidate.key
    return VerdictReached(
        model=key.model,
        artifact=key.artifact,
        champion=key.champion or None,
        policy=policy.name,
        policy_digest=policy.digest,
        overall=found.outcome,
        gates=tuple(map(_said, found.gates)),
        scores=candidate.scores,
        since=candidate.since,
        until=candidate.until,
        first_score=candidate.first_score,
        last_score=candidate.last_score,
        control_version=version,
        recommended_weight=found.weight,
        advice=found.advice[:2000],
    )


def _said(one: Gate) -> GateVerdict:
    return GateVerdict(
        one.name,
        one.outcome,
        one.kind,
        finite(one.value),
        finite(one.threshold),
        one.count,
        finite(one.low),
        finite(one.high),
        finite(one.effect),
        one.detail[:2000],
    )


def finite(value: float) -> float | None:
    """A number that an event can carry."""
    return float(value) if math.isfinite(value) and abs(value) < 1e15 else None
