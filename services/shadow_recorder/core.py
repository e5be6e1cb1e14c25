"""Predictions, decisions, bars and trades in; scores out. Pure; the package's docstring has the rules."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from schemas.codec import Sealed
from schemas.decisions import BallotLate, DecisionMade, FenceClosed, FenceOpened
from schemas.predictions import PredictionFailed, PredictionMade
from schemas.trades import TradeClosed
from services.shadow_recorder.proofs import missing, prove
from services.shadow_recorder.rounds import LATE, Round, Rounds, Series
from services.shadow_recorder.settling import caused, failed, given_up, settle, unscored
from services.shadow_recorder.state import Feed, Line, Memo, State, Waiting
from services.shadow_recorder.trades import settle_trades
from shared.control import fold
from shared.service import Batch, Received

GROUP: Final = "shadow-recorder"
AHEAD: Final = 2048
"""Bars or rounds of one symbol that may wait for what has not been read yet."""
QUEUED: Final = 20_000
"""Predictions that may wait in all, or ``AHEAD`` a line if that is more."""
FORGOTTEN: Final = 1 << 18
"""A symbol without a bar for so many bars of the market is forgotten, as by the feature-builder."""
SWEEP: Final = 4096


class Recorder:
    """The shadow-recorder as the runtime hosts it."""

    group = GROUP
    reads: tuple[str, ...] = ("market", "predictions", "decisions", "trades")
    follows_control = True
    ticks = 0
    rest_ms = 500

    def begin(self, memo: bytes) -> State:
        """See ``state.Memo`` for what a restart goes on from."""
        return State(msgspec.msgpack.decode(memo, type=Memo) if memo else Memo())

    def memo(self, state: State) -> bytes:
        """See ``state.Memo``."""
        return state.memo()

    def since(self, state: State) -> Mapping[str, str]:
        """Each stream from the oldest entry that something still waits with, or may be asked about."""
        return state.since()

    def hold(self, state: State) -> Collection[str]:
        """Streams that are far ahead. A decision waits for its predictions, so these are read on; a
        prediction waits for its decision and for bars, so those are."""
        held = set()
        if any(len(rounds.kept) > LATE + AHEAD for rounds in state.rounds.values()):
            held.add("decisions")
        lines = [line for feed in state.feeds.values() for line in feed.lines.values()]
        if not held and sum(len(line.queue) for line in lines) > max(QUEUED, AHEAD * len(lines)):
            held.add("predictions")
        if any(len(feed.track.times) > LATE + AHEAD for feed in state.feeds.values()) and not _bars_wanted(state):
            held.add("market")
        return held

    def absorb(self, state: State, batch: Batch) -> None:
        """Takes in what was answered before."""
        _configure(state, batch)
        for received in batch.events:
            match received.envelope.event:
                case PredictionMade():
                    _queue(state, received)
                case DecisionMade():
                    _round(state, received)
                case BallotLate() as ballot:
                    _rounds(state, (ballot.symbol, ballot.interval_ms)).late(ballot)
                case TradeClosed():
                    if received.entry in state.expected:
                        state.trades[received.entry] = received.envelope
                case PredictionFailed() | FenceClosed() | FenceOpened():
                    pass
                case _:
                    _bar(state, received)

    def handle(self, state: State, batch: Batch) -> Sequence[Sealed]:
        """Takes in commands, then each event; after each, what became complete by it is written."""
        _configure(state, batch)
        outputs: list[Sealed] = []
        for received in batch.events:
            if received.stream == "predictions":
                state.read = received.entry
            outputs += _take(state, received)
        return outputs


def _configure(state: State, batch: Batch) -> None:
    for envelope in batch.control:
        state.panels.control = fold(state.panels.control, envelope.event)


def _take(state: State, received: Received) -> Iterator[Sealed]:
    envelope = received.envelope
    match envelope.event:
        case PredictionMade() as said:
            feed = _queue(state, received)
            if feed is not None:
                voice = (said.model, said.artifact.hex())
                yield from settle(state, feed, voice, feed.lines[voice])
                _forget(state, (said.symbol, said.interval_ms))
            else:
                yield caused(
                    envelope, unscored(state, envelope, "unheard", "it comes behind a later answer, or another")
                )
        case PredictionFailed():
            yield failed(state, envelope)
        case DecisionMade() as decision:
            found = _round(state, received)
            series = (decision.symbol, decision.interval_ms)
            if found is not None:
                yield from missing(state, envelope)
                yield from prove(state, envelope)
                yield from _settle_all(state, series)
                yield from settle_trades(state)
        case BallotLate() as ballot:
            series = (ballot.symbol, ballot.interval_ms)
            _rounds(state, series).late(ballot)
            yield from _settle_all(state, series)
        case FenceClosed() | FenceOpened():
            pass
        case TradeClosed():
            state.trades[received.entry] = envelope
            yield from settle_trades(state)
        case bar:
            if _bar(state, received):
                yield from _settle_all(state, (bar.symbol, bar.interval_ms))
            if state.count % SWEEP == 0:
                yield from _sweep(state)


def _bar(state: State, received: Received) -> bool:
    bar = received.envelope.event
    state.count += 1
    feed = state.feed((bar.symbol, bar.interval_ms, bar.origin == "synthetic"))
    feed.last = state.count
    return feed.track.take(bar.open_time, bar.close, received.entry, state.count)


def _queue(state: State, received: Received) -> Feed | None:
    """Puts a prediction in its line. None for one that comes behind its artifact's answer about the same
    bar, or a later one: the first counts."""
    said = received.envelope.event
    feed = state.feed((said.symbol, said.interval_ms, said.origin == "synthetic"))
    line = feed.lines.setdefault((said.model, said.artifact.hex()), Line())
    if said.open_time <= line.read:
        return None
    line.queue.append(Waiting(received.envelope, received.entry))
    return feed


def _rounds(state: State, series: Series) -> Rounds:
    return state.rounds.setdefault(series, Rounds())


def _round(state: State, received: Received) -> Round | None:
    envelope = received.envelope
    decision = envelope.event
    if decision.control_version > state.panels.control.version:
        raise LookupError(f"control version {decision.control_version} has not been read yet")
    state.recall.take(envelope, received.entry)
    series = (decision.symbol, decision.interval_ms)
    return _rounds(state, series).take(decision, envelope.id, received.entry)


def _settle_all(state: State, series: Series) -> Iterator[Sealed]:
    """Writes what has become complete about one symbol, and lets go what nobody can ask for any more."""
    for synthetic in (False, True):
        feed = state.feeds.get((*series, synthetic))
        if feed is not None:
            for voice, line in sorted(feed.lines.items()):
                yield from settle(state, feed, voice, line)
    _forget(state, series)


def _forget(state: State, series: Series) -> None:
    """Lets rounds and bars go that no prediction can be about any more."""
    feeds = [feed for synthetic in (False, True) if (feed := state.feeds.get((*series, synthetic))) is not None]
    rounds = state.rounds.get(series)
    if rounds is not None and rounds.kept:
        waiting = min((w for feed in feeds if (w := feed.waiting) is not None), default=rounds.newest + 1)
        rounds.forget(waiting, state.read)
    for feed in feeds:
        before = _kept_from(state, feed, rounds)
        if before is not None and feed.track.times and feed.track.times[0] < before:
            feed.track.forget(before)


def _kept_from(state: State, feed: Feed, rounds: Rounds | None) -> int | None:
    """The first bar that may still be asked about; None: all of them."""
    span = LATE * feed.track.interval_ms
    control = state.panels.control
    if feed.heard < 0:
        used = any(slot.champion or slot.shadows for slot in control.models.values())
        return None if used else feed.track.front.at - span
    reached = feed.heard
    if control.voting:
        reached = min(reached, rounds.newest if rounds is not None else -1)
    return min(reached - span, feed.waiting if feed.waiting is not None else reached)


def _bars_wanted(state: State) -> bool:
    """Whether a prediction waits for a bar that has not been read."""
    for feed in state.feeds.values():
        for (_, artifact), line in feed.lines.items():
            if line.queue:
                horizon = max(state.panels.registered(artifact).horizon or 0, feed.track.hour)
                if feed.track.front.at < line.queue[0].open_time + horizon * feed.track.interval_ms:
                    return True
    return False


def _sweep(state: State) -> Iterator[Sealed]:
    """Forgets symbols whose bars have stopped; what waits for one will not come."""
    for key in [key for key, feed in state.feeds.items() if state.count - feed.last > FORGOTTEN]:
        yield from given_up(state, state.feeds.pop(key))
        if not any((*key[:2], synthetic) in state.feeds for synthetic in (False, True)):
            state.rounds.pop(key[:2], None)
