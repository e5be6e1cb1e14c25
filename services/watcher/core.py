"""What is worth a notice: from events, and from how the groups stand. Pure; time arrives with both.

Alerts that stand are raised once and resolved once. Alerts about something that happened are told at once, and
those like them in the ten minutes after are counted and told together.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from schemas.codec import Envelope
from schemas.control import CommandRecorded, Halt, Promote, Resume, RevertProbation, Rollback
from schemas.decisions import DecisionMade
from schemas.gates import VerdictReached
from schemas.operations import (
    DeadLetter,
)
from schemas.training import (
    TrainingCompleted,
    TrainingFailed,
    TrainingProgressed,
    TrainingRejected,
    TrainingRequested,
    TrainingStarted,
)
from services.watcher.groups import DOWN_MS, expected, group
from services.watcher.state import MINUTE_MS, Job, Judged, Notice, Series, State, Trial, ago, ended, stand, tell
from services.watcher.text import words_of
from shared.control import State as Control
from shared.log import GroupView

SLOW_MS: Final = 15 * MINUTE_MS
"""Of bars this long, one round without quorum is told; of shorter ones, the third in a row."""
ROUNDS: Final = 3
FORGOTTEN_MS: Final = 60 * MINUTE_MS
OVERDUE: Final = 3
"""Bars that may be missing before decisions are; and a minute."""


def take(state: State, event: Any, partition: int, at: int) -> list[Notice]:
    """What an event, written at ``at`` (ms, the server's clock), is worth telling."""
    match event:
        case DecisionMade():
            return list(_decision(state, event, partition, at))
        case DeadLetter(service=service, reason=reason):
            text = f"{service} refused {event.source}: {reason}, {event.detail}"
            return tell(state, "dead-letters", f"{service} {reason}", text, at)
        case VerdictReached():
            state.judged[f"{event.model} {event.artifact} {partition}"] = Judged(
                event.model, event.artifact, partition, event.overall,
                {gate.name: (gate.value, gate.threshold) for gate in event.gates},
            )  # fmt: skip
            return []
        case _:
            _follow(state, event)
            alert, subject, text = words_of(event)
            return tell(state, alert, subject, text, at) if alert else []


def command(state: State, recorded: CommandRecorded) -> list[Notice]:
    """What an entry of the control stream that stands is worth telling; nothing where it was told before."""
    if recorded.version <= state.version:
        return []
    state.version = recorded.version
    by = f"by {recorded.actor}, version {recorded.version}: {recorded.reason}"
    match recorded.command:
        case Promote(model=model, artifact=artifact, forced=forced, probation=probation):
            state.swaps[recorded.version] = recorded.at
            if probation:
                state.trials[model] = Trial(artifact, recorded.version, probation)
            how = ", without a verdict" if forced else ""
            return tell(state, "promoted", model, f"{artifact[:12]} votes for {model}{how}; {by}", recorded.at)
        case Rollback(model=model):
            state.swaps[recorded.version] = recorded.at
            return tell(state, "rolled-back", model or "", f"{model or 'everything'} went back; {by}", recorded.at)
        case RevertProbation(model=model):
            state.swaps[recorded.version] = recorded.at
            return tell(state, "rolled-back", model, f"nobody confirmed {model}'s probation; {by}", recorded.at)
        case Halt():
            return list(stand(state, "halted", "", f"no intents from here on; {by}", recorded.at, stands=True))
        case Resume():
            return list(stand(state, "halted", "", f"intents go on; {by}", recorded.at, stands=False))
        case _:
            return []


def commands(state: State, envelopes: Iterable[Envelope[CommandRecorded]]) -> list[Notice]:
    """``command`` of each."""
    return [notice for envelope in envelopes for notice in command(state, envelope.event)]


def look(state: State, now: int, views: Sequence[GroupView], control: Control) -> list[Notice]:
    """What is worth telling of how the groups stand at ``now``, and of what did not come."""
    notices = [notice for view in views if expected(view, control) for notice in group(state, now, view)]
    notices += stand(state, "halted", "", "no intents are written", now, stands=control.halted)
    for name, series in state.series.items():
        limit = OVERDUE * series.interval_ms + MINUTE_MS
        text = f"{name}: the last decision was written {ago(now - series.at)} ago"
        notices += stand(state, "no-decisions", name, text, now, stands=series.live and now - series.at > limit)
    notices += _forgotten(state, now)
    notices += _trials(state, now, control)
    gone = [key for key, judged in state.judged.items() if not _runs(control, judged)]
    for key in gone:
        del state.judged[key]
    return notices + list(ended(state, now))


def reached(state: State, now: int, error: str, since: int) -> list[Notice]:
    """What is worth telling of a server that has not answered since ``since``; of one that does, with no ``error``."""
    stands = bool(error) and now - since >= DOWN_MS
    if error and not stands:
        return []
    return list(stand(state, "log-unreachable", "", error or "it answers again", now, stands=stands))


def _decision(state: State, event: DecisionMade, partition: int, at: int) -> Iterator[Notice]:
    for version in [version for version in state.swaps if version <= event.control_version]:
        state.swapped.append(max(at - state.swaps.pop(version), 0))
    for ballot in event.counted:
        trial = state.trials.get(ballot.model)
        if trial and trial.artifact == ballot.artifact and event.control_version >= trial.version:
            trial.seen += 1
            trial.over = at if trial.seen == trial.decisions else trial.over
    name = f"{event.symbol} {event.interval_ms // 1000} s"
    known = state.series.get(name)
    quiet = 0 if event.status == "decided" else (known.quiet if known else 0) + 1
    state.series[name] = Series(quiet, event.interval_ms, at, event.origin == "live")
    if known and known.live:
        yield from stand(state, "no-decisions", name, f"{name} is decided again", at, stands=False)
    if quiet or (known and known.quiet):
        silent = ", ".join(f"{one.model} ({one.reason[:80]})" for one in event.absent)
        text = f"{name}: {quiet} rounds in a row without quorum; silent: {silent or 'nobody'}"
        yield from _quorum(state, text if quiet else f"{name} is decided again", at)


def _quorum(state: State, text: str, at: int) -> Iterator[Notice]:
    """One alert for all series: what silences a member silences it for every symbol."""
    stands = any(one.quiet >= (1 if one.interval_ms >= SLOW_MS else ROUNDS) for one in state.series.values())
    yield from stand(state, "no-quorum", "", text, at, stands=stands)


def _forgotten(state: State, now: int) -> Iterator[Notice]:
    """A replayed series ends some time, perhaps without quorum; a live one is missed instead."""
    gone = [name for name, one in state.series.items() if not one.live and now - one.at > FORGOTTEN_MS]
    for name in gone:
        del state.series[name]
    if gone:
        yield from _quorum(state, f"{', '.join(gone[:3])}: no more rounds", now)


def _trials(state: State, now: int, control: Control) -> Iterator[Notice]:
    """Probations that should have ended: what the guard does shows, and so does its absence."""
    for model, probation in control.probations.items():
        known = state.trials.get(model)
        if known is None or known.version != probation.version:
            state.trials[model] = Trial(probation.artifact, probation.version, probation.decisions)
    for model, trial in list(state.trials.items()):
        if model not in control.probations:
            del state.trials[model]
        overdue = model in state.trials and trial.over is not None and now - trial.over >= MINUTE_MS
        text = f"{model}'s probation of {trial.decisions} decisions"
        text += " is over, and it was not reverted" if overdue else " has ended"
        yield from stand(state, "probation-overdue", model, text, now, stands=overdue)


def _follow(state: State, event: Any) -> None:
    """How a training goes."""
    match event:
        case TrainingRequested(model=model):
            state.jobs[model] = Job("requested")
        case TrainingStarted(model=model):
            state.jobs[model] = Job("started")
        case TrainingProgressed(model=model):
            losses = {"train": event.train_loss, "held": event.held_loss}
            known = {part: loss for part, loss in losses.items() if loss is not None}
            state.jobs[model] = Job(event.stage, event.number / max(event.of, 1), known)
        case TrainingCompleted(model=model):
            state.jobs[model] = Job("completed", 1.0, {"test": event.log_loss, "prior": event.prior_log_loss})
        case TrainingRejected(model=model):
            state.jobs[model] = Job("rejected")
        case TrainingFailed(model=model):
            state.jobs[model] = Job("failed")
        case _:
            pass


def _runs(control: Control, judged: Judged) -> bool:
    slot = control.models.get(judged.model)
    return slot is not None and (judged.artifact == slot.champion or judged.artifact in slot.shadows)
