"""Which inputs are asked for, and when."""

from schemas.market import FundingPublished
from services.feed.live import inputs
from services.feed.live.inputs import Ask, Funding, Reading
from services.feed.live.state import Candle, LiveSeries, Page, Read, Rules, SeriesState
from shared.inputs.kinds import KINDS, Kind

MINUTE = 60_000
HOUR = 3_600_000
MARKET = "BTC/USDT:USDT"
SERIES = LiveSeries("binance", MARKET, "BTC", MINUTE)


def state(next_open: int, interval: int = MINUTE) -> SeriesState:
    return SeriesState(SERIES._replace(interval_ms=interval), Rules(), next_open, interval)


def page(at: int, *opened: int) -> Page:
    rows = tuple(Candle(each, 1.0, 1.0, 1.0, 1.0, 1.0) for each in opened)
    return Page(Read(SERIES, 0, 500), rows, at, at)


def begun(*kinds: Kind, interval: int = MINUTE) -> inputs.MarketInputs:
    return inputs.begin([state(0, interval)], {MARKET: frozenset(kinds)})[MARKET]


def test_samples_are_taken_once_shortly_before_each_close() -> None:
    known = begun("open_interest", "book", "mark")
    assert inputs.due(known, MINUTE - inputs.LEAD_MS - 1) == []
    assert inputs.due(known, MINUTE - inputs.LEAD_MS) == ["open_interest", "book"]
    assert inputs.due(known, MINUTE - 1) == []
    assert inputs.asked_for(known, MINUTE)
    assert not inputs.asked_for(known, 0)
    known.sampled["book"] = known.asking.pop("book")
    assert inputs.due(known, MINUTE - 1) == []
    assert inputs.due(known, 2 * MINUTE - 1) == ["book"]


def test_the_shortest_series_of_a_market_says_when_and_no_shorter_than_a_minute() -> None:
    known = inputs.begin([state(0, HOUR), state(0, 1_000)], {MARKET: frozenset(["book"])})
    assert known[MARKET].interval_ms == MINUTE
    assert inputs.begin([state(0)], {MARKET: frozenset()}) == {}


def test_a_page_asks_for_what_was_published_of_its_new_closed_bars() -> None:
    at = 1_000 * HOUR + 5 * MINUTE + 300
    opened = 1_000 * HOUR + 3 * MINUTE
    known = begun(*KINDS)
    asks = {
        ask.kind: ask for ask in inputs.published(known, state(opened), page(at, opened - MINUTE, opened, at - 300))
    }
    until = opened + MINUTE
    assert inputs.newest_close(state(opened), page(at, opened)) == until
    assert asks["mark"] == Ask("mark", MARKET, MINUTE, opened + 1, until, MINUTE, until)
    assert asks["index"] == asks["mark"]._replace(kind="index")
    assert asks["open_interest"] == Ask("open_interest", MARKET, MINUTE, until - 5 * MINUTE + 1, until, 5 * MINUTE)
    assert asks["funding"] == Ask("funding", MARKET, MINUTE, until - 16 * HOUR, at, HOUR)
    assert "book" not in asks
    assert inputs.published(known, state(opened), page(at, opened - MINUTE)) == []


def test_open_interest_that_was_sampled_is_not_asked_for_again() -> None:
    known = begun("open_interest")
    known.sampled["open_interest"] = 3 * MINUTE
    assert inputs.published(known, state(2 * MINUTE), page(3 * MINUTE + 1, 2 * MINUTE)) == []
    assert len(inputs.published(known, state(2 * MINUTE), page(4 * MINUTE + 1, 2 * MINUTE, 3 * MINUTE))) == 1


def test_funding_is_asked_for_at_full_hours_and_when_it_is_due() -> None:
    start = 1_000 * HOUR
    known = begun("funding", interval=MINUTE)

    def asked(at: int) -> list[Ask]:
        opened = at // MINUTE * MINUTE - MINUTE
        return inputs.published(known, state(opened), page(at, opened))

    assert len(asked(start + MINUTE)) == 1
    funding = known.funding[MINUTE]
    rates = [Reading(start - 8 * HOUR, (1e-4,)), Reading(start, (2e-4,))]
    assert inputs.settled(funding, rates) == [rates[0], rates[1]._replace(own_ms=8 * HOUR)]
    assert inputs.settled(funding, rates) == []
    assert asked(start + 2 * MINUTE) == []
    assert [ask.expected for ask in asked(start + HOUR)] == [None]
    assert asked(start + HOUR + MINUTE) == []
    assert [ask.expected for ask in asked(start + 8 * HOUR + 100)] == [start + 8 * HOUR]
    assert len(asked(start + 8 * HOUR + MINUTE)) == 1, "it is not there yet"
    assert asked(start + 8 * HOUR + 2 * MINUTE)[0].since == start + 1


def test_two_series_of_one_market_have_funding_of_their_own() -> None:
    known = begun("funding")
    inputs.published(known, state(0), page(MINUTE + 1, 0))
    inputs.settled(known.funding[MINUTE], [Reading(10, (1e-4,))])
    [ask] = inputs.published(known, state(0, HOUR), page(HOUR + 1, 0))
    assert (ask.interval_ms, ask.since) == (HOUR, HOUR - 16 * HOUR)


def test_an_answer_without_a_time_has_that_of_its_request() -> None:
    found = inputs.event_of("funding", "BTC", Reading(None, (1e-4,), 0), 77, "live")
    assert found == FundingPublished(symbol="BTC", at=77, origin="live", rate=1e-4)


def test_the_interval_of_funding_is_whole_hours_and_eight_at_most() -> None:
    funding = Funding()
    times = (3, HOUR, 5 * HOUR + 7, 29 * HOUR)
    found = inputs.settled(funding, [Reading(at, (1e-4,)) for at in times])
    assert [each.own_ms for each in found] == [0, HOUR, 4 * HOUR, 8 * HOUR]
