"""A round: what was answered about one bar, and the decision that follows from it. Pure.

The ensemble-voter decides by it, and so does whoever verifies or asks what would have been.
"""

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from msgspec import Struct

from schemas.codec import Encoded, encode
from schemas.common import Origin, Probabilities
from schemas.decisions import (
    AbsentMember,
    CountedBallot,
    DecisionMade,
    IntentIssued,
    IntentStatus,
    MemberView,
    ShadowBallot,
)
from shared.control import State as Control
from shared.voting.pool import PLACES, Member, Opinion, Panel, Vote, own_action, vote

SILENT: Final = "silent"

Series = tuple[str, int]
"""A symbol and its interval (ms)."""
Voice = tuple[str, str]
"""A model and the artifact (hex) that speaks for it, as champion or in shadow."""


ClosedBy = Literal["complete", "superseded", "deadline"]


class Answer(Struct, frozen=True, gc=False):
    """What one artifact said about one bar: its probabilities, or the reason why there are none."""

    event: str | None
    probabilities: Probabilities | None
    reason: str


NO_ANSWER: Final = Answer(None, None, SILENT)


class Round(Struct):
    """One bar that waits for its decision. ``entry`` is the log id of its first ballot; ``opened_at``
    the time of it, for live bars; ``version`` the stamp of the bar, under which it is decided."""

    series: Series
    open_time: int
    origin: Origin
    correlation: bytes
    flags: int
    entry: str
    opened_at: int | None
    answers: dict[Voice, Answer]
    version: int = 0


def decide(
    control: Control, panel: Panel, closing: Round, closed_by: ClosedBy, now: int | None, *, halted: bool = False
) -> list[Encoded]:
    """The decision of a round, and the intent that follows from it, if one does.

    A function of the configuration and the answers; ``now`` only tells whether the intent of a live
    bar would come too late, ``halted`` whether the fence of the partition is closed, so that there is none."""
    decision = decision_of(control, panel, closing, closed_by, now, halted=halted)
    sealed = encode(
        "decisions",
        decision,
        causation=causation_of(decision, closing.correlation),
        correlation=closing.correlation,
        flags=closing.flags,
    )
    if decision.intent != "issued":
        return [sealed]
    envelope = sealed.envelope
    intent = intent_of(panel, decision, envelope.id.hex())
    return [
        sealed,
        encode("intents", intent, causation=envelope.id, correlation=envelope.correlation, flags=envelope.flags),
    ]


def causation_of(decision: DecisionMade, correlation: bytes) -> bytes:
    """The event that a decision names as its cause: its first ballot, else what stands in for one that is
    absent, else the bar."""
    for ballot in decision.counted:
        return bytes.fromhex(ballot.event)
    for absent in decision.absent:
        if absent.event:
            return bytes.fromhex(absent.event)
    return correlation


def decision_of(
    control: Control, panel: Panel, closing: Round, closed_by: ClosedBy, now: int | None, *, halted: bool = False
) -> DecisionMade:
    """The decision alone, not sealed."""
    ballots: dict[str, Probabilities] = {}
    cast: list[tuple[Member, Answer]] = []
    absent = []
    for member in panel.members:
        answer = closing.answers.get((member.model, member.artifact), NO_ANSWER)
        if answer.probabilities is not None:
            ballots[member.model] = answer.probabilities
            cast.append((member, answer))
        else:
            absent.append(AbsentMember(member.model, member.artifact, answer.reason[:200], answer.event))
    outcome = vote(panel, ballots)
    symbol, interval_ms = closing.series
    return DecisionMade(
        symbol=symbol,
        interval_ms=interval_ms,
        open_time=closing.open_time,
        origin=closing.origin,
        control_version=control.version,
        control_head=control.head,
        policy=panel.policy.rule,
        status="decided" if outcome.quorum else "no_quorum",
        action=outcome.action,
        confidence=outcome.confidence,
        probabilities=outcome.probabilities,
        consensus_count=outcome.consensus_count,
        total_models=len(panel.members),
        counted=tuple([_counted(panel, member, answer, outcome.opinions) for member, answer in cast]),
        absent=tuple(absent),
        shadow=tuple(_shadows(panel, closing)),
        closed_by=closed_by,
        intent=_intent_status(panel, closing, outcome, now, halted=halted or control.halted),
        decided_at=now if closing.origin == "live" else None,
    )


def _counted(panel: Panel, member: Member, answer: Answer, opinions: Mapping[str, Opinion]) -> CountedBallot:
    """A ballot as it entered the vote; without quorum there are no opinions."""
    model, artifact, weight, _ = member
    p = answer.probabilities
    assert p is not None
    opinion = opinions.get(model)
    if opinion is None:
        action = own_action(panel.policy, p)
        opinion = Opinion(action, p[PLACES[action]], 0.0, False)
    return CountedBallot(
        model,
        artifact,
        answer.event or "",
        opinion.action,
        opinion.confidence,
        p,
        weight,
        opinion.effect,
        opinion.pivotal,
    )


def _shadows(panel: Panel, closing: Round) -> Iterable[ShadowBallot]:
    for model, artifact in sorted(panel.shadows & closing.answers.keys()):
        answer = closing.answers[model, artifact]
        if answer.probabilities is not None and answer.event is not None:
            action = own_action(panel.policy, answer.probabilities)
            yield ShadowBallot(model, artifact, answer.event, action, answer.probabilities)


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
    """The intent of the decision whose id is ``event``."""
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
