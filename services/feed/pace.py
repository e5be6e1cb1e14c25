"""How fast bars go out: a rate, market time made shorter, or whatever the pipeline takes."""

from typing import Final, NamedTuple

from services.feed.core import Tick

PATIENCE_S: Final = 1.0
"""How far behind its plan the feed may fall before it gives the lost time up, rather than catch up in
one burst (seconds)."""


class MarketTime(NamedTuple):
    """As the market closed them, ``times`` as fast."""

    times: float


Speed = float | MarketTime | None
"""Bars a second over all symbols; market time; None: no pace."""


def parse_speed(text: str) -> Speed:
    """``max`` or 0 -> None, ``50`` -> 50 bars a second, ``60x`` -> market time, 60 times as fast."""
    number = text.removesuffix("x")
    try:
        value = 0.0 if text == "max" else float(number)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise ValueError(f"speed {text!r}: expected bars a second (50), market time (60x), or max")
    if value == 0:
        return None
    return MarketTime(value) if text.endswith("x") else value


class Pace:
    """When each tick is due, in seconds from ``origin`` on a clock that the caller reads."""

    def __init__(self, speed: Speed, origin: float) -> None:
        self._speed = speed
        self._origin = origin
        self._rows = 0
        self._first: int | None = None

    def due(self, tick: Tick) -> float:
        """The moment of a tick: its first row's turn, its bars' close."""
        if self._speed is None:
            return self._origin
        if isinstance(self._speed, MarketTime):
            if self._first is None:
                self._first = tick.close
            passed = 0 if self._first is None or tick.close is None else tick.close - self._first
            return self._origin + passed / 1000 / self._speed.times
        return self._origin + self._rows / self._speed

    def sent(self, tick: Tick, moment: float) -> None:
        """Tells that the tick went at ``moment``; what was lost beyond patience is given up."""
        late = moment - self.due(tick)
        if late > PATIENCE_S:
            self._origin += late
        self._rows += len(tick.rows)
