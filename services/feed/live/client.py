"""One exchange, through ccxt: its markets, its time, pages of bars, and rows of its streams."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import anyio

from services.feed.live.inputs import Ask, Reading
from services.feed.live.parts import part_of
from services.feed.live.state import Candle, LiveSeries, Read
from shared.bars.names import interval_text
from shared.bars.rows import SourceError
from shared.distribution import install_command
from shared.exchanges import TIMEOUT_S, UnreachableError, asked, turned
from shared.inputs.kinds import Kind

EXTRAS: Final[Mapping[str, tuple[int | None, int | None, int | None, int | None]]] = {
    "binance": (8, 7, 9, 6),
    "binanceus": (8, 7, 9, 6),
    "binanceusdm": (8, 7, 9, 6),
    "bybit": (None, 6, None, None),
    "okx": (None, 7, None, None),
    "kraken": (7, None, None, None),
}
"""Where a row of an exchange has the number of trades, the quote volume, the part that takers bought, and the last
millisecond of the bar. Of ccxt's own fields a row has six."""
OPENS: Final = frozenset({*EXTRAS, "bitget", "bitstamp", "coinbase", "gate", "htx", "kucoin", "mexc"})
"""Exchanges whose rows have the open time of their bar, as ccxt documents it."""


class ClosedError(Exception):
    """A stream ended. ``code`` is that of WebSocket, None if there was none."""

    def __init__(self, detail: str, code: int | None) -> None:
        super().__init__(detail)
        self.code = code


class Listing(NamedTuple):
    """A market as the exchange lists it now."""

    market: str
    active: bool


class ExchangeClient(Protocol):
    """One exchange. Methods raise ``BusyError`` and ``UnreachableError``; ``next_rows`` raises ``ClosedError``."""

    async def markets(self) -> dict[str, Listing]:
        """Return all markets, as they are listed now."""

    def intervals(self) -> Sequence[str]:
        """Return the intervals that the exchange has, as text. A series of another one is asked for by its longest part
        among them (``parts``)."""

    async def time_ms(self) -> int:
        """Return the exchange's time."""

    async def page(self, read: Read) -> tuple[Candle, ...]:
        """Return the answer to a read."""

    async def next_rows(self, series: LiveSeries) -> Sequence[Candle]:
        """Wait for rows of a stream, and return them. The first call subscribes."""

    def offers(self, kind: Kind, market: str) -> bool:
        """Return whether the exchange has an input of a market. Its markets must have been read."""

    async def sample(self, kind: Kind, market: str) -> Reading:
        """Return what an input is now."""

    async def published(self, ask: Ask) -> Sequence[Reading]:
        """Return what was published of an input."""

    async def drop(self, series: LiveSeries | None) -> None:
        """Forget the subscription of a series, or the connection (None), so that the next call makes it again."""

    async def close(self) -> None:
        """Close all connections."""


PAGES: Final[Mapping[str, int]] = {"okx": 300, "kraken": 700}
"""The most rows of a page, where that is less than ``PAGE``."""
PAGE: Final = 500
FUNDING_ROWS: Final = 100
LEVELS: Final = 5
REQUESTS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "funding": ("fetchFundingRateHistory",),
    "open_interest": ("fetchOpenInterest", "fetchOpenInterestHistory"),
    "mark": ("fetchMarkOHLCV",),
    "index": ("fetchIndexOHLCV",),
    "book": ("fetchOrderBook",),
}
"""The requests of ccxt by which an input is read."""
OPEN_INTEREST: Final[Mapping[str, int]] = {"binance": PAGE, "binanceusdm": PAGE, "bybit": 200, "okx": 100}
"""Exchanges that count the open interest in the same unit now and in what they published, and the most rows of a page
of it. Bybit does so for linear contracts."""
PRICE_ROWS: Final[Mapping[str, int]] = {"okx": 100}
"""The most rows of a page of mark or index prices, where that is less than ``PAGE``."""


def open_client(
    exchange: str,
    markets: Iterable[str],
    *,
    local: str = "",
    open_stamped: bool = False,
    end_stamped: bool = False,
) -> "CcxtVenue":
    """Return an exchange by its name in ccxt. ``local``: the address of a local exchange that is asked in its place.
    ``open_stamped``, ``end_stamped``: what a person states of the times of its rows. Raises ``SourceError`` if ccxt is
    not installed or does not have it."""
    try:
        from ccxt import pro  # noqa: PLC0415  # half a second to import, and an extra
    except ImportError as error:
        raise SourceError(
            f"bars of {exchange} need ccxt, which is not installed ({error}): {install_command('exchange')}"
        ) from None
    if exchange not in pro.exchanges:
        raise SourceError(f"ccxt has no streams of an exchange {exchange!r}; it has {', '.join(pro.exchanges)}")
    if exchange not in OPENS and not open_stamped and not end_stamped:
        raise SourceError(
            f"whether rows of {exchange} have the time of a bar's open or of its end is not known; compare one with its"
            f' web page, and state open_stamped = ["{exchange}"] or end_stamped = ["{exchange}"] in [exchange]'
        )
    return CcxtVenue(getattr(pro, exchange), exchange, list(markets), local, end_stamped=end_stamped)


class CcxtVenue:
    """An exchange of ccxt. See ``ExchangeClient``."""

    def __init__(self, kind: Any, name: str, markets: Sequence[str], local: str, *, end_stamped: bool) -> None:
        self._name = name
        self._end_stamped = end_stamped
        self._columns = EXTRAS.get(name, (None, None, None, None))
        self._client = _with_all_columns(kind)({"enableRateLimit": True, "timeout": int(TIMEOUT_S * 1000)})
        self._client.has["fetchCurrencies"] = False
        if name == "binance":
            linear = any(":" in market for market in markets)
            spot = any(":" not in market for market in markets)
            types = [kind for kind, wanted in (("spot", spot), ("linear", linear)) if wanted]
            self._client.options["fetchMarkets"] = {"types": types}
        if local:
            self._client.urls["api"] = turned(self._client.urls["api"], local)
            self._client.enableRateLimit = False

    async def markets(self) -> dict[str, Listing]:
        """See ``ExchangeClient``."""
        loaded = await self._asked(self._client.load_markets(True))
        return {symbol: Listing(symbol, market.get("active") is not False) for symbol, market in loaded.items()}

    def intervals(self) -> Sequence[str]:
        """See ``ExchangeClient``."""
        return list(self._client.timeframes or {})

    async def time_ms(self) -> int:
        """See ``ExchangeClient``."""
        if not self._client.has.get("fetchTime"):
            raise UnreachableError(f"{self._name} has no request for its time")
        return int(await self._asked(self._client.fetch_time()))

    async def page(self, read: Read) -> tuple[Candle, ...]:
        """See ``ExchangeClient``."""
        series, part = read.series, self._part(read.series)
        shift = part if self._end_stamped else 0
        more = {} if read.until is None else {"until": read.until + shift}
        rows = await self._asked(
            self._client.fetch_ohlcv(series.market, interval_text(part), read.since + shift, read.limit, more)
        )
        return tuple(self._candle(row, shift) for row in rows)

    async def next_rows(self, series: LiveSeries) -> Sequence[Candle]:
        """See ``ExchangeClient``."""
        from ccxt.base import errors  # noqa: PLC0415  # an extra

        part = self._part(series)
        shift = part if self._end_stamped else 0
        try:
            rows = await self._client.watch_ohlcv(series.market, interval_text(part))
        except errors.UnsubscribeError:
            return ()
        except (errors.BaseError, OSError) as error:
            code = re.search(r"closing code (\d+)", str(error))
            raise ClosedError(str(error)[:500] or type(error).__name__, int(code[1]) if code else None) from None
        return [self._candle(row, shift) for row in rows]

    def offers(self, kind: Kind, market: str) -> bool:
        """See ``ExchangeClient``."""
        listed = (self._client.markets or {}).get(market) or {}
        has = all(self._client.has.get(name) for name in REQUESTS[kind])
        if kind == "open_interest" and self._name not in OPEN_INTEREST:
            return False
        if kind == "open_interest" and self._name == "bybit" and not listed.get("linear"):
            return False
        return has and (kind == "book" or bool(listed.get("contract")))

    async def sample(self, kind: Kind, market: str) -> Reading:
        """See ``ExchangeClient``."""
        if kind == "book":
            book = await self._asked(self._client.fetch_order_book(market, LEVELS))
            if not book["bids"] or not book["asks"]:
                raise UnreachableError(f"the book of {market} is empty on one side")
            return Reading(book.get("timestamp"), tuple(map(_known, (*book["bids"][0][:2], *book["asks"][0][:2]))))
        if self._name == "bybit":  # its answer for open interest is up to five minutes old
            ticker = await self._asked(self._client.fetch_ticker(market))
            return Reading(ticker.get("timestamp"), (_known((ticker.get("info") or {}).get("openInterest")),))
        found = await self._asked(self._client.fetch_open_interest(market))
        return Reading(found.get("timestamp"), (_known(found.get("openInterestAmount")),))

    async def published(self, ask: Ask) -> Sequence[Reading]:
        """See ``ExchangeClient``."""
        readings: list[Reading] = []
        since = ask.since
        while since <= ask.until:
            page, limit = await self._published(ask, since)
            new = [each for each in page if (each.at or 0) >= max(since, 1)]
            readings += new
            if len(page) < limit or not new:
                break
            since = max(each.at or 0 for each in new) + 1
        return readings

    async def _published(self, ask: Ask, since: int) -> tuple[list[Reading], int]:
        """Return a page of what was published, and how many rows were asked for."""
        client, part = self._client, interval_text(ask.part_ms)
        match ask.kind:
            case "mark" | "index":
                fetch = client.fetch_mark_ohlcv if ask.kind == "mark" else client.fetch_index_ohlcv
                limit = min((ask.until - since) // ask.part_ms + 1, PRICE_ROWS.get(self._name, PAGE))
                opened = since - 1 + (ask.part_ms if self._end_stamped else 0)
                rows = await self._asked(fetch(ask.market, part, opened, limit))
                shift = 0 if self._end_stamped else ask.part_ms
                return [Reading(int(row[0]) + shift, (_known(row[4]),)) for row in rows], limit
            case "funding":
                page = await self._asked(client.fetch_funding_rate_history(ask.market, since, FUNDING_ROWS))
                return _readings(page, "fundingRate"), FUNDING_ROWS
            case _:
                limit = OPEN_INTEREST[self._name]
                page = await self._asked(client.fetch_open_interest_history(ask.market, part, since, limit))
                return _readings(page, "openInterestAmount"), limit

    async def drop(self, series: LiveSeries | None) -> None:
        """See ``ExchangeClient``."""
        if series is not None and self._client.has.get("unWatchOHLCV"):
            with anyio.move_on_after(TIMEOUT_S / 5):
                try:
                    await self._client.un_watch_ohlcv(series.market, interval_text(self._part(series)), {})
                except Exception:  # noqa: S110  # the connection is closed instead
                    pass
                else:
                    return
        for client in list(self._client.clients.values()):
            client.on_error(_dropped())

    async def close(self) -> None:
        """See ``ExchangeClient``."""
        await self._client.close()

    def _part(self, series: LiveSeries) -> int:
        """Return the interval (ms) of the rows that are asked for."""
        return part_of(series.interval_ms, self.intervals()) or series.interval_ms

    async def _asked(self, request: Any) -> Any:
        return await asked(self._client, request)

    def _candle(self, row: Sequence[Any], shift: int) -> Candle:
        """Return a row as numbers. What is missing or not a number is NaN, which the fold refuses."""
        first, high, low, last, volume = (math.nan if cell is None else float(cell) for cell in row[1:6])
        raw: Any = row[6] if len(row) > 6 else None
        cells = raw if isinstance(raw, list | tuple) else ()
        trades, quote, taker, closed = (
            _number(cells[column]) if column is not None and column < len(cells) else None for column in self._columns
        )
        return Candle(
            open_time=int(row[0]) - shift,
            open=first,
            high=high,
            low=low,
            close=last,
            volume=volume,
            trades=None if trades is None else int(trades),
            quote_volume=quote,
            taker_volume=taker,
            close_time=None if closed is None else int(closed) - shift,
        )


def _with_all_columns(kind: Any) -> Any:
    """Return a class of ccxt whose bars have the exchange's own row as a seventh field."""

    class Whole(kind):  # type: ignore[misc]  # a class of ccxt
        def parse_ohlcv(self, ohlcv: Any, market: Any = None) -> list[Any]:
            return [*super().parse_ohlcv(ohlcv, market), ohlcv]

    return Whole


def _number(cell: Any) -> float | None:
    """Return a cell that may be text as a number, None if it is none."""
    try:
        number = float(cell)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _known(cell: Any) -> float:
    """Return a number; NaN, which no event may have, for what is none."""
    return math.nan if cell in (None, "") else float(cell)


def _readings(page: Sequence[Mapping[str, Any]], name: str) -> list[Reading]:
    return [Reading(int(row.get("timestamp") or 0), (_known(row.get(name)),)) for row in page]


def _dropped() -> Exception:
    from ccxt import NetworkError  # noqa: PLC0415  # an extra

    return NetworkError("the connection brought nothing, and is made again")  # type: ignore[no-any-return]
