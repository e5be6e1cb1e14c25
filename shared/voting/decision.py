"""Compute the decision and the intent of a round, which is the set of all ballots for one bar. Pure.

The ensemble-voter decides with these functions. ``conclave verify`` and ``conclave whatif`` recompute decisions with
the same functions.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from msgspec import UNSET, Struct

from schemas.codec import Encoded, encode
from schemas.common import Origin, Probabilities
from schemas.decisions import (
    AbsentMember,
    CountedBallot,
    DecisionMade,
    IntentIssued,
    IntentStatus,
    MemberView,
    PolicyVote,
    ShadowBallot,
)
from shared.control import State as Control
from shared.voting.pool import PLACES, BallotEffect, Member, Panel, Vote, own_action, vote

SILENT: Final = "silent"

Series = tuple[str, int]
"""A symbol and its interval (ms)."""
ArtifactKey = tuple[str, str]
"""A model and the digest (hex) of one of its artifacts: the champion or a shadow."""


ClosedBy = Literal["complete", "superseded", "deadline"]
"""Why a round was closed."""


class Ballot(Struct, frozen=True, gc=False):
    """The prediction of one artifact in a round. ``probabilities`` is None where it made none; ``reason`` is then the
    cause. ``event`` is the id (hex) of the event on ``predictions``, None where there is no event."""

    event: str | None
    probabilities: Probabilities | None
    reason: str


NO_BALLOT: Final = Ballot(None, None, SILENT)


class Round(Struct):
    """One bar that waits for its decision.

    ``entry`` is the log id of the round's first ballot. ``opened_at`` is the server's time (ms) at that ballot, and
    ``opened_steady`` a steady clock (``shared.runtime.service.Batch``) at that moment, for live bars only; None in a
    round that was restored and has not seen a clock yet. ``waited_ms`` is how long it was open, set where a deadline
    closes it. ``version`` is the stamp of the bar: the configuration under which the round is decided."""

    series: Series
    open_time: int
    origin: Origin
    correlation: bytes
    flags: int
    entry: str
    opened_at: int | None
    ballots: dict[ArtifactKey, Ballot]
    version: int = 0
    opened_steady: int | None = None
    waited_ms: int | None = None


def decide(
    control: Control, panel: Panel, closing: Round, closed_by: ClosedBy, now: int | None, *, halted: bool = False
) -> list[Encoded]:
    """Return the decision of a round, followed by its intent where one is issued, both encoded.

    The result depends on the configuration and the ballots. ``now`` only determines whether the intent of a live bar
    would be too late. ``halted`` is True where the fence of the partition is closed; no intent is issued then."""
    decision = decision_of(control, panel, closing, closed_by, now, halted=halted)
    encoded = encode(
        "decisions",
        decision,
        causation=causation_of(decision, closing.correlation),
        correlation=closing.correlation,
        flags=closing.flags,
    )
    if decision.intent != "issued":
        return [encoded]
    envelope = encoded.envelope
    intent = intent_of(panel, decision, envelope.id.hex())
    return [
        encoded,
        encode("intents", intent, causation=envelope.id, correlation=envelope.correlation, flags=envelope.flags),
    ]


def causation_of(decision: DecisionMade, correlation: bytes) -> bytes:
    """Return the id of the event that caused a decision.

    That is the event of the first counted ballot; where there is none, the first failed prediction of an absent member;
    where there is none either, the bar."""
    for ballot in decision.counted:
        return bytes.fromhex(ballot.event)
    for absent in decision.absent:
        if absent.event:
            return bytes.fromhex(absent.event)
    return correlation


def decision_of(
    control: Control, panel: Panel, closing: Round, closed_by: ClosedBy, now: int | None, *, halted: bool = False
) -> DecisionMade:
    """Return the decision of a round, not encoded and without its intent."""
    counted: dict[str, Probabilities] = {}
    cast: list[tuple[Member, Ballot]] = []
    absent = []
    for member in panel.members:
        ballot = closing.ballots.get((member.model, member.artifact), NO_BALLOT)
        if ballot.probabilities is not None:
            counted[member.model] = ballot.probabilities
            cast.append((member, ballot))
        else:
            absent.append(AbsentMember(member.model, member.artifact, ballot.reason[:200], ballot.event))
    outcome = vote(panel, counted)
    symbol, interval_ms = closing.series
    opened_at, waited_ms = closing.opened_at, closing.waited_ms
    return DecisionMade(
        symbol=symbol,
        interval_ms=interval_ms,
        open_time=closing.open_time,
        origin=closing.origin,
        control_version=control.version,
        control_head=control.head,
        policy=outcome.rule,
        status="decided" if outcome.quorum else "no_quorum",
        action=outcome.action,
        confidence=outcome.confidence,
        probabilities=outcome.probabilities,
        consensus_count=outcome.consensus_count,
        total_models=len(panel.members),
        counted=tuple([_counted(panel, member, ballot, outcome.effects) for member, ballot in cast]),
        absent=tuple(absent),
        shadow=tuple(_shadows(panel, closing)),
        closed_by=closed_by,
        intent=_intent_status(panel, closing, outcome, now, halted=halted or control.halted),
        decided_at=now if closing.origin == "live" else None,
        opened_at=UNSET if opened_at is None or waited_ms is None else opened_at,
        waited_ms=UNSET if opened_at is None or waited_ms is None else waited_ms,
        candidates=tuple(_candidates(panel, counted)) or UNSET,
    )


def _candidates(panel: Panel, counted: Mapping[str, Probabilities]) -> Iterable[PolicyVote]:
    """Yield the decision by each voting policy in shadow, from the ballots that were counted."""
    for digest, policy in panel.candidates:
        outcome = vote(panel._replace(policy=policy), counted)
        yield PolicyVote(
            policy=digest,
            rule=outcome.rule,
            status="decided" if outcome.quorum else "no_quorum",
            action=outcome.action,
            confidence=outcome.confidence,
            probabilities=outcome.probabilities,
        )


def _counted(panel: Panel, member: Member, ballot: Ballot, effects: Mapping[str, BallotEffect]) -> CountedBallot:
    """Return a ballot as the decision records it. Without quorum ``effects`` is empty, and the recorded effect is 0."""
    p = ballot.probabilities
    assert p is not None
    effect = effects.get(member.model)
    if effect is None:
        action = own_action(panel.policy, p)
        effect = BallotEffect(action, p[PLACES[action]], 0.0, False)
    return CountedBallot(
        model=member.model,
        artifact=member.artifact,
        event=ballot.event or "",
        action=effect.action,
        confidence=effect.confidence,
        probabilities=p,
        weight=member.weight,
        effect=effect.effect,
        pivotal=effect.pivotal,
    )


def _shadows(panel: Panel, closing: Round) -> Iterable[ShadowBallot]:
    for model, artifact in sorted(panel.shadows & closing.ballots.keys()):
        ballot = closing.ballots[model, artifact]
        if ballot.probabilities is not None and ballot.event is not None:
            action = own_action(panel.policy, ballot.probabilities)
            yield ShadowBallot(
                model=model,
                artifact=artifact,
                event=ballot.event,
                action=action,
                probabilities=ballot.probabilities,
            )


def _intent_status(panel: Panel, closing: Round, outcome: Vote, now: int | None, *, halted: bool) -> IntentStatus:
    if not outcome.quorum:
        return "no_quorum"
    if outcome.action == "HOLD":
        return "hold"
    if halted:
        return "halted"
    valid_until = closing.open_time + closing.series[1] + panel.policy.valid_ms
    if closing.origin == "live" and now is not None and now > valid_until:
        return "stale"
    return "issued"


def intent_of(panel: Panel, decision: DecisionMade, event: str) -> IntentIssued:
    """Return the intent of the decision whose id is ``event``."""
    assert decision.action != "HOLD"
    breakdown = {b.model: MemberView(b.action, b.confidence, b.model) for b in decision.counted}
    for ballot in decision.shadow:
        name = f"{ballot.model}@{ballot.artifact[:12]}"
        confidence = ballot.probabilities[PLACES[ballot.action]]
        breakdown[name] = MemberView(ballot.action, confidence, ballot.model, shadow=True)
    return IntentIssued(
        symbol=decision.symbol,
        interval_ms=decision.interval_ms,
        open_time=decision.open_time,
        origin=decision.origin,
        decision=event,
        control_version=decision.control_version,
        action=decision.action,
        confidence=decision.confidence,
        consensus_count=decision.consensus_count,
        total_models=decision.total_models,
        model_breakdown=breakdown,
        valid_until=decision.open_time + decision.interval_ms + panel.policy.valid_ms,
    )
