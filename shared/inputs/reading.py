"""The samples of a stream that a later bar may need, in the order in which they are read.

The value at a bar follows from what was read until then: a sample that is read later changes nothing that was computed
before. So what is served is a function of the order of the stream.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from schemas.market import InputEvent
from shared.inputs.kinds import KINDS, Kind, bound, samples_of

KEPT: Final = 4096
"""The largest number of samples of a kind and symbol that are kept; the oldest are dropped."""
NEVER: Final = 2**62

Owner: TypeAlias = tuple[str, bool]
"""A symbol, and whether its events are synthetic."""


class _Read(NamedTuple):
    """A sample, and its ``mark``: the index of its event in the stream."""

    values: tuple[float, ...]
    own_ms: int
    mark: int


@dataclass(eq=False, slots=True)
class _Series:
    """The samples of one kind and symbol by time. ``touched`` is the index of the latest of its events."""

    times: list[int] = field(default_factory=list)
    rows: list[_Read] = field(default_factory=list)
    touched: int = 0


@dataclass(eq=False, slots=True)
class _Bars:
    """The bars of a symbol: up to which close (ms) each reader has computed them, and the index of the newest."""

    closes: dict[tuple[int, int], int] = field(default_factory=dict)
    touched: int = 0


class ReadInputs:
    """The samples of all symbols, of the kinds that are needed.

    Guaranteed: one that is given every event from ``oldest()`` on has the same values at later bars."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        self.kinds: Final = frozenset(kinds)
        self._series: dict[tuple[str, bool, Kind], _Series] = {}
        self._bars: dict[Owner, _Bars] = {}

    def add(self, event: InputEvent, index: int) -> None:
        """Keep the samples of an event, the ``index``-th of the stream. Of two samples of one time the first counts."""
        for sample in samples_of(event):
            if sample.kind not in self.kinds:
                continue
            series = self._series.setdefault((event.symbol, event.origin == "synthetic", sample.kind), _Series())
            series.touched = index
            at = bisect_left(series.times, event.at)
            if at < len(series.times) and series.times[at] == event.at:
                continue
            series.times.insert(at, event.at)
            series.rows.insert(at, _Read(sample.values, sample.own_ms, index))
            if len(series.times) > KEPT:
                del series.times[0], series.rows[0]

    def lacking(self, kinds: Sequence[Kind], owner: Owner, close: int, interval_ms: int) -> tuple[Kind, ...]:
        """Return which of these kinds have no value at the close (ms) of a bar."""
        return tuple([kind for kind in kinds if self._at(kind, owner, close, interval_ms) is None])

    def values(
        self, fields: Sequence[str], kinds: Sequence[Kind], owner: Owner, close: int, interval_ms: int
    ) -> tuple[tuple[float, ...], int]:
        """Return fields at the close (ms) of a bar, NaN where there is no value, and the index of the oldest event that
        they are from."""
        by_field: dict[str, float] = {}
        mark = NEVER
        for kind in kinds:
            read = self._at(kind, owner, close, interval_ms)
            if read is not None:
                by_field.update(zip(KINDS[kind], read.values, strict=True))
                mark = min(mark, read.mark)
        return tuple([by_field.get(name, float("nan")) for name in fields]), mark

    def _at(self, kind: Kind, owner: Owner, close: int, interval_ms: int) -> _Read | None:
        series = self._series.get((*owner, kind))
        at = bisect_right(series.times, close) - 1 if series is not None else -1
        if series is None or at < 0:
            return None
        read = series.rows[at]
        return read if close - series.times[at] < bound(kind, read.own_ms, interval_ms) else None

    def computed(self, owner: Owner, reader: tuple[int, int], close: int, index: int) -> None:
        """Note that bars of a symbol that close before ``close`` (ms) are not computed any more, and drop what no later
        bar reads. ``reader`` is who computes them and their interval; ``index`` is that of the newest bar's event."""
        bars = self._bars.setdefault(owner, _Bars())
        bars.closes[reader], bars.touched = close, index
        first_close, longest = min(bars.closes.values()), max(interval_ms for _, interval_ms in bars.closes)
        for kind in self.kinds:
            series = self._series.get((*owner, kind))
            if series is None:
                continue
            last = bisect_right(series.times, first_close) - 1
            if last >= 0 and first_close - series.times[last] >= bound(kind, series.rows[last].own_ms, longest):
                last += 1
            if last > 0:
                del series.times[:last], series.rows[:last]

    def forget(self, index: int, silence: Callable[[int], int]) -> None:
        """Forget the symbols that had neither a bar nor a sample for too many events before ``index``: more than
        ``silence`` of the longest interval (ms) of their bars."""
        touched = {owner: bars.touched for owner, bars in self._bars.items()}
        for (symbol, synthetic, _), series in self._series.items():
            touched[symbol, synthetic] = max(touched.get((symbol, synthetic), 0), series.touched)
        for (symbol, synthetic), newest in touched.items():
            bars = self._bars.get((symbol, synthetic), _Bars())
            if index - newest > silence(max((interval_ms for _, interval_ms in bars.closes), default=0)):
                self._bars.pop((symbol, synthetic), None)
                for kind in self.kinds:
                    self._series.pop((symbol, synthetic, kind), None)

    def oldest(self) -> int | None:
        """Return the index of the oldest event of which something is kept; None without one."""
        return min((row.mark for series in self._series.values() for row in series.rows), default=None)
