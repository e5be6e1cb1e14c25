"""Features, predictions, decisions, bars and trades in; scores out. Pure; the package's docstring has the rules."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

from schemas.codec import Encoded, Envelope
from schemas.decisions import BallotLate, DecisionMade, FenceClosed, FenceOpened
from schemas.features import BarsMissing, FeatureEvent, FeaturesComputed, FeaturesWithheld
from schemas.market import BarClosed
from schemas.predictions import PredictionEvent, PredictionFailed, PredictionMade
from schemas.trades import TradeClosed
from services.shadow_recorder import backpressure
from services.shadow_recorder.decisions import MARGIN_MS, kept
from services.shadow_recorder.proofs import missing, prove
from services.shadow_recorder.retention import let_go
from services.shadow_recorder.scoring_readiness import caused, failed, given_up, settle, unheard
from services.shadow_recorder.state import (
    PendingPrediction,
    PendingPredictions,
    SeriesKey,
    Stamp,
    State,
    SymbolState,
    decoded,
)
from services.shadow_recorder.trades import settle_trades
from shared.labels import stream
from shared.log.leases import order
from shared.runtime.service import Batch, Received

GROUP: Final = "shadow-recorder"
SWEEP: Final = 4096
"""Bars of the market after which ended symbols are looked for."""


class Recorder:
    """The shadow-recorder as the runtime hosts it."""

    group = GROUP
    reads: tuple[str, ...] = ("market", "features", "predictions", "decisions", "trades")
    follows_control = True
    ticks = 0
    rest_ms = 500

    def initial(self, memo: bytes) -> State:
        """See ``state.Memo`` for what a restart goes on from."""
        return State(decoded(memo))

    def snapshot(self, state: State) -> bytes:
        """See ``state.Memo``."""
        return state.snapshot()

    def replay_from(self, state: State) -> Mapping[str, str]:
        """Return each stream's oldest entry that something may still be joined with."""
        return state.replay_from()

    def hold(self, state: State) -> Collection[str]:
        """See ``backpressure``."""
        return backpressure.held(state)

    def apply(self, state: State, batch: Batch) -> None:
        """Take in what was answered before."""
        state.configurations.apply(batch.control)
        for received in batch.events:
            match received.envelope.event:
                case FeaturesComputed() | FeaturesWithheld() | BarsMissing() as features:
                    _take_features(state, features, received)
                case PredictionMade() | PredictionFailed() as answer:
                    _take_answer(state, answer, received)
                case DecisionMade() as decision:
                    _take_decision(state, decision, received)
                case TradeClosed():
                    if received.entry in state.expected:
                        state.trades[received.entry] = received.envelope
                case BarClosed() as bar:
                    _take_bar(state, bar, received)
                case BallotLate() | FenceClosed() | FenceOpened():
                    pass
                case other:
                    raise TypeError(f"{type(other).__name__} on {received.stream} is no event of {GROUP}")

    def handle(self, state: State, batch: Batch) -> Sequence[Encoded]:
        """Take in commands, then each event, and write what became ready by it."""
        state.configurations.apply(batch.control)
        outputs: list[Encoded] = []
        for received in batch.events:
            _note_place(state, received)
            outputs += _handle(state, received)
        return outputs


def _handle(state: State, received: Received) -> Iterator[Encoded]:
    envelope = received.envelope
    match envelope.event:
        case FeaturesComputed() | FeaturesWithheld() | BarsMissing() as features:
            yield from _settled(state, _take_features(state, features, received))
            yield from _without_features(state)
        case PredictionMade() as made:
            series = _take_answer(state, made, received)
            if series is None:
                yield caused(envelope, unheard(state, envelope))
            yield from _settled(state, series or state.of(_key(made)))
        case PredictionFailed() as failure:
            yield failed(state, envelope)
            series = _take_answer(state, failure, received)
            yield from _settled(state, series or state.of(_key(failure)))
        case DecisionMade() as decision:
            yield from _decided(state, decision, received)
        case BallotLate() | FenceClosed() | FenceOpened():
            yield from settle_trades(state)
        case TradeClosed() as trade:
            state.trades[received.entry] = envelope
            yield from settle_trades(state, trade.decision if state.issued.find(trade.decision) else None)
        case BarClosed() as bar:
            series = _take_bar(state, bar, received)
            if series is not None:
                series.ended = 0
                series.history.ended = False
                yield from _settled(state, series)
            if state.count % SWEEP == 0:
                yield from _sweep(state, order(received.entry)[0])
        case other:
            raise TypeError(f"{type(other).__name__} on {received.stream} is no event of {GROUP}")


def _decided(state: State, decision: DecisionMade, received: Received) -> Iterator[Encoded]:
    series = _take_decision(state, decision, received)
    if series is not None:
        yield from missing(state, received.envelope)
        yield from prove(state, received.envelope)
        yield from _settled(state, series)
    yield from settle_trades(state, received.envelope.id.hex())


def _settled(state: State, series: SymbolState) -> Iterator[Encoded]:
    """Write the scores of a series that are ready, and let go what is complete."""
    yield from settle(state, series)
    let_go(state, series)


def _without_features(state: State) -> Iterator[Encoded]:
    """Look again at predictions whose bar has no features, now that ``features`` has been read past them."""
    while state.unfeatured and state.unfeatured[0][0] + MARGIN_MS < state.features_at:
        _, key = state.unfeatured.popleft()
        yield from _settled(state, state.of(key))


def _note_place(state: State, received: Received) -> None:
    """Note how far the streams have been read that tell what will not come any more."""
    match received.stream:
        case "features":
            state.features_at = order(received.entry)[0]
        case "predictions":
            state.predictions_at = order(received.entry)[0]
        case "decisions":
            state.decisions_at = order(received.entry)[0]
        case _:
            pass


def _key(event: BarClosed | FeatureEvent | PredictionEvent | DecisionMade) -> SeriesKey:
    return event.symbol, event.interval_ms, event.origin == "synthetic"


def _take_bar(state: State, bar: BarClosed, received: Received) -> SymbolState | None:
    """Add a bar to its history; None for one that is out of order."""
    state.count += 1
    series = state.of(_key(bar))
    return series if series.history.append(bar.open_time, bar.close, received.entry, state.count) else None


def _take_features(state: State, event: FeatureEvent, received: Received) -> SymbolState:
    """Note the stamp of a bar, which its first event on ``features`` has."""
    series = state.of(_key(event))
    if event.open_time > series.featured:
        version = event.control_version if event.control_head is not None else None
        series.featured = event.open_time
        series.stamps[event.open_time] = Stamp(version, received.entry)
    return series


def _take_answer(state: State, answer: PredictionMade | PredictionFailed, received: Received) -> SymbolState | None:
    """Note that an artifact answered a bar, and queue its prediction. None for an answer that does not count: it is
    not the first of its artifact at this bar or a later one, or the bar was let go."""
    series = state.of(_key(answer))
    frontier = series.frontier
    series.frontier = max(frontier, answer.open_time)
    artifact = (answer.model, answer.artifact.hex())
    before = series.answered(artifact)
    if answer.open_time <= max(before, series.complete):
        return None
    line = series.pending.setdefault(artifact, PendingPredictions())
    line.answered = answer.open_time
    if isinstance(answer, PredictionMade):
        pending = PendingPrediction(received.envelope, received.entry, before, frontier)
        line.queue.append(pending)
        if answer.control_head is not None and answer.open_time > series.featured:
            state.unfeatured.append((pending.at, _key(answer)))
    return series


def _take_decision(state: State, decision: DecisionMade, received: Received) -> SymbolState | None:
    """Keep what is joined with a decision; None for a second decision of a bar."""
    envelope: Envelope[DecisionMade] = received.envelope
    state.issued.take(envelope, received.entry)
    series = state.of(_key(decision))
    if decision.open_time <= series.decided:
        return None
    series.decided = decision.open_time
    if decision.open_time > series.complete:
        series.decisions[decision.open_time] = kept(envelope, received.entry)
    else:
        series.decided_base = decision.open_time
    return series


def _sweep(state: State, now: int) -> Iterator[Encoded]:
    """Look again at what waits for an entry that other symbols' entries show not to come; mark symbols whose bars have
    stopped, and drop them once nothing of them waits or all streams have been read past the mark."""
    read_until = min(state.features_at, state.predictions_at, state.decisions_at)
    for key, series in list(state.series.items()):
        if not series.ended and state.count - series.history.number > stream.EXPIRES_AFTER_BARS:
            series.ended = now + MARGIN_MS
            series.history.ended = True
        yield from _settled(state, series)
        waits = series.history.bars or series.stamps or series.oldest_pending is not None
        if series.ended and (read_until > series.ended or not waits):
            yield from given_up(state, series)
            del state.series[key]
            continue
        series.pending = {
            artifact: line for artifact, line in series.pending.items() if line.queue or line.answered > series.complete
        }
