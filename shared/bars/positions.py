"""Find the columns of rows without names: as they are stated, or by the only format that the rows can have."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC
from pathlib import PurePath

from shared.bars.columns import Layout, Stated, is_clock, is_date, kind_of, moment_of, usable_further, zone_for
from shared.bars.formats import POSITIONAL, Container, Positional
from shared.bars.headers import by_names
from shared.bars.rows import SourceError
from shared.bars.times import unit_of, whole


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
        return is_date(text) and is_clock(row[form.clock].strip().strip('"'))
    return len(text) > len("2021.01.04") and text[4:5] == "." and moment_of(text, UTC) is not None
