"""The feature builder's core: fold bars into windows, and compute vectors from them. See the package."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from schemas.codec import Encoded, Envelope, encode
from schemas.features import BarsMissing, FeaturesComputed, FeaturesWithheld
from schemas.market import BarClosed, MarketEvent
from schemas.operations import DeadLetter
from shared.control import EMPTY, fold
from shared.control import State as Control
from shared.features.bars import BRIDGE
from shared.features.context_bars import Key
from shared.features.engine import AcceptedBars, ComputedVector
from shared.features.refusal import RefusedBar
from shared.features.sets import FeatureSet
from shared.features.streaming import Streaming
from shared.runtime.service import Batch, Received

GROUP: Final = "feature-builder"
MARKET: Final = "market"
MILESTONE: Final = 256
"""The number of events between two entry ids that are remembered, from which a restart may read again."""
_BEGINNING: Final = "0-0"


class Snapshot(msgspec.Struct, frozen=True, array_like=True):
    """What a restart cannot read again: the entry after which it reads, the number of that entry in the stream, and the
    series whose window restarted after missing bars and is not full yet: of sets without context, then of those with
    the same references."""

    entry: str = _BEGINNING
    index: int = 0
    restarted: tuple[Key, ...] = ()
    in_context: tuple[tuple[Key, ...], ...] = ()


class Milestone(NamedTuple):
    """The ``number``-th event of the market has the id ``entry``."""

    number: int
    entry: str


class State:
    """The windows, the position in the market, and the configuration.

    ``last``: the last event read. ``milestones``: events after which a restart may read again, oldest first.
    ``restarted``: the restarted windows of the snapshot while bars are replayed, which alone do not show them; None
    after that."""

    def __init__(self, engine: Streaming, snapshot: Snapshot) -> None:
        self.engine = engine
        self.last = Milestone(snapshot.index, snapshot.entry)
        self.milestones = [self.last]
        self.restarted: tuple[tuple[Key, ...], ...] | None = (snapshot.restarted, *snapshot.in_context)
        self.control: Control = EMPTY
        self._anchor: Milestone | None = None

    def advance(self, events: Sequence[Received]) -> list[MarketEvent]:
        """Count events, and return them. The number of the first is ``last.number + 1``."""
        self._anchor = None
        first = self.last.number + 1
        for i in range(-first % MILESTONE, len(events), MILESTONE):
            self.milestones.append(Milestone(first + i, events[i].entry))
        if events:
            self.last = Milestone(first + len(events) - 1, events[-1].entry)
        return [event.envelope.event for event in events]

    def end_replay(self) -> None:
        """Give the windows of the snapshot to the engine, once all bars are replayed. Does nothing later on."""
        if self.restarted is not None:
            self.engine.restarted = self.restarted
            self.restarted = None

    def anchor(self) -> Milestone:
        """Return the newest milestone before every bar that a window holds."""
        if self._anchor is None:
            self._anchor = self._find_anchor()
        return self._anchor

    def _find_anchor(self) -> Milestone:
        oldest = self.engine.oldest()
        if oldest is None:
            return self.last
        first = bisect_left(self.milestones, oldest, key=lambda milestone: milestone.number) - 1
        del self.milestones[:first]
        return self.milestones[0]


class FeatureBuilder:
    """The service ``feature-builder``: one vector, or the reason why there is none, for each bar and set.

    ``bridge``: how many missing bars in a row are filled with flat ones. With the same stamps, neither a restart nor
    how events are cut into batches changes a byte of what is written. Stamps are not a function of the market: they
    record which configuration was in force when."""

    group = GROUP
    reads = (MARKET,)
    follows_control = True
    ticks = 0

    def __init__(self, sets: Sequence[FeatureSet], bridge: int = BRIDGE) -> None:
        self.sets: Final = tuple(sets)
        self.bridge: Final = bridge

    def initial(self, snapshot: bytes) -> State:
        """Return a state with empty windows, which ``apply`` fills."""
        decoded = msgspec.msgpack.decode(snapshot, type=Snapshot) if snapshot else Snapshot()
        return State(Streaming(self.sets, self.bridge), decoded)

    def apply(self, state: State, batch: Batch) -> None:
        """Fold commands, and replay bars that were handled before."""
        _configure(state, batch)
        first = state.last.number + 1
        state.engine.apply(state.advance(batch.events), first)

    def handle(self, state: State, batch: Batch) -> Sequence[Encoded]:
        """Return the events of new bars in their order, stamped with the configuration in force: for each bar first the
        bars that are missing before it, then its vectors."""
        _configure(state, batch)
        state.end_replay()
        version, head = state.control.version, bytes.fromhex(state.control.head)
        first = state.last.number + 1
        outcomes = state.engine.handle(state.advance(batch.events), first)
        written: list[Encoded] = []
        for received, outcome in zip(batch.events, outcomes, strict=True):
            if outcome is None:
                continue  # a copy of a bar, or an input: for bars to read
            if isinstance(outcome, RefusedBar):
                written.append(_refusal(received, outcome))
            else:
                written += self._events(received.envelope, outcome, version, head)
        return written

    def _events(self, envelope: Envelope[BarClosed], outcome: AcceptedBars, version: int, head: bytes) -> list[Encoded]:
        bar = envelope.event
        common: dict[str, Any] = {
            "symbol": bar.symbol,
            "interval_ms": bar.interval_ms,
            "open_time": bar.open_time,
            "origin": bar.origin,
            "control_version": version,
            "control_head": head,
        }
        events: list[Any] = []
        if outcome.missing:
            events.append(BarsMissing(**common, count=outcome.missing, bridged=outcome.bridged))
        for each, result in zip(self.sets, outcome.results, strict=True):
            if isinstance(result, ComputedVector):
                vector = FeaturesComputed(
                    **common, feature_set=each.digest, values=result.values, bridged=result.bridged
                )
                events.append(vector)
            else:
                events.append(FeaturesWithheld(**common, feature_set=each.digest, **result._asdict()))
        return [_caused("features", envelope, event) for event in events]

    def snapshot(self, state: State) -> bytes:
        """Return the anchor, and the restarted windows that are not full."""
        anchor = state.anchor()
        restarted = state.engine.restarted if state.restarted is None else state.restarted
        return msgspec.msgpack.encode(Snapshot(anchor.entry, anchor.number, restarted[0], restarted[1:]))

    def replay_from(self, state: State) -> Mapping[str, str]:
        """Return an entry before the oldest bar that a window holds, by at most ``MILESTONE`` events."""
        return {MARKET: state.anchor().entry}

    @property
    def recalls(self) -> tuple[str, ...]:
        """None: the windows, and which of them restarted, follow from the bars."""
        return ()

    def recall(self, memo: bytes, written: Sequence[Received]) -> bytes:
        """See ``shared.runtime.service.Recallable``."""
        return memo

    def reapply(self, state: State, batch: Batch) -> None:
        """See ``shared.runtime.service.Recallable``. To handle the bars shows which windows restarted."""
        self.handle(state, batch)


def _configure(state: State, batch: Batch) -> None:
    for envelope in batch.control:
        state.control = fold(state.control, envelope.event)


def _refusal(received: Received, refused: RefusedBar) -> Encoded:
    raw = msgspec.json.encode(received.envelope.event).decode()
    source = f"{received.stream}@{received.entry}"
    letter = DeadLetter(
        service=GROUP, source=source, reason=refused.reason, detail=refused.detail[:2000], raw=raw[:2000]
    )
    return _caused("dead", received.envelope, letter)


def _caused(stream: str, envelope: Envelope[BarClosed], event: Any) -> Encoded:
    return encode(stream, event, causation=envelope.id, correlation=envelope.correlation, flags=envelope.flags)
