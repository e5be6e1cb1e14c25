"""The feed as a fold over the rows of a source: bars in their place go out, the rest is set aside."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final, NamedTuple

import msgspec

from schemas.catalogue import partition_of
from schemas.codec import Encoded, UnwritableError, encode
from schemas.market import BarClosed
from schemas.operations import DeadLetter
from shared.bars.rows import Good, RefusedRow, Row, Series, SourceError, misplaced, values
from shared.telemetry.reporting import flags_of

GROUP: Final = "feed"
CUT: Final = 2000
"""Characters of a text that a dead letter keeps."""


class Memo(msgspec.Struct, frozen=True, array_like=True):
    """What a commit says about where the feed stands. ``rows`` of the source named ``source`` are
    handled as far as this partition goes; ``newest`` holds the last bar of each of its series;
    ``floor`` the open time up to which a series was in the market before this source began."""

    source: str
    name: str
    partitions: int
    rows: int
    ended: bool
    newest: tuple[BarClosed, ...]
    floor: tuple[tuple[str, int, int], ...] = ()


@dataclass
class State:
    """One partition of the feed in one source. Changed in place by ``handle``."""

    source: str
    name: str
    partitions: int
    rows: int = 0
    ended: bool = False
    newest: dict[Series, BarClosed] = field(default_factory=dict)
    floor: dict[Series, int] = field(default_factory=dict)


class Told(NamedTuple):
    """What came of some rows. ``passed`` counts bars that the market had before this source began."""

    outputs: tuple[Encoded, ...] = ()
    sent: int = 0
    refused: int = 0
    passed: int = 0


class Numbered(NamedTuple):
    """A row and how many came before it in its source."""

    number: int
    row: Row


class Tick(NamedTuple):
    """Rows that belong together, since their bars close at the same moment (milliseconds; None where
    none of them is a bar)."""

    close: int | None
    rows: tuple[Numbered, ...]


class OtherSourceError(SourceError):
    """The feed stands in the middle of another source."""


def begin(memo: bytes, source: str, name: str, partitions: int, *, restart: bool = False) -> State:
    """The state of a partition whose last commit left ``memo`` (empty at the very first start), in the
    source of this identity. Raises ``OtherSourceError``."""
    if not memo:
        return State(source, name, partitions)
    held = msgspec.msgpack.decode(memo, type=Memo)
    if held.partitions != partitions:
        raise OtherSourceError(
            f"the feed wrote {held.partitions} partitions so far and is now asked for {partitions}; the count of an"
            " installation cannot change"
        )
    newest = {(bar.symbol, bar.interval_ms): bar for bar in held.newest}
    if held.source == source and not restart:
        floor = {(symbol, interval): opened for symbol, interval, opened in held.floor}
        return State(source, name, partitions, held.rows, False, newest, floor)
    if not (held.ended or restart):
        raise OtherSourceError(
            f"the feed stands behind row {held.rows:,} of {held.name}, and {name} is another source: go on with"
            " that one, or say restart to leave it and begin this one (bars that the market has are passed over)"
        )
    floor = {series: bar.open_time for series, bar in newest.items()}
    return State(source, name, partitions, 0, False, newest, floor)


def memo_of(state: State) -> bytes:
    """The state as the bytes of a memo."""
    floor = tuple((symbol, interval, opened) for (symbol, interval), opened in state.floor.items())
    newest = tuple(state.newest.values())
    return msgspec.msgpack.encode(
        Memo(state.source, state.name, state.partitions, state.rows, state.ended, newest, floor)
    )


def ticks(rows: Iterable[Row], skip: int, most: int) -> Iterator[Tick]:
    """The rows behind the first ``skip``, put together by close. A refused row belongs to the bars
    before it. At most ``most`` rows each."""
    close: int | None = None

    def closing(numbered: Numbered) -> int | None:
        nonlocal close
        if isinstance(numbered.row, Good):
            close = numbered.row.bar.open_time + numbered.row.bar.interval_ms
        return close

    for moment, group in groupby((Numbered(skip + n, row) for n, row in enumerate(rows)), key=closing):
        held = tuple(group)
        for start in range(0, len(held), most):
            yield Tick(moment, held[start : start + most])


def split(rows: Sequence[Numbered], partitions: int) -> list[list[Numbered]]:
    """The rows of each partition, by symbol; a row that names none goes by its file."""
    parts: list[list[Numbered]] = [[] for _ in range(partitions)]
    for numbered in rows:
        row = numbered.row
        symbol = row.bar.symbol if isinstance(row, Good) else row.symbol or row.where.rpartition(":")[0]
        parts[partition_of(symbol, partitions)].append(numbered)
    return parts


def handle(state: State, rows: Sequence[Numbered], until: int, share: float = 0.0) -> Told:
    """What to write for these rows of the partition; then ``until`` rows of the source are handled.
    Rows that were handled before are left out. ``share`` of all bars are traced."""
    outputs: list[Encoded] = []
    sent = passed = 0
    for number, row in rows:
        if number < state.rows:
            continue
        sealed = _taken(state, row, share)
        if sealed is None:
            passed += 1
            continue
        outputs.append(sealed)
        sent += sealed.stream == "market"
    state.rows = max(state.rows, until)
    return Told(tuple(outputs), sent, len(outputs) - sent, passed)


def _taken(state: State, row: Row, share: float) -> Encoded | None:
    if isinstance(row, RefusedRow):
        return _dead(row)
    bar = row.bar
    series = (bar.symbol, bar.interval_ms)
    if bar.open_time <= state.floor.get(series, -1):
        return None
    fault = misplaced(state.newest.get(series), bar)
    if fault is not None:
        return _dead(RefusedRow(*fault, row.where, f"{bar.symbol}, {bar.open_time}, {values(bar)}", bar.symbol))
    try:
        sealed = encode("market", bar)
        if flags := flags_of(sealed.envelope.id, share):
            sealed = encode("market", bar, flags=flags)
    except UnwritableError as error:
        return _dead(RefusedRow("bad_row", str(error), row.where, repr(bar), bar.symbol))
    state.newest[series] = bar
    return sealed


def _dead(row: RefusedRow) -> Encoded:
    letter = DeadLetter(GROUP, row.where[-CUT:], row.reason, row.detail[:CUT], row.raw[:CUT])
    return encode("dead", letter)
