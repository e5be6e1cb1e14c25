"""The samples of a stream that a later bar may need, in the order in which they are read.

The value at a bar follows from what was read until then: a sample that is read later changes nothing that was computed
before. So what is served is a function of the order of the stream.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Final, NamedTuple, TypeAlias

from schemas.market import InputEvent
from shared.inputs.kinds import KINDS, Kind, bound, samples_of

KEPT: Final = 4096
"""The largest number of samples of a kind and symbol that are kept; the oldest are dropped."""

Owner: TypeAlias = tuple[str, bool]
"""A symbol, and whether its events are synthetic."""


class ReadSample(NamedTuple):
    """A sample: its values, the interval of funding, else 0, and its ``mark``, the index of its event in the stream."""

    values: tuple[float, ...]
    own_ms: int
    mark: int


@dataclass(eq=False, slots=True)
class _Series:
    """The samples of one kind and symbol by time."""

    kind: Kind
    times: list[int] = field(default_factory=list)
    rows: list[ReadSample] = field(default_factory=list)

    def at(self, close: int, interval_ms: int) -> ReadSample | None:
        """Return the sample of a bar that closes at ``close``; None if it has none."""
        times = self.times
        if not times:
            return None
        if times[-1] <= close:  # mostly
            at, row = times[-1], self.rows[-1]
        else:
            place = bisect_right(times, close) - 1
            if place < 0:
                return None
            at, row = times[place], self.rows[place]
        return row if close - at < _bound(self.kind, row.own_ms, interval_ms) else None

    def drop(self, close: int, interval_ms: int) -> None:
        """Drop what no bar of at most ``interval_ms`` reads that closes at ``close`` or later."""
        times = self.times
        if not times or times[0] > close:
            return
        last = len(times) - 1 if times[-1] <= close else bisect_right(times, close) - 1
        if close - times[last] >= _bound(self.kind, self.rows[last].own_ms, interval_ms):
            last += 1
        if last:
            del times[:last], self.rows[:last]


_bound: Final = cache(bound)


@dataclass(eq=False, slots=True)
class _Symbol:
    """What is known of a symbol. ``closes``: up to which close (ms) its bars are computed, by reader and interval;
    ``touched``: the index of its latest event."""

    series: dict[Kind, _Series]
    closes: dict[tuple[int, int], int] = field(default_factory=dict)
    touched: int = 0


class ReadInputs:
    """The samples of all symbols, of the kinds that are needed.

    Guaranteed: one that is given every event from ``oldest()`` on has the same values at later bars."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        needed = set(kinds)
        self.kinds: Final = tuple(kind for kind in KINDS if kind in needed)
        self._symbols: dict[Owner, _Symbol] = {}

    def _of(self, owner: Owner) -> _Symbol:
        symbol = self._symbols.get(owner)
        if symbol is None:
            symbol = self._symbols[owner] = _Symbol({kind: _Series(kind) for kind in self.kinds})
        return symbol

    def add(self, event: InputEvent, index: int) -> None:
        """Keep the samples of an event, the ``index``-th of the stream. Of two samples of one time the first counts."""
        for kind, values, own_ms in samples_of(event):
            if kind not in self.kinds:
                continue
            symbol = self._of((event.symbol, event.origin == "synthetic"))
            symbol.touched = index
            times, rows = symbol.series[kind].times, symbol.series[kind].rows
            row = ReadSample(values, own_ms, index)
            if not times or times[-1] < event.at:  # mostly
                times.append(event.at)
                rows.append(row)
            elif times[place := bisect_left(times, event.at)] != event.at:
                times.insert(place, event.at)
                rows.insert(place, row)
            if len(times) > KEPT:
                del times[0], rows[0]

    def at(self, kinds: Sequence[Kind], owner: Owner, close: int, interval_ms: int) -> list[ReadSample | None]:
        """Return the sample of each of these kinds at the close (ms) of a bar, None where it has no value."""
        symbol = self._symbols.get(owner)
        if symbol is None:
            return [None] * len(kinds)
        return [symbol.series[kind].at(close, interval_ms) for kind in kinds]

    def computed(self, owner: Owner, reader: tuple[int, int], close: int, index: int) -> None:
        """Note that bars of a symbol that close before ``close`` (ms) are not computed any more, and drop what no later
        bar reads. ``reader`` is who computes them and their interval; ``index`` is that of the newest bar's event."""
        symbol = self._of(owner)
        closes, symbol.touched = symbol.closes, index
        closes[reader] = close
        longest = reader[1]
        if len(closes) > 1:
            close, longest = min(closes.values()), max(interval_ms for _, interval_ms in closes)
        for series in symbol.series.values():
            series.drop(close, longest)

    def forget(self, index: int, silence: Callable[[int], int]) -> None:
        """Forget the symbols that had neither a bar nor a sample for too many events before ``index``: more than
        ``silence`` of the longest interval (ms) of their bars."""
        for owner, symbol in list(self._symbols.items()):
            longest = max((interval_ms for _, interval_ms in symbol.closes), default=0)
            if index - symbol.touched > silence(longest):
                del self._symbols[owner]

    def oldest(self) -> int | None:
        """Return the index of the oldest event of which something is kept; None without one."""
        series = (each for symbol in self._symbols.values() for each in symbol.series.values())
        return min((row.mark for each in series for row in each.rows), default=None)
