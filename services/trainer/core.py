"""Decide which models are to be retrained now, and why, and whether a stacker is to be fitted. Pure."""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from schemas.control import CommandRecorded, Promote, SetTrainingPolicy
from schemas.gates import InputsDrifted, SkillDecayed
from schemas.training import Cause, Recipe, StackerRequested, TrainingRequested
from shared.control import State, effect_of
from shared.training.jobs import HOUR_MS, Jobs, fit_due, scheduled

GROUP: Final = "trainer"
DAY_MS: Final = 24 * HOUR_MS


class Due(NamedTuple):
    """A model that is to be retrained, and why. ``evidence``: the id of the event on ``gates`` that is the cause."""

    model: str
    cause: Cause
    evidence: str | None
    reason: str


def cause_of(event: object, event_id: str, state: State) -> Due | None:
    """Return the retraining that an event on ``gates`` is a cause for; None if the event is not about a champion, or
    the training policy does not accept the cause."""
    policy = state.training
    if not isinstance(event, InputsDrifted | SkillDecayed):
        return None
    slot = state.models.get(event.model)
    if slot is None or slot.champion != event.artifact:
        return None
    name = f"{event.artifact[:12]}, the champion of {event.model}"
    match event:
        case InputsDrifted(drifted=True) if policy.on_drift:
            return Due(event.model, "drift", event_id, f"the inputs of {name} drifted: {event.detail}"[:2000])
        case SkillDecayed() if policy.on_decay:
            return Due(event.model, "decay", event_id, f"the skill of {name} decayed: {event.detail}"[:2000])
        case _:
            return None


def by_schedule(jobs: Jobs, state: State, promoted: Mapping[str, int], now: int) -> list[Due]:
    """Return the voting models whose last request, or else promotion, is older than the schedule of the training
    policy. ``promoted``: when each model's champion was promoted (ms)."""
    hours = state.training.schedule_hours
    voting = {model: promoted.get(model, now) for model in state.voting}
    reason = f"{hours} h since the last request, as scheduled by the training policy"
    return [Due(model, "schedule", None, reason) for model in scheduled(jobs, voting, state.training, now)]


def promotions(known: Mapping[str, int], commands: Iterable[CommandRecorded]) -> dict[str, int]:
    """Return by model when its champion was promoted (ms): ``known``, updated with further commands."""
    promoted = dict(known)
    for entry in commands:
        command = effect_of(entry.command)
        if isinstance(command, Promote):
            promoted[command.model] = entry.at
    return promoted


def request_of(due: Due, recipe: Recipe, policy: SetTrainingPolicy, now: int) -> TrainingRequested:
    """Return the request for a model that is due."""
    return TrainingRequested(
        model=due.model,
        recipe=recipe,
        cause=due.cause,
        evidence=due.evidence,
        actor=GROUP,
        reason=due.reason,
        at=now,
        window_ms=policy.window_days * DAY_MS,
        revised_bars=policy.revised_bars is True,
    )


def stacker_by_schedule(jobs: Jobs, state: State, now: int) -> StackerRequested | None:
    """Return the request for a stacker if one is due by the schedule of the training policy and models vote."""
    policy = state.training
    if not state.voting or not fit_due(jobs, policy, now):
        return None
    reason = f"{policy.stacker_hours} h since the last request, as scheduled by the training policy"
    return StackerRequested(cause="schedule", actor=GROUP, reason=reason, at=now)
