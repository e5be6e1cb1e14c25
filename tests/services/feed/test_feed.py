"""The feed on a log: exactly once whatever happens, no faster than it is read, one at a time."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.catalogue import partition_of
from schemas.codec import decode
from schemas.market import BarClosed, FundingPublished, ReferenceCopied
from schemas.operations import LogTruncated, OwnerReplaced
from services.feed import main
from services.feed.core import OtherSourceError, RowSource
from services.feed.main import Counts
from shared.bars import Good, RefusedRow, Row, SourceError
from shared.bars.rows import InputRow
from shared.log import Claim, Commit, Committed, GroupView, Log, OwnedError, Owner, Position, StreamKey, SupersededError
from shared.log.memory import MemoryLog
from shared.runtime import loop
from shared.synthetic import SyntheticMarket

pytestmark = pytest.mark.anyio

OWNER = Owner("here", os.getpid(), "feed")
NEIGHBOUR = Owner("here", os.getppid(), "feed")
SYMBOLS = tuple(f"S{n}" for n in range(5))


@dataclass
class Listed:
    """A source of given rows; ``opened`` are the numbers of rows that it was asked to skip."""

    held: Sequence[Row | InputRow]
    name: str = "bars.csv"
    identity: str = "listed"
    opened: list[int] = field(default_factory=list)

    def rows(self, skip: int = 0) -> Iterator[Row | InputRow]:
        self.opened.append(skip)
        return islice(iter(self.held), skip, None)


def rows_with_faults(count: int) -> list[Row]:
    """A market in which every seventh row is bad, and every eleventh comes twice."""
    found: list[Row] = []
    for n, row in enumerate(islice(SyntheticMarket(SYMBOLS, seed=9).rows(), count)):
        assert isinstance(row, Good)
        found.append(RefusedRow("bad_row", "bad", f"f:{n}", "raw", row.bar.symbol) if n % 7 == 3 else row)
        if n % 11 == 5:
            found.append(row)
    return found


ROWS = rows_with_faults(600)


def with_inputs(rows: Sequence[Row]) -> list[Row | InputRow]:
    """The same with funding rates before every fifth bar."""
    found: list[Row | InputRow] = []
    for n, row in enumerate(rows):
        if isinstance(row, Good) and n % 5 == 0:
            bar = row.bar
            event = FundingPublished(symbol=bar.symbol, at=bar.open_time, origin=bar.origin, rate=1e-6 * n)
            found.append(InputRow(event, f"i:{n}"))
        found.append(row)
    return found


MIXED = with_inputs(ROWS)


async def feed(log: Log, source: RowSource, **options: Any) -> Counts:
    """A feed in this process."""
    return await main.feed(loop.Loop(log, "feed", owner=OWNER), source, **options)


async def leave(log: Log, source: Listed) -> None:
    """Feed a part of a source, and stop before its end."""
    stop = anyio.Event()

    class Stopping(Listed):
        def rows(self, skip: int = 0) -> Iterator[Row | InputRow]:
            for number, row in enumerate(super().rows(skip)):
                if number == len(self.held) // 2:
                    stop.set()
                yield row

    await feed(log, Stopping(source.held, source.name, source.identity), partitions=2, window=8, stop=stop)


class Losing(MemoryLog):
    """A server that loses its last commits while the feed runs: it is back as it was ``depth`` commits ago."""

    def __init__(self, losses: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.losses = dict(losses)
        self.images: list[object] = []
        self.commits = 0

    async def commit(self, claim: Claim, commit: Commit) -> Committed:
        done = await super().commit(claim, commit)
        self.images.append(self.image())
        self.commits += 1
        if depth := self.losses.pop(self.commits, 0):
            del self.images[max(len(self.images) - depth, 1) :]
            self.restore(self.images[-1])
        return done


async def market_of(log: Log, partitions: int) -> list[list[bytes]]:
    return [[entry.data for entry in await log.scan(StreamKey("market", p), count=10_000)] for p in range(partitions)]


@settings(max_examples=8)
@given(losses=st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), min_size=1, max_size=3), restart=st.booleans())
async def test_bars_that_the_server_lost_are_sent_again_once_each_and_named(
    losses: list[tuple[int, int]], restart: bool
) -> None:
    golden = MemoryLog()
    log = Losing([])
    for each in (golden, log):
        await feed(each, Listed(ROWS[:50], "former.csv", "former"), partitions=2, window=100)
        if restart:
            await leave(each, Listed(ROWS[:40], "left.csv", "left"))
    log.losses, log.commits, log.images = dict(losses), 0, [log.image()]
    for each in (golden, log):
        with anyio.fail_after(10):
            await feed(each, Listed(ROWS[:150]), partitions=2, window=100, restart=restart)
    assert await market_of(log, 2) == await market_of(golden, 2)
    events = [
        decode("alarms", entry.data).event
        for partition in (0, 1)
        for entry in await log.scan(StreamKey("alarms", partition))
    ]
    alarms = [event for event in events if isinstance(event, LogTruncated)]
    assert alarms
    for alarm in alarms:
        assert (alarm.group, alarm.stream) == ("feed", "market")
        assert "of bars.csv are gone; they are sent again" in alarm.detail


class CrashError(Exception):
    """kill -9."""


class Killed(MemoryLog):
    """Dies at a commit: before it is applied, or after, before the reply."""

    alive_for = 10**9
    applied = False

    async def commit(self, claim: Claim, commit: Commit) -> Committed:
        self.alive_for -= 1
        if self.alive_for < 0:
            if self.applied:
                await super().commit(claim, commit)
            raise CrashError
        return await super().commit(claim, commit)


async def written(log: Log, partitions: int) -> dict[StreamKey, list[bytes]]:
    places = [StreamKey(stream, partition) for stream in ("market", "dead") for partition in range(partitions)]
    return {place: [entry.data for entry in await log.scan(place, count=10**6)] for place in places}


async def undisturbed(
    partitions: int, references: Sequence[str] = (), rows: Sequence[Row | InputRow] = ROWS
) -> dict[StreamKey, list[bytes]]:
    log = MemoryLog()
    await feed(log, Listed(rows), partitions=partitions, references=references)
    return await written(log, partitions)


@pytest.mark.parametrize("partitions", [1, 3])
async def test_every_row_is_a_bar_or_a_dead_letter_once(partitions: int, log: Log) -> None:
    counts = await feed(log, Listed(ROWS), partitions=partitions, window=100)
    found = await written(log, partitions)
    market = [
        decode("market", data).event for place, held in found.items() if place.stream == "market" for data in held
    ]
    dead = [decode("dead", data).event for place, held in found.items() if place.stream == "dead" for data in held]
    assert counts == Counts(len(market), len(dead), 0)
    assert len(market) + len(dead) == len(ROWS)
    bars = {(row.bar.symbol, row.bar.open_time) for row in ROWS if isinstance(row, Good)}
    assert {(bar.symbol, bar.open_time) for bar in market} == bars
    assert len(market) == len(bars)
    assert {letter.reason for letter in dead} == {"bad_row", "duplicate"}


@settings(max_examples=40, deadline=None)
@given(
    partitions=st.integers(1, 3),
    deaths=st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=5),
    window=st.integers(20, 400),
    references=st.sampled_from([(), ("S2",), ("S1", "S4")]),
    inputs=st.booleans(),
)
def test_killed_at_any_commit_it_writes_the_same_bytes(
    partitions: int, deaths: list[tuple[int, bool]], window: int, references: tuple[str, ...], inputs: bool
) -> None:
    rows = MIXED if inputs else ROWS

    async def run() -> None:
        log = Killed()
        for alive_for, applied in deaths:
            log.alive_for, log.applied = alive_for, applied
            try:
                await feed(log, Listed(rows), partitions=partitions, window=window, references=references)
            except CrashError:
                continue
        log.alive_for = 10**9
        await feed(log, Listed(rows), partitions=partitions, window=window, references=references)
        assert await written(log, partitions) == await undisturbed(partitions, references, rows)

    anyio.run(run)


async def test_bars_of_references_come_first_in_every_partition_and_are_counted_once(log: Log) -> None:
    counts = await feed(log, Listed(ROWS), partitions=3, window=100, references=["S2"])
    assert counts == await feed(MemoryLog(), Listed(ROWS), partitions=3)
    for partition, held in enumerate(await market_of(log, 3)):
        events = [decode("market", data).event for data in held]
        kinds = {type(event) for event in events if event.symbol == "S2"}
        assert kinds == {BarClosed if partition == partition_of("S2", 3) else ReferenceCopied}
        times = [event.open_time for event in events if event.symbol == "S2"]
        assert len(set(times)) == len(times) > 100
        read: set[int] = set()
        for event in events:
            if event.symbol == "S2":
                read.add(event.open_time)
            else:
                assert event.open_time in read or event.open_time not in times


async def test_stopped_and_started_it_goes_on_at_the_next_row(log: Log) -> None:
    stop = anyio.Event()

    class Stopping(Listed):
        def rows(self, skip: int = 0) -> Iterator[Row | InputRow]:
            for n, row in enumerate(super().rows(skip)):
                if n == 200:
                    stop.set()
                yield row

    first = await feed(log, Stopping(ROWS), window=40, stop=stop)
    assert 0 < first.sent + first.refused <= 200
    source = Listed(ROWS)
    second = await feed(log, source)
    assert source.opened == [first.sent + first.refused]
    assert second.before == sum(first)
    assert sum(second) == len(ROWS)
    assert await written(log, 1) == await undisturbed(1)


async def test_at_the_end_of_a_source_nothing_is_left_to_do() -> None:
    log = MemoryLog()
    await feed(log, Listed(ROWS), partitions=2)
    assert await feed(log, Listed(ROWS), partitions=2) == Counts(before=len(ROWS))


async def test_a_source_of_any_kind_may_follow_one_that_has_ended() -> None:
    log = MemoryLog()
    assert (await feed(log, SyntheticMarket(bars=3))).sent == 12
    assert (await feed(log, SyntheticMarket(bars=5))).sent == 8
    assert await feed(log, Listed(list(SyntheticMarket(bars=6).rows()))) == Counts(4, 0, 20)


async def test_bars_that_are_skipped_are_counted_where_nothing_else_happens() -> None:
    log = MemoryLog()
    rows = list(SyntheticMarket(SYMBOLS, bars=300).rows())
    await feed(log, Listed(rows))
    assert await feed(log, Listed(rows, identity="other"), window=40) == Counts(0, 0, 1500)


async def test_another_source_is_refused_unless_restart_is_set() -> None:
    log = Killed()
    log.alive_for = 2
    with pytest.raises(CrashError):
        await feed(log, Listed(ROWS), window=40)
    log.alive_for = 10**9
    other = Listed(ROWS, "grown.csv", "other")
    with pytest.raises(OtherSourceError, match=r"bars.csv .* grown.csv is another source"):
        await feed(log, other)
    counts = await feed(log, other, restart=True)
    assert counts.skipped > 0
    market = [decode("market", entry.data).event for entry in await log.scan(StreamKey("market"), count=10**6)]
    assert len(market) == len(set(market)) == len({row.bar for row in ROWS if isinstance(row, Good)})


async def test_a_second_feed_is_refused_and_the_first_goes_on() -> None:
    log = MemoryLog()
    claim = await log.claim("feed", (), 1, NEIGHBOUR)
    with pytest.raises(OwnedError, match="feed"):
        await feed(log, Listed(ROWS), partitions=2)
    await log.renew(claim)
    assert await written(log, 2) == {StreamKey(stream, p): [] for stream in ("market", "dead") for p in (0, 1)}
    # The partition that could be claimed was given back.
    await log.claim("feed", (), 0, NEIGHBOUR)


async def test_a_feed_that_was_replaced_stops_with_an_error() -> None:
    log = MemoryLog()

    class Replaced(Listed):
        def rows(self, skip: int = 0) -> Iterator[Row | InputRow]:
            for n, row in enumerate(super().rows(skip)):
                if n == 300:
                    taken.set()
                yield row

    taken = anyio.Event()

    async def replace() -> None:
        await taken.wait()
        await log.claim("feed", (), 0, NEIGHBOUR, take_over=True)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(replace)
        with pytest.raises(SupersededError, match="belongs to"):
            await feed(log, Replaced(ROWS), window=40)


async def test_a_feed_that_replaces_another_names_it() -> None:
    log = MemoryLog()
    await log.claim("feed", (), 0, NEIGHBOUR)
    await feed(log, Listed(ROWS[:3]), take_over=True)
    (alarm,) = [decode("alarms", entry.data).event for entry in await log.scan(StreamKey("alarms"))]
    assert isinstance(alarm, OwnerReplaced)
    assert (alarm.group, alarm.former, alarm.owner) == ("feed", str(NEIGHBOUR), str(OWNER))


class Watched(MemoryLog):
    """Tells how often its groups were looked at."""

    looks = 0

    async def groups(self, partition: int) -> list[GroupView]:
        self.looks += 1
        return await super().groups(partition)


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.001)


async def test_it_waits_for_the_slowest_reader() -> None:
    log = Watched()
    reader = await log.claim("feature-builder", ("market",), 0, NEIGHBOUR)
    done = anyio.Event()

    async def send() -> None:
        await feed(log, Listed(list(SyntheticMarket(SYMBOLS, bars=40).rows())), window=60)
        done.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        position = Position()
        most = 0
        while not done.is_set():
            enough = log.looks + 2
            await until(lambda enough=enough: log.looks > enough or done.is_set())  # type: ignore[misc]  # bound default
            entries = await log.read({StreamKey("market"): position.id}, count=1000, block_ms=0)
            most = max(most, len(entries))
            if entries:
                after = Position(entries[-1].id, position.seen + len(entries))
                await log.commit(reader, Commit((), {"market": position}, {"market": after}))
                position = after
    assert len(await log.scan(StreamKey("market"), count=1000)) == 200
    assert 0 < most <= 60


async def test_it_waits_while_a_reader_is_not_there_and_stops_when_asked() -> None:
    log = Watched()
    await log.claim("feature-builder", ("market",), 0, NEIGHBOUR)
    stop = anyio.Event()

    async def end() -> None:
        await until(lambda: log.looks > 20)
        stop.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end)
        counts = await feed(log, SyntheticMarket(SYMBOLS), window=50, stop=stop)
    assert counts.sent == 50


async def test_symbols_that_close_together_go_in_one_commit() -> None:
    symbols = tuple(f"S{n:03}" for n in range(100))
    commits: list[int] = []

    class Counted(MemoryLog):
        async def commit(self, claim: Claim, commit: Commit) -> Committed:
            commits.append(len(commit.outputs))
            return await super().commit(claim, commit)

    await feed(Counted(), SyntheticMarket(symbols, bars=7), window=10)
    assert commits == [100] * 7 + [0]


async def test_a_pace_changes_nothing_that_is_written() -> None:
    log = MemoryLog()
    await feed(log, Listed(ROWS), speed=1e6)
    assert await written(log, 1) == await undisturbed(1)


@pytest.mark.parametrize("wrong", [{"speed": 0.0}, {"speed": float("inf")}, {"window": 0}, {"partitions": 0}])
async def test_what_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        await feed(MemoryLog(), Listed(ROWS), **wrong)


async def test_a_source_that_breaks_off_raises_its_own_error() -> None:
    class Broken(Listed):
        def rows(self, skip: int = 0) -> Iterator[Row]:
            yield from islice(super().rows(skip), 20)
            raise SourceError("f.csv.gz: cannot be read on after line 20")

    with pytest.raises(SourceError, match="after line 20"):
        await feed(MemoryLog(), Broken(ROWS))


async def test_a_partition_without_rows_does_not_hold_the_others_back() -> None:
    """Its memo follows from time to time, so that a restart need not read the source from its beginning."""
    log = Killed()
    rows = list(SyntheticMarket(("S0",), bars=12_000).rows())
    log.alive_for = 20
    with pytest.raises(CrashError):
        await feed(log, Listed(rows), partitions=2)
    log.alive_for = 10**9
    source = Listed(rows)
    counts = await feed(log, source, partitions=2)
    assert source.opened == [5000]
    market = [entry for p in (0, 1) for entry in await log.scan(StreamKey("market", p), count=10**6)]
    assert (len(market), counts.refused) == (len(rows), 0)


async def test_it_stays_the_owner_while_there_is_nothing_to_send(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "RENEW_S", 0.001)
    stop = anyio.Event()
    renewed: list[int] = []

    class Renewed(MemoryLog):
        async def renew(self, claim: Claim) -> None:
            await super().renew(claim)
            if await self.scan(StreamKey("market", 0)) or await self.scan(StreamKey("market", 1)):
                renewed.append(claim.partition)
            if len(renewed) > 5:
                stop.set()

    with anyio.fail_after(10):
        counts = await feed(Renewed(), Listed(ROWS[2:]), partitions=2, speed=0.0001, stop=stop)
    assert counts == Counts(2, 1, 0)
    assert set(renewed) == {0, 1}


async def test_a_stop_leaves_every_partition_at_the_same_row() -> None:
    log = MemoryLog()
    stop = anyio.Event()

    class Stopping(Listed):
        def rows(self, skip: int = 0) -> Iterator[Row | InputRow]:
            for n, row in enumerate(super().rows(skip)):
                if n == 700:
                    stop.set()
                yield row

    rows = list(SyntheticMarket(("S0",), bars=2000).rows())
    first = await feed(log, Stopping(rows), partitions=2, stop=stop)
    source = Listed(rows)
    assert first.sent + (await feed(log, source, partitions=2)).sent == 2000
    assert source.opened == [first.sent]
