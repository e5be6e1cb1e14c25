"""Twenty ways in which live bars go wrong, each against a local exchange that ccxt reads on loopback."""

import re
from pathlib import Path
from typing import Any

import anyio
import pytest

from schemas.operations import DeadLetter, LogTruncated
from schemas.venue import (
    BarRevised,
    BarsAbsent,
    ClockMeasured,
    FeedInterrupted,
    FeedWaiting,
    SymbolResumed,
    SymbolStopped,
)
from services.feed.live import core
from services.feed.live.state import Rules
from shared.bars.rows import SourceError
from tests.exchange.installation import Installation, holes, installed
from tests.exchange.local import MINUTE

pytestmark = pytest.mark.anyio
PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "live-bars.md"


def test_every_row_of_the_page_is_a_test_by_its_number() -> None:
    rows = set(re.findall(r"^\| L(\d+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    tests = {found[1] for name in globals() if (found := re.match(r"test_l(\d+)_", name))}
    assert rows == tests == {str(number) for number in range(1, 21)}


async def whole(feed: Installation, first: int, last: int, symbol: str = "") -> None:
    """The log has every bar of the exchange from ``first`` to ``last``, once, in order, as the exchange has it; others
    are in named holes."""
    numbers = await feed.numbers(symbol)
    named = holes(await feed.events(BarsAbsent))
    assert numbers == sorted(set(numbers))
    assert sorted({*numbers, *named}) == list(range(first, last + 1))
    for bar in await feed.bars(symbol):
        market = feed.exchange.markets[bar.symbol.partition("/")[0] + "USDT"]
        row = market.row(bar.open_time // bar.interval_ms, 0)
        assert [bar.open, bar.high, bar.low, bar.close, bar.volume] == [float(cell) for cell in row[1:6]]


def begun(feed: Installation) -> int:
    return feed.clock.ms // MINUTE


async def test_l1_a_bar_that_never_comes_by_stream_comes_by_rest_within_a_second() -> None:
    async with installed(silent=True) as feed, feed.running():
        await feed.subscribed()
        first = begun(feed)
        await feed.to(first + 2, late=600)
        await whole(feed, first, first + 2)
        assert {bar.origin for bar in await feed.bars()} == {"live"}


async def test_l2_a_hole_of_a_reconnect_is_read_again_in_order() -> None:
    async with installed() as feed, feed.running():
        await feed.subscribed()
        first = begun(feed)
        await feed.to(first + 1)
        await feed.exchange.disconnect()
        feed.clock.ms += 5 * MINUTE
        await feed.subscribed(step=200)
        await feed.to(begun(feed))
        await whole(feed, first, begun(feed) - 1)
        origins = [bar.origin for bar in await feed.bars()]
        assert "replay" in origins
        assert origins[-1] == "live"
        assert [event.routine for event in await feed.events(FeedInterrupted)] == [False]


@pytest.mark.parametrize(("code", "age", "routine"), [(1001, 0, True), (1006, 24 * 60, True), (1006, 0, False)])
async def test_l3_a_daily_disconnect_and_a_notice_are_routine(code: int, age: int, routine: bool) -> None:
    async with installed() as feed, feed.running():
        await feed.subscribed()
        first = begun(feed)
        await feed.to(first)
        feed.clock.ms += age * MINUTE
        await feed.exchange.push()
        await feed.to(begun(feed))
        await feed.exchange.disconnect(code)

        async def over() -> bool:
            return any(event.cause == "disconnected" for event in await feed.events(FeedInterrupted))

        await feed.until(over, step=100)
        (episode,) = [event for event in await feed.events(FeedInterrupted) if event.cause == "disconnected"]
        assert (episode.routine, episode.length_ms > 0) == (routine, True)
        await feed.to(begun(feed) + 1)
        await whole(feed, first, begun(feed) - 1)


async def test_l4_one_lost_subscription_is_noticed_by_its_silence_and_made_again() -> None:
    async with installed("BTC", "ETH") as feed, feed.running():
        await feed.subscribed(2)
        first = begun(feed)
        for symbol in ("BTC/USDT", "ETH/USDT"):
            await feed.to(first, symbol=symbol)
        feed.exchange.mute("btcusdt@kline_1m")
        asked = feed.exchange.connections

        async def found() -> bool:
            return bool(await feed.events(FeedInterrupted))

        await feed.until(found, step=5_000)
        (episode,) = await feed.events(FeedInterrupted)
        assert (episode.cause, episode.symbols) == ("subscription_lost", ("BTC/USDT",))
        assert feed.exchange.connections == asked, "the other symbol was not disturbed"
        last = begun(feed)
        for symbol in ("BTC/USDT", "ETH/USDT"):
            await feed.to(last, symbol=symbol)
            await whole(feed, first, last, symbol)


async def test_l5_a_connection_that_brings_nothing_is_made_again() -> None:
    async with installed("BTC", "ETH") as feed, feed.running():
        await feed.subscribed(2)
        first = begun(feed)
        for symbol in ("BTC/USDT", "ETH/USDT"):
            await feed.to(first, symbol=symbol)
        feed.exchange.mute()
        before = feed.exchange.connections

        async def found() -> bool:
            causes = [event.cause for event in await feed.events(FeedInterrupted)]
            return feed.exchange.connections > before and causes.count("subscription_lost") == 2

        await feed.until(found, step=5_000)
        for symbol in ("BTC/USDT", "ETH/USDT"):
            await feed.to(begun(feed), symbol=symbol)
            await whole(feed, first, begun(feed) - 1, symbol)


async def test_l6_a_quiet_market_leads_to_no_alarm_and_no_reconnect() -> None:
    async with installed() as feed, feed.running():
        await feed.subscribed()
        first = begun(feed)
        feed.exchange.markets["BTCUSDT"].quiet |= set(range(first + 1, first + 6))
        await feed.to(first + 7)
        await whole(feed, first, first + 7)
        assert await feed.events(FeedInterrupted) == []
        assert feed.exchange.connections == 1


async def test_l7_a_frozen_stream_costs_no_bar() -> None:
    async with installed() as feed, feed.running():
        await feed.subscribed()
        first = begun(feed)
        await feed.to(first + 1)
        feed.exchange.frozen = first
        await feed.to(first + 4)
        await whole(feed, first, first + 4)


async def test_l8_times_that_are_ends_of_bars_are_refused_unless_they_are_stated() -> None:
    async with installed(end_stamped=True) as feed:
        with pytest.RaisesGroup(pytest.RaisesExc(SourceError), allow_unwrapped=True, flatten_subgroups=True):
            async with feed.running():

                async def stopped() -> bool:
                    return bool(await feed.events(SymbolStopped))

                await feed.until(stopped, step=10_000)
                (event,) = await feed.events(SymbolStopped)
                assert event.reason == "ambiguous_times"
                assert await feed.bars() == []
                raise SourceError("seen")


async def test_l8_times_that_are_stated_to_be_ends_of_bars_are_read_as_such() -> None:
    async with installed(end_stamped=True) as feed:
        feed.end_stamped = True
        async with feed.running():
            await feed.subscribed()
            first = begun(feed)
            await feed.to(first + 2)
            await whole(feed, first, first + 2)


@pytest.mark.parametrize("shift", [-1, 1])
async def test_l9_a_start_that_is_off_by_one_loses_and_repeats_nothing(shift: int) -> None:
    async with installed(since_shift=shift) as feed, feed.running():
        await feed.subscribed()
        first = begun(feed)
        await feed.to(first + 4)
        await whole(feed, first, first + 4)


@pytest.mark.parametrize("fault", ["oldest", "newest", "cut", "empty"])
async def test_l10_pages_of_another_time_cut_pages_and_empty_ones_are_asked_for_again(fault: str) -> None:
    async with installed() as feed, feed.running():
        await feed.subscribed()
        first = begun(feed)
        await feed.to(first)
        feed.exchange.pages = [fault] * 3
        feed.clock.ms += 8 * MINUTE

        async def there() -> bool:
            return (await feed.numbers())[-1] >= begun(feed) - 1

        await feed.until(there, step=50)
        await whole(feed, first, (await feed.numbers())[-1])
        assert await feed.events(BarsAbsent) == []


@pytest.mark.parametrize("hidden", [False, True])
async def test_l11_what_is_open_is_decided_by_the_exchanges_time_and_not_by_position(hidden: bool) -> None:
    async with installed(hide_open=hidden) as feed, feed.running():
        await feed.subscribed()
        first = begun(feed)
        await feed.to(first + 3)
        await whole(feed, first, first + 3)


async def test_l12_the_partial_first_bar_of_a_subscription_is_never_published() -> None:
    async with installed() as feed, feed.running():
        await feed.subscribed()
        first = begun(feed)
        assert feed.clock.ms % MINUTE
        await feed.to(first)
        await whole(feed, first, first)


async def test_l13_of_two_rows_for_one_bar_the_first_is_kept_and_the_second_is_a_revision() -> None:
    async with installed() as feed, feed.running():
        await feed.subscribed()
        first = begun(feed)
        feed.exchange.markets["BTCUSDT"].doubled.add(first + 1)
        await feed.to(first + 2)
        await whole(feed, first, first + 2)
        revisions = await feed.events(BarRevised)
        assert {event.open_time // MINUTE for event in revisions} == {first + 1}
        assert revisions[0].fields == ("volume",)
        assert revisions[0].revised.volume == revisions[0].first.volume + 1


async def test_l14_older_bars_that_the_stream_sends_again_are_dropped_and_counted() -> None:
    async with installed(again=True) as feed:
        async with feed.running():
            await feed.subscribed()
            first = begun(feed)
            await feed.to(first + 4)
            await whole(feed, first, first + 4)
        assert feed.counts["stream rows of published bars"] > 0
        assert await feed.events(BarRevised) == []


async def test_l15_a_bar_with_another_volume_later_is_an_event_of_its_own() -> None:
    async with installed() as feed, feed.running():
        await feed.subscribed()
        first = begun(feed)
        market = feed.exchange.markets["BTCUSDT"]
        market.revised[first + 1] = ((first + 2) * MINUTE + 30_000, 77.5)
        await feed.to(first + 3)
        (revision,) = await feed.events(BarRevised)
        assert (revision.open_time // MINUTE, revision.fields[0]) == (first + 1, "volume")
        bar = next(bar for bar in await feed.bars() if bar.open_time == revision.open_time)
        assert (revision.first.volume, revision.revised.volume) == (bar.volume, 77.5)


async def test_l16_a_row_off_the_grid_is_refused_with_its_reason_and_its_place_is_a_named_hole() -> None:
    async with installed() as feed, feed.running():
        await feed.subscribed()
        first = begun(feed)
        feed.exchange.markets["BTCUSDT"].off_grid.add(first + 1)
        await feed.to(first)
        await walk(feed, first + 3)
        await whole(feed, first, first + 3)
        (hole,) = await feed.events(BarsAbsent)
        assert (hole.first // MINUTE, hole.count, hole.reason) == (first + 1, 1, "off_grid")
        letters = [letter for letter in await feed.written("dead") if isinstance(letter, DeadLetter)]
        assert [letter.reason for letter in letters] == ["off_grid"]


async def walk(feed: Installation, last: int) -> None:
    """Advance in small steps until bar ``last`` is on the log."""

    async def there() -> bool:
        numbers = await feed.numbers()
        return bool(numbers) and numbers[-1] >= last

    await feed.until(there, step=2_000)


async def test_l17_a_hole_of_maintenance_is_named_and_not_filled() -> None:
    async with installed() as feed, feed.running():
        await feed.subscribed()
        first = begun(feed)
        feed.exchange.markets["BTCUSDT"].absent |= {first + 1, first + 2}
        await feed.to(first)
        await walk(feed, first + 4)
        assert (await feed.numbers())[:3] == [first, first + 3, first + 4]
        (hole,) = await feed.events(BarsAbsent)
        assert (hole.first // MINUTE, hole.count, hole.reason) == (first + 1, 2, "not_published")


async def test_l18_without_trades_there_is_an_empty_bar_or_none_as_the_exchange_has_it() -> None:
    async with installed() as feed, feed.running():
        await feed.subscribed()
        first = begun(feed)
        feed.exchange.markets["BTCUSDT"].quiet.add(first + 1)
        await feed.to(first + 2)
        assert [bar.volume > 0 for bar in await feed.bars()] == [True, False, True]
        assert await feed.events(BarsAbsent) == []
    async with installed(rules=Rules(policy="none", page=50)) as feed, feed.running():
        await feed.subscribed()
        first = begun(feed)
        feed.exchange.markets["BTCUSDT"].absent.add(first + 1)
        await feed.to(first)
        await walk(feed, first + 2)
        (hole,) = await feed.events(BarsAbsent)
        assert (hole.reason, hole.policy, hole.count) == ("no_trades", "none", 1)


@pytest.mark.parametrize(
    ("status", "headers", "text"),
    [
        (429, {"Retry-After": "30"}, '{"code": -1003, "msg": "Too many requests."}'),
        (418, {"Retry-After": "30"}, '{"code": -1003, "msg": "IP banned."}'),
    ],
)
async def test_l19_a_ban_at_the_start_is_waited_for_as_the_exchange_asks(
    status: int, headers: dict[str, str], text: str
) -> None:
    refusals: list[Any] = [(status, headers, text)]
    async with installed("BTC", "ETH", "SOL", history=20, refusals=refusals) as feed, feed.running():

        def klines() -> int:
            return sum(what == "klines" for what, _ in feed.exchange.requests)

        async def refused() -> bool:
            return klines() >= 1

        await feed.until(refused)
        for _ in range(5):
            await anyio.sleep(0.03)
        asked, began = klines(), feed.clock.ms
        assert asked <= 3, "those that were on their way"
        feed.clock.ms = began + 20_000
        for _ in range(5):
            await anyio.sleep(0.03)
        assert klines() == asked, "no request while it asks for none"

        async def there() -> bool:
            return {bar.symbol for bar in await feed.bars()} == {"BTC/USDT", "ETH/USDT", "SOL/USDT"}

        await feed.until(there, step=1_000)
        (episode,) = await feed.events(FeedInterrupted)
        assert episode.cause == "rate_limited"
        assert episode.length_ms >= 29_000


@pytest.mark.parametrize(("status", "reason"), [("BREAK", "not_trading"), ("", "not_listed")])
async def test_l20_a_symbol_that_is_halted_or_delisted_stops_alone_and_goes_on_when_it_is_back(
    status: str, reason: str
) -> None:
    async with installed("BTC", "ETH") as feed, feed.running():
        await feed.subscribed(2)
        first = begun(feed)
        for symbol in ("BTC/USDT", "ETH/USDT"):
            await feed.to(first, symbol=symbol)
        feed.exchange.markets["BTCUSDT"].status = status

        async def stopped() -> bool:
            return bool(await feed.events(SymbolStopped))

        await feed.until(stopped, step=10_000)
        (event,) = await feed.events(SymbolStopped)
        assert (event.symbol, event.reason) == ("BTC/USDT", reason)
        count = len(await feed.bars("BTC/USDT"))
        await feed.to(begun(feed) + 2, symbol="ETH/USDT")
        assert len(await feed.bars("BTC/USDT")) == count
        feed.exchange.markets["BTCUSDT"].status = "TRADING"

        async def resumed() -> bool:
            return bool(await feed.events(SymbolResumed))

        await feed.until(resumed, step=10_000)
        for symbol in ("BTC/USDT", "ETH/USDT"):
            await feed.to(begun(feed), symbol=symbol)
            await whole(feed, first, begun(feed) - 1, symbol)


async def test_l20_while_a_clock_is_beyond_its_bound_no_bar_is_live() -> None:
    async with installed(clock_off=-3_600_000) as feed, feed.running():
        await feed.subscribed()
        first = (feed.clock.ms - 3_600_000) // MINUTE

        async def there() -> bool:
            return len(await feed.bars()) >= 2

        await feed.until(there, step=5_000)
        assert (await feed.numbers())[:2] == [first, first + 1]
        assert {bar.origin for bar in await feed.bars()} == {"replay"}
        (measured, *_) = await feed.events(ClockMeasured)
        assert not measured.usable
        assert abs(measured.offset_ms + 3_600_000) <= measured.error_ms


async def test_an_exchange_that_does_not_answer_is_reported_while_it_lasts_and_when_it_is_over() -> None:
    async with installed() as feed, feed.running():
        await feed.subscribed()
        first = begun(feed)
        await feed.to(first)
        feed.exchange.refusals = [(503, {}, "{}")] * 100_000

        async def told() -> bool:
            return bool(await feed.events(FeedWaiting))

        await feed.until(told, step=2_000)
        (waiting,) = await feed.events(FeedWaiting)
        assert (waiting.exchange, waiting.cause) == ("binance", "unreachable")
        assert 60_000 <= waiting.at - waiting.began < 90_000
        assert await feed.events(FeedInterrupted) == []
        feed.exchange.refusals = []

        async def over() -> bool:
            return bool(await feed.events(FeedInterrupted))

        await feed.until(over, step=1_000)
        (episode,) = await feed.events(FeedInterrupted)
        assert (episode.cause, episode.began) == ("unreachable", waiting.began)
        assert len(await feed.events(FeedWaiting)) == 1
        await feed.to(begun(feed))
        await whole(feed, first, begun(feed) - 1)


async def test_a_market_with_a_settle_currency_is_read_under_its_own_name() -> None:
    async with installed(exchange="binanceusdm") as feed, feed.running():
        await feed.subscribed()
        first = begun(feed)
        await feed.to(first + 2)
        await whole(feed, first, first + 2)
        assert {bar.symbol for bar in await feed.bars()} == {"BTC/USDT:USDT"}


async def test_what_an_exchange_publishes_with_a_bar_is_kept() -> None:
    async with installed() as feed, feed.running():
        await feed.subscribed()
        await feed.to(begun(feed))
        (bar,) = await feed.bars()
        row = feed.exchange.markets["BTCUSDT"].row(bar.open_time // MINUTE, 0)
        assert (bar.trades, bar.quote_volume, bar.taker_volume) == (row[8], float(row[7]), float(row[9]))


async def test_a_start_on_a_log_that_is_weeks_old_reads_all_since_in_pages_as_replayed_bars() -> None:
    async with installed(history=3) as feed:
        async with feed.running():
            await feed.subscribed()
            first = begun(feed) - 3
            await feed.to(begun(feed))
        feed.clock.ms += 2 * 24 * 60 * MINUTE
        async with feed.running():
            await feed.subscribed()
            last = begun(feed) - 1

            async def there() -> bool:
                return (await feed.numbers())[-1] >= last

            await feed.until(there, step=10, what=f"bar {last}")
            await feed.to(begun(feed))
            await whole(feed, first, begun(feed) - 1)
            origins = [bar.origin for bar in await feed.bars()]
            assert origins[-1] == "live"
            assert origins.count("replay") > 2 * 24 * 60 - 10


@pytest.mark.parametrize(
    ("exchange", "interval_ms", "says"),
    [
        ("kraken", 90_000, r"no bars of 90s for BTC/USDT, and none of which these can be made; it has 1m, 5m, 15m"),
        (
            "binance",
            101_000,
            r"no bars of 101s for BTC/USDT, and of 1s it would take 404 at once, of at most 50; it has",
        ),
    ],
)
async def test_an_interval_that_cannot_be_made_of_those_of_the_exchange_is_refused_with_those_it_has(
    exchange: str, interval_ms: int, says: str
) -> None:
    async with installed(exchange=exchange) as feed:
        feed.plan = feed.plan._replace(
            series=tuple(each._replace(interval_ms=interval_ms) for each in feed.plan.series)
        )
        error = pytest.RaisesExc(SourceError, match=says)
        with pytest.RaisesGroup(error, flatten_subgroups=True):
            async with feed.running():
                await anyio.sleep(10)


async def test_bars_that_the_server_of_the_log_lost_are_read_again_and_named() -> None:
    async with installed() as feed, feed.running():
        await feed.subscribed()
        first = begun(feed)
        await feed.to(first + 1)
        image = feed.log.image()
        await feed.to(first + 3)
        feed.log.restore(image)
        await feed.to(first + 4)
        await whole(feed, first, first + 4)
        (alarm,) = await feed.written("alarms")
        assert isinstance(alarm, LogTruncated)
        assert "BTC/USDT 60 s are gone; they are read again" in alarm.detail


@pytest.mark.parametrize("exchange", ["bybit", "okx", "kraken"])
async def test_other_exchanges_are_read_in_their_own_words(exchange: str) -> None:
    async with installed("BTC", "ETH", exchange=exchange) as feed, feed.running():
        await feed.subscribed(2)
        first = begun(feed)

        async def read(last: int) -> None:
            async def there() -> bool:
                found = [await feed.numbers(each) for each in ("BTC/USDT", "ETH/USDT")]
                return all(numbers[-1:] >= [last] for numbers in found)

            await feed.until(there, step=500)

        await read(first + 1)
        assert "live" in {bar.origin for bar in await feed.bars()}
        await feed.exchange.disconnect()
        feed.clock.ms += 3 * MINUTE
        await feed.subscribed(2, step=200)
        await read(begun(feed))
        for symbol in ("BTC/USDT", "ETH/USDT"):
            await whole(feed, first, (await feed.numbers(symbol))[-1], symbol)
        assert len(await feed.events(FeedInterrupted)) == 1, "the stream was read, and its end noticed"


async def test_a_feed_that_is_killed_before_it_knows_the_markets_forgets_no_bar() -> None:
    """It has written the clock of the exchange, and begins with no history: what it knew is on the log alone."""
    async with installed("BTC", "ETH") as feed:
        async with feed.running(killed=True):
            await feed.subscribed(2)
            first = begun(feed)
            await feed.to(first + 1, symbol="BTC/USDT")
            await feed.to(first + 2, symbol="ETH/USDT")
        measured = len(await feed.events(ClockMeasured))
        feed.exchange.unlisted = True

        async def measured_again() -> bool:
            return len(await feed.events(ClockMeasured)) > measured

        async with feed.running(killed=True):
            await feed.until(measured_again, step=200)
        feed.exchange.unlisted = False
        feed.clock.ms += 20 * MINUTE
        async with feed.running():
            await feed.subscribed(2, step=200)
            last = begun(feed)
            await feed.to(last, symbol="BTC/USDT")
            await feed.to(last, symbol="ETH/USDT")
            for symbol in ("BTC/USDT", "ETH/USDT"):
                await whole(feed, first, last, symbol)


@pytest.mark.long
async def test_bars_of_a_reference_are_written_before_those_that_close_with_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("REFERENCE_MS", "REFERENCE_HISTORY_MS"):  # the time of the test runs faster than its machine
        monkeypatch.setattr(core, name, 100 * MINUTE)
    async with installed("ETH", "BTC", "SOL", history=120) as feed:
        feed.plan = feed.plan._replace(references=frozenset({"BTC/USDT"}))
        async with feed.running():
            await feed.subscribed(3)
            first, last = begun(feed) - 120, begun(feed) + 3

            async def there() -> bool:
                read = [await feed.numbers(symbol) for symbol in ("ETH/USDT", "BTC/USDT", "SOL/USDT")]
                return all(numbers and numbers[-1] >= last for numbers in read)

            await feed.until(there, step=200, what=f"bar {last} of all")
        bars = await feed.bars()
    read = [bar.open_time // MINUTE for bar in bars if bar.symbol == "BTC/USDT"]
    assert set(range(first, last + 1)) <= set(read)
    seen: set[int] = set()
    for bar in bars:
        if bar.symbol == "BTC/USDT":
            seen.add(bar.open_time)
        else:
            assert bar.open_time in seen


async def test_bars_of_others_do_not_wait_longer_than_is_stated_for_a_reference() -> None:
    async with installed("ETH", "BTC") as feed:
        feed.plan = feed.plan._replace(references=frozenset({"BTC/USDT"}))
        async with feed.running():
            await feed.subscribed(2)
            last = begun(feed)
            feed.exchange.markets["BTCUSDT"].absent |= set(range(last, last + 9))

            async def there() -> bool:
                return last in await feed.numbers("ETH/USDT")

            feed.clock.ms = (last + 1) * MINUTE + core.REFERENCE_MS // 2
            await feed.until(there, step=20, what=f"bar {last} of ETH")
            assert core.REFERENCE_MS <= feed.clock.ms - (last + 1) * MINUTE < core.REFERENCE_MS + 30_000
            assert last not in await feed.numbers("BTC/USDT")
