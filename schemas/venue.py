"""The ``venue`` stream: what happened at the exchanges that live bars come from."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from schemas.common import IntervalMs, Milliseconds, Name, Price, Symbol, Text, Volume

HoleReason = Literal["no_trades", "not_published", "off_grid", "cut", "refused", "history_ended"]
"""Why an exchange has no bar: it publishes none for a time without trades; it published none, though it publishes
empty ones; its row was off the grid, shorter than the interval, or not a valid bar; its history begins later."""

Interruption = Literal["disconnected", "subscription_lost", "silent", "unreachable", "rate_limited"]
"""What kept an exchange from sending: the connection ended; one subscription brought nothing, or all did, though there
were trades; REST did not answer; REST refused for the number of requests."""

StopReason = Literal["not_listed", "not_trading", "ambiguous_times", "no_interval"]


class BarValues(Struct, frozen=True):
    """The content of a bar, without its place."""

    open: Price
    high: Price
    low: Price
    close: Price
    volume: Volume
    trades: Annotated[int, Meta(ge=0, lt=2**53)] | None = None
    quote_volume: Volume | None = None
    taker_volume: Volume | None = None


class BarRevised(Struct, frozen=True, tag="bar.revised"):
    """An exchange changed a bar after its close. Decisions were made on ``first``, which stays on ``market``.
    ``revised`` is the later content, and ``fields`` names what differs. After another revision ``first`` is the content
    of the revision before. ``at`` is the exchange's time at which it was noticed."""

    exchange: Name
    symbol: Symbol
    interval_ms: IntervalMs
    open_time: Milliseconds
    first: BarValues
    revised: BarValues
    fields: tuple[str, ...]
    at: Milliseconds


class BarsAbsent(Struct, frozen=True, tag="bars.absent"):
    """The exchange has no bars of ``count`` successive intervals, the first of which opened at ``first``. Nothing is
    written in their place. ``policy`` is what the settings say of intervals without trades at this exchange: ``empty``
    bars, or no bars (``none``)."""

    exchange: Name
    symbol: Symbol
    interval_ms: IntervalMs
    first: Milliseconds
    count: Annotated[int, Meta(ge=1)]
    reason: HoleReason
    policy: Literal["empty", "none"]
    detail: Text
    at: Milliseconds


class FeedInterrupted(Struct, frozen=True, tag="feed.interrupted"):
    """Something kept an exchange from sending, from ``began`` for ``length_ms``. Written when it is over. ``symbols``
    names whom it concerned; empty: the whole exchange. ``routine``: the exchange announces such ends, or makes one
    every day."""

    exchange: Name
    cause: Interruption
    routine: bool
    symbols: tuple[Symbol, ...]
    began: Milliseconds
    length_ms: Milliseconds
    detail: Text


class FeedWaiting(Struct, frozen=True, tag="feed.waiting"):
    """REST of an exchange has not answered since ``began``, or has refused for the number of requests, and still does,
    so no bars come from there. Written once, when it has lasted for a minute; ``FeedInterrupted`` follows when it is
    over. ``at`` is the exchange's time, as far as it is known."""

    exchange: Name
    cause: Literal["unreachable", "rate_limited"]
    began: Milliseconds
    detail: Text
    at: Milliseconds


class SymbolStopped(Struct, frozen=True, tag="symbol.stopped"):
    """No more bars of a symbol are read: it is no longer listed under this name, trading is halted, or its rows cannot
    be used. Other symbols go on. ``market`` is its name at the exchange."""

    exchange: Name
    symbol: Symbol
    market: Text
    reason: StopReason
    detail: Text
    at: Milliseconds


class SymbolResumed(Struct, frozen=True, tag="symbol.resumed"):
    """A symbol is traded again under its name, and its bars are read on from the last one written."""

    exchange: Name
    symbol: Symbol
    at: Milliseconds


class ClockMeasured(Struct, frozen=True, tag="clock.measured"):
    """The exchange's clock is ``offset_ms`` ahead of the log server's (slow, if negative), give or take ``error_ms``.
    Bars are called live only while ``usable``. Written at the first measurement, when ``usable`` changes, and when the
    offset has moved by a second."""

    exchange: Name
    offset_ms: int
    error_ms: Annotated[int, Meta(ge=0)]
    usable: bool
    detail: Text
    at: Milliseconds


VenueEvent = BarRevised | BarsAbsent | FeedInterrupted | FeedWaiting | SymbolStopped | SymbolResumed | ClockMeasured
