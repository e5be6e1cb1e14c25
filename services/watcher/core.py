"""What is worth a notice: from events, and from how the groups stand. Pure; time arrives with both.

Alerts that stand are raised once and resolved once. Alerts about something that happened are told at once, and
those like them in the ten minutes after are counted and told together.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec import Struct, field

from schemas.codec import Envelope
from schemas.control import CommandRecorded, Halt, Promote, Resume, RevertProbation, Rollback
from schemas.decisions import DecisionMade
from schemas.gates import ActionDue, GuardTripped, InputsDrifted, SkillDecayed, VerdictReached
from schemas.operations import (
    ArchiveFailed,
    ControlRefused,
    DeadLetter,
    GapDetected,
    GroupRecreated,
    InterferenceFound,
    OwnerReplaced,
)
from services.watcher.alerts import ALERTS
from shared.control import State as Control
from shared.log import GroupView

MINUTE_MS: Final = 60_000
LIKE_IT_MS: Final = 10 * MINUTE_MS
"""What happens again within so long is counted instead of told."""
DOWN_MS: Final = 30_000
STUCK_MS: Final = MINUTE_MS
LAGGING_MS: Final = 10 * MINUTE_MS
LAGGING: Final = 1_000
"""Events behind, summed over streams."""
RESTARTS: Final = 5
SLOW_MS: Final = 15 * MINUTE_MS
"""Of bars this long, one round without quorum is told; of shorter ones, the third in a row."""
ROUNDS: Final = 3
OVERDUE: Final = 3
"""Bars that may be missing before decisions are; and a minute."""


class Notice(Struct, frozen=True):
    """What to tell. ``more``: how many like it are told by this one."""

    alert: str
    kind: str
    subject: str
    text: str
    at: int
    more: int = 0

    @property
    def severity(self) -> str:
        """Of its alert; that something is over is news."""
        return "info" if self.kind == "resolved" else ALERTS[self.alert].severity


class Standing(Struct):
    """An alert that was raised. ``told``: whether that was said, or only counted so far."""

    since: int
    text: str
    told: bool = True


class Burst(Struct):
    """Notices of one kind: until when they are counted, how many were, and the last of them."""

    until: int
    more: int = 0
    last: str = ""


class Series(Struct):
    """One series of bars: rounds without quorum in a row, and when its last decision was written."""

    quiet: int
    interval_ms: int
    at: int
    live: bool


class Seen(Struct):
    """A group as it was last looked at: positions by stream with the moment they were reached, since when it is
    down and lags (None: neither), when it was claimed lately."""

    epoch: int
    moved: dict[str, tuple[str, int]] = field(default_factory=dict)
    down: int | None = None
    lagging: int | None = None
    starts: list[int] = field(default_factory=list)


class Judged(Struct):
    """The last verdict on a candidate in a partition: its gates' values and thresholds, by name."""

    model: str
    artifact: str
    partition: int
    overall: str
    gates: dict[str, tuple[float | None, float | None]]


class State(Struct):
    """What the watcher remembers. ``swaps``: versions that changed who votes and have decided nothing yet, with
    the moment of their command."""

    version: int = 0
    series: dict[str, Series] = field(default_factory=dict)
    groups: dict[str, Seen] = field(default_factory=dict)
    standing: dict[str, Standing] = field(default_factory=dict)
    bursts: dict[str, Burst] = field(default_factory=dict)
    judged: dict[str, Judged] = field(default_factory=dict)
    swaps: dict[int, int] = field(default_factory=dict)
    swapped: list[int] = field(default_factory=list)


def take(state: State, event: Any, partition: int, at: int) -> list[Notice]:
    """What an event, written at ``at`` (ms, the server's clock), is worth telling."""
    match event:
        case DecisionMade():
            return list(_decision(state, event, partition, at))
        case DeadLetter(service=service, reason=reason):
            text = f"{service} refused {event.source}: {reason}, {event.detail}"
            return _told(state, "dead-letters", f"{service} {reason}", text, at)
        case VerdictReached():
            state.judged[f"{event.model} {event.artifact} {partition}"] = Judged(
                event.model, event.artifact, partition, event.overall,
                {gate.name: (gate.value, gate.threshold) for gate in event.gates},
            )  # fmt: skip
            return []
        case _:
            alert, subject, text = _words(event)
            return _told(state, alert, subject, text, at) if alert else []


def command(state: State, recorded: CommandRecorded) -> list[Notice]:
    """What an entry of the control stream that stands is worth telling; nothing where it was told before."""
    if recorded.version <= state.version:
        return []
    state.version = recorded.version
    by = f"by {recorded.actor}, version {recorded.version}: {recorded.reason}"
    match recorded.command:
        case Promote(model=model, artifact=artifact, forced=forced):
            state.swaps[recorded.version] = recorded.at
            how = ", without a verdict" if forced else ""
            return _told(state, "promoted", model, f"{artifact[:12]} votes for {model}{how}; {by}", recorded.at)
        case Rollback(model=model):
            state.swaps[recorded.version] = recorded.at
            return _told(state, "rolled-back", model or "", f"{model or 'everything'} went back; {by}", recorded.at)
        case RevertProbation(model=model):
            state.swaps[recorded.version] = recorded.at
            return _told(state, "rolled-back", model, f"nobody confirmed {model}'s probation; {by}", recorded.at)
        case Halt():
            return list(_stand(state, "halted", "", f"no intents from here on; {by}", recorded.at, stands=True))
        case Resume():
            return list(_stand(state, "halted", "", f"intents go on; {by}", recorded.at, stands=False))
        case _:
            return []


def commands(state: State, envelopes: Iterable[Envelope[CommandRecorded]]) -> list[Notice]:
    """``command`` of each."""
    return [notice for envelope in envelopes for notice in command(state, envelope.event)]


def look(state: State, now: int, views: Sequence[GroupView], control: Control) -> list[Notice]:
    """What is worth telling of how the groups stand at ``now``, and of what did not come."""
    notices = [notice for view in views if _expected(view, control) for notice in _group(state, now, view)]
    notices += _stand(state, "halted", "", "no intents are written", now, stands=control.halted)
    for name, series in state.series.items():
        limit = OVERDUE * series.interval_ms + MINUTE_MS
        text = f"{name}: the last decision was written {_ago(now - series.at)} ago"
        notices += _stand(state, "no-decisions", name, text, now, stands=series.live and now - series.at > limit)
    gone = [key for key, judged in state.judged.items() if not _runs(control, judged)]
    for key in gone:
        del state.judged[key]
    return notices + list(_ended(state, now))


def reached(state: State, now: int, error: str, since: int) -> list[Notice]:
    """What is worth telling of a server that has not answered since ``since``; of one that does, with no ``error``."""
    stands = bool(error) and now - since >= DOWN_MS
    if error and not stands:
        return []
    return list(_stand(state, "log-unreachable", "", error or "it answers again", now, stands=stands))


def _decision(state: State, event: DecisionMade, partition: int, at: int) -> Iterator[Notice]:
    for version in [version for version in state.swaps if version <= event.control_version]:
        state.swapped.append(max(at - state.swaps.pop(version), 0))
    name = f"{event.symbol} {event.interval_ms // 1000} s"
    known = state.series.get(name)
    quiet = 0 if event.status == "decided" else (known.quiet if known else 0) + 1
    state.series[name] = Series(quiet, event.interval_ms, at, event.origin == "live")
    if known and known.live:
        yield from _stand(state, "no-decisions", name, f"{name} is decided again", at, stands=False)
    if quiet or (known and known.quiet):
        limit = 1 if event.interval_ms >= SLOW_MS else ROUNDS
        silent = ", ".join(f"{one.model} ({one.reason[:80]})" for one in event.absent)
        text = f"{name}: {quiet} rounds in a row without quorum; silent: {silent or 'nobody'}"
        if quiet == 0:
            text = f"{name} is decided again"
        # One alert for all series: what silences a member silences it for every symbol.
        others = [key for key, one in state.series.items() if one.quiet >= limit]
        yield from _stand(state, "no-quorum", "", text, at, stands=bool(others))


def _words(event: Any) -> tuple[str, str, str]:
    """An event that is told as it is: its alert, whom it is about, and what to say."""
    match event:
        case GuardTripped():
            crossed = f"{event.guard} at {event.value}, limit {event.threshold}"
            text = f"{crossed}: {event.stage} of {event.model}; {event.detail}"
            return "guard-tripped", f"{event.model} {event.guard}", text
        case ActionDue(acts=False):
            return "action-due", f"{event.model} {event.action}", f"{event.action} of {event.model}: {event.reason}"
        case InputsDrifted(drifted=True):
            text = f"{event.share:.0%} of {event.model}'s inputs have drifted: {event.detail}"
            return "inputs-drifted", f"{event.model} {event.artifact[:12]}", text
        case SkillDecayed():
            return "skill-decayed", event.model, f"{event.model} {event.artifact[:12]}: {event.detail}"
        case GapDetected():
            text = f"{event.group} stopped: {event.stream} was trimmed from {event.committed} to {event.oldest}"
            return "gap-detected", f"{event.group} {event.stream}", text
        case GroupRecreated():
            return "group-recreated", event.group, f"{event.group} on {event.stream}, at {event.position}"
        case OwnerReplaced():
            return "owner-replaced", event.group, f"{event.group}: {event.owner} replaced {event.former}"
        case ControlRefused():
            return "control-refused", "", f"entry {event.entry}: {event.reason}; version {event.version} stays in force"
        case InterferenceFound():
            return "interference-found", "", f"decision {event.decision}: {event.detail}"
        case ArchiveFailed():
            return "archive-failed", event.reason, f"{event.reason}: {event.detail}"
        case _:
            return "", "", ""


def _expected(view: GroupView, control: Control) -> bool:
    """Whether a group is to run: a feed may be at its end, a worker's model may be gone."""
    if view.group == "feed":
        return False
    service, _, model = view.group.partition(".")
    if service != "model-worker":
        return True
    slot = control.models.get(model)
    return slot is not None and bool(slot.champion or slot.shadows)


def _runs(control: Control, judged: Judged) -> bool:
    slot = control.models.get(judged.model)
    return slot is not None and (judged.artifact == slot.champion or judged.artifact in slot.shadows)


def _group(state: State, now: int, view: GroupView) -> Iterator[Notice]:
    name = f"{view.group}/{view.partition}"
    seen = state.groups.setdefault(name, Seen(view.epoch))
    seen.starts = [at for at in seen.starts if now - at < LIKE_IT_MS]
    if view.epoch > seen.epoch:
        seen.starts += [now] * (view.epoch - seen.epoch)
        seen.epoch = view.epoch
    stands = len(seen.starts) >= RESTARTS or (_key("restarting", name) in state.standing and bool(seen.starts))
    text = f"{name} started {len(seen.starts)} times within ten minutes" if stands else f"{name} stays up"
    yield from _stand(state, "restarting", name, text, now, stands=stands)
    seen.down = None if view.alive else (seen.down if seen.down is not None else now)
    down = seen.down is not None and now - seen.down >= DOWN_MS
    text = f"{name} has had no living owner for {_ago(now - (seen.down or now))}; the last was {view.owner}"
    yield from _stand(state, "group-down", name, text if down else f"{name} runs: {view.owner}", now, stands=down)
    yield from _movement(state, now, view, name, seen)


def _movement(state: State, now: int, view: GroupView, name: str, seen: Seen) -> Iterator[Notice]:
    for stream, position in view.positions.items():
        former = seen.moved.get(stream)
        if former is None or former[0] != position.id or not view.lag.get(stream):
            seen.moved[stream] = (position.id, now)
    stuck = [stream for stream, (_, since) in seen.moved.items() if now - since >= STUCK_MS and view.alive]
    behind = ", ".join(f"{view.lag.get(stream, 0)} of {stream}" for stream in stuck)
    text = f"{name} has not moved for a minute, with {behind} to read" if stuck else f"{name} moves"
    yield from _stand(state, "group-stuck", name, text, now, stands=bool(stuck))
    lag = sum(view.lag.values())
    seen.lagging = (seen.lagging if seen.lagging is not None else now) if lag >= LAGGING else None
    late = seen.lagging is not None and now - seen.lagging >= LAGGING_MS
    text = f"{name} is {lag} events behind" + (f", for {_ago(now - (seen.lagging or now))}" if late else "")
    yield from _stand(state, "group-lagging", name, text, now, stands=late)


def _key(alert: str, subject: str) -> str:
    return f"{alert} {subject}".strip()


def _stand(state: State, alert: str, subject: str, text: str, at: int, *, stands: bool) -> Iterator[Notice]:
    """Raises or resolves an alert that stands, or leaves it."""
    key = _key(alert, subject)
    if stands and key not in state.standing:
        told = _first(state, key, text, at)
        state.standing[key] = Standing(at, text, told)
        if told:
            yield Notice(alert, "raised", subject, text, at)
    elif not stands and key in state.standing:
        was = state.standing.pop(key)
        if was.told:
            yield Notice(alert, "resolved", subject, f"{text}; it stood for {_ago(at - was.since)}", at)


def _first(state: State, key: str, text: str, at: int) -> bool:
    """Whether nothing like it was told a while ago; counts it where something was."""
    burst = state.bursts.get(key)
    if burst is not None and at < burst.until:
        burst.more += 1
        burst.last = text
        return False
    state.bursts[key] = Burst(at + LIKE_IT_MS)
    return True


def _told(state: State, alert: str, subject: str, text: str, at: int) -> list[Notice]:
    """Tells what happened, or counts it where the like of it was told a while ago."""
    more = _counted(state, _key(alert, subject), at)
    return [Notice(alert, "told", subject, text, at, more)] if _first(state, _key(alert, subject), text, at) else []


def _counted(state: State, key: str, at: int) -> int:
    """How many were counted in a burst that is over and was not told yet."""
    burst = state.bursts.get(key)
    return burst.more if burst is not None and at >= burst.until else 0


def _ended(state: State, now: int) -> Iterator[Notice]:
    """Bursts that are over: what was counted in them is told now."""
    for key, burst in list(state.bursts.items()):
        if now < burst.until:
            continue
        del state.bursts[key]
        if not burst.more:
            continue
        alert, _, subject = key.partition(" ")
        state.bursts[key] = Burst(now + LIKE_IT_MS)
        stands = state.standing.get(key)
        if stands is not None and not stands.told:
            stands.told = True
            yield Notice(alert, "raised", subject, stands.text, now, burst.more - 1)
        else:
            yield Notice(alert, "told", subject, burst.last, now, burst.more - 1)


def _ago(milliseconds: int) -> str:
    seconds = max(milliseconds, 0) // 1000
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def standing(state: State) -> Mapping[str, int]:
    """How many alerts of each name stand."""
    counts: dict[str, int] = {}
    for key in state.standing:
        name = key.partition(" ")[0]
        counts[name] = counts.get(name, 0) + 1
    return counts
