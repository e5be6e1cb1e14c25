"""Label bars with ``vfh1`` (``shared.labels.batch``) one bar at a time: volatility at once, the label when it is known.

The arithmetic is that of ``shared.labels.batch``, so models are trained and predictions are scored with the same
definition of the classes. A test compares the two modules.
"""

import math
from bisect import bisect_left
from typing import Final, NamedTuple

from msgspec import Struct

from schemas.common import ACTIONS, Action

DECAY: Final = 0.97
WARM: Final = 100
"""Equal to ``shared.labels.batch.WARM``, which is not imported because that module needs NumPy."""
HOUR_MS: Final = 3_600_000
EXPIRES_AFTER_BARS: Final = 1 << 18
"""After this many bars of the market without one of its own, a symbol counts as ended. The feature-builder has the same
rule."""


class Volatility(Struct, array_like=True):
    """The exponentially weighted root mean square of one-bar log returns, with the sums that the next bar continues."""

    at: int = -1
    close: float = 1.0
    total: float = 0.0
    weight: float = 0.0
    seen: int = 0

    def update(self, open_time: int, close: float, interval_ms: int) -> float:
        """Add a bar and return the volatility known at it; 0 while it is not known.

        A return across missing bars is left out."""
        if self.at >= 0 and open_time - self.at == interval_ms:
            change = math.log(close) - math.log(self.close)
            self.total = DECAY * self.total + change * change
            self.weight = DECAY * self.weight + 1.0
            self.seen += 1
        self.at, self.close = open_time, close
        return math.sqrt(self.total / self.weight) if self.seen >= WARM else 0.0


class Bar(NamedTuple):
    """A kept bar: its close, the volatility known at it, its log entry, the number of market bars up to and including
    it, and its open and volume."""

    close: float
    sigma: float
    entry: str
    number: int
    open: float
    volume: float


class LabelOutcome(NamedTuple):
    """The label of a bar and what it is computed from.

    ``forward_return`` is the log return over the horizon. ``scale`` is the volatility times the root of the horizon.
    ``action`` is the class. ``ends`` is the open time of the bar that determined it. ``hour_return`` is the plain
    return over one hour, None where a bar of that hour is missing. ``bar`` is the labelled bar, ``next_bar`` the one
    after it."""

    forward_return: float
    scale: float
    action: Action
    ends: int
    hour_return: float | None
    bar: Bar
    next_bar: Bar


class Unlabelled(NamedTuple):
    """The reason why a bar has no label and never will."""

    reason: str
    detail: str


class BarHistory:
    """The bars of one symbol and interval that may still be labelled, or determine a label.

    ``base`` is the volatility before the first of these bars, ``front`` the volatility after the last. ``base_number``
    and ``number`` are the counts of market bars at the same two points. ``ended`` is True once no further bar of the
    symbol is expected."""

    def __init__(self, interval_ms: int, base: Volatility, base_number: int = 0) -> None:
        self.interval_ms = interval_ms
        self.base = base
        self.base_number = base_number
        self.front = Volatility(base.at, base.close, base.total, base.weight, base.seen)
        self.number = base_number
        self.ended = False
        self.times: list[int] = []
        self.bars: list[Bar] = []
        self.hour = max(1, HOUR_MS // interval_ms)

    def append(
        self,
        open_time: int,
        close: float,
        entry: str,
        number: int = 0,
        *,
        opened: float | None = None,
        volume: float = 0.0,
    ) -> bool:
        """Append a bar and return True; return False and change nothing for a bar that is off the grid or not later
        than the last.

        After a pause of more than ``EXPIRES_AFTER_BARS`` market bars the volatility starts again."""
        if open_time <= self.front.at or open_time % self.interval_ms:
            return False
        if number - self.number > EXPIRES_AFTER_BARS:
            self.front = Volatility()
        sigma = self.front.update(open_time, close, self.interval_ms)
        self.bars.append(Bar(close, sigma, entry, number, close if opened is None else opened, volume))
        self.times.append(open_time)
        self.number = number
        return True

    def drop_before(self, before: int) -> None:
        """Drop the bars before an open time."""
        dropped = bisect_left(self.times, before)
        for open_time, bar in zip(self.times[:dropped], self.bars[:dropped], strict=True):
            if bar.number - self.base_number > EXPIRES_AFTER_BARS:
                self.base = Volatility()
            self.base.update(open_time, bar.close, self.interval_ms)
            self.base_number = bar.number
        del self.times[:dropped], self.bars[:dropped]

    def outcome(self, open_time: int, horizon: int, kappa: float) -> LabelOutcome | Unlabelled | None:
        """Return the label of the bar at ``open_time``, or the reason why it has none; None while neither is known."""
        bar = self._at(open_time)
        if bar is None:
            passed = self.front.at >= open_time
            return Unlabelled("gap", "the bar of the prediction is not on the market stream") if passed else None
        if bar.sigma == 0.0:
            return Unlabelled("warming", f"volatility needs {WARM} one-bar returns, and one that is not zero")
        ends = open_time + horizon * self.interval_ms
        if max(ends, open_time + self.hour * self.interval_ms) > self.front.at and not self.ended:
            return None
        if not self._complete(open_time, horizon):
            return Unlabelled("gap", f"bars are missing among the {horizon} after it")
        last, after = self._at(ends), self._at(open_time + self.interval_ms)
        assert last is not None
        assert after is not None
        forward = math.log(last.close / bar.close)
        scale = bar.sigma * math.sqrt(horizon)
        moved = None
        if self._complete(open_time, self.hour):
            later = self._at(open_time + self.hour * self.interval_ms)
            assert later is not None
            moved = later.close / bar.close - 1.0
        return LabelOutcome(forward, scale, class_of(forward / scale, kappa), ends, moved, bar, after)

    def _at(self, open_time: int) -> Bar | None:
        index = bisect_left(self.times, open_time)
        return self.bars[index] if index < len(self.times) and self.times[index] == open_time else None

    def _complete(self, open_time: int, bars: int) -> bool:
        """Return whether none of the ``bars`` after a bar is missing."""
        index = bisect_left(self.times, open_time) + bars
        return index < len(self.times) and self.times[index] == open_time + bars * self.interval_ms


def class_of(z: float, kappa: float) -> Action:
    """Return the class of a move in units of volatility."""
    return ACTIONS[2 if z > kappa else 0 if z < -kappa else 1]
