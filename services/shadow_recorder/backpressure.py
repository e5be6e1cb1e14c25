"""Pause streams whose entries wait for those of other streams.

This sets only the pace of the recorder; no score depends on it. A paused stream is slowed down and never stopped: after
some turns all streams are read once, so each is read to its end whatever the others hold. A dead worker, a symbol that
has ended or a decision that is never made therefore delays nothing for good. All streams are read once after every
``PATIENCE`` turns while this gives scores. If it does not, the number of turns doubles, up to ``PATIENCE_MOST`` (about
17 minutes if no other entries are written), so that entries which cannot be joined accumulate slowly.
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
"""Turns after which all streams are read once, if that gives no scores."""


def paused(state: State) -> Collection[str]:
    """Return the streams that are not to be read this turn."""
    streams = _ahead(state)
    pause = state.pause
    if not streams:
        pause.turns, pause.patience = 0, PATIENCE
        return streams
    pause.turns += 1
    if pause.turns < pause.patience:
        return streams
    helped = state.settled != pause.settled
    pause.turns, pause.settled = 0, state.settled
    pause.patience = PATIENCE if helped else min(2 * pause.patience, PATIENCE_MOST)
    return ()


def _ahead(state: State) -> set[str]:
    """Return the streams of which more entries wait than may."""
    series = state.series.values()
    horizon = max(state.configurations.horizon, max((each.history.hour for each in series), default=0))
    longest = LATE + AHEAD + horizon
    queues = [pending.queue for each in series for pending in each.pending.values() if pending.queue]
    full = {
        "market": any(len(each.history.times) > longest for each in series),
        "features": any(len(each.stamps) > longest for each in series),
        "decisions": any(len(each.decisions) > longest for each in series),
        "predictions": sum(map(len, queues)) > max(QUEUED, (128 + horizon) * len(queues)),
        "trades": len(state.trades) > TRADES,
    }
    return {stream for stream, is_full in full.items() if is_full}
