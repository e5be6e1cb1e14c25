"""The vectors that a worker keeps: the bar in hand, and the last of each symbol where an artifact looks
at windows."""

from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from msgspec import Struct

from schemas.features import FeaturesComputed, FeaturesWithheld
from services.model_worker.asking import Failure
from services.model_worker.members import Member
from shared.service import Received

STALE_BARS: Final = 16
"""A symbol's window is dropped when the stream is this many bars past it: it is broken anyway."""

Series = tuple[bytes, int, str]
"""Feature set, interval, symbol."""


class Kept(NamedTuple):
    """A vector that a later window needs."""

    entry: str
    open_time: int
    values: bytes


class Round:
    """The bar in hand: its first event, and the feature sets it has shown."""

    __slots__ = ("entry", "envelope", "interval_ms", "open_time", "seen", "symbol")

    def __init__(self, received: Received) -> None:
        event = received.envelope.event
        self.entry = received.entry
        self.envelope = received.envelope
        self.symbol: str = event.symbol
        self.interval_ms: int = event.interval_ms
        self.open_time: int = event.open_time
        self.seen: set[bytes] = set()


class Vectors(Struct):
    """``depth`` is the longest window asked of a (feature set, interval), where longer than one."""

    round: Round | None = None
    depth: dict[tuple[bytes, int], int] = {}
    kept: dict[Series, deque[Kept]] = {}

    def dig(self, members: tuple[Member, ...]) -> None:
        """Keeps as many vectors as these members look back on."""
        self.depth = {}
        for member in members:
            if member.predictor is not None and member.predictor.window > 1:
                key = (member.feature_set, member.predictor.interval_ms)
                self.depth[key] = max(self.depth.get(key, 1), member.predictor.window)
        self.kept = {series: kept for series, kept in self.kept.items() if series[:2] in self.depth}

    def enter(self, received: Received) -> Round | None:
        """Notes the event's feature set under its bar; the bar before, where this one begins another."""
        event = received.envelope.event
        current, closed = self.round, None
        if (
            current is None
            or current.open_time != event.open_time
            or current.symbol != event.symbol
            or current.interval_ms != event.interval_ms
        ):
            closed = current
            current = self.round = Round(received)
        current.seen.add(event.feature_set)
        return closed

    def keep(self, received: Received) -> None:
        """Appends a vector to its symbol's window, where a window of more than one vector is asked for."""
        event = received.envelope.event
        depth = self.depth.get((event.feature_set, event.interval_ms))
        if depth is None or type(event) is not FeaturesComputed:
            return
        series = (event.feature_set, event.interval_ms, event.symbol)
        kept = self.kept.pop(series, None)
        if kept is None or kept.maxlen != depth:
            kept = deque(kept or (), maxlen=depth)
        if kept and kept[-1].open_time + event.interval_ms != event.open_time:
            kept.clear()
        kept.append(Kept(received.entry, event.open_time, event.values))
        self.kept[series] = kept
        oldest = next(iter(self.kept))
        if self.kept[oldest][-1].open_time + STALE_BARS * oldest[1] < event.open_time:
            del self.kept[oldest]

    def window(self, member: Member, event: FeaturesComputed | FeaturesWithheld) -> bytes | Failure:
        """The bytes of what ``member`` is to be asked about this bar, or why it cannot be asked."""
        registered, predictor = member.registered, member.predictor
        if predictor is None:
            return Failure("not_loaded", member.fault)
        if event.interval_ms != registered.interval_ms:
            return Failure(
                "wrong_interval", f"trained on bars of {registered.interval_ms} ms, this one has {event.interval_ms} ms"
            )
        if isinstance(event, FeaturesWithheld):
            return Failure(
                "features_withheld", f"{event.reason}: have {event.have} of {event.need} bars {event.detail}".rstrip()
            )
        window = event.values
        if predictor.window > 1:
            kept = self.kept[event.feature_set, event.interval_ms, event.symbol]
            if len(kept) < predictor.window:
                have = f"have {len(kept)} of {predictor.window} successive vectors"
                return Failure("features_withheld", f"window: {have}")
            window = b"".join([vector.values for vector in kept][-predictor.window :])
        if len(window) != 4 * predictor.features * predictor.window:
            return Failure(
                "bad_vector",
                f"{len(window)} bytes, expected {predictor.window} x {predictor.features} values of 4 bytes",
            )
        return window

    def oldest(self) -> Iterator[str]:
        """The entries that a restart must read again: of the bar in hand, and of each window's first."""
        if self.round is not None:
            yield self.round.entry
            yield from (vectors[0].entry for vectors in self.kept.values())
