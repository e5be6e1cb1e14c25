"""Bars of an interval that the exchange does not have, through ccxt and a local exchange: the rows of
``docs/explanation/live-bars.md`` that concern bars, by their numbers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import fsum
from typing import Any

import pytest

from schemas.venue import BarRevised, BarsAbsent, FeedInterrupted
from services.feed.live.state import Rules
from tests.exchange.installation import Installation, holes, installed
from tests.exchange.local import MINUTE

pytestmark = pytest.mark.anyio
SIZE = 2 * MINUTE


@asynccontextmanager
async def two_minutes(**given: Any) -> AsyncIterator[Installation]:
    """Series of two minutes at an exchange that has one minute, and three."""
    async with installed(**given) as feed:
        feed.plan = feed.plan._replace(series=tuple(each._replace(interval_ms=SIZE) for each in feed.plan.series))
        yield feed


async def whole(feed: Installation, first: int, last: int) -> None:
    """The log has every bar from ``first`` to ``last`` once, in order, made of the exchange's own; others are in named
    holes."""
    numbers = await feed.numbers()
    named = holes(await feed.events(BarsAbsent))
    assert numbers == sorted(set(numbers))
    assert sorted({*numbers, *named}) == list(range(first, last + 1))
    market = feed.exchange.markets["BTCUSDT"]
    for bar in await feed.bars():
        assert bar.interval_ms == SIZE
        rows = [market.row(bar.open_time // MINUTE + n, 0) for n in range(2)]
        one, other = ([float(cell) for cell in row[1:6]] for row in rows)
        assert (bar.open, bar.close, bar.volume) == (one[0], other[3], fsum([one[4], other[4]]))
        assert (bar.high, bar.low) == (max(one[1], other[1]), min(one[2], other[2]))
        assert bar.trades == rows[0][8] + rows[1][8]


def begun(feed: Installation) -> int:
    return feed.clock.ms // SIZE


async def walk(feed: Installation, last: int) -> None:
    async def there() -> bool:
        return (await feed.numbers())[-1:] >= [last]

    await feed.until(there, step=2_000)


async def test_l1_its_last_part_comes_by_rest_within_a_second_if_the_stream_is_silent() -> None:
    async with two_minutes(silent=True) as feed, feed.running():
        await feed.subscribed()
        first = begun(feed)
        await feed.to(first + 1, late=600)
        await whole(feed, first, first + 1)
        assert {bar.origin for bar in await feed.bars()} == {"live"}


async def test_l2_parts_that_a_reconnect_left_out_are_read_again_in_order() -> None:
    async with two_minutes() as feed, feed.running():
        await feed.subscribed()
        first = begun(feed)
        await feed.to(first)
        await feed.exchange.disconnect()
        feed.clock.ms += 7 * MINUTE
        await feed.subscribed(step=200)
        await feed.to(begun(feed))
        await whole(feed, first, begun(feed) - 1)
        assert len(await feed.events(FeedInterrupted)) == 1


@pytest.mark.parametrize("fault", ["oldest", "newest", "cut", "empty"])
async def test_l10_a_page_that_is_cut_between_two_parts_makes_no_bar_and_no_hole(fault: str) -> None:
    async with two_minutes() as feed, feed.running():
        await feed.subscribed()
        first = begun(feed)
        await feed.to(first)
        feed.exchange.pages = [fault] * 3
        feed.clock.ms += 9 * MINUTE
        await walk(feed, begun(feed) - 1)
        await whole(feed, first, (await feed.numbers())[-1])
        assert await feed.events(BarsAbsent) == []


@pytest.mark.parametrize("hidden", [False, True])
async def test_l11_it_is_published_only_when_its_last_part_is_closed_by_the_exchanges_time(hidden: bool) -> None:
    async with two_minutes(hide_open=hidden) as feed, feed.running():
        await feed.subscribed()
        first = begun(feed)
        await feed.to(first + 1)
        await whole(feed, first, first + 1)


async def test_l15_a_part_with_another_volume_later_is_a_revision_of_the_bar() -> None:
    async with two_minutes() as feed, feed.running():
        await feed.subscribed()
        first = begun(feed)
        market = feed.exchange.markets["BTCUSDT"]
        part = 2 * (first + 1)
        market.revised[part] = ((first + 2) * SIZE + 30_000, 77.5)
        await feed.to(first + 2)
        (revision,) = await feed.events(BarRevised)
        assert (revision.open_time // SIZE, revision.interval_ms) == (first + 1, SIZE)
        assert revision.revised.volume == fsum([77.5, float(market.row(part + 1, 0)[5])])


async def test_l16_a_part_off_the_grid_is_refused_and_its_bar_is_a_named_hole() -> None:
    async with two_minutes() as feed, feed.running():
        await feed.subscribed()
        first = begun(feed)
        feed.exchange.markets["BTCUSDT"].off_grid.add(2 * (first + 1) + 1)
        await feed.to(first)
        await walk(feed, first + 2)
        (hole,) = await feed.events(BarsAbsent)
        assert (hole.first // SIZE, hole.count, hole.reason) == (first + 1, 1, "off_grid")
        assert [letter.reason for letter in await feed.written("dead")] == ["off_grid"]


async def test_l17_a_hole_among_its_parts_is_a_named_hole_of_the_bar() -> None:
    async with two_minutes() as feed, feed.running():
        await feed.subscribed()
        first = begun(feed)
        feed.exchange.markets["BTCUSDT"].absent.add(2 * (first + 1))
        await feed.to(first)
        await walk(feed, first + 2)
        await whole(feed, first, first + 2)
        (hole,) = await feed.events(BarsAbsent)
        assert (hole.first // SIZE, hole.count, hole.reason) == (first + 1, 1, "not_published")


async def test_l18_where_a_part_without_trades_is_not_published_its_bar_is_a_hole_for_this_reason() -> None:
    async with two_minutes(rules=Rules(policy="none", page=50)) as feed, feed.running():
        await feed.subscribed()
        first = begun(feed)
        feed.exchange.markets["BTCUSDT"].absent.add(2 * (first + 1) + 1)
        await feed.to(first)
        await walk(feed, first + 2)
        (hole,) = await feed.events(BarsAbsent)
        assert (hole.reason, hole.policy, hole.count) == ("no_trades", "none", 1)


async def test_a_killed_feed_goes_on_after_its_last_bar() -> None:
    async with two_minutes() as feed:
        async with feed.running(killed=True):
            await feed.subscribed()
            first = begun(feed)
            await feed.to(first + 1)
        feed.clock.ms += 7 * MINUTE
        async with feed.running():
            await feed.subscribed()
            await feed.to(begun(feed))
            await whole(feed, first, begun(feed) - 1)
