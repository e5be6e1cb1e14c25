"""The feed brings inputs of a local exchange before the bars that read them, or goes on without them."""

from typing import Any

import pytest

from schemas.market import (
    BarClosed,
    BookSampled,
    FundingPublished,
    InputEvent,
    OpenInterestSampled,
    PriceSampled,
)
from services.feed.live.inputs import LEAD_MS, WAIT_MS
from services.feed.live.state import Rules
from shared.features import feature_set
from shared.features.engine import AcceptedBars, ComputedVector, Withheld
from shared.features.streaming import Streaming
from shared.inputs.kinds import KINDS, Kind, samples_of
from tests.exchange import derivatives
from tests.exchange.installation import Installation, installed
from tests.exchange.local import MINUTE

pytestmark = pytest.mark.anyio
EVERY = feature_set("every", "funding_bp", "open_interest_change_1", "basis_bp", "spread_bp")
SYMBOL = "BTC/USDT:USDT"


def begun(feed: Installation) -> int:
    return feed.clock.ms // MINUTE


async def to(feed: Installation, n: int) -> None:
    """Advance to the close of bar ``n``, with a stop where samples are taken."""
    for number in range(begun(feed), n + 1):
        close = (number + 1) * MINUTE
        feed.clock.ms = close - LEAD_MS + 500
        asked = len(feed.exchange.requests)

        async def sampled(asked: int = asked) -> bool:
            return {"openInterest", "depth"} <= {what for what, _ in feed.exchange.requests[asked:]}

        if {"open_interest", "book"} <= set(feed.plan.inputs):
            await feed.until(sampled, what="samples")
        await feed.to(number)


CONTRACTS = pytest.mark.parametrize("exchange", ["binanceusdm", "bybit", "okx"])


async def market_of(feed: Installation) -> list[Any]:
    return await feed.written("market")


def results(events: list[Any]) -> list[Any]:
    return [each.results[0] for each in outcomes(events) if isinstance(each, AcceptedBars)]


def outcomes(events: list[Any]) -> list[Any]:
    return list(Streaming([EVERY]).handle(events, 1))


@CONTRACTS
async def test_every_input_is_there_before_the_bars_that_read_it_live(exchange: str) -> None:
    async with installed(exchange=exchange, contracts=True, inputs=KINDS) as feed, feed.running():
        await feed.subscribed()
        await to(feed, begun(feed) + 3)
        events = await market_of(feed)
    found = results(events)
    assert len(found) == 4
    assert [type(each) for each in found[1:]] == [ComputedVector] * 3
    for event in events:
        match event:
            case FundingPublished(at=at, rate=rate):
                assert rate == derivatives.rate(at)
            case OpenInterestSampled(at=at, amount=amount):
                late = at % MINUTE - (MINUTE - LEAD_MS + 500)
                assert late in ({0, 500} if exchange == "bybit" else {0}), "the answer of Bybit states no time"
                assert amount == derivatives.interest(at - late)
            case PriceSampled(at=at, mark=mark, index=index):
                assert (mark or derivatives.mark(at), index or derivatives.index(at)) == (
                    derivatives.mark(at),
                    derivatives.index(at),
                )
                assert at % MINUTE == 0
            case BookSampled():
                assert (event.bid, event.bid_size, event.ask, event.ask_size) == (99.5, 2.0, 100.5, 1.0)
            case _:
                assert isinstance(event, BarClosed)


@CONTRACTS
async def test_bars_of_the_past_have_the_inputs_that_were_published_of_it(exchange: str) -> None:
    past = [kind for kind in KINDS if kind != "book"]
    chosen = feature_set("past", "funding_bp", "open_interest_change_1", "basis_bp")
    rules = Rules(page=120)  # more than OKX gives of prices in one page
    async with (
        installed(exchange=exchange, contracts=True, rules=rules, inputs=past, history=120) as feed,
        feed.running(),
    ):
        await feed.subscribed()

        async def read() -> bool:
            return len(await feed.bars()) == 120

        await feed.until(read, step=20)
        events = await market_of(feed)
    found = [each.results[0] for each in Streaming([chosen]).handle(events, 1) if isinstance(each, AcceptedBars)]
    assert len(found) == 120
    assert sum(isinstance(each, ComputedVector) for each in found) == 119
    intervals = [event.interval_ms for event in events if isinstance(event, FundingPublished)]
    assert intervals == [None, *[derivatives.FUNDING] * (len(intervals) - 1)]
    assert len(intervals) >= 2


async def test_nothing_is_asked_for_where_no_set_needs_it_and_no_more_than_is_needed() -> None:
    choices: tuple[tuple[Kind, ...], ...] = ((), ("mark",))
    for inputs in choices:
        async with installed(exchange="binanceusdm", inputs=inputs) as feed, feed.running():
            await feed.subscribed()
            await to(feed, begun(feed) + 1)
            asked = {what for what, _ in feed.exchange.requests}
            kinds = {type(event) for event in await market_of(feed)}
        assert asked == {"time", "exchangeInfo", "klines", *({"markPriceKlines"} if inputs else set())}
        assert kinds == {BarClosed, *({PriceSampled} if inputs else set())}


async def test_a_market_without_contracts_has_only_a_book() -> None:
    async with installed(exchange="binance", inputs=KINDS) as feed, feed.running():
        await feed.subscribed()
        for number in range(begun(feed), begun(feed) + 2):
            feed.clock.ms = (number + 1) * MINUTE - 1_000

            async def sampled() -> bool:
                return any(isinstance(event, BookSampled) for event in await market_of(feed))

            await feed.until(sampled)
            await feed.to(number)
        kinds = {type(event) for event in await market_of(feed)}
    assert kinds == {BarClosed, BookSampled}


@pytest.mark.parametrize(
    ("without", "lacking"),
    [
        (("openInterest", "openInterestHist"), "open_interest"),
        (("markPriceKlines",), "mark"),
        (("fundingRate",), "funding"),
        (("depth",), "book"),
    ],
)
async def test_bars_come_without_what_the_exchange_refuses(without: tuple[str, ...], lacking: Kind) -> None:
    async with installed(exchange="binanceusdm", inputs=KINDS, without=set(without)) as feed, feed.running():
        await feed.subscribed()
        first = begun(feed)
        await to(feed, first + 2)
        events = await market_of(feed)
    numbers = [event.open_time // MINUTE for event in events if isinstance(event, BarClosed)]
    assert numbers == [first, first + 1, first + 2]
    kinds = {sample.kind for event in events if isinstance(event, InputEvent) for sample in samples_of(event)}
    assert kinds == set(KINDS) - {lacking}
    reasons = {each.detail for each in results(events) if isinstance(each, Withheld) and each.reason == "undefined"}
    assert all(f"no {lacking} of {SYMBOL}" in reason for reason in reasons)
    assert reasons


@CONTRACTS
async def test_open_interest_that_could_not_be_sampled_is_taken_from_what_was_published(exchange: str) -> None:
    async with (
        installed(exchange=exchange, contracts=True, inputs=KINDS, without={"openInterest"}) as feed,
        feed.running(),
    ):
        await feed.subscribed()
        await to(feed, begun(feed) + 2)
        events = await market_of(feed)
    sampled = [event for event in events if isinstance(event, OpenInterestSampled)]
    assert sampled
    assert all(event.at % (5 * MINUTE) == 0 for event in sampled)


async def test_an_outage_costs_no_input_that_was_published_meanwhile() -> None:
    chosen = feature_set("past", "funding_bp", "open_interest_change_1", "basis_bp")
    past = [kind for kind in KINDS if kind != "book"]
    async with installed(exchange="binanceusdm", inputs=past) as feed:
        async with feed.running():
            await feed.subscribed()
            await to(feed, begun(feed) + 1)
        feed.clock.ms += 30 * MINUTE
        async with feed.running():
            await feed.subscribed()
            await feed.to(begun(feed) - 1)  # time goes on only when the past is read, or a page waits too long for it
            await feed.to(begun(feed))
        events = await market_of(feed)
    found = [each.results[0] for each in Streaming([chosen]).handle(events, 1) if isinstance(each, AcceptedBars)]
    assert len(found) > 30
    assert all(isinstance(each, ComputedVector) for each in found[2:])


@pytest.mark.parametrize(("late", "there"), [(1_200, True), (10_000, False)])
async def test_a_new_bar_waits_for_a_price_that_is_late_and_two_seconds_at_most(late: int, there: bool) -> None:
    async with installed(exchange="binanceusdm", inputs=["mark"], late_prices=late) as feed, feed.running():
        await feed.subscribed()
        close = (begun(feed) + 1) * MINUTE
        feed.clock.ms = close + 600

        async def read() -> bool:
            return bool(await feed.bars())

        await feed.until(read, step=20)
        waited = feed.clock.ms - close
        events = await market_of(feed)
    assert [type(event) for event in events] == [*([PriceSampled] if there else []), BarClosed]
    if there:
        assert events[0].at == close
        assert events[0].mark == derivatives.mark(close)
    assert waited >= (late if there else WAIT_MS + 600)
