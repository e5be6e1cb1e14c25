"""The ``market`` stream: closed bars, as the feed saw them."""

from msgspec import Struct

from schemas.common import IntervalMs, Milliseconds, Origin, Price, Symbol, Volume


class BarClosed(Struct, frozen=True, array_like=True, tag="bar"):
    """One closed bar of one symbol. ``open_time`` is a multiple of ``interval_ms``; the bar is over
    at ``open_time + interval_ms``. Guaranteed by the feed: low <= open, close <= high, all finite."""

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
