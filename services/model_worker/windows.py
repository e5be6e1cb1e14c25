"""The vectors that a worker keeps: those of the current bar, and the last ones of each symbol.

They are a function of the ``features`` stream alone, and do not depend on which artifacts are loaded or registered. So
an artifact that is started later, or takes long to load, predicts from the same windows as one that was there before.
"""

from bisect import bisect_left
from collections import deque
from typing import Final, NamedTuple

from msgspec import Struct, field

from schemas.features import FeaturesComputed, FeaturesWithheld
from services.model_worker.inference import Failure
from services.model_worker.members import Member
from shared.families.base import LONGEST_WINDOW
from shared.log import START
from shared.runtime.service import Received

FORGOTTEN: Final = 1 << 18
"""A symbol without a vector in so many events of the stream is forgotten, and its next window starts empty. Otherwise a
symbol that is no longer traded would hold back the entry from which a restart reads."""
MILESTONE: Final = 256
"""The number of events between two entry ids that are remembered, from which a restart may read again."""

Series = tuple[bytes, int, str]
"""Digest of the feature set, interval (ms), symbol."""


class Milestone(NamedTuple):
    """The ``number``-th event since the worker began to count has the id ``entry``."""

    number: int
    entry: str


class Window:
    """The newest successive vectors of a series, oldest first, and the number of each. ``last``: the open time (ms) of
    the newest."""

    __slots__ = ("last", "numbers", "values")

    def __init__(self) -> None:
        self.values: deque[bytes] = deque(maxlen=LONGEST_WINDOW)
        self.numbers: deque[int] = deque(maxlen=LONGEST_WINDOW)
        self.last = -1


class Round:
    """The current bar: its first event, the number of that event, and the feature sets that came so far."""

    __slots__ = ("envelope", "interval_ms", "number", "open_time", "seen", "symbol")

    def __init__(self, received: Received, number: int) -> None:
        event = received.envelope.event
        self.envelope = received.envelope
        self.number = number
        self.symbol: str = event.symbol
        self.interval_ms: int = event.interval_ms
        self.open_time: int = event.open_time
        self.seen: set[bytes] = set()


class Vectors(Struct):
    """The windows of all series, and the current bar.

    ``count``: events so far. ``milestones``: entries from which a restart may read again, oldest first. ``anchored``:
    the number of the newest milestone when ``anchor`` last searched them."""

    count: int = 0
    anchored: int = 0
    round: Round | None = None
    kept: dict[Series, Window] = field(default_factory=dict)
    milestones: list[Milestone] = field(default_factory=lambda: [Milestone(0, START)])

    def observe(self, received: Received) -> Round | None:
        """Note that the event's feature set came for its bar. Return the bar before it if the event begins a new
        one."""
        event = received.envelope.event
        self.count += 1
        if self.count % MILESTONE == 0:
            self.milestones.append(Milestone(self.count, received.entry))
        current, closed = self.round, None
        if (
            current is None
            or current.open_time != event.open_time
            or current.symbol != event.symbol
            or current.interval_ms != event.interval_ms
        ):
            closed = current
            current = self.round = Round(received, self.count)
        current.seen.add(event.feature_set)
        return closed

    def append(self, event: FeaturesComputed | FeaturesWithheld) -> None:
        """Append a vector to the window of its series. After a missing bar the window starts empty."""
        if type(event) is not FeaturesComputed:
            return
        series = (event.feature_set, event.interval_ms, event.symbol)
        # The first series is the one whose last vector is the oldest.
        window = self.kept.pop(series, None) or Window()
        if window.last + event.interval_ms != event.open_time:
            window.values.clear()
            window.numbers.clear()
        window.values.append(event.values)
        window.numbers.append(self.count)
        window.last = event.open_time
        self.kept[series] = window
        oldest = next(iter(self.kept))
        if self.count - self.kept[oldest].numbers[-1] > FORGOTTEN:
            del self.kept[oldest]

    def window(self, member: Member, event: FeaturesComputed | FeaturesWithheld) -> bytes | Failure:
        """Return the window that ``member`` predicts this bar from, or why it cannot."""
        registered, predictor = member.registered, member.predictor
        if predictor is None:
            return Failure("not_loaded", member.fault)
        if event.interval_ms != registered.interval_ms:
            return Failure(
                "wrong_interval", f"trained on bars of {registered.interval_ms} ms, this one has {event.interval_ms} ms"
            )
        if isinstance(event, FeaturesWithheld):
            return Failure(
                "features_withheld", f"{event.reason}: have {event.have} of {event.need} bars {event.detail}".rstrip()
            )
        window = event.values
        if predictor.window > 1:
            kept = self.kept[event.feature_set, event.interval_ms, event.symbol].values
            if len(kept) < predictor.window:
                have = f"have {len(kept)} of {predictor.window} successive vectors"
                return Failure("features_withheld", f"window: {have}")
            window = b"".join([kept[at] for at in range(len(kept) - predictor.window, len(kept))])
        if len(window) != 4 * predictor.features * predictor.window:
            return Failure(
                "bad_vector",
                f"{len(window)} bytes, expected {predictor.window} x {predictor.features} values of 4 bytes",
            )
        return window

    def anchor(self) -> str:
        """Return the entry after which a restart must read again: before the current bar, and before every vector that
        is kept. It is a milestone, so up to ``MILESTONE`` events earlier than necessary."""
        if self.milestones[-1].number > self.anchored:
            self.anchored = self.milestones[-1].number
            oldest = min((window.numbers[0] for window in self.kept.values()), default=self.count)
            if self.round is not None:
                oldest = min(oldest, self.round.number)
            first = bisect_left(self.milestones, oldest, key=lambda milestone: milestone.number) - 1
            del self.milestones[: max(first, 0)]
        return self.milestones[0].entry
