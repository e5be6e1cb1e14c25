"""The state of the watcher, and the rules by which an alert is sent at once, counted, or resolved. Pure.

``watcher.json`` holds these structs, so the names of their fields are those of earlier releases.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct, field

from services.watcher.alerts import ALERTS
from services.watcher.money import WatchedMoney

MINUTE_MS: Final = 60_000
BURST_MS: Final = 10 * MINUTE_MS
"""After a notice, further ones with the same alert and subject are counted for so long, and then sent as one."""


class Notice(Struct, frozen=True):
    """A message to people. ``kind``: ``raised`` or ``resolved`` for a condition that lasts, ``reported`` for something
    that happened. ``more``: how many others like it this notice stands for."""

    alert: str
    kind: str
    subject: str
    text: str
    at: int
    more: int = 0

    @property
    def severity(self) -> str:
        """The severity of the alert; ``info`` once it is resolved."""
        return "info" if self.kind == "resolved" else ALERTS[self.alert].severity


class ActiveAlert(Struct):
    """A condition that lasts. ``told``: whether a notice was sent, or the alert was only counted so far."""

    since: int
    text: str
    told: bool = True


class Burst(Struct):
    """The time (ms) until which notices of one alert and subject are counted, how many were, and the last text."""

    until: int
    more: int = 0
    last: str = ""


class SeriesState(Struct):
    """One series of bars: successive rounds without quorum, and when its last decision was written (ms)."""

    quiet: int
    interval_ms: int
    at: int
    live: bool


class GroupState(Struct):
    """A consumer group at the last check. ``moved``: by stream its position, and when it was reached. ``down`` and
    ``lagging``: since when (None: it is not). ``starts``: when it was claimed, within the last ten minutes."""

    epoch: int
    moved: dict[str, tuple[str, int]] = field(default_factory=dict)
    down: int | None = None
    lagging: int | None = None
    starts: list[int] = field(default_factory=list)


class LastVerdict(Struct):
    """The last verdict on an artifact in one partition. ``gates``: value and threshold by name of the gate."""

    model: str
    artifact: str
    partition: int
    overall: str
    gates: dict[str, tuple[float | None, float | None]]


class TrainingState(Struct):
    """The last training of a model: its stage, its progress (0 to 1) and its mean log losses (nats)."""

    stage: str
    progress: float = 0.0
    losses: dict[str, float] = field(default_factory=dict)


class ProbationState(Struct):
    """A promotion on probation: how many decisions it lasts, how many were made, and when the last of them was (ms)."""

    artifact: str
    version: int
    decisions: int
    seen: int = 0
    over: int | None = None


class State(Struct):
    """The state of the watcher. ``version``: the last control version that was handled. ``swaps``: versions that
    changed who votes and have no decision yet, with the time (ms) of their command; ``swapped``: the durations (ms)
    from command to first decision that are not exported yet. ``money``: what the fills paid and left."""

    version: int = 0
    series: dict[str, SeriesState] = field(default_factory=dict)
    groups: dict[str, GroupState] = field(default_factory=dict)
    standing: dict[str, ActiveAlert] = field(default_factory=dict)
    bursts: dict[str, Burst] = field(default_factory=dict)
    judged: dict[str, LastVerdict] = field(default_factory=dict)
    jobs: dict[str, TrainingState] = field(default_factory=dict)
    trials: dict[str, ProbationState] = field(default_factory=dict)
    swaps: dict[int, int] = field(default_factory=dict)
    swapped: list[int] = field(default_factory=list)
    money: WatchedMoney = field(default_factory=WatchedMoney)


def key_of(alert: str, subject: str) -> str:
    """Return the key of an alert and its subject."""
    return f"{alert} {subject}".strip()


def set_alert(state: State, alert: str, subject: str, text: str, at: int, *, active: bool) -> Iterator[Notice]:
    """Raise an alert that has become active, resolve one that no longer is, and leave others unchanged."""
    key = key_of(alert, subject)
    if active and key not in state.standing:
        more, first = _counted(state, key, at), _starts_burst(state, key, text, at)
        state.standing[key] = ActiveAlert(at, text, first)
        if first:
            yield Notice(alert, "raised", subject, text, at, more)
    elif not active and key in state.standing:
        former = state.standing.pop(key)
        if former.told:
            yield Notice(alert, "resolved", subject, f"{text}; it lasted {duration(at - former.since)}", at)


def report(state: State, alert: str, subject: str, text: str, at: int) -> list[Notice]:
    """Return a notice of something that happened; none if a notice like it was sent within ``BURST_MS``. It is then
    counted."""
    key = key_of(alert, subject)
    more = _counted(state, key, at)
    return [Notice(alert, "reported", subject, text, at, more)] if _starts_burst(state, key, text, at) else []


def _starts_burst(state: State, key: str, text: str, at: int) -> bool:
    """Start a burst and return true; count the notice and return false if it falls into the present one."""
    burst = state.bursts.get(key)
    if burst is not None and at < burst.until:
        burst.more += 1
        burst.last = text
        return False
    state.bursts[key] = Burst(at + BURST_MS)
    return True


def _counted(state: State, key: str, at: int) -> int:
    """Return how many notices were counted in a burst that is over and was not summed up yet."""
    burst = state.bursts.get(key)
    return burst.more if burst is not None and at >= burst.until else 0


def end_bursts(state: State, now: int) -> Iterator[Notice]:
    """Sum up each burst that is over in one notice. An active alert that was only counted is sent as soon as it has
    lasted a minute."""
    for key, alert in state.standing.items():
        burst = state.bursts.get(key)
        if not alert.told and (now - alert.since >= MINUTE_MS or burst is None or now >= burst.until):
            alert.told = True
            yield _sum_up(state, key, "raised", alert.text, now)
    for key, burst in list(state.bursts.items()):
        if now >= burst.until and burst.more:
            yield _sum_up(state, key, "reported", burst.last, now)
        elif now >= burst.until:
            del state.bursts[key]


def _sum_up(state: State, key: str, kind: str, text: str, now: int) -> Notice:
    """Return one notice for all that were counted, with the text of the last, and start the next burst."""
    alert, _, subject = key.partition(" ")
    more = max(state.bursts[key].more - 1, 0) if key in state.bursts else 0
    state.bursts[key] = Burst(now + BURST_MS)
    return Notice(alert, kind, subject, text, now, more)


def duration(milliseconds: int) -> str:
    """Return a duration in its largest unit that gives at least 2, as ``3 min``."""
    seconds = max(milliseconds, 0) // 1000
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def active_counts(state: State) -> Mapping[str, int]:
    """Return the number of active alerts by name."""
    counts: dict[str, int] = {}
    for key in state.standing:
        name = key.partition(" ")[0]
        counts[name] = counts.get(name, 0) + 1
    return counts
