"""Predictions in the order in which the voter read them, as far as the decisions in hand need them.

What is held is the rounds that are open, so memory does not grow with the range.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from msgspec import Struct, field

from schemas.codec import Envelope
from schemas.predictions import PredictionEvent
from shared.audit.source import ReadEvent, order
from shared.voting.decision import ArtifactKey, Series

APART_MS: Final = 60_000
"""How far the clocks behind the ids of two streams may be apart. Ids order one stream: of two, in the same
millisecond, the sequence says nothing, and a server's clock that was set back shows in one before the other."""


class Cast(NamedTuple):
    """A prediction: its number on the stream, its entry, its envelope, its id and who made it. ``heard``: whether it is
    one that the voter takes into a round."""

    number: int
    entry: str
    envelope: Envelope[Any]
    event: str
    voice: ArtifactKey
    heard: bool


class PendingPredictions(Struct):
    """The predictions about one symbol whose bars are not decided yet, by bar; and of each model the numbers of its
    first answers about each bar. ``decided``: the last decided bar."""

    bars: dict[int, list[Cast]] = field(default_factory=dict)
    answered: dict[str, dict[int, int]] = field(default_factory=dict)
    decided: int = -1


class Window:
    """Reads ``predictions`` on demand. ``hears`` says which of them the voter takes into rounds; ``arrived`` is called
    with each of those, and with whatever came after the decision of its bar, which is what its flag says."""

    def __init__(
        self,
        predictions: Iterator[ReadEvent],
        hears: Callable[[PredictionEvent, ArtifactKey], bool],
        arrived: Callable[[Cast, bool], None],
    ) -> None:
        self._predictions = predictions
        self._hears, self._arrived = hears, arrived
        self._ahead: ReadEvent | None = None
        self._events: dict[str, Cast] = {}
        self._series: dict[Series, PendingPredictions] = {}
        self._number = 0

    def series(self, series: Series) -> PendingPredictions:
        """What is held about a series."""
        return self._series.setdefault(series, PendingPredictions())

    def find(self, event: str, moment: int) -> Cast | None:
        """The prediction of this id, reading on until it comes; None where none came by about a ``moment`` (ms)."""
        while event not in self._events:
            if not self._next(moment):
                return None
        return self._events[event]

    def later(self, series: Series, model: str, open_time: int, moment: int) -> int | None:
        """The number of the first answer of a model about a later bar of a series; None where none came by then."""
        answered = self.series(series).answered.setdefault(model, {})
        while True:
            numbers = [number for bar, number in answered.items() if bar > open_time]
            if numbers:
                return min(numbers)
            if not self._next(moment):
                return None

    def _next(self, moment: int) -> bool:
        read = self._ahead or next(self._predictions, None)
        self._ahead = None
        if read is None:
            return False
        if order(read.entry)[0] > moment + APART_MS:
            self._ahead = read
            return False
        self._number += 1
        envelope = read.found.envelope
        voice = (envelope.event.model, envelope.event.artifact.hex())
        heard = self._hears(envelope.event, voice)
        self._keep(Cast(self._number, read.entry, envelope, envelope.id.hex(), voice, heard))
        return True

    def _keep(self, cast: Cast) -> None:
        event = cast.envelope.event
        held = self.series((event.symbol, event.interval_ms))
        if event.open_time <= held.decided:
            self._events[cast.event] = cast
            self._arrived(cast, True)
            return
        held.answered.setdefault(event.model, {}).setdefault(event.open_time, cast.number)
        self._events[cast.event] = cast
        held.bars.setdefault(event.open_time, []).append(cast)
        if cast.heard:
            self._arrived(cast, False)

    def close(self, series: Series, open_time: int) -> dict[int, list[Cast]]:
        """What had been read about a bar that is decided, and about those before it, by bar in order."""
        held = self.series(series)
        held.decided = max(held.decided, open_time)
        came = {bar: held.bars.pop(bar) for bar in sorted(held.bars) if bar <= open_time}
        for answered in held.answered.values():
            for bar in [bar for bar in answered if bar <= open_time]:
                del answered[bar]
        return came

    def drop(self, series: Series, open_time: int) -> bool:
        """Lets a bar go that will have no decision; whether it was held."""
        casts = self.series(series).bars.pop(open_time, None)
        for cast in casts or ():
            self.forget(cast.event)
        return casts is not None

    def forget(self, event: str) -> None:
        """Lets a prediction go that is accounted for."""
        self._events.pop(event, None)
