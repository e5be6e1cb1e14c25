"""Write what the guard of a champion finds, and the command that is then due."""

from collections.abc import Iterator
from typing import Any, Final, Literal

from schemas.codec import Encoded, Envelope
from schemas.common import ENSEMBLE
from schemas.gates import ActionDue, GuardTripped
from schemas.scores import PredictionScored
from services.gate_evaluator import guard_state
from services.gate_evaluator.events import caused, finite
from services.gate_evaluator.guard_state import CONFIRM_BLOCKS, ChampionGuard
from services.gate_evaluator.state import State
from shared.control.state import Model
from shared.gates.guard import Finding

SEVERITY: Final = {"continue": 0, "demote": 1, "rollback": 2}
Action = Literal["rollback", "step_down", "confirm_promotion"]


def observe(state: State, envelope: Envelope[PredictionScored]) -> Iterator[Encoded]:
    """Fold a score of a champion that replaced another, or of the former champion. A score counts if its stamp lies in
    the champion's present run."""
    score, version = envelope.event, envelope.event.control_version
    if score.model == ENSEMBLE and score.artifact.hex() in state.control.policies:
        yield from _observe_policy(state, envelope)
        return
    slot = state.past(version).models.get(score.model, Model())
    if slot.champion is None or not slot.before or not state.roles.is_champion(score.model, slot.champion, version):
        return
    former = state.past(slot.before).models[score.model].champion or ""
    if score.artifact.hex() not in {slot.champion, former}:
        return
    guard = state.memory.guards.get(score.model)
    if guard is None or (guard.artifact, guard.former) != (slot.champion, former):
        if guard is not None and version < guard.version:
            return
        guard = guard_state.initial(score.model, slot.champion, former, version, score)
        state.memory.guards[score.model] = guard
    guard_state.evolve(guard, score, envelope.id.hex())
    yield from conclude(state, envelope, guard)


def _observe_policy(state: State, envelope: Envelope[PredictionScored]) -> Iterator[Encoded]:
    """Fold a score of the voting policy that the one in force replaced."""
    score, version, memory = envelope.event, envelope.event.control_version, state.memory
    in_force, former = score.incumbent_artifact.hex() if score.incumbent_artifact else "", score.artifact.hex()
    if former != state.roles.former_policy or not state.roles.is_champion(ENSEMBLE, in_force, version):
        return
    guard = memory.guards.get(ENSEMBLE)
    if guard is None or (guard.artifact, guard.former) != (in_force, former):
        known = state.past(version).policies.get(in_force)
        if known is None:
            return
        guard = memory.guards[ENSEMBLE] = guard_state.initial_policy(in_force, former, version, score, known)
    guard_state.evolve_policy(guard, score, envelope.id.hex())
    yield from conclude(state, envelope, guard)


def conclude(state: State, envelope: Envelope[Any], guard: ChampionGuard) -> Iterator[Encoded]:
    """Check the guard after every ``CHECK_EVERY`` observations. Write a stage that is more severe than the last one
    written, and the command that is due. The configuration is that of the newest stamp on ``scores``."""
    if guard.seen % guard_state.CHECK_EVERY:
        return
    in_force = state.in_force
    findings = guard_state.findings(guard, state.memory.live_latest, in_force.partitions)
    worst = max(findings, key=lambda finding: SEVERITY[finding.stage])
    if SEVERITY[worst.stage] > SEVERITY[guard.stage]:
        guard.stage = worst.stage
        yield from _tripped(state, envelope, guard, worst)
    blocks = guard.guard.watch.blocks
    calm = guard.stage == "continue" and blocks >= CONFIRM_BLOCKS
    probation = in_force.probations.get(guard.model)
    if calm and not guard.confirmed and probation is not None and probation.artifact == guard.artifact:
        guard.confirmed = True
        reason = f"no alarm in {blocks} blocks beside the champion it replaced"
        yield _due(state, envelope, guard, "confirm_promotion", reason)


def _tripped(state: State, envelope: Envelope[Any], guard: ChampionGuard, worst: Finding) -> Iterator[Encoded]:
    stage: Literal["rollback", "step_down"] = "rollback" if worst.stage == "rollback" else "step_down"
    tripped = GuardTripped(
        model=guard.model,
        artifact=guard.artifact,
        ghost=guard.former or None,
        guard=worst.guard,
        stage=stage,
        value=finite(worst.value),
        threshold=worst.threshold,
        samples=worst.samples,
        detail=worst.detail,
        last_score=guard.last_score or envelope.id.hex(),
        control_version=state.memory.version,
    )
    encoded = caused(envelope, tripped)
    yield encoded
    if guard.model == ENSEMBLE and stage == "step_down":
        return  # a voting policy is on no ladder: the alarm is all
    reason = f"guard {worst.guard}: {worst.value:g} of {worst.threshold:g} after {worst.samples} {worst.detail}"
    yield _due(state, encoded.envelope, guard, stage, reason)


def _due(state: State, evidence: Envelope[Any], guard: ChampionGuard, action: Action, reason: str) -> Encoded:
    """Return the event for a command that is due. The gate policy of the newest stamp decides whether the evaluator
    issues it. With several partitions an evaluator sees only its own symbols, so it issues only rollbacks."""
    in_force, policy = state.in_force, state.policy(state.memory.version)
    kind = {"rollback": "rollback", "step_down": "steps", "confirm_promotion": "confirm"}
    acts = kind[action] in policy.acts and (action != "rollback" or bool(guard.former))
    acts = acts and (action != "step_down" or in_force.ladder.automatic)
    acts = acts and (action == "rollback" or in_force.partitions == 1)
    event = ActionDue(
        model=guard.model,
        artifact=guard.artifact,
        action=action,
        acts=acts,
        evidence=evidence.id.hex(),
        reason=reason[:2000],
        control_version=state.memory.version,
    )
    return caused(evidence, event)
