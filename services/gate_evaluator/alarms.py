"""What the guards of a champion conclude, and the commands that are due then."""

from collections.abc import Iterator
from typing import Any, Final, Literal

from schemas.codec import Encoded, Envelope
from schemas.gates import ActionDue, GuardTripped
from schemas.scores import PredictionScored
from services.gate_evaluator import guard_state
from services.gate_evaluator.candidates import finite
from services.gate_evaluator.events import caused
from services.gate_evaluator.guard_state import CONFIRM_BLOCKS, Watch
from services.gate_evaluator.state import State
from shared.control.state import Model
from shared.gates.guard import Finding

ORDER: Final = {"continue": 0, "demote": 1, "rollback": 2}
Action = Literal["rollback", "step_down", "confirm_promotion"]


def observe(state: State, envelope: Envelope[PredictionScored]) -> Iterator[Encoded]:
    """Folds a score of a champion that replaced another, or of the one it replaced. A score counts where its stamp
    lies within the champion's present run."""
    score, version = envelope.event, envelope.event.control_version
    slot = state.past(version).models.get(score.model, Model())
    if slot.champion is None or not slot.before or not state.roles.is_champion(score.model, slot.champion, version):
        return
    ghost = state.past(slot.before).models[score.model].champion or ""
    if score.artifact.hex() not in {slot.champion, ghost}:
        return
    held = state.memory.watches.get(score.model)
    if held is None or (held.artifact, held.ghost) != (slot.champion, ghost):
        if held is not None and version < held.version:
            return
        held = state.memory.watches[score.model] = guard_state.begin(score.model, slot.champion, ghost, version, score)
    guard_state.take(held, score, envelope.id.hex())
    yield from conclude(state, envelope, held)


def conclude(state: State, envelope: Envelope[Any], held: Watch) -> Iterator[Encoded]:
    """Look at the guards every so often: write what is graver than what was written before, and what is due then.
    The configuration is that of the newest stamp on ``scores``."""
    if held.seen % guard_state.LOOK:
        return
    in_force = state.in_force
    findings = guard_state.findings(held, state.memory.latest, in_force.partitions)
    grave = max(findings, key=lambda finding: ORDER[finding.stage])
    if ORDER[grave.stage] > ORDER[held.stage]:
        held.stage = grave.stage
        yield from _tripped(state, envelope, held, grave)
    calm = held.stage == "continue" and held.guard.watch.blocks >= CONFIRM_BLOCKS
    probation = in_force.probations.get(held.model)
    if calm and not held.confirmed and probation is not None and probation.artifact == held.artifact:
        held.confirmed = True
        reason = f"no alarm in {held.guard.watch.blocks} blocks beside the champion it replaced"
        yield _due(state, envelope, held, "confirm_promotion", reason)


def _tripped(state: State, envelope: Envelope[Any], held: Watch, grave: Finding) -> Iterator[Encoded]:
    stage: Literal["rollback", "step_down"] = "rollback" if grave.stage == "rollback" else "step_down"
    tripped = GuardTripped(
        model=held.model,
        artifact=held.artifact,
        ghost=held.ghost or None,
        guard=grave.guard,
        stage=stage,
        value=finite(grave.value),
        threshold=grave.threshold,
        samples=grave.samples,
        detail=grave.detail,
        last_score=held.last_score or envelope.id.hex(),
        control_version=state.memory.version,
    )
    sealed = caused(envelope, tripped)
    yield sealed
    reason = f"guard {grave.guard}: {grave.value:g} of {grave.threshold:g} after {grave.samples} {grave.detail}"
    yield _due(state, sealed.envelope, held, stage, reason)


def _due(state: State, evidence: Envelope[Any], held: Watch, action: Action, reason: str) -> Encoded:
    """The command that follows. The gate policy of the newest stamp decides whether the evaluator issues it; where
    each of several partitions sees its own symbols alone, it may roll back and do nothing else."""
    in_force, policy = state.in_force, state.policy(state.memory.version)
    kind = {"rollback": "rollback", "step_down": "steps", "confirm_promotion": "confirm"}
    acts = kind[action] in policy.acts and (action != "rollback" or bool(held.ghost))
    acts = acts and (action != "step_down" or in_force.ladder.automatic)
    acts = acts and (action == "rollback" or in_force.partitions == 1)
    event = ActionDue(
        model=held.model,
        artifact=held.artifact,
        action=action,
        acts=acts,
        evidence=evidence.id.hex(),
        reason=reason[:2000],
        control_version=state.memory.version,
    )
    return caused(evidence, event)
