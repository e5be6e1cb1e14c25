"""The state of the recorder for one partition, and its memo."""

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from schemas.codec import Envelope
from schemas.predictions import PredictionMade
from schemas.trades import TradeClosed
from services.shadow_recorder.configurations import Configurations
from services.shadow_recorder.decisions import ArtifactKey, IssuedDecisions, KeptDecision
from shared.labels.stream import BarHistory, Volatility
from shared.log import START, preceding
from shared.log.leases import id_order

LATE: Final = 2048
"""A prediction that no decision lists is scored unless an artifact answered a bar this many bars later before it."""

PATIENCE: Final = 16
"""Turns in which streams are paused, before all are read once."""

SeriesKey = tuple[str, int, bool]
"""A symbol, its interval (ms), and whether its bars are synthetic: synthetic bars are a market of their own."""


class PendingPrediction(NamedTuple):
    """A prediction without a score yet. ``before``: the last bar that its artifact had answered when it was read;
    ``frontier``: the last that any artifact had answered then. ``stream``: that of its entry; a decision by a voting
    policy in shadow is one too."""

    envelope: Envelope[PredictionMade]
    entry: str
    before: int
    frontier: int
    stream: str = "predictions"

    @property
    def open_time(self) -> int:
        """The bar at which the prediction was made (ms)."""
        return self.envelope.event.open_time

    @property
    def at(self) -> int:
        """The time (ms) of its entry."""
        return id_order(self.entry)[0]


class PendingPredictions:
    """The predictions of one artifact about one symbol that wait for their score, in the order of bars.
    ``answered`` is the last bar that the artifact predicted or failed at."""

    __slots__ = ("answered", "queue")

    def __init__(self, answered: int = -1) -> None:
        self.queue: deque[PendingPrediction] = deque()
        self.answered = answered

    @property
    def base(self) -> int:
        """What ``answered`` was before the first prediction that waits."""
        return self.queue[0].before if self.queue else self.answered


class Stamp(NamedTuple):
    """The stamp of a bar: a version, or None where the event was written by a release without stamps."""

    version: int | None
    entry: str


class SymbolState:
    """One series of bars and all that is joined with it. Bars up to ``complete`` are dropped (``retention``).

    ``featured``: the last bar with an event on ``features``; ``decided``: the last with a decision; ``frontier``: the
    last that any artifact answered. ``decided_base``: the last decided bar whose decision is not kept. ``ended``: for a
    symbol whose bars have stopped, the time (ms) after which nothing is joined with it any more; else 0.
    ``unjoined``: the decided bars of which a listed ballot was not read yet, and later ones; ``joined``: the last
    decided bar before them."""

    def __init__(self, history: BarHistory) -> None:
        self.history = history
        self.pending: dict[ArtifactKey, PendingPredictions] = {}
        self.stamps: OrderedDict[int, Stamp] = OrderedDict()
        self.decisions: OrderedDict[int, KeptDecision] = OrderedDict()
        self.unjoined: deque[int] = deque()
        self.complete = self.featured = self.decided = self.decided_base = self.frontier = self.joined = -1
        self.ended = 0

    @property
    def oldest_pending(self) -> int | None:
        """The first bar whose prediction waits."""
        return min((each.queue[0].open_time for each in self.pending.values() if each.queue), default=None)

    def answered(self, artifact: ArtifactKey) -> int:
        """Return the last bar that an artifact answered."""
        pending = self.pending.get(artifact)
        return pending.answered if pending is not None else -1


class KeptSeries(Struct, frozen=True, array_like=True):
    """A series in the memo: everything as it was before the first entry that is read again. ``answered``: model,
    artifact and last bar of each that answered a bar after ``complete``."""

    symbol: str
    interval_ms: int
    synthetic: bool
    number: int
    base: Volatility
    complete: int
    decided: int
    frontier: int
    ended: int
    answered: tuple[tuple[str, bytes, int], ...]


class Memo(Struct, frozen=True, array_like=True):
    """What cannot be read again. ``count``: the number of bars of the market before the first entry that is read again.
    ``checked`` and ``equal``: the numbers of votes checked for interference, and of those that were equal. ``reached``:
    the time (ms) of the last entry of ``features``, ``predictions`` and ``decisions``. ``trades``: the entries of those
    that wait for their decision. ``layout`` is the first field: memos before layout 2 have a count there."""

    layout: str = "2"
    count: int = 0
    checked: int = 0
    equal: int = 0
    reached: tuple[int, int, int] = (-1, -1, -1)
    trades: tuple[str, ...] = ()
    series: tuple[KeptSeries, ...] = ()


class FormerSeries(Struct, frozen=True, array_like=True):
    """A series in the memo of a release before layout 2: ``settled`` has a model, an artifact, the last bar whose
    prediction has its score, and that prediction's entry."""

    symbol: str
    interval_ms: int
    synthetic: bool
    last: int
    base: Volatility
    settled: tuple[tuple[str, bytes, int, str], ...]


class FormerMemo(Struct, frozen=True, array_like=True):
    """The memo of a release before layout 2."""

    count: int = 0
    checked: int = 0
    equal: int = 0
    read: str = START
    trades: tuple[str, ...] = ()
    series: tuple[FormerSeries, ...] = ()


def decoded(memo: bytes) -> Memo:
    """Decode a memo, also one of an earlier release, into the present layout."""
    if not memo:
        return Memo()
    try:
        return msgspec.msgpack.decode(memo, type=Memo)
    except msgspec.ValidationError:
        former = msgspec.msgpack.decode(memo, type=FormerMemo)
    series = tuple(
        KeptSeries(
            symbol=each.symbol,
            interval_ms=each.interval_ms,
            synthetic=each.synthetic,
            number=former.count,
            base=each.base,
            complete=each.base.at,
            decided=each.base.at,
            frontier=max((bar for _, _, bar, _ in each.settled), default=-1),
            ended=0,
            answered=tuple((model, artifact, bar) for model, artifact, bar, _ in each.settled),
        )
        for each in former.series
    )
    return Memo(count=former.count, checked=former.checked, equal=former.equal, trades=former.trades, series=series)


class Pause(Struct):
    """How long streams have been paused. ``turns``: since all were read; ``patience``: the turns after which all are
    read again; ``settled``: how many predictions had a result the last time."""

    turns: int = 0
    patience: int = PATIENCE
    settled: int = 0


class State:
    """The state of one partition. ``count``: bars of the market so far; ``settled``: predictions that were scored or
    written as unscored so far. ``features_at``, ``predictions_at`` and ``decisions_at``: the times (ms) of the last
    entries read. ``unfeatured``: the time (ms) and the series of each prediction, and of each decision by a voting
    policy in shadow, that was read before the features of its bar; a heap. ``pause`` belongs to ``backpressure``."""

    def __init__(self, memo: Memo) -> None:
        self.configurations = Configurations()
        self.series: dict[SeriesKey, SymbolState] = {}
        self.issued = IssuedDecisions()
        self.trades: dict[str, Envelope[TradeClosed]] = {}
        self.expected = frozenset(memo.trades)
        self.count = memo.count
        self.checked, self.equal = memo.checked, memo.equal
        self.features_at, self.predictions_at, self.decisions_at = memo.reached
        self.unfeatured: list[tuple[int, SeriesKey]] = []
        self.settled = 0
        self.pause = Pause()
        for kept in memo.series:
            series = SymbolState(BarHistory(kept.interval_ms, kept.base, kept.number))
            series.complete = series.featured = kept.complete
            series.decided = series.decided_base = series.joined = kept.decided
            series.frontier, series.ended = kept.frontier, kept.ended
            series.history.ended = kept.ended > 0
            for model, artifact, bar in kept.answered:
                series.pending[model, artifact.hex()] = PendingPredictions(bar)
            self.series[kept.symbol, kept.interval_ms, kept.synthetic] = series

    def of(self, key: SeriesKey) -> SymbolState:
        """Return the state of a series, a new one where there is none."""
        series = self.series.get(key)
        if series is None:
            series = self.series[key] = SymbolState(BarHistory(key[1], Volatility(), self.count))
        return series

    def snapshot(self) -> bytes:
        """Return the memo: everything as it was before the entries of ``replay_from``."""
        count = min(
            (series.history.bars[0].number - 1 for series in self.series.values() if series.history.bars),
            default=self.count,
        )
        memo = Memo(
            count=count,
            checked=self.checked,
            equal=self.equal,
            reached=(self.features_at, self.predictions_at, self.decisions_at),
            trades=tuple(self.trades),
            series=tuple(_kept(key, series) for key, series in sorted(self.series.items())),
        )
        return msgspec.msgpack.encode(memo)

    def replay_from(self) -> dict[str, str]:
        """Return where each stream must be read again from: its oldest entry that something may be joined with."""
        series = self.series.values()
        decisions = [next(iter(each.decisions.values())).entry for each in series if each.decisions]
        entries = {
            "market": _first(each.history.bars[0].entry for each in series if each.history.bars),
            "features": _first(next(iter(each.stamps.values())).entry for each in series if each.stamps),
            "predictions": _first(
                pending.queue[0].entry
                for each in series
                for pending in each.pending.values()
                if pending.queue and pending.queue[0].stream == "predictions"
            ),
            "decisions": _first(iter(decisions if self.issued.oldest is None else [*decisions, self.issued.oldest])),
            "trades": _first(iter(self.trades)),
        }
        return {stream: preceding(entry) for stream, entry in entries.items() if entry is not None}


def _kept(key: SeriesKey, series: SymbolState) -> KeptSeries:
    return KeptSeries(
        symbol=key[0],
        interval_ms=key[1],
        synthetic=key[2],
        number=series.history.base_number,
        base=series.history.base,
        complete=series.complete,
        decided=series.decided_base,
        frontier=min(
            (
                each.queue[0].frontier
                for each in series.pending.values()
                if each.queue and each.queue[0].stream == "predictions"
            ),
            default=series.frontier,
        ),
        ended=series.ended,
        answered=tuple(
            (model, bytes.fromhex(artifact), pending.base)
            for (model, artifact), pending in sorted(series.pending.items())
            if pending.base > series.complete
        ),
    )


def _first(entries: Iterator[str]) -> str | None:
    return min(entries, key=id_order, default=None)
