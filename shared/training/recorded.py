"""Read the data set of a job from recorded streams: the vectors that models were served, and the bars.

Nothing is computed here. The same job reads the same entries, from Redis, from the archive or from both
(``shared.archive.history``), so its data set is always the same.
"""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from schemas.features import FeaturesComputed
from schemas.market import BarClosed
from schemas.training import Ends, TrainingRequested, TrainingStarted
from schemas.venue import BarRevised
from shared.archive.history import ArchivedHistory, records
from shared.bars import Bars
from shared.features import FeatureSet
from shared.log import Log, StreamKey
from shared.log.events import Unreadable, events_of
from shared.training.series import SymbolSeries

_log = logging.getLogger(__name__)


_Bar = tuple[str, int, int]
"""Symbol, interval (ms) and open time (ms)."""


class UnfitError(ValueError):
    """There is nothing to train on. The message names what was expected and what was found."""


class Recorded(NamedTuple):
    """The data set: series by symbol, the origins of the bars (live, replay, synthetic), and how many of them their
    exchange changed after their close."""

    series: dict[str, SymbolSeries]
    origins: tuple[str, ...]
    revised: int = 0


class _Columns:
    """The rows of one symbol, in the order of the streams."""

    def __init__(self) -> None:
        self.interval_ms = 0
        self.bars: list[tuple[int, float, float, float, float, float]] = []
        self.times: list[int] = []
        self.vectors: list[bytes] = []


async def ends_now(log: Log, partitions: int) -> tuple[tuple[Ends, ...], int | None]:
    """Return the last entries of ``market``, ``features`` and ``venue`` in every partition, and the open time of the
    newest bar, None if there is no bar yet."""
    ends, newest = [], []
    for partition in range(partitions):
        places = [StreamKey(stream, partition) for stream in ("market", "features", "venue")]
        ends.append(Ends(partition, *[(await log.extent(place)).last for place in places]))
        newest += [await _newest(log, places[0])]
    known = [at for at in newest if at is not None]
    return tuple(ends), max(known) if known else None


async def _newest(log: Log, place: StreamKey) -> int | None:
    """Return the open time of the newest bar among the last entries. Look at ten times as many if there is none."""
    unreadable, count = Unreadable(), 1000
    while True:
        entries = await log.tail(place, count)
        events = (envelope.event for _, envelope in events_of(entries, unreadable))
        times = [event.open_time for event in events if isinstance(event, BarClosed)]
        if times or len(entries) < count:
            unreadable.log(_log)
            return max(times, default=None)
        count *= 10


async def read(
    history: ArchivedHistory, request: TrainingRequested, started: TrainingStarted, feature_set: FeatureSet
) -> Recorded:
    """Return the bars and vectors within the time span of a job. Raises ``UnfitError`` where there are none, and the
    errors of the history where entries are lost or corrupt."""
    columns: dict[str, _Columns] = {}
    origins: set[str] = set()
    others: set[bytes] = set()
    revisions: dict[_Bar, BarRevised] = {}
    wanted = frozenset(request.symbols)

    def within(event: BarClosed | FeaturesComputed | BarRevised) -> bool:
        return started.first <= event.open_time <= started.last and (not wanted or event.symbol in wanted)

    for end in started.ends:
        async for record in records(history, StreamKey("market", end.partition), until=end.market):
            event = record.envelope.event
            if isinstance(event, BarClosed) and within(event):
                one = columns.setdefault(event.symbol, _Columns())
                _same_interval(event.symbol, one, event.interval_ms)
                one.bars.append((event.open_time, event.open, event.high, event.low, event.close, event.volume))
                origins.add(event.origin)
        async for record in records(history, StreamKey("features", end.partition), until=end.features):
            vector = record.envelope.event
            if not isinstance(vector, FeaturesComputed) or not within(vector):
                continue
            if vector.feature_set != feature_set.digest:
                others.add(vector.feature_set)
            elif vector.symbol in columns:
                columns[vector.symbol].times.append(vector.open_time)
                columns[vector.symbol].vectors.append(vector.values)
        async for record in records(history, StreamKey("venue", end.partition), until=end.venue):
            revision = record.envelope.event
            if isinstance(revision, BarRevised) and within(revision):
                revisions[revision.symbol, revision.interval_ms, revision.open_time] = revision
    revised = sum(_revise(one, symbol, revisions, request) for symbol, one in columns.items())
    series = {symbol: _series(symbol, one, len(feature_set)) for symbol, one in columns.items() if one.times}
    if not series:
        raise UnfitError(_nothing(columns, others, feature_set, request.symbols))
    return Recorded(series, tuple(sorted(origins)), revised)


def _revise(one: _Columns, symbol: str, revisions: dict[_Bar, BarRevised], request: TrainingRequested) -> int:
    """Return how many bars of a symbol were revised, and put the newest content in their place if the job asks for
    it."""
    times = dict.fromkeys(row[0] for row in one.bars)
    newest = {at: revisions[bar] for at in times if (bar := (symbol, one.interval_ms, at)) in revisions}
    if request.revised_bars and newest:
        for number, (at, *_) in enumerate(one.bars):
            if at in newest:
                content = newest[at].revised
                one.bars[number] = (at, content.open, content.high, content.low, content.close, content.volume)
    return len(newest)


def _same_interval(symbol: str, one: _Columns, interval_ms: int) -> None:
    if one.interval_ms not in {0, interval_ms}:
        raise UnfitError(f"{symbol} has bars of {one.interval_ms} ms and of {interval_ms} ms; one artifact takes one")
    one.interval_ms = interval_ms


def _series(symbol: str, one: _Columns, features: int) -> SymbolSeries:
    # Of bars with the same open time the first one counts, as in the feature-builder.
    _, first = np.unique(np.array([row[0] for row in one.bars], dtype=np.int64), return_index=True)
    open_time = np.array([one.bars[row][0] for row in first], dtype=np.int64)
    prices = np.array([one.bars[row][1:] for row in first], dtype=np.float64)
    times, kept = np.unique(np.array(one.times, dtype=np.int64), return_index=True)
    vectors = np.frombuffer(b"".join(one.vectors[row] for row in kept), dtype="<f4").reshape(-1, features)
    columns = (np.ascontiguousarray(column) for column in prices.T)
    return SymbolSeries(Bars(symbol, one.interval_ms, open_time, *columns), times, vectors)


def _nothing(columns: dict[str, _Columns], others: set[bytes], feature_set: FeatureSet, symbols: Sequence[str]) -> str:
    bars = sum(len(one.bars) for one in columns.values())
    message = f"no vector of {feature_set.name} ({feature_set.digest.hex()[:12]}) is recorded in the time span"
    if symbols:
        message += f" for {', '.join(symbols)}"
    message += f"; there are {bars:,} bars"
    if others:
        message += f", and vectors of other feature sets: {', '.join(sorted(one.hex()[:12] for one in others))}"
    return message + ". Let the feature-builder compute that set ([features] sets), or train on another"
