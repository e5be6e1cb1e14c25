"""The label ``vfh1`` (``shared.labels.batch``) one bar at a time: volatility forward, outcomes when they come.

The arithmetic is that of ``shared.labels.batch``, so a class that a model was trained on and the class that
its prediction is scored with are one definition; a test holds the two against each other.
"""

import math
from bisect import bisect_left
from typing import Final, NamedTuple

from msgspec import Struct

from schemas.common import ACTIONS, Action

DECAY: Final = 0.97
WARM: Final = 100
"""As in ``shared.labels.batch``, which would bring NumPy along."""
HOUR_MS: Final = 3_600_000
FORGOTTEN: Final = 1 << 18
"""A symbol without a bar for so many bars of the market has ended, as for the feature-builder."""


class Volatility(Struct, array_like=True):
    """The exponentially weighted root mean square of one-bar log returns, and what it goes on from."""

    at: int = -1
    close: float = 1.0
    total: float = 0.0
    weight: float = 0.0
    seen: int = 0

    def take(self, open_time: int, close: float, interval_ms: int) -> float:
        """The volatility known at this bar; 0 while it is not known. A return across missing bars is
        left out."""
        if self.at >= 0 and open_time - self.at == interval_ms:
            change = math.log(close) - math.log(self.close)
            self.total = DECAY * self.total + change * change
            self.weight = DECAY * self.weight + 1.0
            self.seen += 1
        self.at, self.close = open_time, close
        return math.sqrt(self.total / self.weight) if self.seen >= WARM else 0.0


class Bar(NamedTuple):
    """A bar that is kept: its close, the volatility known at it, its entry on the log, and how many
    bars of the market had come with it."""

    close: float
    sigma: float
    entry: str
    number: int


class LabelOutcome(NamedTuple):
    """What came: log return over the horizon, sigma times the root of the horizon, the class, the open
    time of the bar that decided, the plain return over an hour where no bar of it is missing, and the
    entry of the bar that was predicted at."""

    forward_return: float
    scale: float
    action: Action
    ends: int
    hour_return: float | None
    entry: str


class Unlabelled(NamedTuple):
    """There is no label and there will be none."""

    reason: str
    detail: str


class BarHistory:
    """The bars of one symbol and interval that may still be predicted at, or decide an outcome.

    ``base`` is the volatility before the first of them and ``front`` the volatility after the last;
    ``base_number`` and ``number`` count the bars of the market at the same two places. ``ended`` is True once no
    further bar of the symbol is expected."""

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

    def take(self, open_time: int, close: float, entry: str, number: int = 0) -> bool:
        """Append a bar. Return False for a bar that is not later than the last, or off the grid; it changes
        nothing. After a pause of more than ``FORGOTTEN`` bars of the market the volatility starts again."""
        if open_time <= self.front.at or open_time % self.interval_ms:
            return False
        if number - self.number > FORGOTTEN:
            self.front = Volatility()
        self.bars.append(Bar(close, self.front.take(open_time, close, self.interval_ms), entry, number))
        self.times.append(open_time)
        self.number = number
        return True

    def forget(self, before: int) -> None:
        """Drop the bars before an open time."""
        dropped = bisect_left(self.times, before)
        for open_time, bar in zip(self.times[:dropped], self.bars[:dropped], strict=True):
            if bar.number - self.base_number > FORGOTTEN:
                self.base = Volatility()
            self.base.take(open_time, bar.close, self.interval_ms)
            self.base_number = bar.number
        del self.times[:dropped], self.bars[:dropped]

    def outcome(self, open_time: int, horizon: int, kappa: float) -> LabelOutcome | Unlabelled | None:
        """Return what came of a prediction at a bar; None while that is not known."""
        bar = self._at(open_time)
        if bar is None:
            passed = self.front.at >= open_time
            return Unlabelled("gap", "the bar that was predicted at is not on the market stream") if passed else None
        if bar.sigma == 0.0:
            return Unlabelled("warming", f"volatility needs {WARM} one-bar returns, and one that is not zero")
        ends = open_time + horizon * self.interval_ms
        if max(ends, open_time + self.hour * self.interval_ms) > self.front.at and not self.ended:
            return None
        if not self._whole(open_time, horizon):
            return Unlabelled("gap", f"bars are missing among the {horizon} after it")
        last = self._at(ends)
        assert last is not None
        forward = math.log(last.close / bar.close)
        scale = bar.sigma * math.sqrt(horizon)
        moved = None
        if self._whole(open_time, self.hour):
            after = self._at(open_time + self.hour * self.interval_ms)
            assert after is not None
            moved = after.close / bar.close - 1.0
        return LabelOutcome(forward, scale, class_of(forward / scale, kappa), ends, moved, bar.entry)

    def _at(self, open_time: int) -> Bar | None:
        place = bisect_left(self.times, open_time)
        return self.bars[place] if place < len(self.times) and self.times[place] == open_time else None

    def _whole(self, open_time: int, bars: int) -> bool:
        """Whether none of the ``bars`` after a bar is missing."""
        place = bisect_left(self.times, open_time) + bars
        return place < len(self.times) and self.times[place] == open_time + bars * self.interval_ms


def class_of(z: float, kappa: float) -> Action:
    """The class of a move in units of volatility."""
    return ACTIONS[2 if z > kappa else 0 if z < -kappa else 1]
