"""Fold features, predictions, decisions, bars and trades, and return scores. Pure; the package's docstring has the
rules."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from typing import Final

from schemas.codec import Encoded, Envelope
from schemas.decisions import BallotLate, DecisionMade, FenceClosed, FenceOpened
from schemas.features import BarsMissing, FeatureEvent, FeaturesComputed, FeaturesWithheld
from schemas.market import (
    BarClosed,
    BookSampled,
    FundingPublished,
    OpenInterestSampled,
    PriceSampled,
    ReferenceCopied,
)
from schemas.predictions import PredictionEvent, PredictionFailed, PredictionMade
from schemas.trades import TradeClosed
from services.shadow_recorder import backpressure
from services.shadow_recorder.decisions import MARGIN_MS, kept
from services.shadow_recorder.policies import add_policies
from services.shadow_recorder.proofs import missing, prove
from services.shadow_recorder.retention import drop_complete
from services.shadow_recorder.scoring_readiness import caused, failed, give_up, unheard, write_ready
from services.shadow_recorder.state import (
    PendingPrediction,
    PendingPredictions,
    SeriesKey,
    Stamp,
    State,
    SymbolState,
    decoded,
)
from services.shadow_recorder.trades import join_trades
from shared.labels import stream
from shared.log.leases import id_order
from shared.runtime.service import Batch, Received

GROUP: Final = "shadow-recorder"
SWEEP: Final = 4096
"""After so many bars of the market, every symbol is checked for having ended."""


class Recorder:
    """The core of the shadow-recorder."""

    group = GROUP
    reads: tuple[str, ...] = ("market", "features", "predictions", "decisions", "trades")
    follows_control = True
    ticks = 0
    poll_ms = 500

    def initial(self, memo: bytes) -> State:
        """Return the state that a memo holds (``state.Memo``)."""
        return State(decoded(memo))

    def snapshot(self, state: State) -> bytes:
        """Return the memo (``state.Memo``)."""
        return state.snapshot()

    def replay_from(self, state: State) -> Mapping[str, str]:
        """Return each stream's oldest entry that something may still be joined with."""
        return state.replay_from()

    def paused_streams(self, state: State) -> Collection[str]:
        """Return the streams that are not to be read this turn (``backpressure``)."""
        return backpressure.paused(state)

    def apply(self, state: State, batch: Batch) -> None:
        """Fold commands and events that were handled before."""
        state.configurations.apply(batch.control)
        for received in batch.events:
            match received.envelope.event:
                case FeaturesComputed() | FeaturesWithheld() | BarsMissing() as features:
                    _add_features(state, features, received)
                case PredictionMade() | PredictionFailed() as prediction:
                    _add_prediction(state, prediction, received)
                case DecisionMade() as decision:
                    _add_decision(state, decision, received)
                case TradeClosed():
                    if received.entry in state.expected:
                        state.trades[received.entry] = received.envelope
                case BarClosed() as bar:
                    _add_bar(state, bar, received)
                case BallotLate() | FenceClosed() | FenceOpened() | ReferenceCopied():
                    pass
                case FundingPublished() | OpenInterestSampled() | PriceSampled() | BookSampled():
                    pass
                case other:
                    raise TypeError(f"{GROUP} does not handle {type(other).__name__} on {received.stream}")

    def handle(self, state: State, batch: Batch) -> Sequence[Encoded]:
        """Fold commands, then each event, and return what becomes ready by it."""
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
            yield from _advance(state, _add_features(state, features, received))
            yield from _without_features(state)
        case PredictionMade() as made:
            series = _add_prediction(state, made, received)
            if series is None:
                yield caused(envelope, unheard(state, envelope))
            yield from _advance(state, series or state.of(_key(made)))
        case PredictionFailed() as failure:
            yield failed(state, envelope)
            series = _add_prediction(state, failure, received)
            yield from _advance(state, series or state.of(_key(failure)))
        case DecisionMade() as decision:
            yield from _decided(state, decision, received)
        case BallotLate() | FenceClosed() | FenceOpened():
            yield from join_trades(state)
        case TradeClosed() as trade:
            state.trades[received.entry] = envelope
            yield from join_trades(state, trade.decision if state.issued.find(trade.decision) else None)
        case BarClosed() as bar:
            series = _add_bar(state, bar, received)
            if series is not None:
                series.ended = 0
                series.history.ended = False
                yield from _advance(state, series)
            if state.count % SWEEP == 0:
                yield from _sweep(state, id_order(received.entry)[0])
        case ReferenceCopied() | FundingPublished() | OpenInterestSampled() | PriceSampled() | BookSampled():
            pass
        case other:
            raise TypeError(f"{GROUP} does not handle {type(other).__name__} on {received.stream}")


def _decided(state: State, decision: DecisionMade, received: Received) -> Iterator[Encoded]:
    series = _add_decision(state, decision, received)
    if series is not None:
        yield from missing(state, received.envelope)
        yield from prove(state, received.envelope)
        yield from _advance(state, series)
    yield from join_trades(state, received.envelope.id.hex())


def _advance(state: State, series: SymbolState) -> Iterator[Encoded]:
    """Write the scores of a series that are ready, and drop what is complete."""
    yield from write_ready(state, series)
    drop_complete(state, series)


def _without_features(state: State) -> Iterator[Encoded]:
    """Check again the predictions and decisions whose bar has no features, once ``features`` was read past them."""
    while state.unfeatured and state.unfeatured[0][0] + MARGIN_MS < state.features_at:
        _, key = heappop(state.unfeatured)
        yield from _advance(state, state.of(key))


def _note_place(state: State, received: Received) -> None:
    """Note how far a stream was read that shows which entries will not follow any more."""
    match received.stream:
        case "features":
            state.features_at = id_order(received.entry)[0]
        case "predictions":
            state.predictions_at = id_order(received.entry)[0]
        case "decisions":
            state.decisions_at = id_order(received.entry)[0]
        case _:
            pass


def _key(event: BarClosed | FeatureEvent | PredictionEvent | DecisionMade) -> SeriesKey:
    return event.symbol, event.interval_ms, event.origin == "synthetic"


def _add_bar(state: State, bar: BarClosed, received: Received) -> SymbolState | None:
    """Add a bar to its history. Return its series; None for a bar that is out of order."""
    state.count += 1
    series = state.of(_key(bar))
    added = series.history.append(
        bar.open_time, bar.close, received.entry, state.count, opened=bar.open, volume=bar.volume
    )
    return series if added else None


def _add_features(state: State, event: FeatureEvent, received: Received) -> SymbolState:
    """Keep the stamp of a bar, which is that of its first event on ``features``."""
    series = state.of(_key(event))
    if event.open_time > series.featured:
        version = event.control_version if event.control_head is not None else None
        series.featured = event.open_time
        series.stamps[event.open_time] = Stamp(version, received.entry)
    return series


def _add_prediction(
    state: State, prediction: PredictionMade | PredictionFailed, received: Received
) -> SymbolState | None:
    """Note that an artifact answered a bar, and queue its prediction. Return its series; None for an answer that does
    not count, since it is not the artifact's first at this bar or a later one, or the bar was dropped."""
    series = state.of(_key(prediction))
    frontier = series.frontier
    series.frontier = max(frontier, prediction.open_time)
    artifact = (prediction.model, prediction.artifact.hex())
    before = series.answered(artifact)
    if prediction.open_time <= max(before, series.complete):
        return None
    predictions = series.pending.setdefault(artifact, PendingPredictions())
    predictions.answered = prediction.open_time
    if isinstance(prediction, PredictionMade):
        pending = PendingPrediction(received.envelope, received.entry, before, frontier)
        predictions.queue.append(pending)
        if prediction.control_head is not None and prediction.open_time > series.featured:
            heappush(state.unfeatured, (pending.at, _key(prediction)))
    return series


def _add_decision(state: State, decision: DecisionMade, received: Received) -> SymbolState | None:
    """Keep a decision for the joins. Return its series; None for a second decision about a bar."""
    envelope: Envelope[DecisionMade] = received.envelope
    state.issued.add(envelope, received.entry)
    series = state.of(_key(decision))
    if decision.open_time <= series.decided:
        return None
    series.decided = decision.open_time
    series.unjoined.append(decision.open_time)
    if decision.open_time > series.complete:
        series.decisions[decision.open_time] = kept(envelope, received.entry)
        if add_policies(series, envelope, received.entry) and decision.open_time > series.featured:
            heappush(state.unfeatured, (id_order(received.entry)[0], _key(decision)))
    else:
        series.decided_base = decision.open_time
    return series


def _sweep(state: State, now: int) -> Iterator[Encoded]:
    """Check every series again: entries of other symbols may show that an entry it waits for will not follow. Mark
    symbols whose bars have stopped; drop them once nothing of them waits, or all streams were read past the mark."""
    read_until = min(state.features_at, state.predictions_at, state.decisions_at)
    for key, series in list(state.series.items()):
        if not series.ended and state.count - series.history.number > stream.EXPIRES_AFTER_BARS:
            series.ended = now + MARGIN_MS
            series.history.ended = True
        yield from _advance(state, series)
        waits = series.history.bars or series.stamps or series.oldest_pending is not None
        if series.ended and (read_until > series.ended or not waits):
            yield from give_up(state, series)
            del state.series[key]
            continue
        series.pending = {
            artifact: each for artifact, each in series.pending.items() if each.queue or each.answered > series.complete
        }
