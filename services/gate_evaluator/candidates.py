"""Collect the evidence about one artifact in shadow, and judge it."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from schemas.gates import GateVerdict, VerdictReached
from schemas.scores import PredictionScored
from services.gate_evaluator.events import finite
from services.gate_evaluator.money import PairedMoney, trade
from shared.control.state import Past
from shared.gates import classic, default, evidence
from shared.gates.classic import ClassicPolicy, Tally
from shared.gates.critical import LiveBars
from shared.gates.evidence import Evidence
from shared.gates.policies import Policy
from shared.gates.policy import DefaultPolicy
from shared.gates.rows import UNKNOWN_REFERENCES, VOTES, Key, Plan, References, row_of
from shared.gates.verdicts import Gate, Judgement, gate

WRITE_EVERY: Final = 500
"""A verdict is written after so many scores since the last one, if not before."""
CHECK_EVERY: Final = 250
"""The gates are checked after so many scores. A check costs as much as a hundred scores; no evidence is lost in
between."""


class Candidate(Struct, array_like=True):
    """The evidence about one artifact. ``version``: the newest configuration that it was scored under. ``overall``: the
    last verdict written, and ``written_at`` the number of scores at that time. ``label``: its horizon (bars), threshold
    and interval (ms). ``money``: the accounts of candidate and champion; None if the first score records no prices. The
    gate ``money`` then compares returns of single predictions throughout, so that two measures are not mixed.
    ``live_since`` and ``live_until``: its first and newest live bar."""

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
    written_at: int = 0
    label: tuple[int, float, int] = (0, 0.0, 0)
    money: PairedMoney | None = None
    live_since: int = -1
    live_until: int = -1


def initial(
    key: Key, version: int, policy: Policy, score: PredictionScored, references: References = UNKNOWN_REFERENCES
) -> Candidate:
    """Return a candidate without evidence. A voting policy is judged by the gates of ``default`` under ``classic``
    too, whose gates are about models."""
    label = (score.horizon, score.kappa, score.interval_ms)
    thresholds = policy.thresholds
    if isinstance(thresholds, ClassicPolicy):
        if key.feature_set != VOTES:
            return Candidate(key, version, None, classic.initial(thresholds), label=label)
        thresholds = DefaultPolicy()
    plan = Plan(key, score.horizon, score.interval_ms, references.scales, response=references.response)
    collected = evidence.initial(plan, thresholds.margin, _valid_block_ms(thresholds.block_ms, score))
    money = None if score.prices is None else PairedMoney()
    return Candidate(key, version, collected, None, label=label, money=money)


def _valid_block_ms(block_ms: int, score: PredictionScored) -> int:
    """Return a block length of whole bars that leaves room for the purge; 0, for the default length, if it does not."""
    valid = block_ms % score.interval_ms == 0 and block_ms > score.horizon * score.interval_ms
    return block_ms if valid else 0


def evolve(candidate: Candidate, score: PredictionScored, event: str, past: Past) -> None:
    """Fold one score, in place. ``past``: the configuration of its version."""
    row = row_of(score)
    if candidate.money is not None:
        net, champion_net = trade(candidate.money, score, past) or (None, None)
        row = row._replace(net=net, champion_net=champion_net)
    if candidate.evidence is not None:
        evidence.evolve(candidate.evidence, row)
    if candidate.tally is not None:
        classic.evolve(candidate.tally, row)
    candidate.scores += 1
    candidate.since = score.open_time if candidate.since < 0 else min(candidate.since, score.open_time)
    candidate.until = max(candidate.until, score.open_time)
    if score.origin == "live":
        earlier = min(candidate.live_since, score.open_time)
        candidate.live_since = score.open_time if candidate.live_since < 0 else earlier
        candidate.live_until = max(candidate.live_until, score.open_time)
    candidate.first_score = candidate.first_score or event
    candidate.last_score = event


def fail(candidate: Candidate) -> None:
    """Count a prediction that was due and failed."""
    if candidate.evidence is not None:
        evidence.fail(candidate.evidence)


def judge(candidate: Candidate, policy: Policy, newest: int, rivals: Mapping[str, float]) -> Judgement:
    """Return the judgement by a policy. Changes nothing. ``newest``: the newest live bar in any score; ``rivals``: the
    claim of each candidate for the same model."""
    if policy.fault:
        unusable = gate("policy", "inconclusive", 0, 0, 0, "critical", detail=policy.fault)
        return Judgement("inconclusive", (unusable,), 0.0, "correct the gate policy")
    if candidate.tally is not None:
        rules = policy.thresholds if isinstance(policy.thresholds, ClassicPolicy) else ClassicPolicy()
        return classic.judge(candidate.tally, rules)
    assert candidate.evidence is not None
    limits = policy.thresholds if isinstance(policy.thresholds, DefaultPolicy) else DefaultPolicy()
    live = LiveBars(candidate.live_since, candidate.live_until, newest)
    return default.judge(candidate.evidence, limits, live=live, rivals=rivals if len(rivals) > 1 else None)


def claim(candidate: Candidate) -> float | None:
    """Return the e-value that a candidate claims among its rivals; None under a policy without such claims."""
    return default.claim(candidate.evidence) if candidate.evidence is not None else None


def verdict(candidate: Candidate, policy: Policy, judgement: Judgement, version: int) -> VerdictReached:
    """Return the event for a judgement, and note that it is written."""
    candidate.overall, candidate.written_at = judgement.outcome, candidate.scores
    key = candidate.key
    return VerdictReached(
        model=key.model,
        artifact=key.artifact,
        champion=key.champion or None,
        policy=policy.name,
        policy_digest=policy.digest,
        overall=judgement.outcome,
        gates=recorded(judgement),
        scores=candidate.scores,
        since=candidate.since,
        until=candidate.until,
        first_score=candidate.first_score,
        last_score=candidate.last_score,
        control_version=version,
        recommended_weight=judgement.weight,
        advice=judgement.advice[:2000],
    )


def recorded(judgement: Judgement) -> tuple[GateVerdict, ...]:
    """Return the gates of a judgement as a verdict records them."""
    return tuple(map(_gate_verdict, judgement.gates))


def _gate_verdict(result: Gate) -> GateVerdict:
    return GateVerdict(
        name=result.name,
        verdict=result.outcome,
        kind=result.kind,
        value=finite(result.value),
        threshold=finite(result.threshold),
        samples=result.count,
        low=finite(result.low),
        high=finite(result.high),
        effect=finite(result.effect),
        detail=result.detail[:2000],
    )
