"""What the recorder remembers of one partition, and how it survives a restart."""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
from msgspec import Struct

from schemas.codec import Envelope
from schemas.predictions import PredictionMade
from schemas.trades import TradeClosed
from services.shadow_recorder.panels import Panels
from services.shadow_recorder.rounds import Recall, Rounds, Series, Voice
from shared.log import START, preceding
from shared.log.rules import order
from shared.outcomes import Track, Volatility

Key = tuple[str, int, bool]
"""A symbol, its interval, and whether its bars are synthetic: those are a market of their own."""


class Waiting(NamedTuple):
    """A prediction that waits for its round, or for what comes."""

    envelope: Envelope[PredictionMade]
    entry: str

    @property
    def open_time(self) -> int:
        """The bar it is about."""
        return self.envelope.event.open_time


class Line:
    """The predictions of one artifact about one symbol, in the order of their bars. ``settled``: the
    last bar whose prediction was scored, or never will be, and ``entry`` that prediction's."""

    __slots__ = ("entry", "queue", "settled")

    def __init__(self, settled: int = -1, entry: str = START) -> None:
        self.queue: deque[Waiting] = deque()
        self.settled = settled
        self.entry = entry

    @property
    def read(self) -> int:
        """The last bar that a prediction was read about."""
        return self.queue[-1].open_time if self.queue else self.settled


class Feed:
    """One symbol: its bars, and the lines of the artifacts that speak about it. ``last``: how many bars
    of the whole market had come with its last."""

    def __init__(self, track: Track, last: int) -> None:
        self.track = track
        self.last = last
        self.lines: dict[Voice, Line] = {}

    @property
    def heard(self) -> int:
        """The latest bar that anything was said about; -1: nothing yet."""
        return max((line.read for line in self.lines.values()), default=-1)

    @property
    def waiting(self) -> int | None:
        """The oldest bar whose prediction waits."""
        return min((line.queue[0].open_time for line in self.lines.values() if line.queue), default=None)


class KeptFeed(Struct, frozen=True, array_like=True):
    """A feed in the memo: the volatility before its oldest bar, and how far each line is settled."""

    symbol: str
    interval_ms: int
    synthetic: bool
    last: int
    base: Volatility
    settled: tuple[tuple[str, bytes, int, str], ...]


class Memo(Struct, frozen=True, array_like=True):
    """What cannot be read again. ``count``: bars of the market before ``since``; ``read``: the last
    entry of ``predictions``; ``trades``: the entries of those that wait for their decision."""

    count: int = 0
    checked: int = 0
    equal: int = 0
    read: str = START
    trades: tuple[str, ...] = ()
    feeds: tuple[KeptFeed, ...] = ()


class State:
    """See the package. ``count``: bars of the market so far."""

    def __init__(self, memo: Memo) -> None:
        self.panels = Panels()
        self.feeds: dict[Key, Feed] = {}
        self.rounds: dict[Series, Rounds] = {}
        self.recall = Recall()
        self.trades: dict[str, Envelope[TradeClosed]] = {}
        self.expected = frozenset(memo.trades)
        self.count = memo.count
        self.checked, self.equal, self.read = memo.checked, memo.equal, memo.read
        for kept in memo.feeds:
            feed = Feed(Track(kept.interval_ms, kept.base), kept.last)
            feed.lines = {(model, artifact.hex()): Line(last, entry) for model, artifact, last, entry in kept.settled}
            self.feeds[kept.symbol, kept.interval_ms, kept.synthetic] = feed

    def feed(self, key: Key) -> Feed:
        """The feed of a symbol; a new one where it is new."""
        found = self.feeds.get(key)
        if found is None:
            found = self.feeds[key] = Feed(Track(key[1], Volatility()), self.count)
        return found

    def lines(self, series: Series) -> Iterator[tuple[Voice, Line]]:
        """The lines of a symbol, whatever the origin of its bars."""
        for synthetic in (False, True):
            feed = self.feeds.get((*series, synthetic))
            if feed is not None:
                yield from feed.lines.items()

    def memo(self) -> bytes:
        """See ``Memo``."""
        count = min(
            (feed.track.bars[0].number - 1 for feed in self.feeds.values() if feed.track.bars), default=self.count
        )
        waiting = self._oldest_prediction()
        feeds = tuple(
            KeptFeed(*key, feed.last, feed.track.base, tuple(self._settled(feed, waiting)))
            for key, feed in sorted(self.feeds.items())
        )
        return msgspec.msgpack.encode(
            Memo(count, self.checked, self.equal, self.read, tuple(sorted(self.trades)), feeds)
        )

    def since(self) -> dict[str, str]:
        """Where each stream must be read again from, for what waits and for what may be asked about."""
        entries = {
            "market": self._oldest_bar(),
            "predictions": self._oldest_prediction(),
            "decisions": _first(
                entry
                for entry in (
                    self.recall.oldest,
                    *(next(iter(rounds.kept.values())).entry for rounds in self.rounds.values() if rounds.kept),
                )
                if entry is not None
            ),
            "trades": _first(iter(self.trades)),
        }
        return {stream: preceding(entry) for stream, entry in entries.items() if entry is not None}

    def _oldest_bar(self) -> str | None:
        return _first(feed.track.bars[0].entry for feed in self.feeds.values() if feed.track.bars)

    def _oldest_prediction(self) -> str | None:
        return _first(line.queue[0].entry for feed in self.feeds.values() for line in feed.lines.values() if line.queue)

    def _settled(self, feed: Feed, waiting: str | None) -> Iterator[tuple[str, bytes, int, str]]:
        """Of artifacts that are in use, and of those whose settled predictions will be read again."""
        version = self.panels.control.version
        for (model, artifact), line in sorted(feed.lines.items()):
            again = waiting is not None and order(line.entry) >= order(waiting)
            if line.settled >= 0 and (again or line.queue or self.panels.active(version, model, artifact)):
                yield model, bytes.fromhex(artifact), line.settled, line.entry


def _first(entries: Iterator[str]) -> str | None:
    return min(entries, key=order, default=None)
