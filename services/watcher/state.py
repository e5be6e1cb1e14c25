"""What the watcher remembers, and how it tells: at once, once, and what is alike in numbers. Pure."""

from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct, field

from services.watcher.alerts import ALERTS

MINUTE_MS: Final = 60_000
LIKE_IT_MS: Final = 10 * MINUTE_MS
"""What happens again within so long is counted instead of told."""


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


class Job(Struct):
    """The last that was heard of a model's training: how far it is (0 to 1), and its mean log losses (nats)."""

    stage: str
    progress: float = 0.0
    losses: dict[str, float] = field(default_factory=dict)


class Trial(Struct):
    """A promotion on probation: how many decisions it lasts, how many there were, and when it was over."""

    artifact: str
    version: int
    decisions: int
    seen: int = 0
    over: int | None = None


class State(Struct):
    """What the watcher remembers. ``swaps``: versions that changed who votes and have decided nothing yet, with
    the moment of their command."""

    version: int = 0
    series: dict[str, Series] = field(default_factory=dict)
    groups: dict[str, Seen] = field(default_factory=dict)
    standing: dict[str, Standing] = field(default_factory=dict)
    bursts: dict[str, Burst] = field(default_factory=dict)
    judged: dict[str, Judged] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    trials: dict[str, Trial] = field(default_factory=dict)
    swaps: dict[int, int] = field(default_factory=dict)
    swapped: list[int] = field(default_factory=list)


def key_of(alert: str, subject: str) -> str:
    """The name of an alert about somebody."""
    return f"{alert} {subject}".strip()


def stand(state: State, alert: str, subject: str, text: str, at: int, *, stands: bool) -> Iterator[Notice]:
    """Raises or resolves an alert that stands, or leaves it."""
    key = key_of(alert, subject)
    if stands and key not in state.standing:
        more, told = _counted(state, key, at), _first(state, key, text, at)
        state.standing[key] = Standing(at, text, told)
        if told:
            yield Notice(alert, "raised", subject, text, at, more)
    elif not stands and key in state.standing:
        was = state.standing.pop(key)
        if was.told:
            yield Notice(alert, "resolved", subject, f"{text}; it stood for {ago(at - was.since)}", at)


def _first(state: State, key: str, text: str, at: int) -> bool:
    """Whether nothing like it was told a while ago; counts it where something was."""
    burst = state.bursts.get(key)
    if burst is not None and at < burst.until:
        burst.more += 1
        burst.last = text
        return False
    state.bursts[key] = Burst(at + LIKE_IT_MS)
    return True


def tell(state: State, alert: str, subject: str, text: str, at: int) -> list[Notice]:
    """Tells what happened, or counts it where the like of it was told a while ago."""
    more = _counted(state, key_of(alert, subject), at)
    return [Notice(alert, "told", subject, text, at, more)] if _first(state, key_of(alert, subject), text, at) else []


def _counted(state: State, key: str, at: int) -> int:
    """How many were counted in a burst that is over and was not told yet."""
    burst = state.bursts.get(key)
    return burst.more if burst is not None and at >= burst.until else 0


def ended(state: State, now: int) -> Iterator[Notice]:
    """Bursts that are over: what was counted in them is told now. So is an alert that was only counted, as soon
    as it has stood for a minute: what comes and goes is a nuisance, what stays is news."""
    for key, stands in state.standing.items():
        burst = state.bursts.get(key)
        if not stands.told and (now - stands.since >= MINUTE_MS or burst is None or now >= burst.until):
            stands.told = True
            yield _together(state, key, "raised", stands.text, now)
    for key, burst in list(state.bursts.items()):
        if now >= burst.until and burst.more:
            yield _together(state, key, "told", burst.last, now)
        elif now >= burst.until:
            del state.bursts[key]


def _together(state: State, key: str, kind: str, text: str, now: int) -> Notice:
    """The last of those that were counted, for all of them; the next burst begins."""
    alert, _, subject = key.partition(" ")
    more = max(state.bursts[key].more - 1, 0) if key in state.bursts else 0
    state.bursts[key] = Burst(now + LIKE_IT_MS)
    return Notice(alert, kind, subject, text, now, more)


def ago(milliseconds: int) -> str:
    """A duration in the unit that people would use."""
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
