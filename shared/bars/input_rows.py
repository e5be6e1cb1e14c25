"""Make events of inputs from the cells of a row, whatever file it is in."""

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from schemas.market import BookSampled, FundingPublished, InputEvent, OpenInterestSampled, PriceSampled
from shared.bars.columns import moment_of
from shared.bars.names import SYMBOL
from shared.bars.rows import InputRow, RefusedRow
from shared.bars.text import MISSING, bare

E = TypeVar("E", FundingPublished, OpenInterestSampled, PriceSampled, BookSampled)
HOUR_MS: Final = 3_600_000


class Timed(NamedTuple):
    """A row, and its time (ms): of a refused row that of the row before it."""

    at: int
    row: InputRow | RefusedRow


class InputFile(NamedTuple):
    """A file of inputs. ``first`` is the earliest time (ms) of its rows, None if it has none. ``rows`` reads them, in
    the order of time."""

    name: str
    program: str
    first: int | None
    rows: Callable[[], Iterator[Timed]]


GROUPS: Final[tuple[tuple[str, ...], ...]] = (
    ("funding_rate",),
    ("open_interest",),
    ("mark_price",),
    ("index_price",),
    ("best_bid_price", "best_bid_qty", "best_ask_price", "best_ask_qty"),
)
"""The fields that are needed for an event."""
OPTIONAL: Final = ("funding_interval_hours", "open_interest_value")
FIELDS: Final = (*chain.from_iterable(GROUPS), *OPTIONAL)


def timed(
    symbol: str | None, time: str, cells: Mapping[str, str], where: str, raw: str, before: int
) -> Iterator[Timed]:
    """Yield the events of a row, or the row as refused. ``cells`` are those of fields, ``before`` is the time of the
    row before it."""
    try:
        at = milliseconds(time)
        if at is None:
            raise ValueError(f"{time[:50]!r} is not a time")
        numbers = {field: number(field, cell) for field, cell in cells.items()}
        events = tuple(_events(str(symbol), at, numbers))
    except ValueError as error:
        yield refused(str(error), symbol, where, raw, before)
        return
    yield from (Timed(at, InputRow(event, where)) for event in events)


def refused(detail: str, symbol: str | None, where: str, raw: str, before: int) -> Timed:
    """Return a row that is refused."""
    named = symbol if symbol is not None and SYMBOL.fullmatch(symbol) else None
    return Timed(before, RefusedRow("bad_row", detail, where, raw[:2000], named))


def milliseconds(text: str) -> int | None:
    """Return a time in milliseconds, None for what is none."""
    moment = moment_of(bare(text))
    return None if moment is None else moment // 1000


def number(field: str, cell: str) -> float | None:
    """Return a number, None for a cell without one. Raises ``ValueError``."""
    if cell.lower() in MISSING:
        return None
    try:
        return float(cell)
    except ValueError:
        raise ValueError(f"{field} is {cell[:50]!r}, expected a number") from None


def _events(symbol: str, at: int, numbers: Mapping[str, float | None]) -> Iterator[InputEvent]:
    """Yield the events of a row. Raises ``ValueError`` for a value out of its limits."""
    where = (symbol, at, "replay")
    rate, amount = numbers.get("funding_rate"), numbers.get("open_interest")
    mark, index = numbers.get("mark_price"), numbers.get("index_price")
    book = [numbers.get(name) for name in GROUPS[-1]]
    if rate is not None:
        hours = numbers.get("funding_interval_hours")
        yield valid(FundingPublished, (*where, rate, None if hours is None else round(hours * HOUR_MS)))
    if amount is not None:
        yield valid(OpenInterestSampled, (*where, amount, numbers.get("open_interest_value")))
    if mark is not None or index is not None:
        yield valid(PriceSampled, (*where, mark, index))
    if None not in book:
        yield valid(BookSampled, (*where, *book))


def valid(kind: type[E], values: tuple[Any, ...]) -> E:
    """Return an event with these values. Raises ``ValueError`` for one out of its limits."""
    try:
        return msgspec.convert((kind.__struct_config__.tag, *values), kind)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at `$[")
        field = int(place.rstrip("]`")) - 1
        raise ValueError(f"{kind.__struct_fields__[field]} is {values[field]}: {what}") from None
