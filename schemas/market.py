"""The ``market`` stream: closed bars, as the feed read them."""

from msgspec import Struct

from schemas.common import IntervalMs, Milliseconds, Origin, Price, Symbol, Volume


class BarClosed(Struct, frozen=True, array_like=True, tag="bar"):
    """One closed bar of one symbol. ``open_time`` is a multiple of ``interval_ms``; the bar ends at
    ``open_time + interval_ms``. The feed guarantees low <= open, close <= high, and finite numbers."""

    symbol: Symbol
    interval_ms: IntervalMs
    open_time: Milliseconds
    open: Price
    high: Price
    low: Price
    close: Price
    volume: Volume
    origin: Origin


MarketEvent = BarClosed
