"""Bars of one symbol as arrays, and the one policy for bars that are missing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from shared.inputs.samples import InputSamples

Doubles: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]

BRIDGE: Final = 3
"""The default for the largest number of consecutive missing bars that are bridged."""
PRICES_AND_VOLUME: Final = ("open", "high", "low", "close", "volume")
FURTHER: Final = ("trades", "quote_volume", "taker_volume")
"""What only some sources know of a bar, as in ``BarClosed``: the number of trades, the volume in the quote currency,
and the part of the volume that takers bought."""


@dataclass(frozen=True, eq=False)
class BarArrays:
    """The history of one symbol, as arrays of equal length: the input of every formula.

    ``shared.bars.Bars`` is the same with its symbol, as a source gives it. This is a type of its own so that features
    depend on no source of bars.

    ``open_time`` is in milliseconds, strictly increasing, in multiples of ``interval_ms``. The next three are
    ``FURTHER``: NaN in a bar that lacks them, None if all bars do. ``inputs`` are the samples of what else is known of
    the symbol; their times are not those of bars. Raises ``ValueError`` otherwise, with the first faulty row.
    """

    open_time: Integers
    open: Doubles
    high: Doubles
    low: Doubles
    close: Doubles
    volume: Doubles
    interval_ms: int
    trades: Doubles | None = None
    quote_volume: Doubles | None = None
    taker_volume: Doubles | None = None
    inputs: InputSamples = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        for name, kind in (("open_time", np.int64), *((name, np.float64) for name in self.fields())):
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
        """Return prices, volume, and what else the bars have, by name."""
        present = [name for name in FURTHER if getattr(self, name) is not None]
        return {name: getattr(self, name) for name in (*PRICES_AND_VOLUME, *present)}

    def values(self, names: Sequence[str]) -> Doubles:
        """Return these fields as ``[row, field]``: NaN where the bars lack one."""
        fields, absent = self.fields(), np.full(len(self), np.nan)
        return np.stack([fields.get(name, absent) for name in names], axis=1)


def _refuse(bars: BarArrays, bad: npt.NDArray[np.bool_], why: str) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"bars: row {row}, open_time {bars.open_time[row]}, {why}")


def missing_before(last: int, open_time: int, interval_ms: int) -> int:
    """Return the number of bars missing between the bar at ``last`` and the bar at ``open_time``."""
    return (open_time - last) // interval_ms - 1


def is_bridged(missing: int, bridge: int) -> bool:
    """Return whether the gap policy bridges a gap of ``missing`` bars.

    Up to ``bridge`` consecutive missing bars are replaced by flat bars (see ``Filled``). After a longer gap the
    symbol's window restarts at the next bar.
    """
    return missing <= bridge


class Filled(NamedTuple):
    """Bars without gaps.

    ``values`` is ``[row, (open, high, low, close, volume, ...)]``. ``real`` marks the rows that are given bars; the
    others are flat bars. A flat bar has the last close as open, high, low and close, and volume 0. What is known of
    the given bar beyond its volume is 0 too, what is unknown stays NaN. ``source`` is, for each row, the index of the
    given bar: the bar itself, or the bar whose close the flat bar repeats.
    """

    values: Doubles
    source: Integers
    real: npt.NDArray[np.bool_]


def fill(steps: Integers, values: Doubles) -> Filled:
    """Return ``values`` (``[bar, field]``) with flat bars in the gaps. Bar ``i`` is ``steps[i]`` intervals after the
    first."""
    slots = np.arange(steps[-1] + 1)
    source = np.searchsorted(steps, slots, side="right") - 1
    real = steps[source] == slots
    filled = values[source]
    flat = ~real
    filled[flat, :4] = filled[flat, 3:4]
    filled[flat, 4] = 0.0
    filled[flat, 5:] *= 0.0
    return Filled(filled, source, real)
