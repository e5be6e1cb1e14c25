"""Which streams are not read for a while, since what they brought waits for the others.

This only paces the recorder: no score depends on it. A stream is slowed down and never stopped. However much waits,
every so many turns all streams are read, so each of them is read to its end whatever the others bring: a worker that is
dead, a symbol that has ended or a decision that is never made delays nothing for good. While such turns help, that is,
while predictions get their scores, there is one after every ``PATIENCE`` turns; where they do not, twice as many turns
pass before the next, up to ``PATIENCE_MOST`` (about 17 minutes where nothing else comes): what nobody can join grows
slowly.
"""

from collections.abc import Collection
from typing import Final

from services.shadow_recorder.state import LATE, PATIENCE, State

AHEAD: Final = 512
"""Bars of one series, beyond ``LATE`` and the longest horizon, that may wait."""
QUEUED: Final = 20_000
"""Predictions that may wait in all, or 128 and the longest horizon for each artifact and series if that is more."""
TRADES: Final = 1000
"""Trades that may wait for their decision."""
PATIENCE_MOST: Final = 4096


def held(state: State) -> Collection[str]:
    """Return the streams that are not to be read this turn."""
    streams = _ahead(state)
    pace = state.pace
    if not streams:
        pace.turns, pace.patience = 0, PATIENCE
        return streams
    pace.turns += 1
    if pace.turns < pace.patience:
        return streams
    helped = state.settled != pace.settled
    pace.turns, pace.settled = 0, state.settled
    pace.patience = PATIENCE if helped else min(2 * pace.patience, PATIENCE_MOST)
    return ()


def _ahead(state: State) -> set[str]:
    """Return the streams that brought more than may wait."""
    series = state.series.values()
    horizon = max(state.configurations.horizon, max((each.history.hour for each in series), default=0))
    longest = LATE + AHEAD + horizon
    lines = [line for each in series for line in each.pending.values() if line.queue]
    crowded = {
        "market": any(len(each.history.times) > longest for each in series),
        "features": any(len(each.stamps) > longest for each in series),
        "decisions": any(len(each.decisions) > longest for each in series),
        "predictions": sum(len(line.queue) for line in lines) > max(QUEUED, (128 + horizon) * len(lines)),
        "trades": len(state.trades) > TRADES,
    }
    return {stream for stream, waits in crowded.items() if waits}
