"""Decide which columns of a file are the time, the prices and the volume: by their names, by a known format, or as the
caller states. What could be one or the other is refused with what to state, since a wrong column is not noticed later.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import UTC, tzinfo
from pathlib import PurePath
from typing import Final, NamedTuple

from shared.bars.formats import FURTHER, NAMED, POSITIONAL, Container, Further, Named, Positional, is_coin_margined
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


def by_names(
    names: Sequence[str], rows: Sequence[Sequence[str]], name: str, stated: Stated, symbol: str | None
) -> Layout | None:
    """Return the columns by their names; None if they name nothing. ``rows`` are the first rows, as text. ``symbol`` is
    that of a file whose rows have none, if it is known.

    Raises ``SourceError`` if some columns are missing, or more than one could be meant."""
    return _Names([plain(each) for each in names], rows, name, stated).layout(symbol)


class _Names:
    """The columns of one file by name."""

    def __init__(self, cells: list[str], rows: Sequence[Sequence[str]], name: str, stated: Stated) -> None:
        self.cells, self.name, self.stated = cells, name, stated
        self.rows = [row for row in rows if len(row) == len(cells)]
        self.said = dict(stated.columns)
        self.known: Named | None = next((each for each in NAMED if each.needs <= set(cells)), None)

    def layout(self, symbol: str | None) -> Layout | None:
        times = [name for name in TIME_NAMES if name in self.cells]
        prices = [name for name in PRICE_NAMES if name in self.cells or name in self.said]
        if not self.said and not prices and not times:
            return None
        self._refuse_missing(times)
        symbols = self._symbol()
        named = {row[symbols].strip().strip('"') for row in self.rows} if symbols is not None else {symbol or ""}
        volume = self._volume(named)
        time, clock = self._time(times)
        first, high, low, last = (self._index(role, role) for role in PRICE_NAMES)
        known = self.known
        texts = [self._text(row, time, clock) for row in self.rows]
        local = known.local if known is not None else ""
        return Layout(
            len(self.cells),
            time,
            (first, high, low, last, volume),
            self._index("close_time", "close_time") if "close_time" in {*self.cells, *self.said} else None,
            symbols,
            clock=clock,
            closed=self.cells.index(known.closed) if known and known.closed in self.cells else None,
            zone=zone_for(texts, self.name, self.stated.zone, local),
            times=kind_of(texts, self.stated.zone),
            program=known.program if known is not None else "columns by name",
            further=self._further(volume, named),
        )

    def _refuse_missing(self, times: list[str]) -> None:
        lacking = [role for role in (*PRICE_NAMES, "volume") if role not in self.said and role not in self.cells]
        if self._volumes() and "volume" in lacking:
            lacking.remove("volume")
        if not times and "time" not in self.said:
            lacking.insert(0, "time")
        if lacking:
            names = [f"one of {', '.join(TIME_NAMES)}" if role == "time" else role for role in lacking]
            raise SourceError(
                f"{self.name}: the header has no {', '.join(names)}; it has {', '.join(self.cells)[:500]}. Where a"
                f" column has another name, state it: --columns {lacking[0]}=NAME"
            )

    def _index(self, role: str, name: str) -> int:
        """Return the column that is stated for a role, or else the one with this name."""
        return self._place(role, self.said.get(role, name))

    def _place(self, role: str, name: str) -> int:
        """Return the column with this name, or with this number from 1. Raises ``SourceError``."""
        places = [index for index, cell in enumerate(self.cells) if cell == plain(name)]
        if not places and whole(name) and 0 < int(name) <= len(self.cells):
            places = [int(name) - 1]
        if len(places) != 1:
            fault = f"the header has {plain(name)} more than once" if places else f"there is no column {name!r}"
            raise SourceError(
                f"{self.name}: {fault}; it has {', '.join(self.cells)[:500]}. State one by its number from 1:"
                f" --columns {role}=NUMBER"
            )
        return places[0]

    def _symbol(self) -> int | None:
        if "symbol" in self.said:
            return self._index("symbol", "")
        if self.known is not None and self.known.symbol is not None:
            return self._index("symbol", self.known.symbol)
        found = [name for name in SYMBOL_NAMES if name in self.cells]
        if "symbol" not in found and len(found) > 1:
            raise self._ambiguous("symbol", found)
        return self._index("symbol", found[0]) if found else None

    def _volumes(self) -> list[str]:
        """Return the columns that may be the volume."""
        if self.known is not None:
            return [name for name in self.known.volumes if name in self.cells]
        return ["volume"] if "volume" in self.cells else [name for name in self.cells if "vol" in name]

    def _volume(self, symbols: Collection[str]) -> int:
        found = self._volumes()
        if "volume" in self.said or found == ["volume"] or (found == ["vol"] and self.known is None):
            return self._index("volume", found[0] if found else "")
        if self.known is not None:
            choices = {self.known.volume(symbol) for symbol in symbols}
        else:
            choices = {name for name in found if symbols and all(_is_in_base(name, symbol) for symbol in symbols)}
        choice = choices.pop() if len(choices) == 1 else None
        if choice is None:
            raise self._ambiguous("volume", found, "" if any(symbols) else "; or state the symbol, if it shows it")
        return self._index("volume", choice)

    def _further(self, volume: int, symbols: Collection[str]) -> Further:
        """Return the columns of the further fields. One that could be any of two is none, unless it is stated."""
        by_name: list[int | None] = []
        for names in FURTHER.values():
            places = [index for index, cell in enumerate(self.cells) if cell in names]
            by_name.append(places[0] if len(places) == 1 else None)
        trades, quote, taker = usable_further(by_name, volume, symbols)
        if self.cells[volume] != "volume":
            taker = None  # a part of another volume
        found = zip(FURTHER, (trades, quote, taker), strict=True)
        trades, quote, taker = (self._index(role, "") if role in self.said else index for role, index in found)
        return trades, quote, taker

    def _time(self, times: list[str]) -> tuple[int, int | None]:
        """Return the column of the time, and that of the time of day if the former is a date alone."""
        said = self.said.get("time")
        if said is not None:
            date, plus, clock = said.partition("+")
            return self._place("time", date), self._place("time", clock) if plus else None
        if self.known is not None:
            date, *clocks = (name for name in self.known.times if name in self.cells)
            return self._place("time", date), self._place("time", clocks[0]) if clocks else None
        places = {name: self._place("time", name) for name in times}
        if len(times) == 1 or not self.rows:
            return places[times[0]], None
        columns = {name: [row[at].strip().strip('"').strip() for row in self.rows] for name, at in places.items()}
        dates = [name for name, texts in columns.items() if _mostly(_is_date, texts)]
        clocks = [name for name, texts in columns.items() if name not in dates and _mostly(_is_clock, texts)]
        together = ""
        if len(dates) == len(clocks) == 1:
            together = f"{dates[0]}+{clocks[0]}"
            pairs = zip(columns.pop(dates[0]), columns.pop(clocks[0]), strict=True)
            columns[together] = [f"{date} {clock}" for date, clock in pairs]
            dates = []
        agreeing = _agreeing(columns, dates, self.stated.zone)
        if agreeing is None:
            raise self._ambiguous("time", times)
        if agreeing == together:
            date, _, clock = together.partition("+")
            return places[date], places[clock]
        return places[agreeing], None

    def _text(self, row: Sequence[str], time: int, clock: int | None) -> str:
        return row[time] if clock is None else f"{row[time]} {row[clock]}"

    def _ambiguous(self, role: str, names: Sequence[str], otherwise: str = "") -> SourceError:
        example = f"{names[0]}+{names[1]}" if role == "time" and {"date", "time"} <= set(names) else names[0]
        also = f" (a date and a time of day together: --columns time={example})" if "+" in example else ""
        return SourceError(
            f"{self.name}: {', '.join(names)} could each be the {role} of a bar, and are not the same; state which:"
            f" --columns {role}={names[0]}{also}{otherwise}"
        )


def usable_further(columns: Sequence[int | None], volume: int, symbols: Collection[str]) -> Further:
    """Return the columns of the further fields without the one that is the volume, and without a quote volume that is
    in another currency."""
    trades, quote, taker = (None if index == volume else index for index in columns)
    return trades, None if any(map(is_coin_margined, symbols)) else quote, taker


def _is_in_base(name: str, symbol: str) -> bool:
    """Return whether a volume such as ``volume_btc`` is in the first currency of a symbol such as BTC/USD."""
    currency = name.replace("volume", "").strip("_()").upper()
    return bool(currency) and symbol.upper().startswith(currency)


def _is_date(text: str) -> bool:
    return len(text) in {8, 10} and not _is_clock(text) and _moment(text) is not None and not _is_count(text)


def _is_clock(text: str) -> bool:
    return _CLOCK.fullmatch(text) is not None


def _mostly(test: Callable[[str], bool], texts: Sequence[str]) -> bool:
    """Return whether more than half of the texts are of a kind: a few rows may be damaged."""
    return 2 * sum(map(test, texts)) > len(texts)


def _is_count(text: str) -> bool:
    return whole(text) and len(text) != len("20210104")


def _moment(text: str, zone: tzinfo | None = None) -> int | None:
    """Return a time in microseconds; None if it is no time."""
    try:
        number = moment(text, zone)
    except ValueError:
        return None
    factors = {"s": 10**6, "ms": 1000, "us": 1}
    unit = unit_of(number)
    return number // 1000 if unit == "ns" else number * factors[unit or "us"]


def _agreeing(columns: dict[str, list[str]], dates: Sequence[str], zone: tzinfo | None) -> str | None:
    """Return the column that says all that the others say, if they are the same time in every row: a whole number
    before text, and before its date alone."""
    counts = [name for name, texts in columns.items() if all(map(_is_count, texts))]
    exact = [name for name in columns if name not in dates] or list(columns)
    best = next((name for name in exact if name in counts), exact[0])
    times = [_moment(text, zone) for text in columns[best]]
    for name, texts in columns.items():
        others = [_moment(text, zone) for text in texts]
        day = 86_400 * 10**6 if name in dates and best not in dates else 1
        both = [(time - time % day, other) for time, other in zip(times, others, strict=True) if time and other]
        if not both or any(time != other for time, other in both):
            return None
    return best


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
    if not first or _is_count(first) or first.removesuffix(".0").isdecimal():
        return ""
    return "text with a zone" if has_zone(first) else f"text in {zone or 'UTC'}"


def by_position(
    rows: Sequence[Sequence[str]], container: Container, name: str, stated: Stated, symbol: str | None
) -> tuple[Layout, Positional | None]:
    """Return the columns of rows without names, as stated or by the only format that they can have, and that format.

    Raises ``SourceError`` with what to state."""
    if stated.columns:
        width = Counter(len(row) for row in rows).most_common(1)[0][0]
        layout = by_names([str(number) for number in range(1, width + 1)], rows, name, stated, stated.symbol)
        assert layout is not None
        return layout._replace(program="columns as stated"), None
    fitting = [form for form in POSITIONAL if form.container == container and fits(form, rows, name)]
    if len(fitting) != 1:
        which = f"could be of {', '.join(form.program for form in fitting)}" if fitting else "are of no known format"
        raise SourceError(
            f"{name}: its rows have no names for their columns and {which}; the first row is {list(rows[0])!r:.200}."
            " State the columns by their numbers: --columns time=1,open=2,high=3,low=4,close=5,volume=6"
        )
    return placed(fitting[0], rows, name, stated, symbol), fitting[0]


def placed(form: Positional, rows: Sequence[Sequence[str]], name: str, stated: Stated, symbol: str | None) -> Layout:
    """Return the columns of a format without names. Raises ``SourceError`` with what to state."""
    volume = form.volume
    if volume is None:
        said = dict(stated.columns).get("volume") or (form.choose_volume(symbol or "") if form.choose_volume else None)
        if said is None or not whole(said) or not 0 < int(said) <= form.width:
            raise SourceError(
                f"{name}: the volume of {form.program} is in contracts for derivatives (column 6), in the asset (7)"
                " and in the quote currency (8); for a spot market column 6 is in the asset. State which:"
                " --columns volume=6"
            )
        volume = int(said) - 1
    first, high, low, last = form.prices
    whole_rows = [row for row in rows if len(row) == form.width]
    texts = [f"{row[form.time]} {row[form.clock]}" if form.clock else row[form.time] for row in whole_rows]
    return Layout(
        form.width,
        form.time,
        (first, high, low, last, volume),
        form.close_time,
        clock=form.clock,
        closed=form.closed,
        zone=zone_for(texts, name, stated.zone, form.local),
        times=kind_of(texts, stated.zone),
        program=form.program,
        last_open=form.last_open,
        further=usable_further(form.further, volume, (symbol or "",)),
    )


def fits(form: Positional, rows: Sequence[Sequence[str]], name: str) -> bool:
    """Return whether rows can be of a format: their number of columns, the unit of their times, and their prices, of
    which exactly one must be the highest and one the lowest of every row. If the file has a name as the format gives
    it, others may be as high or as low."""
    of_width = [row for row in rows if len(row) == form.width]
    if not of_width or not any(_is_time(form, row) for row in of_width):
        return False
    if form.certain:
        return True
    columns = sorted(form.prices)
    try:
        prices = [[float(row[index]) for index in columns] for row in of_width]
        counts = [float(row[form.whole]) for row in of_width] if form.whole is not None else []
    except ValueError:
        return False
    _, high, low, _ = form.prices
    highest, lowest = _extreme(prices, max), _extreme(prices, min)
    named = form.file_name is not None and form.file_name.fullmatch(PurePath(name).name) is not None
    return (
        all(_is_time(form, row) for row in of_width)
        and columns.index(high) in highest
        and columns.index(low) in lowest
        and (named or len(highest) == len(lowest) == 1)
        and all(count.is_integer() for count in counts)
    )


def _extreme(prices: list[list[float]], extreme: Callable[[list[float]], float]) -> list[int]:
    """Return the columns that are the extreme one in every row."""
    return [column for column in range(4) if all(row[column] == extreme(row) for row in prices)]


def _is_time(form: Positional, row: Sequence[str]) -> bool:
    text = row[form.time].strip().strip('"')
    if form.unit:
        return whole(text) and unit_of(int(text[:20])) in form.unit
    if form.clock is not None:
        return _is_date(text) and _is_clock(row[form.clock].strip().strip('"'))
    return len(text) > len("2021.01.04") and text[4:5] == "." and _moment(text, UTC) is not None
