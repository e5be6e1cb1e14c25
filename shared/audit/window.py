"""Read predictions in the order in which the voter read them, as far as the current decisions need them.

Only predictions of open rounds are kept, so memory does not grow with the range.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from msgspec import Struct, field

from schemas.codec import Envelope
from schemas.predictions import PredictionEvent
from shared.audit.source import ReadEvent
from shared.log.leases import id_order
from shared.voting.decision import ArtifactKey, Series

APART_MS: Final = 60_000
"""Largest difference (ms) between the clocks that gave the ids of two streams.

Ids order the entries of one stream. Across two streams the sequence number carries no order within a millisecond, and a
server clock that was set back may show in one stream before the other."""


class Cast(NamedTuple):
    """A prediction as the voter read it.

    ``number`` counts the stream from 1. ``event`` is the id (hex), ``key`` the model and artifact. ``enters_round`` is
    True where the voter puts it into a round."""

    number: int
    entry: str
    envelope: Envelope[Any]
    event: str
    key: ArtifactKey
    enters_round: bool


class PendingPredictions(Struct):
    """The predictions for one symbol whose bars are not decided yet, by open time.

    ``predicted`` maps an artifact to its bars and the number of its first prediction for each. ``decided`` is the last
    decided bar."""

    bars: dict[int, list[Cast]] = field(default_factory=dict)
    predicted: dict[ArtifactKey, dict[int, int]] = field(default_factory=dict)
    decided: int = -1


class Window:
    """Read ``predictions`` on demand.

    ``enters_round`` returns whether the voter puts a prediction into a round. ``arrived`` is called with each such
    prediction, and with each one that follows the decision of its bar; the second argument is True for the latter."""

    def __init__(
        self,
        predictions: Iterator[ReadEvent],
        enters_round: Callable[[PredictionEvent, ArtifactKey], bool],
        arrived: Callable[[Cast, bool], None],
    ) -> None:
        self._predictions = predictions
        self._enters_round, self._arrived = enters_round, arrived
        self._ahead: ReadEvent | None = None
        self._events: dict[str, Cast] = {}
        self._series: dict[Series, PendingPredictions] = {}
        self._number = 0

    def series(self, series: Series) -> PendingPredictions:
        """Return the pending predictions of a series."""
        return self._series.setdefault(series, PendingPredictions())

    def find(self, event: str, moment: int) -> Cast | None:
        """Return the prediction with this id, reading on until it is found; None where none was written by ``moment``
        (ms)."""
        while event not in self._events:
            if not self._next(moment):
                return None
        return self._events[event]

    def later(self, series: Series, key: ArtifactKey, open_time: int, moment: int) -> int | None:
        """Return the number of an artifact's first prediction for a bar later than ``open_time``; None where none was
        written by ``moment``."""
        predicted = self.series(series).predicted.setdefault(key, {})
        while True:
            numbers = [number for bar, number in predicted.items() if bar > open_time]
            if numbers:
                return min(numbers)
            if not self._next(moment):
                return None

    def _next(self, moment: int) -> bool:
        read = self._ahead or next(self._predictions, None)
        self._ahead = None
        if read is None:
            return False
        if id_order(read.entry)[0] > moment + APART_MS:
            self._ahead = read
            return False
        self._number += 1
        envelope = read.opened.envelope
        key = (envelope.event.model, envelope.event.artifact.hex())
        enters_round = self._enters_round(envelope.event, key)
        self._store(Cast(self._number, read.entry, envelope, envelope.id.hex(), key, enters_round))
        return True

    def _store(self, cast: Cast) -> None:
        event = cast.envelope.event
        pending = self.series((event.symbol, event.interval_ms))
        if event.open_time <= pending.decided:
            self._events[cast.event] = cast
            self._arrived(cast, True)
            return
        pending.predicted.setdefault(cast.key, {}).setdefault(event.open_time, cast.number)
        self._events[cast.event] = cast
        pending.bars.setdefault(event.open_time, []).append(cast)
        if cast.enters_round:
            self._arrived(cast, False)

    def close(self, series: Series, open_time: int) -> dict[int, list[Cast]]:
        """Return the predictions read for a decided bar and for those before it, by open time in order, and drop
        them."""
        pending = self.series(series)
        pending.decided = max(pending.decided, open_time)
        casts_by_bar = {bar: pending.bars.pop(bar) for bar in sorted(pending.bars) if bar <= open_time}
        for predicted in pending.predicted.values():
            for bar in [bar for bar in predicted if bar <= open_time]:
                del predicted[bar]
        return casts_by_bar

    def drop(self, series: Series, open_time: int) -> bool:
        """Drop a bar that will have no decision. Return whether it was kept."""
        casts = self.series(series).bars.pop(open_time, None)
        for cast in casts or ():
            self.forget(cast.event)
        return casts is not None

    def forget(self, event: str) -> None:
        """Drop a prediction that is accounted for."""
        self._events.pop(event, None)
