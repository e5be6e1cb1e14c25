"""Describe the files of bars that programs and exchanges write: one short description for each format.

A description says what a file of its format holds, and what it leaves open. What it leaves open is asked for
(``shared.bars.columns``). The sources of these facts are in ``docs/reference/bar-files.md``.
"""

import re
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

Container = Literal["text", "json"]
Choice = Callable[[str], str | None]
"""A function that returns the column of the volume for a symbol; None if the symbol does not show it."""


FURTHER: Final = {
    "trades": ("count", "number_of_trades", "trades"),
    "quote_volume": ("quote_volume", "quote_asset_volume", "vol_quote"),
    "taker_volume": ("taker_buy_volume", "taker_buy_base_asset_volume", "taker_buy_base_volume", "taker_volume"),
}
"""The further fields of a bar, in this order, and the names of their columns: number of trades, volume in the quote
currency, and the part of the volume that takers bought."""
Further = tuple[int | None, int | None, int | None]


class Named(NamedTuple):
    """A format with names for its columns, in lower case, with underscores. ``needs`` are those that no other program
    writes. ``times`` are its time, or its date and its time of day. ``local``: its times have no zone and are not UTC.
    """

    program: str
    needs: frozenset[str]
    times: tuple[str, ...]
    volumes: tuple[str, ...]
    volume: Choice
    symbol: str | None = None
    closed: str | None = None
    local: str = ""


class Positional(NamedTuple):
    """A format without names: rows of ``width`` columns, counted from 0. ``unit``: the units of its times; empty for
    text. ``prices`` are open, high, low, close; ``further``: see ``FURTHER``. ``last_open``: its last row is a bar
    that is not closed yet. ``certain``: no other format looks like it, whatever its prices are."""

    program: str
    container: Container
    width: int
    unit: tuple[str, ...]
    prices: tuple[int, int, int, int] = (1, 2, 3, 4)
    volume: int | None = 5
    further: Further = (None, None, None)
    time: int = 0
    clock: int | None = None
    close_time: int | None = None
    closed: int | None = None
    whole: int | None = None
    certain: bool = False
    local: str = ""
    last_open: bool = False
    choose_volume: Choice | None = None
    file_name: re.Pattern[str] | None = None


class Envelope(NamedTuple):
    """A JSON object around rows: ``keys`` it has, the ``path`` to its rows (``*``: the only key with a list), the path
    to the symbol. ``rows``: None if rows are objects with names."""

    program: str
    keys: frozenset[str]
    path: tuple[str, ...]
    rows: Positional | None = None
    symbol: tuple[str, ...] = ()


def okx_volume(symbol: str) -> str | None:
    """Return the column of the volume in units of the asset: ``vol`` of a spot market. Of a derivative it is a number
    of contracts."""
    return "vol" if symbol.count("-") == 1 else None


def is_coin_margined(symbol: str) -> bool:
    """Return whether a symbol is that of a COIN-M contract of Binance: what its files call the quote volume is in the
    asset."""
    return re.fullmatch(r"[A-Z0-9]+USD_(PERP|\d{6})", symbol) is not None


def _asked(_: str) -> None:
    return None


BROKER: Final = "of the broker's server, commonly two or three hours east of UTC"
BYBIT: Final = "of the archive, which has been found three hours east of UTC"
_MINUTES: Final = r"(?P<symbol>[A-Z0-9]+)_(?P<minutes>\d{1,4})"

NAMED: Final = (
    Named(
        "MetaTrader 5",
        frozenset(("date", "tickvol", "vol", "spread")),
        ("date", "time"),
        ("tickvol", "vol"),
        _asked,
        local=BROKER,
    ),
    Named(
        "OKX",
        frozenset(("instrument_name", "open_time", "vol", "vol_ccy", "vol_quote")),
        ("open_time",),
        ("vol", "vol_ccy", "vol_quote"),
        okx_volume,
        symbol="instrument_name",
        closed="confirm",
    ),
)

KLINES: Final = Positional("Binance", "text", 12, ("s", "ms", "us"), further=(8, 7, 9), close_time=6, certain=True)
KRAKEN: Final = Positional(
    "Kraken",
    "text",
    7,
    ("s",),
    further=(6, None, None),
    whole=6,
    file_name=re.compile(_MINUTES + r"\.(?:csv|csv\.gz|zip)"),
)
METATRADER_4: Final = Positional(
    "MetaTrader 4", "text", 7, (), (2, 3, 4, 5), 6, time=0, clock=1, certain=True, local=BROKER
)
BYBIT_ARCHIVE: Final = Positional(
    "Bybit, for MetaTrader", "text", 6, (), local=BYBIT, file_name=re.compile(_MINUTES + r"_\d{4}-\d\d-\d\d_.*")
)
KLINES_JSON: Final = KLINES._replace(container="json")
CCXT: Final = Positional("ccxt or freqtrade", "json", 6, ("ms",))
COINBASE: Final = Positional("Coinbase Exchange", "json", 6, ("s",), (3, 2, 1, 4))
BYBIT_LIST: Final = Positional("Bybit", "json", 7, ("ms",), certain=True)
OKX_LIST: Final = Positional(
    "OKX",
    "json",
    9,
    ("ms",),
    volume=None,
    further=(None, 7, None),
    closed=8,
    certain=True,
    choose_volume=lambda name: okx_volume(name) and "6",
)
KRAKEN_LIST: Final = Positional(
    "Kraken", "json", 8, ("s",), volume=6, further=(7, None, None), certain=True, last_open=True
)

POSITIONAL: Final = (KLINES, KRAKEN, METATRADER_4, BYBIT_ARCHIVE, KLINES_JSON, CCXT, COINBASE)
"""The formats that are recognised by their rows alone."""

ENVELOPES: Final = (
    Envelope("Bybit", frozenset(("retCode", "result")), ("result", "list"), BYBIT_LIST, ("result", "symbol")),
    Envelope("OKX", frozenset(("code", "data")), ("data",), OKX_LIST),
    Envelope("Kraken", frozenset(("error", "result")), ("result", "*"), KRAKEN_LIST),
    Envelope("Coinbase Advanced Trade", frozenset(("candles",)), ("candles",)),
    Envelope("Bitstamp", frozenset(("data",)), ("data", "ohlc"), symbol=("data", "pair")),
)
