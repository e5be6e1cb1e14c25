"""Bars of an interval that an exchange does not have: each is made of all its parts, once they are closed, or named.

Bar n of 15 minutes has the parts 3n, 3n + 1 and 3n + 2."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.market import BarClosed
from schemas.venue import BarRevised, BarsAbsent, SymbolStopped
from services.feed.live import core
from services.feed.live.parts import joined, part_of
from services.feed.live.state import Candle, Clock, Effects, Live, LiveSeries, Page, Read, Rules

MINUTE = 60_000
PART = 5 * MINUTE
SERIES = LiveSeries("binance", "BTC/USDT", "BTC/USDT", 3 * PART)
BINANCE = ("1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "1d", "3d", "1w", "1M")
PAGES = Rules(page=60)


def candle(n: int, **other: Any) -> Candle:
    price = 10.0 + n % 7
    values = {"open": price, "high": price + 2, "low": price - 1, "close": price + 1, "volume": 1.0 + n / 8, **other}
    return Candle(open_time=n * PART, **values)


class Feed:
    """One series of 15 minutes that is made of bars of 5 minutes; times are in parts."""

    def __init__(self, rules: Rules = PAGES, first: int = 30) -> None:
        self.clock = Clock(measured_at=first * PART)
        self.live = Live(clocks={"binance": self.clock})
        self.state = core.begin(SERIES, rules, (), 0, first * PART)
        self.state.part_ms = PART
        self.live.series[SERIES] = self.state
        self.bars: list[BarClosed] = []
        self.events: list[Any] = []
        self.letters: list[Any] = []

    def take(self, effects: Effects) -> Effects:
        self.bars += effects.bars
        self.events += [event for _, event in effects.events]
        self.letters += [letter for _, letter in effects.letters]
        return effects

    def page(self, at: float, *rows: Candle) -> Effects:
        ms = self.clock.measured_at = int(at * PART)
        read = Read(SERIES, self.state.next_open, 60)
        return self.take(core.paged(self.live, self.state, Page(read, rows, ms, ms), self.clock))

    @property
    def opened(self) -> list[int]:
        return [bar.open_time // SERIES.interval_ms for bar in self.bars]


@pytest.mark.parametrize(
    ("interval", "names", "part"),
    [
        (10, BINANCE, 5),
        (45, BINANCE, 15),
        (180, ("1m", "1h"), 60),
        (7, BINANCE, 1),
        (1, BINANCE, 1),
        (60, ("60m", "30m"), 30),
        (7 * 24 * 60, BINANCE, 24 * 60),
        (45, ("1h", "1w", "1M"), None),
    ],
)
def test_a_bar_is_made_of_the_longest_ones_that_divide_it(interval: int, names: tuple[str, ...], part: int) -> None:
    assert part_of(interval * MINUTE, names) == (part and part * MINUTE)


def test_given_all_parts_when_they_are_closed_then_the_bar_has_first_highest_lowest_last_and_the_sums() -> None:
    further = [
        {"trades": n, "quote_volume": n / 2, "taker_volume": n / 4} if n != 34 else {"trades": n, "quote_volume": 1.5}
        for n in range(36)
    ]
    feed = Feed()
    feed.page(36.01, *(candle(n, **further[n]) for n in (32, 31, 30, 33, 34, 35)))
    assert feed.opened == [10, 11]
    first, second = feed.bars
    assert (first.open, first.close) == (candle(30).open, candle(32).close)
    assert first.high == max(candle(n).high for n in (30, 31, 32))
    assert first.low == min(candle(n).low for n in (30, 31, 32))
    assert first.volume == math.fsum(candle(n).volume for n in (30, 31, 32))
    assert (first.trades, first.quote_volume, first.taker_volume) == (93, 46.5, 23.25)
    assert (second.trades, second.quote_volume, second.taker_volume) == (102, 33 / 2 + 1.5 + 35 / 2, None)
    assert feed.events == []


def test_given_two_of_three_parts_when_the_third_is_open_then_nothing_is_published() -> None:
    feed = Feed()
    feed.page(32.99, candle(30), candle(31), candle(32, volume=0.1))
    assert feed.opened == []
    feed.page(33.01, candle(30), candle(31), candle(32))
    assert feed.opened == [10]
    assert feed.bars[0].origin == "live"


def test_given_a_hole_among_the_parts_when_pages_have_confirmed_it_then_the_bar_is_a_named_hole() -> None:
    feed = Feed()
    feed.page(33.01, *map(candle, (30, 31, 32)))
    rows = [candle(n) for n in (30, 31, 32, 33, 35, 36, 37, 38)]
    feed.page(39.01, *rows)
    assert feed.opened == [10]
    feed.page(39.1, *rows)
    assert feed.opened == [10, 12]
    (hole,) = feed.events
    assert isinstance(hole, BarsAbsent)
    assert (hole.first, hole.count, hole.interval_ms, hole.reason) == (33 * PART, 1, 3 * PART, "not_published")
    assert "without one of the 3 bars that make one" in hole.detail


def test_given_a_part_that_comes_late_when_a_page_shows_it_then_the_bar_is_whole() -> None:
    feed = Feed()
    feed.page(33.01, *map(candle, (30, 31, 32)))
    feed.page(39.01, *map(candle, (30, 31, 32, 33, 35, 36, 37, 38)))
    feed.page(39.02, *map(candle, range(30, 39)))
    assert (feed.opened, feed.events) == ([10, 11, 12], [])


def test_given_a_part_that_changes_later_when_a_page_shows_it_then_the_bar_is_revised_once() -> None:
    feed = Feed()
    feed.page(33.01, *map(candle, (30, 31, 32)))
    for at in (36.01, 39.01):
        feed.page(at, candle(30), candle(31, volume=9.0, high=99.0), *map(candle, range(32, int(at))))
    assert feed.opened == [10, 11, 12]
    (revision,) = feed.events
    assert isinstance(revision, BarRevised)
    assert (revision.open_time, revision.fields) == (30 * PART, ("high", "volume"))
    assert revision.revised.volume == math.fsum([candle(30).volume, 9.0, candle(32).volume])


def test_given_two_rows_for_one_part_when_they_differ_then_the_first_counts_and_the_second_is_a_revision() -> None:
    feed = Feed()
    feed.page(33.01, candle(30), candle(31), candle(31, volume=9.0), candle(32))
    assert feed.bars[0].volume == math.fsum(candle(n).volume for n in (30, 31, 32))
    assert [event.fields for event in feed.events] == [("volume",)]


@pytest.mark.parametrize(
    ("row", "dead", "hole"),
    [
        (candle(34)._replace(open_time=34 * PART + 7), "off_grid", "off_grid"),
        (candle(34, close_time=34 * PART + 30_000), "bad_row", "cut"),
        (candle(34, low=-1.0), "impossible_prices", "refused"),
        (candle(34, close=math.nan), "not_finite", "refused"),
    ],
)
def test_given_a_part_that_is_no_bar_then_it_is_a_dead_letter_and_the_bar_a_hole_with_its_reason(
    row: Candle, dead: str, hole: str
) -> None:
    feed = Feed()
    feed.page(33.01, *map(candle, (30, 31, 32)))
    for at in (39.01, 39.1, 39.2):
        feed.page(at, *map(candle, (30, 31, 32, 33)), row, *map(candle, (35, 36, 37, 38)))
    assert [letter.reason for letter in feed.letters] == [dead]
    assert feed.opened == [10, 12]
    assert [event.reason for event in feed.events] == [hole]


def test_given_a_part_from_the_future_then_the_series_stops() -> None:
    feed = Feed()
    feed.page(31.5, candle(30), candle(31), candle(32))
    (stop,) = feed.events
    assert isinstance(stop, SymbolStopped)
    assert stop.reason == "ambiguous_times"


def test_a_bar_is_asked_for_when_a_part_of_its_successor_is_on_the_stream_in_pages_of_parts() -> None:
    feed = Feed(Rules(page=50, grace_ms=500))

    def due(at: float) -> list[Read]:
        return core.due(feed.live, "binance", int(at * PART))

    feed.take(core.streamed(feed.live, feed.state, candle(32), int(32.5 * PART)))
    assert due(33.001) == []
    feed.take(core.streamed(feed.live, feed.state, candle(33), int(33.001 * PART)))
    (read,) = due(33.001)
    assert (read.since, read.limit) == (24 * PART, 5 * 3)
    feed.state.reading = False
    (later,) = due(3000)
    assert later.limit == 48, "as many whole bars as a page holds"


def test_a_stream_of_parts_shows_that_its_subscription_lives() -> None:
    feed = Feed()
    feed.state.subscribed_at = 29 * PART
    feed.take(core.streamed(feed.live, feed.state, candle(31), int(31.5 * PART)))
    assert feed.page(33.01, *map(candle, (30, 31, 32))).lost == []
    assert feed.page(36.01, *map(candle, (33, 34, 35))).lost == [SERIES]


@given(
    absent=st.sets(st.integers(33, 80), max_size=6),
    shown=st.lists(st.tuples(st.integers(30, 89), st.integers(0, 40), st.booleans()), max_size=10),
)
@settings(deadline=None, max_examples=50)
def test_whatever_pages_show_every_bar_is_made_of_its_parts_once_or_is_in_a_named_hole(
    absent: set[int], shown: list[tuple[int, int, bool]]
) -> None:
    truth = {n: candle(n) for n in range(24, 90) if n not in absent}
    feed = Feed()
    for at, count, backwards in sorted(shown):
        rows = [row for n, row in truth.items() if at - count <= n <= at]
        feed.page(at + 0.1, *(reversed(rows) if backwards else rows))
    for later in (90.01, 90.05, 90.1, 90.15, 90.2):
        feed.page(later, *truth.values())
    holes = [n for hole in feed.events for n in range(hole.first // PART // 3, hole.first // PART // 3 + hole.count)]
    assert all(isinstance(event, BarsAbsent) for event in feed.events)
    assert sorted([*feed.opened, *holes]) == list(range(feed.opened[0], 30))
    assert feed.opened == sorted(feed.opened)
    parts = {number: [truth.get(3 * number + n) for n in range(3)] for number in feed.opened}
    for bar in feed.bars:
        own = [part for part in parts[bar.open_time // SERIES.interval_ms] if part is not None]
        assert len(own) == 3
        assert (bar.open, bar.close, bar.volume) == (own[0].open, own[2].close, math.fsum(p.volume for p in own))


def test_the_bar_of_some_parts_does_not_depend_on_their_order() -> None:
    rows = [candle(n, volume=0.1 * 3**n) for n in range(3)]
    assert joined(rows, 3 * PART, PART) == joined(rows[::-1], 3 * PART, PART)
