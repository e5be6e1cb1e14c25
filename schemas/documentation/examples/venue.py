"""Examples of what happens at an exchange."""

from collections.abc import Iterator

from schemas.codec import Encoded, encode
from schemas.documentation.examples.values import MINUTE, OPEN
from schemas.venue import (
    BarRevised,
    BarsAbsent,
    BarValues,
    ClockMeasured,
    FeedInterrupted,
    FeedWaiting,
    SymbolResumed,
    SymbolStopped,
)


def venue() -> Iterator[Encoded]:
    """Yield a revision, a hole, an interruption, a wait, a symbol that stopped and resumed, and a clock."""
    first = BarValues(open=37_000.5, high=37_012.25, low=36_990.0, close=37_005.75, volume=12.5, trades=301)
    revised = BarValues(open=37_000.5, high=37_012.25, low=36_990.0, close=37_005.75, volume=12.75, trades=304)
    yield encode(
        "venue",
        BarRevised(
            exchange="binance",
            symbol="BTC/USDT",
            interval_ms=MINUTE,
            open_time=OPEN,
            first=first,
            revised=revised,
            fields=("volume", "trades"),
            at=OPEN + 5 * MINUTE,
        ),
    )
    yield encode(
        "venue",
        BarsAbsent(
            exchange="binance",
            symbol="BTC/USDT",
            interval_ms=MINUTE,
            first=OPEN,
            count=3,
            reason="not_published",
            policy="empty",
            detail="3 pages in a row went on without them",
            at=OPEN + 4 * MINUTE,
        ),
    )
    yield encode(
        "venue",
        FeedInterrupted(
            exchange="binance",
            cause="disconnected",
            routine=True,
            symbols=(),
            began=OPEN,
            length_ms=1_200,
            detail="the connection was open for 24 hours",
        ),
    )
    yield encode(
        "venue",
        FeedWaiting(
            exchange="binance",
            cause="unreachable",
            began=OPEN,
            detail="RequestTimeout: binance GET https://api.binance.com/api/v3/time",
            at=OPEN + MINUTE,
        ),
    )
    yield encode(
        "venue",
        SymbolStopped(
            exchange="binance",
            symbol="LUNA/USDT",
            market="LUNA/USDT",
            reason="not_trading",
            detail="the exchange lists it as not active",
            at=OPEN,
        ),
    )
    yield encode("venue", SymbolResumed("binance", "LUNA/USDT", OPEN + MINUTE))
    yield encode(
        "venue",
        ClockMeasured(exchange="binance", offset_ms=-38, error_ms=12, usable=True, detail="", at=OPEN),
    )
