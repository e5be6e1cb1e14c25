"""Decide which events, and which states of the groups, people are notified of. Pure: the time is an argument.

An alert about a condition that lasts (no quorum, a group that is down) is raised once and resolved once. An alert about
something that happened is sent at once; others like it in the ten minutes after are counted and sent together.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from schemas.common import ENSEMBLE
from schemas.control import CommandRecorded, Halt, Promote, PromotePolicy, Resume, RevertProbation, Rollback
from schemas.decisions import DecisionMade
from schemas.gates import VerdictReached
from schemas.market import BarClosed
from schemas.operations import (
    ClockAgrees,
    ClockApart,
    PhoneAnswers,
    PhoneSilent,
    StorageFailed,
    StorageRecovered,
)
from schemas.orders import AccountDiffers, AccountReconciled, OrderFilled
from schemas.training import (
    StackerFitted,
    StackerRejected,
    StackerRequested,
    StackerStarted,
    TrainingCompleted,
    TrainingFailed,
    TrainingProgressed,
    TrainingRejected,
    TrainingRequested,
    TrainingStarted,
)
from schemas.venue import ClockMeasured, FeedInterrupted, FeedWaiting
from services.watcher.groups import DOWN_MS, check_group, check_unserved, is_expected
from services.watcher.money import observe_bar, observe_fill
from services.watcher.state import (
    MINUTE_MS,
    LastVerdict,
    Notice,
    ProbationState,
    SeriesState,
    State,
    TrainingState,
    duration,
    end_bursts,
    report,
    set_alert,
)
from services.watcher.text import describe
from shared.control import State as Control
from shared.control import effect_of
from shared.control.policies import champion_of, in_shadow
from shared.log import GroupView
from shared.voting.deadline import is_overdue

SLOW_MS: Final = 15 * MINUTE_MS
"""For bars of at least this length one round without quorum raises the alert, for shorter ones ``ROUNDS`` in a row."""
ROUNDS: Final = 3
FORGOTTEN_MS: Final = 60 * MINUTE_MS
"""A replayed series without a decision for so long is dropped."""


def observe(state: State, event: Any, partition: int, at: int) -> list[Notice]:
    """Return the notices about an event that was written at ``at`` (ms, the server's clock)."""
    match event:
        case DecisionMade():
            return list(_observe_decision(state, event, partition, at))
        case VerdictReached():
            state.judged[f"{event.model} {event.artifact} {partition}"] = LastVerdict(
                model=event.model,
                artifact=event.artifact,
                partition=partition,
                overall=event.overall,
                gates={gate.name: (gate.value, gate.threshold) for gate in event.gates},
            )
            return []
        case BarClosed():
            observe_bar(state.money, event)
            return []
        case OrderFilled():
            observe_fill(state.money, event)
            return []
        case ClockApart(group=group, host=host, apart_ms=apart_ms):
            text = f"the clock of {group} on {host} differs from the server's by {apart_ms / 1000:.0f} s"
            return list(set_alert(state, "clock-apart", f"{group} {host}", text, at, active=True))
        case ClockAgrees(group=group, host=host):
            text = f"the clock of {group} on {host} agrees with the server's"
            return list(set_alert(state, "clock-apart", f"{group} {host}", text, at, active=False))
        case StorageFailed(group=group, host=host, file=file):
            text = f"{group} on {host} cannot write {file}, and goes on without it: {event.detail}"
            return list(set_alert(state, "storage-failed", f"{group} {host} {file}", text, at, active=True))
        case StorageRecovered(group=group, host=host, file=file):
            text = f"{group} on {host} writes {file} again"
            if group == "archiver":  # its failure was reported, and not raised
                return report(state, "archive-works", "", text, at)
            return list(set_alert(state, "storage-failed", f"{group} {host} {file}", text, at, active=False))
        case PhoneSilent(host=host):
            text = (
                f"the bot on {host} has had no answer from its chat server for {duration(event.at - event.began)}, so "
                f"no one can halt by phone (`conclave halt` on the server does): {event.detail}"
            )
            return list(set_alert(state, "phone-silent", "", text, at, active=True))
        case PhoneAnswers(host=host):
            text = f"the chat server answers the bot on {host} again"
            return list(set_alert(state, "phone-silent", "", text, at, active=False))
        case FeedWaiting(exchange=exchange, cause=cause):
            text = f"{exchange} is {cause} since {duration(event.at - event.began)}: {event.detail}"
            return list(set_alert(state, "exchange-waiting", exchange, text, at, active=True))
        case FeedInterrupted(exchange=exchange, cause="unreachable" | "rate_limited"):
            text = f"{exchange} answers again"
            return [
                *set_alert(state, "exchange-waiting", exchange, text, at, active=False),
                *_described(state, event, at),
            ]
        case ClockMeasured(exchange=exchange):  # the first answer after a start
            text = f"{exchange} answers again"
            return [
                *set_alert(state, "exchange-waiting", exchange, text, at, active=False),
                *_described(state, event, at),
            ]
        case AccountDiffers(venue=venue):
            text = f"no order goes to {venue} from partition {partition}: {event.detail}"
            return list(set_alert(state, "account-differs", f"{venue}/{partition}", text, at, active=True))
        case AccountReconciled(venue=venue):
            text = f"orders go to {venue} from partition {partition} again"
            return list(set_alert(state, "account-differs", f"{venue}/{partition}", text, at, active=False))
        case _:
            _follow_training(state, event)
            return _described(state, event, at)


def _described(state: State, event: Any, at: int) -> list[Notice]:
    described = describe(event)
    return report(state, *described, at) if described else []


def observe_unreadable(state: State, stream: str, entry: str, detail: str, at: int) -> list[Notice]:
    """Return the notices about an entry of ``stream`` that cannot be decoded, written at ``at`` (ms)."""
    return report(state, "dead-letters", f"watcher {stream}", f"entry {entry} of {stream} cannot be read: {detail}", at)


def observe_command(state: State, recorded: CommandRecorded) -> list[Notice]:
    """Return the notices about an applied entry of the control stream; none if it was observed before."""
    if recorded.version <= state.version:
        return []
    state.version = recorded.version
    by = f"by {recorded.actor}, version {recorded.version}: {recorded.reason}"
    match effect_of(recorded.command):
        case Promote(model=model, artifact=artifact, forced=forced, probation=probation):
            state.swaps[recorded.version] = recorded.at
            if probation:
                state.trials[model] = ProbationState(artifact, recorded.version, probation)
            how = ", without a verdict" if forced else ""
            return report(state, "promoted", model, f"{artifact[:12]} votes for {model}{how}; {by}", recorded.at)
        case PromotePolicy(policy=digest, forced=forced, probation=probation):
            state.swaps[recorded.version] = recorded.at
            if probation:
                state.trials[ENSEMBLE] = ProbationState(digest, recorded.version, probation)
            how = ", without a verdict" if forced else ""
            text = f"voting policy {digest[:12]} is in force{how}; {by}"
            return report(state, "promoted", ENSEMBLE, text, recorded.at)
        case Rollback(model=model):
            state.swaps[recorded.version] = recorded.at
            text = f"{model or 'the whole configuration'} was rolled back; {by}"
            return report(state, "rolled-back", model or "", text, recorded.at)
        case RevertProbation(model=model):
            state.swaps[recorded.version] = recorded.at
            text = f"{model}'s probation was not confirmed in time; {by}"
            return report(state, "rolled-back", model, text, recorded.at)
        case Halt():
            return list(set_alert(state, "halted", "", f"no intents from here on; {by}", recorded.at, active=True))
        case Resume():
            return list(set_alert(state, "halted", "", f"intents are written again; {by}", recorded.at, active=False))
        case _:
            return []


def check(state: State, now: int, views: Sequence[GroupView], control: Control) -> list[Notice]:
    """Return the notices about the groups as they are at ``now`` (ms), and about what is overdue by then."""
    notices = [notice for view in views if is_expected(view, control) for notice in check_group(state, now, view)]
    notices += check_unserved(state, now, views, control)
    notices += set_alert(state, "halted", "", "no intents are written", now, active=control.halted)
    for name, series in state.series.items():
        overdue = series.live and is_overdue(now, series.at, series.interval_ms)
        text = f"{name}: the last decision was written {duration(now - series.at)} ago"
        notices += set_alert(state, "no-decisions", name, text, now, active=overdue)
    notices += _drop_replays(state, now)
    notices += _check_probations(state, now, control)
    state.judged = {key: verdict for key, verdict in state.judged.items() if _in_use(control, verdict)}
    return notices + list(end_bursts(state, now))


def check_server(state: State, now: int, error: str, since: int) -> list[Notice]:
    """Return the notices about a server that has failed since ``since`` (ms). An empty ``error`` means that it
    answers."""
    down = bool(error) and now - since >= DOWN_MS
    if error and not down:
        return []
    return list(set_alert(state, "log-unreachable", "", error or "it answers again", now, active=down))


def _observe_decision(state: State, event: DecisionMade, partition: int, at: int) -> Iterator[Notice]:
    for version in [version for version in state.swaps if version <= event.control_version]:
        state.swapped.append(max(at - state.swaps.pop(version), 0))
    for ballot in event.counted:
        probation = state.trials.get(ballot.model)
        if probation and probation.artifact == ballot.artifact and event.control_version >= probation.version:
            _count(probation, at)
    of_policy = state.trials.get(ENSEMBLE)
    if of_policy and event.status == "decided" and event.control_version >= of_policy.version:
        _count(of_policy, at)
    name = f"{event.symbol} {event.interval_ms // 1000} s"
    former = state.series.get(name)
    quiet = 0 if event.status == "decided" else (former.quiet if former else 0) + 1
    state.series[name] = SeriesState(quiet, event.interval_ms, at, event.origin == "live")
    if former and former.live:
        yield from set_alert(state, "no-decisions", name, f"{name} is decided again", at, active=False)
    if quiet or (former and former.quiet):
        absent = ", ".join(f"{member.model} ({member.reason[:80]})" for member in event.absent)
        text = f"{name}: {quiet} rounds in a row without quorum; absent: {absent or 'none'}"
        yield from _check_quorum(state, text if quiet else f"{name} is decided again", at)


def _count(probation: ProbationState, at: int) -> None:
    probation.seen += 1
    probation.over = at if probation.seen == probation.decisions else probation.over


def _check_quorum(state: State, text: str, at: int) -> Iterator[Notice]:
    """Raise or resolve one alert for all series: a member that is absent is absent for every symbol."""
    failing = any(series.quiet >= (1 if series.interval_ms >= SLOW_MS else ROUNDS) for series in state.series.values())
    yield from set_alert(state, "no-quorum", "", text, at, active=failing)


def _drop_replays(state: State, now: int) -> Iterator[Notice]:
    """Drop replayed series that have ended, perhaps without quorum. Live series are kept: they become overdue."""
    ended = [name for name, series in state.series.items() if not series.live and now - series.at > FORGOTTEN_MS]
    for name in ended:
        del state.series[name]
    if ended:
        yield from _check_quorum(state, f"{', '.join(ended[:3])}: no more rounds", now)


def _check_probations(state: State, now: int, control: Control) -> Iterator[Notice]:
    """Raise an alert for each probation whose decisions are over and that the guard has not reverted."""
    for model, probation in control.probations.items():
        known = state.trials.get(model)
        if known is None or known.version != probation.version:
            state.trials[model] = ProbationState(probation.artifact, probation.version, probation.decisions)
    for model, trial in list(state.trials.items()):
        if model not in control.probations:
            del state.trials[model]
        overdue = model in state.trials and trial.over is not None and now - trial.over >= MINUTE_MS
        text = f"{model}'s probation of {trial.decisions} decisions"
        text += " is over, and it was not reverted" if overdue else " has ended"
        yield from set_alert(state, "probation-overdue", model, text, now, active=overdue)


def _follow_training(state: State, event: Any) -> None:
    """Note the stage that a training has reached."""
    match event:
        case TrainingRequested(model=model):
            state.jobs[model] = TrainingState("requested")
        case TrainingStarted(model=model):
            state.jobs[model] = TrainingState("started")
        case TrainingProgressed(model=model):
            losses = {"train": event.train_loss, "held": event.held_loss}
            known = {part: loss for part, loss in losses.items() if loss is not None}
            state.jobs[model] = TrainingState(event.stage, event.number / max(event.of, 1), known)
        case TrainingCompleted(model=model):
            state.jobs[model] = TrainingState("completed", 1.0, {"test": event.log_loss, "prior": event.prior_log_loss})
        case TrainingRejected(model=model):
            state.jobs[model] = TrainingState("rejected")
        case TrainingFailed(model=model):
            state.jobs[model] = TrainingState("failed")
        case StackerRequested():
            state.jobs[ENSEMBLE] = TrainingState("requested")
        case StackerStarted():
            state.jobs[ENSEMBLE] = TrainingState("started")
        case StackerFitted():
            state.jobs[ENSEMBLE] = TrainingState("completed", 1.0)
        case StackerRejected():
            state.jobs[ENSEMBLE] = TrainingState("rejected")
        case _:
            pass


def _in_use(control: Control, verdict: LastVerdict) -> bool:
    if verdict.artifact == champion_of(control, verdict.model):
        return True
    return (verdict.model, verdict.artifact) in in_shadow(control)
