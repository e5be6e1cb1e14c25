"""Who is to be trained now, and why. Pure."""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from schemas.control import CommandRecorded, Promote, SetTrainingPolicy
from schemas.gates import InputsDrifted, SkillDecayed
from schemas.training import Cause, Recipe, TrainingRequested
from shared.control import State
from shared.training.jobs import HOUR_MS, Jobs, scheduled

GROUP: Final = "trainer"
DAY_MS: Final = 24 * HOUR_MS


class Due(NamedTuple):
    """A model that is to be trained again, and why."""

    model: str
    cause: Cause
    evidence: str | None
    reason: str


def cause_of(event: object, event_id: str, state: State) -> Due | None:
    """What an event on ``gates`` asks for: nothing unless it is about a champion, and the policy takes such
    causes."""
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
    """The voting models that were not asked for in as long as the schedule says. ``promoted``: since when (ms) each
    has its champion."""
    hours = state.training.schedule_hours
    voting = {model: promoted.get(model, now) for model in state.voting}
    reason = f"{hours} h since it was last asked for, the schedule of the training policy"
    return [Due(model, "schedule", None, reason) for model in scheduled(jobs, voting, state.training, now)]


def promotions(known: Mapping[str, int], commands: Iterable[CommandRecorded]) -> dict[str, int]:
    """``promoted`` after some more commands."""
    found = dict(known)
    for entry in commands:
        if isinstance(entry.command, Promote):
            found[entry.command.model] = entry.at
    return found


def request_of(due: Due, recipe: Recipe, policy: SetTrainingPolicy, now: int) -> TrainingRequested:
    """The request for what is due."""
    return TrainingRequested(
        model=due.model,
        recipe=recipe,
        cause=due.cause,
        evidence=due.evidence,
        actor=GROUP,
        reason=due.reason,
        at=now,
        window_ms=policy.window_days * DAY_MS,
    )
