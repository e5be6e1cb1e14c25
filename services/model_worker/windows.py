"""The vectors that a worker keeps: the bar in hand, and the last of each symbol.

What is kept is a function of the ``features`` stream alone. It does not depend on which artifacts are loaded or known,
so an artifact that is started later, or loads for a long time, is asked about the same windows as one that was there.
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
"""A symbol without a vector for so many events of the stream is forgotten, and its window starts empty. So a symbol
that is no longer traded does not hold back the entry from which a restart reads."""
MILESTONE: Final = 256
"""Every how many events an entry id is remembered, from which a restart may read again."""

Series = tuple[bytes, int, str]
"""Feature set, interval, symbol."""


class Milestone(NamedTuple):
    """The ``number``-th event since the worker began to count is the entry ``entry``."""

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
    """The bar in hand: its first event, its number, and the feature sets it has shown."""

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
    """``count``: events so far; ``milestones``: entries to read again from, oldest first; ``anchored``: the newest of
    them when they were last looked through."""

    count: int = 0
    anchored: int = 0
    round: Round | None = None
    kept: dict[Series, Window] = field(default_factory=dict)
    milestones: list[Milestone] = field(default_factory=lambda: [Milestone(0, START)])

    def enter(self, received: Received) -> Round | None:
        """Notes the event's feature set under its bar. Returns the bar before it, where this event begins another."""
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

    def keep(self, event: FeaturesComputed | FeaturesWithheld) -> None:
        """Appends a vector to the window of its series, which begins anew after a missing bar."""
        if type(event) is not FeaturesComputed:
            return
        series = (event.feature_set, event.interval_ms, event.symbol)
        # The series that waits longest for its next vector stands first.
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
        """The bytes of what ``member`` is to be asked about this bar, or why it cannot be asked."""
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
        """The entry after which a restart must read again: before the bar in hand, and before every vector that is
        kept. It is looked for at milestones only, so it lies up to ``MILESTONE`` events further back than need be."""
        if self.milestones[-1].number > self.anchored:
            self.anchored = self.milestones[-1].number
            oldest = min((window.numbers[0] for window in self.kept.values()), default=self.count)
            if self.round is not None:
                oldest = min(oldest, self.round.number)
            found = bisect_left(self.milestones, oldest, key=lambda milestone: milestone.number) - 1
            del self.milestones[: max(found, 0)]
        return self.milestones[0].entry
