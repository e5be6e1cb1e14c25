"""Make bars of an interval that an exchange does not have out of shorter ones that it has. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import fsum
from typing import Final

from services.feed.live.state import Candle
from shared.bars.names import interval_text, parse_interval
from shared.bars.rows import SourceError

SUMMED: Final = ("trades", "quote_volume", "taker_volume")


def part_of(interval_ms: int, names: Iterable[str]) -> int | None:
    """Return the longest interval that an exchange has and that divides ``interval_ms``, which may be itself; None if
    there is none. ``names``: its intervals as text; weeks and months are left out."""
    return max((each for each in _lengths(names) if interval_ms % each == 0), default=None)


def _lengths(names: Iterable[str]) -> Iterator[int]:
    for name in names:
        try:
            length = parse_interval(name)
        except SourceError:  # a week, a month
            continue
        if interval_text(length) == name:  # it is asked for by this name
            yield length


def joined(parts: Sequence[Candle], interval_ms: int, part_ms: int) -> list[Candle]:
    """Return the bars whose parts are all there, by time. If a part is there twice, the bar is made of the first rows,
    and a second one of the last rows. ``parts``: closed bars on their own grid, in any order."""
    first: dict[int, dict[int, Candle]] = {}
    again: dict[int, dict[int, Candle]] = {}
    for row in parts:
        slot = row.open_time // interval_ms * interval_ms
        rows = first.setdefault(slot, {})
        if row.open_time in rows:
            again.setdefault(slot, {})[row.open_time] = row
        else:
            rows[row.open_time] = row
    whole = {slot: rows for slot, rows in sorted(first.items()) if len(rows) == interval_ms // part_ms}
    return [
        *(_bar(slot, rows) for slot, rows in whole.items()),
        *(_bar(slot, {**rows, **again[slot]}) for slot, rows in whole.items() if slot in again),
    ]


def _bar(opened: int, rows: Mapping[int, Candle]) -> Candle:
    parts = [rows[each] for each in sorted(rows)]
    trades, quote, taker = (_sum([getattr(part, name) for part in parts]) for name in SUMMED)
    return Candle(
        open_time=opened,
        open=parts[0].open,
        high=max(part.high for part in parts),
        low=min(part.low for part in parts),
        close=parts[-1].close,
        volume=fsum(part.volume for part in parts),
        trades=None if trades is None else int(trades),
        quote_volume=quote,
        taker_volume=taker,
    )


def _sum(values: Sequence[float | None]) -> float | None:
    """Return an exact sum, which does not depend on the order; None if a part lacks the value."""
    known = [value for value in values if value is not None]
    return fsum(known) if len(known) == len(values) else None
