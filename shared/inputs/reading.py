"""The samples of a stream that a later bar may need, in the order in which they are read.

The value at a bar follows from what was read until then: a sample that is read later changes nothing that was computed
before. So what is served is a function of the order of the stream.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from schemas.market import InputEvent
from shared.inputs.kinds import KINDS, SOURCES, Kind, bound, own_ms_of

KEPT: Final = 4096
"""The largest number of samples of a kind and symbol that are kept; the oldest are dropped."""

Owner: TypeAlias = tuple[str, bool]
"""A symbol, and whether its events are synthetic."""

ReadSample: TypeAlias = tuple[InputEvent, int, int]
"""An event; its mark, which is its index in the stream; and its bound for bars of any interval (ms)."""


def _time(sample: ReadSample) -> int:
    return sample[0].at


def _at(samples: list[ReadSample], close: int, bound_ms: int) -> ReadSample | None:
    """Return the sample of a bar that closes at ``close``; None if it has none. ``bound_ms`` is that of its interval.

    The bound of a sample (``kinds.bound``) is the longer of the two."""
    if not samples:
        return None
    sample = samples[-1]
    if sample[0].at > close:  # rarely
        place = bisect_right(samples, close, key=_time) - 1
        if place < 0:
            return None
        sample = samples[place]
    age = close - sample[0].at
    return sample if age < bound_ms or age < sample[2] else None


def _drop(samples: list[ReadSample], close: int, bound_ms: int) -> None:
    """Drop what no bar reads that closes at ``close`` or later."""
    if len(samples) > 1:
        del samples[: max(bisect_right(samples, close, key=_time) - 1, 0)]
    if samples and (age := close - samples[0][0].at) >= bound_ms and age >= samples[0][2]:
        del samples[0]


@dataclass(eq=False, slots=True)
class _Symbol:
    """What is known of a symbol. ``samples`` are those of each kind by time; ``closes``: up to which close (ms) its
    bars are computed, by reader and interval; ``touched``: the index of its latest event."""

    samples: dict[Kind, list[ReadSample]]
    closes: dict[tuple[int, int], int] = field(default_factory=dict)
    touched: int = 0


class ReadInputs:
    """The samples of all symbols, of the kinds that are needed.

    Guaranteed: one that is given every event from ``oldest()`` on has the same values at later bars."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        needed = set(kinds)
        self.kinds: Final = tuple(kind for kind in KINDS if kind in needed)
        self._said: dict[type[InputEvent], list[tuple[Kind, str, int]]] = {}
        """The needed kinds of an event, each with the attribute that it has where it is a sample of the kind, and with
        its bound for bars of any interval."""
        for kind in self.kinds:
            source = SOURCES[kind]
            self._said.setdefault(source.event, []).append((kind, source.attributes[0], bound(kind, 0, 0)))
        self._bounds: dict[int, dict[Kind, int]] = {}
        self._symbols: dict[Owner, _Symbol] = {}

    def _of(self, owner: Owner) -> _Symbol:
        symbol = self._symbols.get(owner)
        if symbol is None:
            symbol = self._symbols[owner] = _Symbol({kind: [] for kind in self.kinds})
        return symbol

    def _bounds_of(self, interval_ms: int) -> dict[Kind, int]:
        """Return the bounds of bars, by kind, without the interval of funding."""
        bounds = self._bounds.get(interval_ms)
        if bounds is None:
            bounds = self._bounds[interval_ms] = {kind: bound(kind, 0, interval_ms) for kind in self.kinds}
        return bounds

    def add(self, event: InputEvent, index: int) -> None:
        """Keep the samples of an event, the ``index``-th of the stream. Of two samples of one time the first counts."""
        symbol, at = None, event.at
        for kind, attribute, least in self._said.get(type(event), ()):
            if getattr(event, attribute) is None:
                continue
            symbol = symbol or self._of((event.symbol, event.origin == "synthetic"))
            samples = symbol.samples[kind]
            sample = event, index, bound(kind, own_ms_of(event), 0) if kind == "funding" else least
            if not samples or samples[-1][0].at < at:  # mostly
                samples.append(sample)
                if len(samples) > KEPT:
                    del samples[0]
            elif samples[place := bisect_left(samples, at, key=_time)][0].at != at:
                samples.insert(place, sample)
                del samples[:-KEPT]
        if symbol is not None:
            symbol.touched = index

    def at(self, kinds: Sequence[Kind], owner: Owner, close: int, interval_ms: int) -> list[ReadSample | None]:
        """Return the sample of each of these kinds at the close (ms) of a bar, None where it has no value."""
        symbol = self._symbols.get(owner)
        if symbol is None:
            return [None] * len(kinds)
        bounds = self._bounds_of(interval_ms)
        return [_at(symbol.samples[kind], close, bounds[kind]) for kind in kinds]

    def computed(self, owner: Owner, reader: tuple[int, int], close: int, index: int) -> None:
        """Note that bars of a symbol that close before ``close`` (ms) are not computed any more, and drop what no later
        bar reads. ``reader`` is who computes them and their interval; ``index`` is that of the newest bar's event."""
        symbol = self._of(owner)
        closes, symbol.touched = symbol.closes, index
        closes[reader] = close
        longest = reader[1]
        if len(closes) > 1:
            close, longest = min(closes.values()), max([interval_ms for _, interval_ms in closes])
        bounds = self._bounds_of(longest)
        for kind, samples in symbol.samples.items():
            _drop(samples, close, bounds[kind])

    def next(
        self, kinds: Sequence[Kind], owner: Owner, reader: tuple[int, int], close: int, index: int
    ) -> list[ReadSample | None]:
        """Return the samples of a bar like ``at``, then do as ``computed``. This is for a bar that is computed at once,
        and follows the one before it without a gap. It takes one step where a symbol has one reader."""
        symbol = self._of(owner)
        symbol.closes[reader] = close
        if len(symbol.closes) > 1:
            found = self.at(kinds, owner, close, reader[1])
            self.computed(owner, reader, close, index)
            return found
        symbol.touched = index
        bounds, found = self._bounds_of(reader[1]), []
        for kind in kinds:
            samples = symbol.samples[kind]
            if samples and (age := close - samples[-1][0].at) >= 0:  # mostly
                del samples[:-1]
                sample = samples[0]
                if age < bounds[kind] or age < sample[2]:
                    found.append(sample)
                    continue
            found.append(_at(samples, close, bounds[kind]))
            _drop(samples, close, bounds[kind])
        return found

    def forget(self, index: int, silence: Callable[[int], int]) -> None:
        """Forget the symbols that had neither a bar nor a sample for too many events before ``index``: more than
        ``silence`` of the longest interval (ms) of their bars."""
        for owner, symbol in list(self._symbols.items()):
            longest = max((interval_ms for _, interval_ms in symbol.closes), default=0)
            if index - symbol.touched > silence(longest):
                del self._symbols[owner]

    def oldest(self) -> int | None:
        """Return the index of the oldest event of which something is kept; None without one."""
        series = [samples for symbol in self._symbols.values() for samples in symbol.samples.values()]
        return min([mark for samples in series for _, mark, _ in samples], default=None)
