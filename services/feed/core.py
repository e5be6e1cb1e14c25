"""Fold the rows of a source: bars that continue their series are written, other rows become dead letters. Pure."""

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final, NamedTuple, Protocol

import msgspec
from msgspec import structs

from schemas.catalogue import partition_of
from schemas.codec import UNDECODABLE, Encoded, UnwritableError, encode
from schemas.market import BarClosed, ReferenceCopied
from schemas.operations import DeadLetter
from shared.bars.rows import Good, InputRow, RefusedRow, Row, Series, SourceError, misplaced, values
from shared.telemetry.reporting import flags_of

GROUP: Final = "feed"
LONGEST_TEXT: Final = 2000
"""Characters of a text that a dead letter keeps."""


class Memo(msgspec.Struct, frozen=True, array_like=True):
    """The progress of a partition as a commit carries it: the first ``rows`` rows of the source whose identity is
    ``source`` are handled. ``newest`` has the last bar of each series; ``floor`` the open time (ms) up to which a
    series was on ``market`` before this source began."""

    source: str
    name: str
    partitions: int
    rows: int
    ended: bool
    newest: tuple[BarClosed, ...]
    floor: tuple[tuple[str, int, int], ...] = ()


@dataclass
class State:
    """The progress of one partition in one source. ``handle`` changes it in place."""

    source: str
    name: str
    partitions: int
    rows: int = 0
    ended: bool = False
    newest: dict[Series, BarClosed] = field(default_factory=dict)
    floor: dict[Series, int] = field(default_factory=dict)


class RowSource(Protocol):
    """A ``BarSource``, or one whose rows are inputs, too (``shared.bars.input_source``)."""

    @property
    def name(self) -> str:
        """See ``BarSource``."""

    @property
    def identity(self) -> str:
        """See ``BarSource``."""

    def rows(self, skip: int = 0) -> Iterator[Row | InputRow]:
        """See ``BarSource``."""


class Handled(NamedTuple):
    """The result of some rows: events to write, and how many bars were sent (copies not counted), rows refused, bars
    skipped because ``market`` had them before this source began, and inputs sent."""

    outputs: tuple[Encoded, ...] = ()
    sent: int = 0
    refused: int = 0
    skipped: int = 0
    inputs: int = 0


class Numbered(NamedTuple):
    """A row, and the number of rows before it in its source. ``copied``: it is of another partition, and written as a
    copy if it is a bar that continues its series."""

    number: int
    row: Row | InputRow
    copied: bool = False


class Tick(NamedTuple):
    """Successive rows whose bars close at the same moment (ms; None if none of them is a bar)."""

    close: int | None
    rows: tuple[Numbered, ...]


class OtherSourceError(SourceError):
    """The feed has not finished the source that it read before."""


def initial(memo: bytes, source: str, name: str, partitions: int, *, restart: bool = False) -> State:
    """Return the state of a partition whose last commit left ``memo`` (empty at the first start), for the source with
    this identity and name. Raises ``OtherSourceError``."""
    if not memo:
        return State(source, name, partitions)
    former = msgspec.msgpack.decode(memo, type=Memo)
    if former.partitions != partitions:
        raise OtherSourceError(
            f"the feed has written {former.partitions} partitions so far and is now asked for {partitions}; the number"
            " of partitions of an installation cannot change"
        )
    newest = {(bar.symbol, bar.interval_ms): bar for bar in former.newest}
    if former.source == source and not restart:
        floor = {(symbol, interval): opened for symbol, interval, opened in former.floor}
        return State(source, name, partitions, former.rows, False, newest, floor)
    if not (former.ended or restart):
        raise OtherSourceError(
            f"the feed has handled {former.rows:,} rows of {former.name} and not reached its end; {name} is another"
            f" source. Feed {former.name} to its end first, or leave it with `conclave feed ... --restart` (bars that"
            " the market stream has are then passed over)"
        )
    floor = {series: bar.open_time for series, bar in newest.items()}
    return State(source, name, partitions, 0, False, newest, floor)


def snapshot(state: State) -> bytes:
    """Return the memo from which ``initial`` restores the state."""
    floor = tuple((symbol, interval, opened) for (symbol, interval), opened in state.floor.items())
    newest = tuple(state.newest.values())
    return msgspec.msgpack.encode(
        Memo(state.source, state.name, state.partitions, state.rows, state.ended, newest, floor)
    )


def finished(memo: bytes) -> str:
    """Return which source was sent to its end, by the snapshot of a partition, as text for people; '' if none was."""
    try:
        former = msgspec.msgpack.decode(memo, type=Memo)
    except UNDECODABLE:
        return ""
    return f"all {former.rows:,} rows of {former.name} are sent" if former.ended else ""


def ticks(rows: Iterable[Row | InputRow], skip: int, most: int, references: Container[str] = ()) -> Iterator[Tick]:
    """Group rows by the close of their bars, at most ``most`` rows in a group. ``rows`` begins after the first ``skip``
    rows of the source. A row that is not a bar belongs to the bars before it. In a group the bars of ``references``
    come first, since vectors of the others read them."""

    def later(numbered: Numbered) -> bool:
        return not (isinstance(numbered.row, Good) and numbered.row.bar.symbol in references)

    close: int | None = None

    def closing(numbered: Numbered) -> int | None:
        nonlocal close
        if isinstance(numbered.row, Good):
            close = numbered.row.bar.open_time + numbered.row.bar.interval_ms
        return close

    for moment, group in groupby((Numbered(skip + n, row) for n, row in enumerate(rows)), key=closing):
        together = tuple(group)
        for start in range(0, len(together), most):
            yield Tick(moment, tuple(sorted(together[start : start + most], key=later)))


def split(rows: Sequence[Numbered], partitions: int, references: Container[str] = ()) -> list[list[Numbered]]:
    """Return the rows of each partition, chosen by symbol; by file for a row that names no symbol. The bars of
    ``references`` are copied into all others."""
    parts: list[list[Numbered]] = [[] for _ in range(partitions)]
    for numbered in rows:
        row = numbered.row
        symbol = row.bar.symbol if isinstance(row, Good) else row.symbol or row.where.rpartition(":")[0]
        own = partition_of(symbol, partitions)
        for partition, part in enumerate(parts):
            if partition == own:
                part.append(numbered)
            elif isinstance(row, Good) and symbol in references:
                part.append(numbered._replace(copied=True))
    return parts


def handle(state: State, rows: Sequence[Numbered], until: int, share: float = 0.0) -> Handled:
    """Return what to write for these rows of the partition, and note that the first ``until`` rows of the source are
    handled. Rows that were handled before are left out. ``share`` of all bars is traced."""
    outputs: list[Encoded] = []
    sent = skipped = copied = inputs = 0
    for number, row, is_copy in rows:
        if number < state.rows:
            continue
        if isinstance(row, InputRow):
            outputs.append(encode("market", row.event))
            inputs += 1
            continue
        if is_copy:
            copies = _copied(state, row)
            copied += len(copies)
            outputs += copies
            continue
        encoded = _handle_row(state, row, share)
        if encoded is None:
            skipped += 1
            continue
        outputs.append(encoded)
        sent += encoded.stream == "market"
    state.rows = max(state.rows, until)
    return Handled(tuple(outputs), sent, len(outputs) - sent - copied - inputs, skipped, inputs)


def _handle_row(state: State, row: Row, share: float) -> Encoded | None:
    """Return the bar or the dead letter to write for a row; None for a bar that ``market`` has."""
    if isinstance(row, RefusedRow):
        return _dead_letter(row)
    bar = row.bar
    series = (bar.symbol, bar.interval_ms)
    if bar.open_time <= state.floor.get(series, -1):
        return None
    fault = misplaced(state.newest.get(series), bar)
    if fault is not None:
        return _dead_letter(RefusedRow(*fault, row.where, f"{bar.symbol}, {bar.open_time}, {values(bar)}", bar.symbol))
    try:
        encoded = encode("market", bar)
        if flags := flags_of(encoded.envelope.id, share):
            encoded = encode("market", bar, flags=flags)
    except UnwritableError as error:
        return _dead_letter(RefusedRow("bad_row", str(error), row.where, repr(bar), bar.symbol))
    state.newest[series] = bar
    return encoded


def _copied(state: State, row: Row) -> Sequence[Encoded]:
    """Return the copy of a bar of another partition; nothing for one that does not continue its series, which has its
    dead letter there."""
    if isinstance(row, RefusedRow):
        return ()
    bar = row.bar
    series = (bar.symbol, bar.interval_ms)
    if bar.open_time <= state.floor.get(series, -1) or misplaced(state.newest.get(series), bar) is not None:
        return ()
    try:
        encoded = encode("market", copy_of(bar))
    except UnwritableError:
        return ()
    state.newest[series] = bar
    return (encoded,)


def copy_of(bar: BarClosed) -> ReferenceCopied:
    """Return the copy of a bar of a reference, for the partitions that are not its own."""
    return ReferenceCopied(**structs.asdict(bar))


def _dead_letter(row: RefusedRow) -> Encoded:
    letter = DeadLetter(
        service=GROUP,
        source=row.where[-LONGEST_TEXT:],
        reason=row.reason,
        detail=row.detail[:LONGEST_TEXT],
        raw=row.raw[:LONGEST_TEXT],
    )
    return encode("dead", letter)
