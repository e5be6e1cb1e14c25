"""Write which active artifacts have no ballot in a decision, and whether shadows changed its vote."""

from collections.abc import Iterator

from schemas.codec import Encoded, Envelope, encode
from schemas.decisions import DecisionMade
from schemas.operations import InterferenceFound
from schemas.scores import BallotMissing, InterferenceChecked
from services.shadow_recorder.interference import differences
from services.shadow_recorder.scoring_readiness import caused
from services.shadow_recorder.state import State


def missing(state: State, envelope: Envelope[DecisionMade]) -> Iterator[Encoded]:
    """Write an event for each active artifact without a ballot in the decision."""
    decision = envelope.event
    present = {(ballot.model, ballot.artifact) for ballot in decision.counted}
    present |= {(ballot.model, ballot.artifact) for ballot in decision.shadow}
    reasons = {(member.model, member.artifact): member.reason for member in decision.absent}
    configurations, version = state.configurations, decision.control_version
    for model, artifact in sorted(configurations.active(version) - present):
        event = BallotMissing(
            symbol=decision.symbol,
            interval_ms=decision.interval_ms,
            open_time=decision.open_time,
            origin=decision.origin,
            model=model,
            artifact=bytes.fromhex(artifact),
            role="voting" if configurations.is_champion(version, model, artifact) else "shadow",
            detail=reasons.get((model, artifact), ""),
            control_version=version,
            decision=envelope.id,
        )
        yield caused(envelope, event)


def prove(state: State, envelope: Envelope[DecisionMade]) -> Iterator[Encoded]:
    """Compute the vote again without shadows, if the decision has shadow ballots. Write the result, and an alarm if it
    differs."""
    decision = envelope.event
    if not decision.shadow:
        return
    configurations, version = state.configurations, decision.control_version
    head = configurations.control.past[version].head
    detail = differences(configurations.panel(version), head, decision)
    state.checked += 1
    state.equal += not detail
    event = InterferenceChecked(
        symbol=decision.symbol,
        interval_ms=decision.interval_ms,
        open_time=decision.open_time,
        origin=decision.origin,
        decision=envelope.id,
        control_version=version,
        shadows=len(decision.shadow),
        equal=not detail,
        detail=detail,
        checked=state.checked,
        equal_so_far=state.equal,
    )
    yield caused(envelope, event)
    if detail:
        alarm = InterferenceFound(envelope.id.hex(), version, detail)
        yield encode("alarms", alarm, causation=envelope.id, correlation=envelope.correlation)
