"""Keep the rate at which the feed sends rows."""

from typing import Final

PATIENCE_S: Final = 1.0
"""How far the feed may fall behind its plan (s). It catches up with a shorter delay in one burst, and drops a longer
one from the plan."""


class Pace:
    """The plan to send ``speed`` rows a second (None: as fast as they are read) from the moment ``origin``, in seconds
    on a clock that the caller reads."""

    def __init__(self, speed: float | None, origin: float) -> None:
        self._speed = speed
        self._origin = origin
        self._rows = 0

    def due(self) -> float:
        """Return the moment at which the next row is due."""
        return self._origin if self._speed is None else self._origin + self._rows / self._speed

    def sent(self, rows: int, moment: float) -> None:
        """Note that ``rows`` rows were sent at ``moment``."""
        delay = moment - self.due()
        if delay > PATIENCE_S:
            self._origin += delay
        self._rows += rows
