"""The ``market`` stream: closed bars, as the feed read them, and copies of those that other partitions read."""

from typing import Annotated

from msgspec import Meta, Struct

from schemas.common import IntervalMs, Milliseconds, Origin, Price, Symbol, Volume


class BarFields(Struct, frozen=True, array_like=True):
    """The fields of a bar, as ``BarClosed`` describes them."""

    symbol: Symbol
    interval_ms: IntervalMs
    open_time: Milliseconds
    open: Price
    high: Price
    low: Price
    close: Price
    volume: Volume
    origin: Origin
    trades: Annotated[int, Meta(ge=0, lt=2**53)] | None = None
    quote_volume: Volume | None = None
    taker_volume: Volume | None = None


class BarClosed(BarFields, frozen=True, array_like=True, tag="bar"):
    """One closed bar of one symbol. ``open_time`` is a multiple of ``interval_ms``; the bar ends at
    ``open_time + interval_ms``. The feed guarantees low <= open, close <= high, and finite numbers.

    The last three fields are what some exchanges add: the number of trades, the volume in the quote currency, and the
    part of ``volume`` that takers bought. A bar that has none of them is written without them."""


class ReferenceCopied(BarFields, frozen=True, array_like=True, tag="reference"):
    """A copy of a bar of another partition, whose symbol is a reference: vectors of the symbols of this partition
    depend on its bars. It is no bar of this partition: it has no features, predictions, scores, orders or money of its
    own here. A copy may come twice; the first one counts."""


MarketEvent = BarClosed | ReferenceCopied
