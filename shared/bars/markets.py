"""Parse the markets of exchanges that a person names: ``binance BTC/USDT 1m 15m as BTCUSDT``."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from shared.bars.names import SYMBOL, parse_interval
from shared.bars.rows import SourceError


class NamedMarket(NamedTuple):
    """One series of an exchange. ``market`` is its name there, ``symbol`` its name on the log."""

    exchange: str
    market: str
    symbol: str
    interval_ms: int


def named_markets(texts: Iterable[str]) -> tuple[NamedMarket, ...]:
    """Return the series that texts name: an exchange of ccxt, a market, its intervals, and perhaps ``as`` and the name
    on the log, which is otherwise that of the market. Raises ``SourceError``."""
    return tuple(series for text in texts for series in _series(text))


def _series(text: str) -> Iterator[NamedMarket]:
    words = text.split()
    symbol = ""
    if len(words) > 2 and words[-2] == "as":
        symbol, words = words[-1], words[:-2]
    if len(words) < 3:
        raise SourceError(
            f"{text!r} does not name a market: expected an exchange, a market and intervals, such as "
            '"binance BTC/USDT 1m 15m"'
        )
    exchange, market, *intervals = words
    symbol = symbol or market
    if not SYMBOL.fullmatch(symbol):
        raise SourceError(f"{text!r}: {symbol!r} is not a symbol: expected at most 32 letters, digits and . _ : / -")
    for interval in intervals:
        yield NamedMarket(exchange, market, symbol, parse_interval(interval))
