"""Say which columns of a file are the time, the prices and the volume.

``headers`` finds them by names, ``positions`` by a known format; what the caller states counts before both. What could
be one or the other is refused with what to state, since a wrong column is not noticed later.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from datetime import tzinfo
from typing import Final, NamedTuple

from shared.bars.formats import FURTHER, Further, is_coin_margined
from shared.bars.rows import SourceError
from shared.bars.times import has_zone, moment, unit_of, whole

TIME_NAMES: Final[tuple[str, ...]] = (
    "open_time", "timestamp", "datetime", "date", "time", "unix", "start", "start_time", "starttime", "start_at",
)  # fmt: skip
PRICE_NAMES: Final = ("open", "high", "low", "close")
SYMBOL_NAMES: Final = ("symbol", "ticker", "pair", "instrument_name", "instrument", "product_id", "tic")
ROLES: Final = ("time", *PRICE_NAMES, "volume", "close_time", "symbol", *FURTHER)
"""What a column can be stated to be."""
_CLOCK: Final = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2})?|\d{6}")


class Stated(NamedTuple):
    """What the caller states about files: it counts before what they show, and for each of them. ``columns`` are pairs
    of a role (``ROLES``) and a column, by its name or by its number from 1; ``zone`` is that of times without one."""

    symbol: str | None = None
    interval_ms: int | None = None
    columns: tuple[tuple[str, str], ...] = ()
    zone: tzinfo | None = None


NOTHING_STATED: Final = Stated()


class Layout(NamedTuple):
    """The indices of the columns; ``prices`` are open, high, low, close, volume; ``further``: see ``FURTHER``, None
    where there is no such column. ``clock`` is the time of day if ``time`` is the date alone. ``closed``: a column that
    is 1 or true if the bar is closed. ``zone`` is that of times without one. ``skip``: the lines before the first row.
    ``times``: what the times are, if no whole numbers."""

    width: int
    time: int
    prices: tuple[int, int, int, int, int]
    close_time: int | None = None
    symbol: int | None = None
    skip: int = 0
    clock: int | None = None
    closed: int | None = None
    zone: tzinfo | None = None
    delimiter: str = ","
    program: str = "columns by name"
    times: str = ""
    last_open: bool = False
    further: Further = (None, None, None)


def stated_columns(words: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Return the stated columns of ``ROLE=COLUMN`` words, which may be several with commas. Raises ``SourceError``."""
    found: dict[str, str] = {}
    for word in (part for text in words for part in text.split(",")):
        role, _, column = (text.strip() for text in word.partition("="))
        if role not in ROLES or not column or role in found:
            raise SourceError(
                f"columns {word!r}: expected such as time=Date,volume=Volume BTC, each of {', '.join(ROLES)} once, with"
                " the name of a column or its number from 1"
            )
        found[role] = column
    return tuple(sorted(found.items()))


def plain(name: str) -> str:
    """Return the name of a column without what programs write in different ways: ``"<Open Time>"`` is ``open_time``."""
    return name.strip().strip('"').strip().strip("<>").lower().replace(" ", "_")


def usable_further(columns: Sequence[int | None], volume: int, symbols: Collection[str]) -> Further:
    """Return the columns of the further fields without the one that is the volume, and without a quote volume that is
    in another currency."""
    trades, quote, taker = (None if index == volume else index for index in columns)
    return trades, None if any(map(is_coin_margined, symbols)) else quote, taker


def is_date(text: str) -> bool:
    """Return whether a text is a date alone."""
    return len(text) in {8, 10} and not is_clock(text) and moment_of(text) is not None and not is_count(text)


def is_clock(text: str) -> bool:
    """Return whether a text is a time of day alone."""
    return _CLOCK.fullmatch(text) is not None


def is_count(text: str) -> bool:
    """Return whether a text is a time as a whole number, and no date in eight digits."""
    return whole(text) and len(text) != len("20210104")


def moment_of(text: str, zone: tzinfo | None = None) -> int | None:
    """Return a time in microseconds; None if it is no time."""
    try:
        number = moment(text, zone)
    except ValueError:
        return None
    factors = {"s": 10**6, "ms": 1000, "us": 1}
    unit = unit_of(number)
    return number // 1000 if unit == "ns" else number * factors[unit or "us"]


def zone_for(texts: Sequence[str], name: str, zone: tzinfo | None, local: str) -> tzinfo | None:
    """Return the zone of times as text. ``local``: whose time it is, if the format has another than UTC and does not
    say which. Raises ``SourceError`` if a zone is to be stated, or was stated although the times need none."""
    needed = [text for text in texts if not has_zone(text.strip().strip('"'))]
    if zone is not None and texts and not needed:
        raise SourceError(
            f"{name}: its times need no zone (such as {texts[0][:40]!r}); do not state one ({zone}), or state the"
            " columns of another time"
        )
    if local and zone is None:
        raise SourceError(
            f"{name}: its times have no zone, and are {local}; state it: --zone +02:00, --zone Europe/Athens, or --zone"
            " UTC"
        )
    return zone


def kind_of(texts: Sequence[str], zone: tzinfo | None) -> str:
    """Return what times are, if they are no whole numbers: text, and whose."""
    first = next((text.strip().strip('"') for text in texts), "")
    if not first or is_count(first.removesuffix(".0")):
        return ""
    return "text with a zone" if has_zone(first) else f"text in {zone or 'UTC'}"
