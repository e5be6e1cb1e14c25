"""Sets that read inputs: streaming equals the history to the bit, whatever is late, missing, restarted or cut."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.market import (
    BarClosed,
    BookSampled,
    FundingPublished,
    InputEvent,
    MarketEvent,
    OpenInterestSampled,
    PriceSampled,
)
from shared.features import SETS, BarArrays, FeatureSet, feature_set, history
from shared.features.engine import AcceptedBars, ComputedVector, Engine, Withheld
from shared.features.leaks import LeakError, leaks
from shared.features.streaming import Streaming
from shared.inputs import reading
from shared.inputs.samples import gathered
from tests.shared.features.test_streaming import CUTS, GAPS, MINUTE, SEEDS, arrays, check_rebuilt, fed, served

Walk = Callable[..., BarArrays]
HOUR = 3_600_000
FUNDING = feature_set("funding", "price_change", "funding_bp", "funding_change_32_bp")
INTEREST = feature_set("interest", "open_interest_change_1", "open_interest_change_4", "open_interest_z_64")
PRICES = feature_set("prices", "close", "basis_bp", "basis_change_4_bp")
BOTH = feature_set("both", "book_imbalance_16", "funding_bp", "close@REF", "price_change_less@REF")
PLAIN = feature_set("plain", "price_change", "volume_ma_ratio")
SHORT = (FUNDING, PLAIN, INTEREST, PRICES, BOTH)
READING = (INTEREST, BOTH, PRICES)
CHOICES = st.sampled_from([SHORT, READING, (PRICES,)])
SYMBOLS = ("ONE", "REF", "TWO")


def sampled(random: np.random.Generator, symbol: str, time: int, origin: Any = "replay") -> list[InputEvent]:
    """One event of each kind, some of them missing."""
    level = float(random.random()) + 1.0
    where: dict[str, Any] = {"symbol": symbol, "at": time, "origin": origin}
    found: list[InputEvent] = [
        FundingPublished(**where, rate=level * 1e-4, interval_ms=[None, 10 * MINUTE][int(random.integers(2))]),
        OpenInterestSampled(**where, amount=level * 1e3),
        PriceSampled(**where, mark=level * 100.0, index=100.0 if random.random() < 0.98 else None),
        BookSampled(**where, bid=level, bid_size=level, ask=level + 0.1, ask_size=float(random.random())),
    ]
    return [each for each in found if random.random() < 0.96]


def market(seed: int, rates: tuple[float, ...], delayed: float) -> list[MarketEvent]:
    """Three symbols with gaps, and their inputs up to 20 seconds before each close. A share ``delayed`` of the inputs
    is up to eight bars late; the others, and REF, come before the bars with their close."""
    random = np.random.default_rng(seed)
    keyed: list[tuple[float, MarketEvent]] = []
    for number, symbol in enumerate(SYMBOLS):
        last, silent = 100.0, 0
        for slot in range(150):
            opened, last = last, last * float(np.exp(random.normal(0.0, 1e-3)))
            silent = max(silent - 1, int(random.random() < rates[number]) * int(random.integers(1, 8)))
            close = (1001 + slot) * MINUTE
            for event in sampled(random, symbol, close - int(random.integers(20_000))):
                late = int(random.integers(1, 9)) if random.random() < delayed else 0
                keyed.append((close + late * MINUTE + bool(late), event))
            bar = BarClosed(
                symbol=symbol,
                interval_ms=MINUTE,
                open_time=close - MINUTE,
                open=opened,
                high=max(opened, last),
                low=min(opened, last),
                close=last,
                volume=float(random.integers(1, 9)),
                origin="replay",
            )
            if not silent and slot >= 10 * number:
                keyed.append((close + (0.1 if symbol == "REF" else 0.2), bar))
    return [event for _, event in sorted(keyed, key=lambda one: one[0])]


def recorded(chosen: FeatureSet, events: Sequence[MarketEvent], symbol: str, bridge: int = 3) -> dict[int, Any]:
    """The vectors of a symbol's history, by open time."""
    bars = [event for event in events if isinstance(event, BarClosed)]
    inputs = gathered(event for event in events if isinstance(event, InputEvent))
    of = {name: arrays([bar for bar in bars if bar.symbol == name]) for name in SYMBOLS}
    found = history(chosen, replace(of[symbol], inputs=inputs.get(symbol, {})), bridge, of)
    rows = zip(found.open_times.tolist(), found.bridged.tolist(), found.vectors, strict=True)
    return {time: (flats, vector.tobytes()) for time, flats, vector in rows}


@settings(max_examples=20, deadline=None)
@given(SEEDS, GAPS, CUTS, st.integers(0, 4), CHOICES)
def test_a_stream_in_the_order_of_time_gives_the_bits_of_a_history(
    seed: int, gaps: tuple[float, ...], cuts: list[int], bridge: int, sets: tuple[FeatureSet, ...]
) -> None:
    events = market(seed, gaps, 0.0)
    outcomes = fed(Streaming(sets, bridge), events, cuts)
    for number, chosen in enumerate(sets):
        for symbol in SYMBOLS:
            assert served(events, outcomes, symbol, number) == recorded(chosen, events, symbol, bridge)


@settings(max_examples=25, deadline=None)
@given(SEEDS, GAPS, st.sampled_from([0.0, 0.05, 0.5]), CUTS, st.integers(0, 1000), st.integers(0, 100), CHOICES)
def test_one_that_is_rebuilt_from_its_oldest_event_goes_on_like_the_first(
    seed: int,
    gaps: tuple[float, ...],
    delayed: float,
    cuts: list[int],
    stop: int,
    earlier: int,
    sets: tuple[FeatureSet, ...],
) -> None:
    events = market(seed, gaps, delayed)
    check_rebuilt(sets, events, cuts, stop % len(events), earlier)


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.sampled_from([0.05, 0.5]), CUTS)
def test_what_is_late_and_how_events_are_cut_change_only_sets_that_read_it(
    seed: int, delayed: float, cuts: list[int]
) -> None:
    events = market(seed, GAPLESS, delayed)
    outcomes = fed(Streaming(SHORT), events, cuts)
    assert outcomes == fed(Streaming(SHORT), events)
    bars = [event for event in events if isinstance(event, BarClosed)]
    alone = fed(Streaming([PLAIN]), bars)
    assert [each.results[1] for each in outcomes if isinstance(each, AcceptedBars)] == [
        each.results[0] for each in alone if isinstance(each, AcceptedBars)
    ]


GAPLESS = (0.0,) * 4


def bars_of(count: int, walk: Walk, symbol: str = "ONE", interval_ms: int = HOUR) -> list[BarClosed]:
    rows = walk(count, interval_ms=interval_ms)
    return [
        BarClosed(
            symbol=symbol,
            interval_ms=interval_ms,
            open_time=int(rows.open_time[i]),
            open=float(rows.open[i]),
            high=float(rows.high[i]),
            low=float(rows.low[i]),
            close=float(rows.close[i]),
            volume=float(rows.volume[i]),
            origin="replay",
        )
        for i in range(count)
    ]


LEVEL = feature_set("level", "funding_bp", "open_interest_change_1", "spread_bp")


def results(events: Sequence[MarketEvent], chosen: FeatureSet = LEVEL) -> list[Any]:
    """The result of each bar."""
    return [each.results[0] for each in fed(Streaming([chosen]), events) if isinstance(each, AcceptedBars)]


def funded(bars: Sequence[BarClosed]) -> list[MarketEvent]:
    """Bars with all inputs of LEVEL: funding at each eighth close, the others at each."""
    found: list[MarketEvent] = []
    for number, bar in enumerate(bars):
        where: dict[str, Any] = {"symbol": bar.symbol, "at": bar.open_time + bar.interval_ms, "origin": "replay"}
        if number % 8 == 0:
            found.append(FundingPublished(**where, rate=1e-4 * (number + 1)))
        found.append(OpenInterestSampled(**where, amount=1000.0 + number))
        found.append(BookSampled(**where, bid=99.0, bid_size=1.0, ask=101.0, ask_size=3.0))
        found.append(bar)
    return found


def test_a_late_input_costs_one_vector_and_is_named(walk: Walk) -> None:
    events = funded(bars_of(12, walk))
    whole = results(events)
    late = next(n for n, event in enumerate(events) if n > 20 and isinstance(event, OpenInterestSampled))
    order = [*events[:late], *events[late + 1 : late + 3], events[late], *events[late + 3 :]]
    found = results(order)
    differing = [n for n, (one, other) in enumerate(zip(found, whole, strict=True)) if one != other]
    assert len(differing) == 1
    detail = (
        "open_interest_change_1; no open_interest of ONE younger than a bar, and 5 minutes where bars are shorter at "
        "this close was read before"
    )
    assert found[differing[0]] == Withheld("undefined", 2, 2, detail)


def test_a_sample_after_the_close_is_no_value_of_the_bar(walk: Walk) -> None:
    events = funded(bars_of(4, walk))
    book = max(n for n, event in enumerate(events) if isinstance(event, BookSampled))
    later = events[book]
    assert isinstance(later, BookSampled)
    events[book] = BookSampled(
        symbol="ONE", at=later.at + 1, origin="replay", bid=1.0, bid_size=1.0, ask=2.0, ask_size=1.0
    )
    assert isinstance(results(events)[-1], Withheld)
    assert [type(each) for each in results(funded(bars_of(4, walk)))] == [Withheld, *[ComputedVector] * 3]


def test_funding_lasts_for_less_than_two_of_its_intervals(walk: Walk) -> None:
    only = feature_set("only", "funding_bp")
    bars = bars_of(20, walk)
    first = FundingPublished(
        symbol="ONE", at=bars[0].open_time + HOUR, origin="replay", rate=1e-4, interval_ms=4 * HOUR
    )
    found = results([first, *bars], only)
    assert [isinstance(each, ComputedVector) for each in found] == [True] * 8 + [False] * 12
    unstated = FundingPublished(symbol="ONE", at=first.at, origin="replay", rate=1e-4)
    assert sum(isinstance(each, ComputedVector) for each in results([unstated, *bars], only)) == 16


def test_open_interest_lasts_five_minutes_where_bars_are_shorter_and_other_samples_one_bar(walk: Walk) -> None:
    bars = bars_of(10, walk, interval_ms=MINUTE)
    where: dict[str, Any] = {"symbol": "ONE", "at": bars[0].open_time + MINUTE, "origin": "replay"}
    interest = OpenInterestSampled(**where, amount=5.0)
    price = PriceSampled(**where, mark=5.0, index=4.0)
    only, basis = feature_set("only", "close", "open_interest_change_1"), feature_set("basis", "basis_bp")
    assert sum(isinstance(each, ComputedVector) for each in results([interest, *bars], only)) == 4
    assert sum(isinstance(each, ComputedVector) for each in results([price, *bars], basis)) == 1


def test_synthetic_and_real_inputs_do_not_mix(walk: Walk) -> None:
    only = feature_set("only", "funding_bp")
    bars = bars_of(2, walk)
    made_up = FundingPublished(symbol="ONE", at=bars[0].open_time, origin="synthetic", rate=1e-4)
    assert all(isinstance(each, Withheld) for each in results([made_up, *bars], only))


def test_the_first_of_two_samples_of_one_time_counts(walk: Walk) -> None:
    only = feature_set("only", "funding_bp")
    [bar] = bars_of(1, walk)
    one, other = (FundingPublished(symbol="ONE", at=bar.open_time, origin="replay", rate=rate) for rate in (1e-4, 2e-4))
    assert results([one, other, bar], only) == results([one, bar], only)
    assert gathered([one, other])["ONE"]["funding"].values.tolist() == [[1e-4]]


def test_only_the_samples_that_a_later_bar_may_need_are_read_again(walk: Walk) -> None:
    only = feature_set("only", "funding_bp")
    bars = bars_of(31, walk)
    times = range(bars[0].open_time, bars[30].open_time, 60_000)
    samples = [FundingPublished(symbol="ONE", at=time, origin="replay", rate=1e-4) for time in times]
    stream = Streaming([only])
    fed(stream, [*samples, *bars[:31]])
    assert stream.oldest() == len(samples)


def test_an_input_that_ended_holds_no_restart_back_once_a_window_is_full_of_bars_without_it(walk: Walk) -> None:
    chosen = feature_set("ended", "funding_bp", "price_change", "momentum_10")
    bars = bars_of(60, walk)
    first = FundingPublished(symbol="ONE", at=bars[0].open_time, origin="replay", rate=1e-4)
    stream = Streaming([chosen])
    lacking = 15 + chosen.lookback  # those before have a value
    fed(stream, [first, *bars[: lacking - 1]])
    assert stream.oldest() == 1
    fed(stream, bars[lacking - 1 : lacking], first=lacking + 1)
    assert stream.oldest() == 15 + 2
    fed(stream, bars[lacking:], first=lacking + 2)
    assert stream.oldest() == 60 + 1 - chosen.lookback + 1


def test_no_more_samples_are_kept_than_stated(walk: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "KEPT", 5)
    only = feature_set("only", "funding_bp")
    bars = bars_of(9, walk)
    samples = [FundingPublished(symbol="ONE", at=bar.open_time, origin="replay", rate=1e-4) for bar in bars]
    found = results([*samples, *bars], only)
    assert [isinstance(each, ComputedVector) for each in found] == [False] * 3 + [True] * 6


def test_an_engine_without_the_values_of_inputs_refuses_such_a_set() -> None:
    with pytest.raises(ValueError, match="needs their values, got none"):
        Engine([FUNDING])


@pytest.mark.parametrize("name", [name for name, chosen in SETS.items() if chosen.inputs])
def test_every_set_with_inputs_streams_to_the_bits_of_its_history_and_leaks_nothing(name: str, walk: Walk) -> None:
    chosen = SETS[name]
    bars = bars_of(chosen.lookback + 90, walk)
    random = np.random.default_rng(3)
    events: list[MarketEvent] = []
    for bar in bars:
        close = bar.open_time + HOUR
        where: dict[str, Any] = {"symbol": "ONE", "at": close - int(random.integers(60_000)), "origin": "replay"}
        level = float(random.random()) + 1.0
        if close % (8 * HOUR) == 0 or bar is bars[0]:
            events.append(FundingPublished(**where, rate=1e-4 * level))
        events += [
            OpenInterestSampled(**where, amount=level * 1e3),
            PriceSampled(**where, mark=level * 100.0, index=99.0),
            BookSampled(**where, bid=level, bid_size=level, ask=level + 0.1, ask_size=float(random.random())),
            bar,
        ]
    outcomes = fed(Streaming([chosen]), events, range(2 * chosen.lookback - 9, len(events), 7))
    whole = replace(hourly(bars), inputs=gathered(event for event in events if isinstance(event, InputEvent))["ONE"])
    found = history(chosen, whole)
    assert len(found.rows) == 91
    assert served(events, outcomes, "ONE", 0) == {
        time: (0, vector.tobytes()) for time, vector in zip(found.open_times.tolist(), found.vectors, strict=True)
    }
    assert leaks(chosen, whole, range(40)) == []
    with pytest.raises(LeakError, match=f"and {', '.join(chosen.inputs)} at their closes"):
        leaks(chosen, hourly(bars), range(1))


def hourly(bars: Sequence[BarClosed]) -> BarArrays:
    times = np.array([bar.open_time for bar in bars], np.int64)
    names = ("open", "high", "low", "close", "volume")
    columns: dict[str, Any] = {name: np.array([getattr(bar, name) for bar in bars]) for name in names}
    return BarArrays(times, interval_ms=HOUR, **columns)
