"""Bars of one symbol as arrays, and the one policy for bars that are missing."""

from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Doubles: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]

BRIDGE: Final = 3
"""By default, how many missing bars in a row are bridged."""
PRICES_AND_VOLUME: Final = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True, eq=False)
class BarArrays:
    """The history of one symbol: arrays of one length, ``open_time`` in milliseconds, strictly
    increasing, on the grid of ``interval_ms``.

    Raises ``ValueError`` where it is not so, and names the first row at fault.
    """

    open_time: Integers
    open: Doubles
    high: Doubles
    low: Doubles
    close: Doubles
    volume: Doubles
    interval_ms: int

    def __post_init__(self) -> None:
        for name, kind in (("open_time", np.int64), *((name, np.float64) for name in PRICES_AND_VOLUME)):
            array = getattr(self, name)
            if array.dtype != kind or array.shape != self.open_time.shape or array.ndim != 1:
                raise ValueError(
                    f"bars: {name} must be {np.dtype(kind)} of shape ({len(self.open_time)},), "
                    f"not {array.dtype} of shape {array.shape}"
                )
        _refuse(self, self.open_time % self.interval_ms != 0, f"is off the grid of {self.interval_ms} ms")
        _refuse(self, np.diff(self.open_time, prepend=-1) <= 0, "does not come after the row before it")

    def __len__(self) -> int:
        return len(self.open_time)

    def fields(self) -> dict[str, Doubles]:
        """Prices and volume by name."""
        return {name: getattr(self, name) for name in PRICES_AND_VOLUME}


def _refuse(bars: BarArrays, bad: npt.NDArray[np.bool_], why: str) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"bars: row {row}, open_time {bars.open_time[row]}, {why}")


def missing_before(last: int, open_time: int, interval_ms: int) -> int:
    """How many bars are missing between the bar at ``last`` and the one at ``open_time``."""
    return (open_time - last) // interval_ms - 1


def bridged_by(missing: int, bridge: int) -> bool:
    """The gap policy. Up to ``bridge`` missing bars in a row stand in the window as flat bars (see
    ``Filled``); after more, the symbol's window starts anew at the bar that came."""
    return missing <= bridge


class Filled(NamedTuple):
    """Bars without gaps. ``values`` is ``[row, (open, high, low, close, volume)]``; ``source`` is, for each
    row, the given bar that it is (``real``) or that its close was taken from: a flat bar opens, trades and
    closes at the last close, with volume 0."""

    values: Doubles
    source: Integers
    real: npt.NDArray[np.bool_]


def fill(steps: Integers, values: Doubles) -> Filled:
    """``values`` (``[bar, 5]``), where bar ``i`` stands ``steps[i]`` intervals after bar 0, with flat bars
    in the gaps."""
    places = np.arange(steps[-1] + 1)
    source = np.searchsorted(steps, places, side="right") - 1
    real = steps[source] == places
    filled = values[source]
    flat = ~real
    filled[flat, :4] = filled[flat, 3:4]
    filled[flat, 4] = 0.0
    return Filled(filled, source, real)
