"""Parse file names: ``spot_BTCUSDT-1h-2024-12.csv.gz`` is symbol BTCUSDT, interval one hour."""

import re
from typing import Final, NamedTuple

from shared.bars.rows import SourceError

UNITS: Final = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_INTERVAL: Final = r"\d{1,4}(?:s|mo|m|h|d|w|M)"
# A symbol is all that is upper case before the interval: BTCUSDT, 1000PEPEUSDT, BTC-USDT, BTC_USDT_USDT, BTC-USDT-SWAP.
# A part of it would be another symbol, so nothing upper case may precede it, whatever separates them (BTC_USDT:USDT,
# BTCUSDT.P, BTC%2FUSDT, BTC - USDT). A part of digits alone may be a date.
_NAME: Final = re.compile(
    rf"(?<![A-Z0-9])(?P<symbol>(?=\d*[A-Z])[A-Z0-9]+(?:[-_][A-Z0-9]*[A-Z][A-Z0-9]*){{0,3}})"
    rf"[-_](?P<interval>{_INTERVAL})(?![A-Za-z0-9])"
)
_CONTINUES: Final = re.compile(r"[A-Z0-9][^A-Za-z0-9]*$")
"""The end of what precedes a part of a name."""
_CHART: Final = re.compile(
    r"[A-Z0-9]+_(?P<symbol>[A-Z0-9.]+), (?P<interval>\d*[A-Z]?)(?:_[0-9a-f]{5})?(?: \(\d+\))?\.csv"
)
"""The names of TradingView: ``BINANCE_BTCUSDT, 60.csv`` is minutes, ``1D`` days, ``30S`` seconds."""
_CHART_UNITS: Final = {"": "m", "S": "s", "D": "d"}
_TERMINAL: Final = re.compile(r"(?P<symbol>[A-Za-z0-9.]+)_(?P<interval>M\d{1,2}|H\d{1,2}|Daily)_\d{12}_\d{12}\.csv")
"""The names of MetaTrader 5: ``EURUSD_H1_202101040000_202112312300.csv``."""
SYMBOL: Final = re.compile(r"[A-Za-z0-9._:/-]{1,32}")
"""The pattern of ``schemas.common.Symbol``, for ``fullmatch``."""


class SeriesName(NamedTuple):
    """The symbol and the interval in a file name; None if they are not in it."""

    symbol: str | None
    interval_ms: int | None


def from_name(name: str) -> SeriesName:
    """Parse the name of a file, without folders. Raises ``SourceError`` for a weekly or monthly interval."""
    for pattern, interval in ((_CHART, _chart_interval), (_TERMINAL, _terminal_interval), (_NAME, str)):
        match = pattern.search(name) if pattern is _NAME else pattern.fullmatch(name)
        if match is not None and not _CONTINUES.search(name[: match.start("symbol")] if pattern is _NAME else ""):
            try:
                return SeriesName(match["symbol"], parse_interval(interval(match["interval"])))
            except SourceError as error:
                raise SourceError(f"{name}: {error}") from None
    return SeriesName(None, None)


def _chart_interval(text: str) -> str:
    number, unit = text.rstrip("SDWM"), text.lstrip("0123456789")
    return f"{number or 1}{_CHART_UNITS.get(unit, unit)}"


def _terminal_interval(text: str) -> str:
    return "1d" if text == "Daily" else f"{text[1:]}{text[0].lower()}"


def parse_interval(text: str) -> int:
    """Return an interval in ms: ``15m`` is 900000. Raises ``SourceError``, also for weeks and months, which are not
    multiples of a fixed length from 1970 on."""
    match = re.fullmatch(r"([1-9]\d{0,3})([smhd])", text)
    if match is None:
        raise SourceError(
            f"interval {text!r}: expected a whole number of s, m, h or d such as 15m"
            " (weeks and months, 1w, 1mo, 1M, have no fixed grid from 1970 on)"
        )
    span = int(match[1]) * UNITS[match[2]]
    if not 1000 <= span <= 31 * UNITS["d"]:
        raise SourceError(f"interval {text!r}: expected between 1s and 31d")
    return span


def interval_text(interval_ms: int) -> str:
    """Return an interval as text, in the largest unit that divides it: 900000 is ``15m``."""
    for unit, span in reversed(UNITS.items()):
        if interval_ms % span == 0:
            return f"{interval_ms // span}{unit}"
    return f"{interval_ms}ms"
