"""The ``market`` stream: closed bars, as the feed read them, copies of those that other partitions read, and inputs.

An input is what is known of a symbol besides its bars: the funding rate, the open interest, the mark and index price,
the top of the book. It has a time and no interval. Its value at a bar is that of the last one whose time is not after
the bar's close and which was read before the bar (``shared.inputs``). One that comes twice counts once."""

from typing import Annotated

from msgspec import Meta, Struct

from schemas.common import IntervalMs, Milliseconds, Origin, Price, Symbol, Volume

Rate = Annotated[float, Meta(gt=-10.0, lt=10.0)]
"""A share of the position's value; 0.0001 is one basis point."""


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


class FundingPublished(Struct, frozen=True, array_like=True, tag="funding"):
    """The funding rate that a perpetual contract settled at ``at``: the share of its position that a holder of a long
    one paid to those of short ones. ``interval_ms`` is the time between two settlements, None where the source does not
    have it."""

    symbol: Symbol
    at: Milliseconds
    origin: Origin
    rate: Rate
    interval_ms: IntervalMs | None = None


class OpenInterestSampled(Struct, frozen=True, array_like=True, tag="interest"):
    """The contracts of a derivative that are open at ``at``: ``amount`` in units of the asset or in contracts, as the
    source counts them, and ``value`` in the quote currency, None where the source does not have it."""

    symbol: Symbol
    at: Milliseconds
    origin: Origin
    amount: Volume
    value: Volume | None = None


class PriceSampled(Struct, frozen=True, array_like=True, tag="price"):
    """Prices of a derivative at ``at`` that are no trades: ``mark``, by which positions are valued, and ``index``, of
    the asset on spot markets. None: it was not sampled."""

    symbol: Symbol
    at: Milliseconds
    origin: Origin
    mark: Price | None = None
    index: Price | None = None


class BookSampled(Struct, frozen=True, array_like=True, tag="book"):
    """The best bid and ask of an order book at ``at``, with their sizes in units of the asset or in contracts."""

    symbol: Symbol
    at: Milliseconds
    origin: Origin
    bid: Price
    bid_size: Volume
    ask: Price
    ask_size: Volume


InputEvent = FundingPublished | OpenInterestSampled | PriceSampled | BookSampled
MarketEvent = BarClosed | ReferenceCopied | FundingPublished | OpenInterestSampled | PriceSampled | BookSampled
