"""The feature builder as a fold over the market: windows in, vectors out. See the package's docstring."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from schemas.codec import Encoded, Envelope, encode
from schemas.features import BarsMissing, FeaturesComputed, FeaturesWithheld
from schemas.market import BarClosed
from schemas.operations import DeadLetter
from shared.control import EMPTY, fold
from shared.control import State as Control
from shared.features.bars import BRIDGE
from shared.features.engine import AcceptedBars, ComputedVector, Engine, Key
from shared.features.refusal import RefusedBar
from shared.features.sets import FeatureSet
from shared.runtime.service import Batch, Received

GROUP: Final = "feature-builder"
MARKET: Final = "market"
MILESTONE: Final = 256
"""Every how many events an entry id is remembered, from which a restart may read again."""
_BEGINNING: Final = "0-0"


class Memo(msgspec.Struct, frozen=True, array_like=True):
    """What a restart cannot read again: the entry from which it reads, that entry's index in the stream, and
    the symbols whose window began after missing bars and is not full yet."""

    entry: str = _BEGINNING
    index: int = 0
    restarted: tuple[Key, ...] = ()


class Milestone(NamedTuple):
    """The ``number``-th event of the market is the entry ``entry``."""

    number: int
    entry: str


class State:
    """The windows, how far the market has been read, and the configuration. ``recalled`` is what the memo said about
    restarted windows: it settles them once everything has been absorbed again."""

    def __init__(self, engine: Engine, memo: Memo) -> None:
        self.engine = engine
        self.here = Milestone(memo.index, memo.entry)
        self.milestones = [self.here]
        self.recalled: set[Key] | None = set(memo.restarted)
        self.control: Control = EMPTY
        self._anchor: Milestone | None = None

    def advance(self, events: Sequence[Received]) -> list[BarClosed]:
        """Counts events, and returns their bars. The first has the index ``here.number + 1``."""
        self._anchor = None
        first = self.here.number + 1
        for i in range(-first % MILESTONE, len(events), MILESTONE):
            self.milestones.append(Milestone(first + i, events[i].entry))
        if events:
            self.here = Milestone(first + len(events) - 1, events[-1].entry)
        return [event.envelope.event for event in events]

    def settle(self) -> None:
        """Ends the absorbing."""
        if self.recalled is not None:
            self.engine.restarted = self.recalled
            self.recalled = None

    def anchor(self) -> Milestone:
        """The newest remembered event before all that the windows depend on."""
        if self._anchor is None:
            self._anchor = self._find_anchor()
        return self._anchor

    def _find_anchor(self) -> Milestone:
        oldest = self.engine.oldest()
        if oldest is None:
            return self.here
        found = bisect_left(self.milestones, oldest, key=lambda milestone: milestone.number) - 1
        del self.milestones[:found]
        return self.milestones[0]


class FeatureBuilder:
    """The service ``feature-builder``: one vector, or the reason why there is none, for each bar and set.

    ``bridge`` is how many missing bars in a row are filled with flat ones. Given the stamps, cutting the events into
    batches elsewhere changes no byte of what is written, nor does a restart. The stamps are not a function of the
    market: they are the record of what was in force when.
    """

    group = GROUP
    reads = (MARKET,)
    follows_control = True
    ticks = 0

    def __init__(self, sets: Sequence[FeatureSet], bridge: int = BRIDGE) -> None:
        self.sets: Final = tuple(sets)
        self.bridge: Final = bridge

    def initial(self, memo: bytes) -> State:
        """Empty windows, to be filled by ``apply``."""
        recalled = msgspec.msgpack.decode(memo, type=Memo) if memo else Memo()
        return State(Engine(self.sets, self.bridge), recalled)

    def apply(self, state: State, batch: Batch) -> None:
        """Takes in commands, and bars again that were answered before."""
        _configure(state, batch)
        first = state.here.number + 1
        state.engine.apply(state.advance(batch.events), first)

    def handle(self, state: State, batch: Batch) -> Sequence[Encoded]:
        """The vectors of new bars, in their order, stamped with the configuration in force; for each bar first what
        was missing before it."""
        _configure(state, batch)
        state.settle()
        stamp = (state.control.version, bytes.fromhex(state.control.head))
        first = state.here.number + 1
        outcomes = state.engine.handle(state.advance(batch.events), first)
        written: list[Encoded] = []
        for received, outcome in zip(batch.events, outcomes, strict=True):
            if isinstance(outcome, RefusedBar):
                written.append(_refusal(received, outcome))
            else:
                written += self._answers(received.envelope, outcome, stamp)
        return written

    def _answers(self, envelope: Envelope[BarClosed], outcome: AcceptedBars, stamp: tuple[int, bytes]) -> list[Encoded]:
        bar = envelope.event
        about = bar.symbol, bar.interval_ms, bar.open_time, bar.origin
        answers: list[Any] = []
        if outcome.missing:
            answers.append(BarsMissing(*about, outcome.missing, outcome.bridged, *stamp))
        for chosen, result in zip(self.sets, outcome.results, strict=True):
            if isinstance(result, ComputedVector):
                answers.append(FeaturesComputed(*about, chosen.digest, result.values, result.bridged, *stamp))
            else:
                answers.append(FeaturesWithheld(*about, chosen.digest, *result, *stamp))
        return [_caused("features", envelope, answer) for answer in answers]

    def snapshot(self, state: State) -> bytes:
        """The anchor, and the restarted windows that are not full."""
        anchor = state.anchor()
        restarted = state.engine.restarted if state.recalled is None else state.recalled
        return msgspec.msgpack.encode(Memo(anchor.entry, anchor.number, tuple(sorted(restarted))))

    def replay_from(self, state: State) -> Mapping[str, str]:
        """The entry before the oldest bar that a window holds, within ``MILESTONE`` events."""
        return {MARKET: state.anchor().entry}

    @property
    def recalls(self) -> tuple[str, ...]:
        """Nothing: windows, and which of them were restarted, follow from the bars."""
        return ()

    def recall(self, memo: bytes, written: Sequence[Received]) -> bytes:
        """See ``shared.runtime.service.Recallable``."""
        return memo

    def reapply(self, state: State, batch: Batch) -> None:
        """See ``shared.runtime.service.Recallable``. Which windows were restarted is seen by handling the bars."""
        self.handle(state, batch)


def _configure(state: State, batch: Batch) -> None:
    for envelope in batch.control:
        state.control = fold(state.control, envelope.event)


def _refusal(received: Received, refused: RefusedBar) -> Encoded:
    raw = msgspec.json.encode(received.envelope.event).decode()
    source = f"{received.stream}@{received.entry}"
    letter = DeadLetter(GROUP, source, refused.reason, refused.detail[:2000], raw[:2000])
    return _caused("dead", received.envelope, letter)


def _caused(stream: str, envelope: Envelope[BarClosed], event: Any) -> Encoded:
    return encode(stream, event, causation=envelope.id, correlation=envelope.correlation, flags=envelope.flags)
