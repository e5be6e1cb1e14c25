"""Evidence and verdicts on an artifact or a voting policy, as screens show them. Pure."""

import math

from msgspec import Struct

from schemas.gates import VerdictReached
from services.observatory.journal import RecordedVerdict
from shared.report.summary import Skill


class GateShown(Struct, frozen=True):
    """One gate of a verdict: its value against its threshold, the samples, and the reason in words."""

    name: str
    kind: str
    verdict: str
    value: float | None
    threshold: float | None
    samples: int
    low: float | None
    high: float | None
    detail: str


class VerdictShown(Struct, frozen=True):
    """The newest verdict on an artifact in a partition."""

    id: str
    at: int
    partition: int
    policy: str
    overall: str
    scores: int
    passed: int
    failed: int
    undecided: int
    advice: str
    recommended_weight: float | None
    gates: tuple[GateShown, ...]


class SkillShown(Struct, frozen=True):
    """A gain in log score (mnat a row): its mean, its interval (None before 20 blocks), and its e-value. ``share``: how
    far ln E is on the way to its line (0 to 1). ``moves`` and ``direction``: the parts of its mean over all rows
    (``shared.labels.parts``)."""

    mean: float
    moves: float
    direction: float
    low: float | None
    high: float | None
    blocks: int
    e: float
    line: float
    share: float


def skill_of(skill: Skill) -> SkillShown:
    """Return a gain and how far its evidence is."""
    mean = skill.mean if skill.blocks else skill.all_rows
    share = min(max(skill.log_e / skill.line, 0.0), 1.0) if skill.line > 0 else 0.0
    return SkillShown(
        mean=mean,
        moves=skill.moves,
        direction=skill.direction,
        low=skill.low,
        high=skill.high,
        blocks=skill.blocks,
        e=math.exp(min(skill.log_e, 700.0)),
        line=math.exp(min(skill.line, 700.0)),
        share=share,
    )


def verdict_of(recorded: RecordedVerdict) -> VerdictShown:
    """Return a verdict with its gates, those that did not pass first."""
    event: VerdictReached = recorded.event
    rank = {"failed": 0, "inconclusive": 1, "passed": 2}
    gates = sorted(event.gates, key=lambda gate: rank[gate.verdict])
    counts = [sum(gate.verdict == word for gate in gates) for word in ("passed", "failed", "inconclusive")]
    return VerdictShown(
        id=recorded.id,
        at=recorded.at,
        partition=recorded.partition,
        policy=event.policy,
        overall=event.overall,
        scores=event.scores,
        passed=counts[0],
        failed=counts[1],
        undecided=counts[2],
        advice=event.advice,
        recommended_weight=event.recommended_weight,
        gates=tuple(
            GateShown(
                name=gate.name,
                kind=gate.kind,
                verdict=gate.verdict,
                value=gate.value,
                threshold=gate.threshold,
                samples=gate.samples,
                low=gate.low,
                high=gate.high,
                detail=gate.detail,
            )
            for gate in gates
        ),
    )
