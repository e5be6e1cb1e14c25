"""Find the columns of a file by the names in its header."""

from collections.abc import Callable, Collection, Sequence
from datetime import tzinfo

from shared.bars.columns import (
    PRICE_NAMES,
    SYMBOL_NAMES,
    TIME_NAMES,
    Layout,
    Stated,
    is_clock,
    is_count,
    is_date,
    kind_of,
    moment_of,
    plain,
    usable_further,
    zone_for,
)
from shared.bars.formats import FURTHER, NAMED, Further, Named
from shared.bars.rows import SourceError
from shared.bars.times import whole


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
        dates = [name for name, texts in columns.items() if _mostly(is_date, texts)]
        clocks = [name for name, texts in columns.items() if name not in dates and _mostly(is_clock, texts)]
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


def _is_in_base(name: str, symbol: str) -> bool:
    """Return whether a volume such as ``volume_btc`` is in the first currency of a symbol such as BTC/USD."""
    currency = name.replace("volume", "").strip("_()").upper()
    return bool(currency) and symbol.upper().startswith(currency)


def _mostly(test: Callable[[str], bool], texts: Sequence[str]) -> bool:
    """Return whether more than half of the texts are of a kind: a few rows may be damaged."""
    return 2 * sum(map(test, texts)) > len(texts)


def _agreeing(columns: dict[str, list[str]], dates: Sequence[str], zone: tzinfo | None) -> str | None:
    """Return the column that says all that the others say, if they are the same time in every row: a whole number
    before text, and before its date alone."""
    counts = [name for name, texts in columns.items() if all(map(is_count, texts))]
    exact = [name for name in columns if name not in dates] or list(columns)
    best = next((name for name in exact if name in counts), exact[0])
    times = [moment_of(text, zone) for text in columns[best]]
    for name, texts in columns.items():
        others = [moment_of(text, zone) for text in texts]
        day = 86_400 * 10**6 if name in dates and best not in dates else 1
        both = [(time - time % day, other) for time, other in zip(times, others, strict=True) if time and other]
        if not both or any(time != other for time, other in both):
            return None
    return best
