"""Fold what happens to an exchange besides its bars: interruptions, its clock, the symbols that it lists. Pure."""

from typing import Final, Literal

from schemas.venue import (
    ClockMeasured,
    FeedInterrupted,
    FeedWaiting,
    Interruption,
    StopReason,
    SymbolResumed,
    SymbolStopped,
)
from services.feed.live.core import usable
from services.feed.live.state import Effects, Episode, Live, Rules, SeriesState

DAILY_MS: Final = 23 * 3_600_000
"""A connection that was open for so long was ended by the exchange's daily limit."""
ANNOUNCED: Final = frozenset({1001, 1012, 1013})
"""Closing codes of WebSocket by which a server says that it goes away, restarts, or is busy (RFC 6455, IANA)."""
MOVED_MS: Final = 1_000
LASTING_MS: Final = 60_000
"""An exchange that does not answer for so long is reported before it answers again."""


def interrupted(live: Live, exchange: str, cause: Interruption, at: int, detail: str, *, routine: bool = False) -> None:
    """Note that an interruption began. One that lasts is noted once."""
    live.episodes.setdefault((exchange, cause), Episode(at, routine, detail))


def restored(live: Live, exchange: str, cause: Interruption, at: int) -> Effects:
    """Report an interruption that is over; nothing if there was none."""
    episode = live.episodes.pop((exchange, cause), None)
    live.waiting.discard((exchange, cause))
    if episode is None:
        return Effects()
    over = FeedInterrupted(
        exchange=exchange,
        cause=cause,
        routine=episode.routine,
        symbols=(),
        began=episode.began,
        length_ms=max(at - episode.began, 0),
        detail=episode.detail[:2000],
    )
    return Effects(events=[("", over)])


def lasting(live: Live, exchange: str, at: int) -> Effects:
    """Report, once each, the interruptions of REST that have lasted for ``LASTING_MS``."""
    effects = Effects()
    causes: tuple[Literal["unreachable", "rate_limited"], ...] = ("unreachable", "rate_limited")
    for cause in causes:
        episode = live.episodes.get((exchange, cause))
        if episode is None or (exchange, cause) in live.waiting or at - episode.began < LASTING_MS:
            continue
        live.waiting.add((exchange, cause))
        waiting = FeedWaiting(
            exchange=exchange, cause=cause, began=episode.began, detail=episode.detail[:2000], at=max(at, 0)
        )
        effects.events.append(("", waiting))
    return effects


def is_routine(code: int | None, open_ms: int) -> bool:
    """Return whether a connection ended as exchanges end them every day, or announce it."""
    return code in ANNOUNCED or open_ms >= DAILY_MS


def measured(live: Live, exchange: str, offset_ms: int, error_ms: int, server_ms: int, rules: Rules) -> Effects:
    """Note the offset of an exchange's clock to the server's, measured at ``server_ms`` of the server's. An answer that
    took long says less than the one before."""
    clock, at = live.clocks[exchange], server_ms + offset_ms
    if clock.measured_at is not None and error_ms > max(rules.clock_ms // 10, 2 * clock.error_ms):
        return Effects()
    clock.offset_ms, clock.error_ms, clock.measured_at = offset_ms, error_ms, at
    good = usable(clock, rules, at)
    if clock.reported is not None:
        offset, was_good = clock.reported
        if was_good == good and abs(offset - offset_ms) < MOVED_MS:
            return Effects()
    clock.reported = (offset_ms, good)
    detail = "" if good else f"more than {rules.clock_ms} ms apart: no bar is called live"
    return Effects(
        events=[
            (
                "",
                ClockMeasured(
                    exchange=exchange, offset_ms=offset_ms, error_ms=error_ms, usable=good, detail=detail, at=max(at, 0)
                ),
            )
        ]
    )


def listed(state: SeriesState, reason: StopReason | None, detail: str, at: int) -> Effects:
    """Note whether the exchange lists a symbol: ``reason`` says why it is not read, None that it is."""
    series = state.series
    if reason is None and state.stopped in {"not_listed", "not_trading"}:
        state.stopped, state.subscribed_at = None, None
        return Effects(events=[(series.symbol, SymbolResumed(series.exchange, series.symbol, at))])
    if reason is None or state.stopped:
        return Effects()
    state.stopped = reason
    stop = SymbolStopped(
        exchange=series.exchange,
        symbol=series.symbol,
        market=series.market,
        reason=reason,
        detail=detail[:2000],
        at=at,
    )
    return Effects(events=[(series.symbol, stop)])
