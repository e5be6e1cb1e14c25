"""The fold of live bars: whatever an exchange shows, in whatever order, its bars come once each or are named."""

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.catalogue import partition_of
from schemas.market import BarClosed, ReferenceCopied
from schemas.venue import BarRevised, BarsAbsent, FeedInterrupted, SymbolStopped
from services.feed.live import core
from services.feed.live.state import Candle, Clock, Effects, Live, LiveSeries, Page, Read, Rules

MINUTE = 60_000
SERIES = LiveSeries("binance", "BTC/USDT", "BTC/USDT", MINUTE)


def candle(n: int, **other: Any) -> Candle:
    values = {"open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0 + n % 2 / 2, "volume": 5.0, **other}
    return Candle(open_time=n * MINUTE, **values)


@dataclass
class Feed:
    """One series, and the exchange's time in minutes and parts of them."""

    rules: Rules = field(default_factory=Rules)
    first: int = 10
    clock: Clock = field(default_factory=lambda: Clock(measured_at=11 * MINUTE))
    bars: list[BarClosed] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)
    effects: Effects = field(default_factory=Effects)

    def __post_init__(self) -> None:
        self.live = Live(clocks={"binance": self.clock})
        self.state = core.begin(SERIES, self.rules, (), 0, self.first * MINUTE)
        self.live.series[SERIES] = self.state

    def take(self, effects: Effects) -> Effects:
        self.bars += effects.bars
        self.events += [event for _, event in effects.events]
        return effects

    def due(self, minutes: float) -> list[Read]:
        return core.due(self.live, "binance", int(minutes * MINUTE))

    def page(self, minutes: float, *rows: Candle) -> Effects:
        """The feed is given this page, asked for now."""
        at = int(minutes * MINUTE)
        read = Read(SERIES, self.state.next_open, 500)
        return self.take(core.paged(self.live, self.state, Page(read, rows, at, at), self.clock))

    def stream(self, minutes: float, row: Candle) -> Effects:
        return self.take(core.streamed(self.live, self.state, row, int(minutes * MINUTE)))

    @property
    def opened(self) -> list[int]:
        return [bar.open_time // MINUTE for bar in self.bars]


def test_a_bar_is_asked_for_when_its_successor_has_begun_and_otherwise_after_the_grace() -> None:
    feed = Feed()
    feed.stream(10.5, candle(10))
    assert feed.due(10.99) == []
    assert feed.due(11.002) == []
    feed.stream(11.002, candle(11))
    assert [read.since for read in feed.due(11.002)] == [8 * MINUTE], "with an overlap of two bars"
    silent = Feed()
    assert silent.due(11.005) == []
    assert [read.since for read in silent.due(11.01)] == [8 * MINUTE]


def test_a_page_is_not_asked_for_twice_at_once() -> None:
    feed = Feed()
    assert len(feed.due(12)) == 1
    assert feed.due(12) == []


def test_a_bar_that_is_open_by_the_exchanges_time_is_not_published_wherever_it_is_in_the_page() -> None:
    feed = Feed()
    feed.page(11.5, candle(11), candle(10))
    assert feed.opened == [10]


def test_a_bar_of_a_page_that_was_asked_for_before_its_close_is_open() -> None:
    feed = Feed()
    asked, came = 11 * MINUTE - 1, 11 * MINUTE + 500
    feed.take(core.paged(feed.live, feed.state, Page(Read(SERIES, 0, 5), (candle(10),), asked, came), feed.clock))
    assert feed.opened == []


def test_a_fresh_bar_is_live_and_an_old_one_is_replayed() -> None:
    feed = Feed()
    feed.page(12.05, candle(10), candle(11))
    assert [bar.origin for bar in feed.bars] == ["replay", "live"]


@pytest.mark.parametrize(
    "clock",
    [Clock(), Clock(measured_at=11 * MINUTE, offset_ms=6_000), Clock(measured_at=11 * MINUTE, offset_ms=-6_000)],
)
def test_no_bar_is_live_while_the_clock_is_unknown_or_beyond_its_bound(clock: Clock) -> None:
    feed = Feed(clock=clock)
    feed.page(11.1, candle(10))
    assert [bar.origin for bar in feed.bars] == ["replay"]


def test_a_clock_that_was_not_measured_for_long_is_unknown() -> None:
    feed = Feed()
    feed.page(11.01, candle(10))
    feed.clock.measured_at = 0
    feed.page(12.01, candle(11))
    assert [bar.origin for bar in feed.bars] == ["live", "replay"]


def test_older_rows_are_dropped_by_identity_and_a_changed_one_is_a_revision_once() -> None:
    feed = Feed()
    feed.page(12.1, candle(10), candle(11))
    feed.page(13.1, candle(10), candle(11, volume=6.0), candle(12))
    feed.page(14.1, candle(11, volume=6.0), candle(12), candle(13))
    assert feed.opened == [10, 11, 12, 13]
    (revision,) = feed.events
    assert isinstance(revision, BarRevised)
    assert (revision.fields, revision.first.volume, revision.revised.volume) == (("volume",), 5.0, 6.0)


def test_of_two_rows_for_one_bar_the_first_is_published_and_the_second_is_a_revision() -> None:
    feed = Feed()
    feed.page(11.1, candle(10), candle(10, close=10.5))
    assert [bar.close for bar in feed.bars] == [11.0]
    assert [event.fields for event in feed.events] == [("close",)]


def gap(feed: Feed, *minutes: float) -> None:
    for at in minutes:
        feed.page(at, candle(10), candle(13))


def test_a_gap_is_a_hole_after_two_pages_and_five_seconds_and_nothing_is_written_in_its_place() -> None:
    feed = Feed()
    feed.page(11.1, candle(10))
    gap(feed, 14.01, 14.05)
    assert feed.opened == [10]
    gap(feed, 14.1)
    assert feed.opened == [10, 13]
    (hole,) = feed.events
    assert isinstance(hole, BarsAbsent)
    assert (hole.first, hole.count, hole.reason) == (11 * MINUTE, 2, "not_published")


def test_a_bar_that_comes_late_fills_its_gap() -> None:
    feed = Feed()
    feed.page(11.1, candle(10))
    gap(feed, 14.01)
    feed.page(14.03, candle(10), candle(11), candle(12), candle(13))
    assert (feed.opened, feed.events) == ([10, 11, 12, 13], [])


def test_where_no_bars_are_published_without_trades_a_gap_is_named_at_once() -> None:
    feed = Feed(Rules(policy="none"))
    feed.page(11.1, candle(10))
    gap(feed, 14.01)
    assert feed.opened == [10, 13]
    assert [(hole.reason, hole.policy) for hole in feed.events] == [("no_trades", "none")]


def test_a_page_that_does_not_show_the_last_bar_is_not_believed_until_four_agree() -> None:
    feed = Feed(Rules(policy="none"))
    feed.page(11.1, candle(10))
    for n, at in enumerate((14.01, 14.05, 14.1, 14.2)):
        assert feed.opened == [10], n
        feed.page(at, candle(13))
    assert [hole.reason for hole in feed.events] == ["history_ended"]


@pytest.mark.parametrize(
    ("row", "dead", "hole"),
    [
        (Candle(11 * MINUTE + 7, 10.0, 12.0, 9.0, 11.0, 5.0), "off_grid", "off_grid"),
        (candle(11, close_time=11 * MINUTE + 30_000), "bad_row", "cut"),
        (candle(11, low=-1.0), "impossible_prices", "refused"),
        (candle(11, high=math.nan), "not_finite", "refused"),
    ],
)
def test_a_row_that_is_no_bar_is_one_dead_letter_and_a_hole_with_its_reason(row: Candle, dead: str, hole: str) -> None:
    feed = Feed()
    feed.page(11.1, candle(10))
    letters = []
    for at in (13.01, 13.05, 13.2):
        letters += feed.page(at, candle(10), row, candle(12)).letters
    assert [letter.reason for _, letter in letters] == [dead]
    assert feed.opened == [10, 12]
    assert [event.reason for event in feed.events] == [hole]


def test_a_row_from_the_future_stops_the_series_since_its_times_may_be_ends_of_bars() -> None:
    feed = Feed()
    feed.page(11.5, candle(11), candle(12))
    (stop,) = feed.events
    assert isinstance(stop, SymbolStopped)
    assert stop.reason == "ambiguous_times"
    assert feed.due(20) == []


def test_a_subscription_that_did_not_show_a_bar_with_trades_is_lost_and_found_with_its_length() -> None:
    feed = Feed()
    feed.state.subscribed_at = 9 * MINUTE
    assert feed.page(11.1, candle(10)).lost == [SERIES]
    assert feed.page(12.1, candle(11)).lost == []
    feed.stream(12.5, candle(12))
    (episode,) = feed.events
    assert isinstance(episode, FeedInterrupted)
    assert (episode.cause, episode.length_ms, episode.symbols) == ("subscription_lost", 150_000, ("BTC/USDT",))


def test_a_quiet_market_is_not_a_lost_subscription() -> None:
    feed = Feed()
    feed.state.subscribed_at = 9 * MINUTE
    assert feed.page(11.1, candle(10, volume=0.0)).lost == []


def test_a_page_without_an_answer_is_asked_for_later_and_later_and_a_ban_waits_as_long_as_stated() -> None:
    feed = Feed()
    waits = []
    for _ in range(4):
        core.failed(feed.state, 0)
        waits.append(feed.state.read_at)
    assert waits == sorted(set(waits))
    core.failed(feed.state, 0, 120_000)
    assert feed.state.read_at == 120_000


def test_a_series_goes_on_from_its_memo() -> None:
    feed = Feed()
    feed.page(14.1, *map(candle, range(10, 14)))
    memo = core.snapshot(feed.live, (), 0, 1)
    again = core.begin(SERIES, Rules(), memo.newest, 500, 30 * MINUTE)
    assert (again.next_open, sorted(again.recent)) == (14 * MINUTE, [n * MINUTE for n in (11, 12, 13)])


@st.composite
def pages(draw: st.DrawFn, truth: dict[int, Candle]) -> list[tuple[int, tuple[Candle, ...]]]:
    """Pages of an exchange that repeats, cuts, shuffles and omits for a while."""
    found = []
    for at in range(11, 40):
        rows = [row for n, row in truth.items() if draw(st.integers(0, at)) <= n <= at]
        match draw(st.sampled_from(["whole", "cut", "shuffled", "doubled", "empty", "without one"])):
            case "cut":
                rows = rows[: draw(st.integers(0, len(rows)))]
            case "shuffled":
                rows = draw(st.permutations(rows))
            case "doubled":
                rows = [*rows, *rows]
            case "empty":
                rows = []
            case "without one" if rows:
                rows.pop(draw(st.integers(0, len(rows) - 1)))
            case _:
                pass
        found.append((at, tuple(rows)))
    return found


@settings(max_examples=40)
@given(absent=st.sets(st.integers(11, 35), max_size=6), data=st.data())
def test_whatever_pages_show_every_bar_comes_once_in_order_or_is_in_a_named_hole(
    absent: set[int], data: st.DataObject
) -> None:
    truth = {n: candle(n) for n in range(40) if n not in absent}
    feed = Feed()
    for at, rows in data.draw(pages(truth)):
        if data.draw(st.booleans()):
            feed.stream(at, candle(data.draw(st.integers(0, at))))
        feed.page(at + 0.1, *rows)
    for later in (40.1, 40.3, 40.5, 40.7, 40.9):
        feed.page(later, *truth.values())
    holes = {n for hole in feed.events for n in range(hole.first // MINUTE, hole.first // MINUTE + hole.count)}
    assert all(isinstance(event, BarsAbsent) for event in feed.events)
    assert feed.opened == sorted(set(feed.opened))
    assert sorted([*feed.opened, *holes]) == list(range(feed.opened[0], 40))
    assert {bar.open_time // MINUTE: bar.close for bar in feed.bars} == {
        n: row.close for n, row in truth.items() if n in feed.opened
    }


OTHER = LiveSeries("kraken", "ETH/USDT", "ETH/USDT", MINUTE)


def test_a_page_waits_for_the_closes_of_references_and_not_longer_than_is_stated() -> None:
    feed = Feed()
    live, reference = feed.live, feed.state
    live.references = frozenset({"BTC/USDT"})
    other = core.begin(OTHER, feed.rules, (), 0, 10 * MINUTE)
    live.series[OTHER] = other

    def page(minutes: float, *numbers: int) -> Page:
        rows = tuple(candle(n) for n in numbers)
        return Page(Read(OTHER, other.next_open, 500), rows, int(minutes * MINUTE), int(minutes * MINUTE))

    assert core.lagging(live, other, page(11.1, 10, 11))  # bar 11 is open
    assert not core.lagging(live, other, page(11.1, 9))
    assert not core.lagging(live, other, page(11.1))
    assert not core.lagging(live, reference, page(11.1, 10))
    feed.page(11.1, candle(9), candle(10))
    assert reference.next_open == 11 * MINUTE
    assert not core.lagging(live, other, page(11.1, 10, 11))
    assert core.lagging(live, other, page(12.1, 10, 11))
    reference.stopped = "not_trading"
    assert not core.lagging(live, other, page(12.1, 10, 11))
    assert core.wait_for_references(other, page(11.1, 10)) == core.REFERENCE_MS
    assert core.wait_for_references(other, page(30.1, 10)) == core.REFERENCE_HISTORY_MS


def test_pages_of_references_are_asked_for_first() -> None:
    feed = Feed()
    feed.live.references = frozenset({"ETH/USDT"})
    feed.live.series[LiveSeries("binance", "ETH/USDT", "ETH/USDT", MINUTE)] = core.begin(
        OTHER._replace(exchange="binance"), feed.rules, (), 0, 10 * MINUTE
    )
    assert [read.series.symbol for read in feed.due(20)] == ["ETH/USDT", "BTC/USDT"]


def test_bars_of_references_are_copied_into_other_partitions_before_their_own() -> None:
    feed = Feed()
    effects = feed.page(12.1, candle(10), candle(11))
    parts = core.encoded(effects, 3, references={"BTC/USDT"})
    own = partition_of("BTC/USDT", 3)
    assert list(parts)[-1] == own
    kinds = {partition: [type(one.envelope.event) for one in parts[partition]] for partition in parts}
    assert kinds == {partition: [BarClosed if partition == own else ReferenceCopied] * 2 for partition in range(3)}
    assert len(core.encoded(effects, 1, references={"BTC/USDT"})[0]) == len(core.encoded(effects, 3)[own]) == 2
