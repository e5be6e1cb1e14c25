"""What a decision says about shadows: who was not in it, and that they changed nothing."""

from collections.abc import Iterator

from schemas.codec import Encoded, Envelope, encode
from schemas.decisions import DecisionMade
from schemas.operations import InterferenceFound
from schemas.scores import BallotMissing, InterferenceChecked
from services.shadow_recorder.interference import differences
from services.shadow_recorder.scoring_readiness import caused
from services.shadow_recorder.state import State


def missing(state: State, envelope: Envelope[DecisionMade]) -> Iterator[Encoded]:
    """Each artifact in use of which the decision has no ballot."""
    decision = envelope.event
    heard = {(b.model, b.artifact) for b in decision.counted} | {(b.model, b.artifact) for b in decision.shadow}
    reasons = {(gone.model, gone.artifact): gone.reason for gone in decision.absent}
    for model, slot in sorted(state.configurations.models(decision.control_version).items()):
        for artifact in sorted({*slot.shadows, *([slot.champion] if slot.champion else [])}):
            if (model, artifact) not in heard:
                event = BallotMissing(
                    decision.symbol,
                    decision.interval_ms,
                    decision.open_time,
                    decision.origin,
                    model,
                    bytes.fromhex(artifact),
                    "voting" if artifact == slot.champion else "shadow",
                    reasons.get((model, artifact), ""),
                    decision.control_version,
                    envelope.id,
                )
                yield caused(envelope, event)


def prove(state: State, envelope: Envelope[DecisionMade]) -> Iterator[Encoded]:
    """The vote again without shadows, where there were any."""
    decision = envelope.event
    if not decision.shadow:
        return
    configurations, version = state.configurations, decision.control_version
    head = configurations.control.past[version].head
    found = differences(configurations.panel(version), head, decision)
    state.checked += 1
    state.equal += not found
    event = InterferenceChecked(
        decision.symbol,
        decision.interval_ms,
        decision.open_time,
        decision.origin,
        envelope.id,
        version,
        len(decision.shadow),
        not found,
        found,
        state.checked,
        state.equal,
    )
    yield caused(envelope, event)
    if found:
        alarm = InterferenceFound(envelope.id.hex(), version, found)
        yield encode("alarms", alarm, causation=envelope.id, correlation=envelope.correlation)
