from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.common import Origin
from schemas.market import BarClosed
from shared.features import SETS, BarArrays, FeatureSet, feature_set, history
from shared.features import engine as module
from shared.features.bars import FURTHER, PRICES_AND_VOLUME
from shared.features.engine import AcceptedBars, ComputedVector, Engine, Withheld
from shared.features.refusal import RefusedBar

Walk = Callable[..., BarArrays]
MINUTE = 60_000
SHORT = (
    feature_set("short", "volume_z_48", "bb_position", "rsi_14", "minute_sin"),
    feature_set("shorter", "stochastic_d_3", "z_return_5", "volume_ma_ratio"),
    feature_set("flow", "taker_imbalance_4", "taker_slope_4_16", "log_trades_4_64", "volume_share_20_x4"),
)
ALONE = [name for name, chosen in SETS.items() if not (chosen.references or chosen.inputs)]
ONE = (feature_set("one", "price_change", "close"),)


def closed(bars: BarArrays, symbol: str = "AAA", origin: Origin = "replay") -> list[BarClosed]:
    columns = {name: column.tolist() for name, column in bars.fields().items()}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return [
        BarClosed(
            symbol=symbol,
            interval_ms=bars.interval_ms,
            open_time=int(time),
            origin=origin,
            **row,
        )
        for time, row in zip(bars.open_time, rows, strict=True)
    ]


def fed(
    engine: Engine, bars: Sequence[BarClosed], cuts: Sequence[int] = (), first: int = 1
) -> list[AcceptedBars | RefusedBar]:
    edges = sorted({0, *(cut % (len(bars) + 1) for cut in cuts), len(bars)})
    return [event for a, b in pairwise(edges) for event in engine.handle(bars[a:b], first + a)]


def published(
    chosen: FeatureSet, bars: list[BarClosed], outcomes: list[AcceptedBars | RefusedBar], number: int
) -> bytes:
    """What a stream gave for a set, in the form of a history."""
    rows = [
        np.int64(bar.open_time).tobytes() + np.int64(result.bridged).tobytes() + result.values
        for bar, outcome in zip(bars, outcomes, strict=True)
        if isinstance(outcome, AcceptedBars) and isinstance(result := outcome.results[number], ComputedVector)
    ]
    assert all(len(row) == 16 + 4 * len(chosen) for row in rows)
    return b"".join(rows)


def recorded(chosen: FeatureSet, bars: list[BarClosed], bridge: int) -> tuple[bytes, tuple[int, int, int]]:
    times = np.array([bar.open_time for bar in bars])
    columns: dict[str, Any] = {
        name: np.array([getattr(bar, name) for bar in bars], float) for name in (*PRICES_AND_VOLUME, *FURTHER)
    }
    found = history(chosen, BarArrays(times, interval_ms=MINUTE, **columns), bridge)
    rows = zip(found.open_times, found.bridged, found.vectors, strict=True)
    return b"".join(t.tobytes() + b.tobytes() + v.tobytes() for t, b, v in rows), (
        found.warming,
        found.gap,
        found.undefined,
    )


def reasons(outcomes: list[AcceptedBars | RefusedBar], number: int) -> tuple[int, ...]:
    results = [outcome.results[number] for outcome in outcomes if isinstance(outcome, AcceptedBars)]
    given = [result.reason for result in results if isinstance(result, Withheld)]
    return given.count("warming"), given.count("gap"), given.count("undefined")


@st.composite
def markets(draw: st.DrawFn) -> list[BarClosed]:
    """A few symbols, with gaps, flat stretches, and bars of one moment in any order."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    symbols = draw(st.integers(1, 4))
    count = draw(st.integers(300, 500))
    stream: list[BarClosed] = []
    close = np.full(symbols, 100.0)
    rate = draw(st.sampled_from([0.0, 0.002, 0.02]))
    lacking = draw(st.sampled_from([0.0, 0.002, 1.0]))
    silent = np.zeros(symbols, int)
    start = random.integers(0, 50, symbols)
    for slot in range(count):
        silent = np.maximum(silent - 1, (random.random(symbols) < rate) * random.integers(1, 8, symbols))
        for s in random.permutation(symbols):
            open_, shake = close[s], random.normal(0.0, 1e-3, 3) * (random.random() > 0.01)
            close[s] *= np.exp(shake[0])
            high = max(open_, close[s]) * (1 + abs(shake[1]))
            low = min(open_, close[s]) * (1 - abs(shake[2]))
            if silent[s] == 0 and slot >= start[s]:
                volume = float(random.integers(0, 9))
                known = random.random() >= lacking
                stream.append(
                    BarClosed(
                        symbol=f"S{s}",
                        interval_ms=MINUTE,
                        open_time=(1000 + slot) * MINUTE,
                        open=float(open_),
                        high=float(high),
                        low=float(low),
                        close=float(close[s]),
                        volume=volume,
                        origin="replay",
                        trades=int(random.integers(0, 5)) if known else None,
                        taker_volume=volume * float(random.random()) if known else None,
                    )
                )
    return stream


@settings(max_examples=30, deadline=None)
@given(markets(), st.lists(st.integers(0, 3000), max_size=60), st.integers(0, 4))
def test_a_stream_however_cut_gives_the_bits_of_a_history(bars: list[BarClosed], cuts: list[int], bridge: int) -> None:
    outcomes = fed(Engine(SHORT, bridge), bars, cuts)
    for symbol in {bar.symbol for bar in bars}:
        own = [i for i, bar in enumerate(bars) if bar.symbol == symbol]
        own_bars, own_outcomes = [bars[i] for i in own], [outcomes[i] for i in own]
        for number, chosen in enumerate(SHORT):
            expected, counts = recorded(chosen, own_bars, bridge)
            assert published(chosen, own_bars, own_outcomes, number) == expected
            assert reasons(own_outcomes, number) == counts


@settings(max_examples=30, deadline=None)
@given(markets(), st.lists(st.integers(0, 3000), max_size=20), st.integers(0, 3000), st.data())
def test_an_engine_rebuilt_from_its_oldest_event_goes_on_like_the_first(
    bars: list[BarClosed], cuts: list[int], stop: int, data: st.DataObject
) -> None:
    stop %= len(bars)
    first = Engine(SHORT)
    fed(first, bars[:stop], cuts)
    oldest = first.oldest()
    start = stop if oldest is None else data.draw(st.integers(0, oldest - 1))
    second = Engine(SHORT)
    for a, b in pairwise(sorted({start, *(cut for cut in cuts if start < cut < stop), stop})):
        second.apply(bars[a:b], a + 1)
    second.restarted = set(first.restarted)
    assert fed(second, bars[stop:], cuts, stop + 1) == fed(first, bars[stop:], first=stop + 1)
    assert second.oldest() == first.oldest()


@pytest.mark.parametrize("name", ALONE)
def test_every_set_streams_to_the_bits_of_its_history(name: str, walk: Walk) -> None:
    bars = closed(walk(SETS[name].lookback + 40, seed=5))
    outcomes = fed(Engine([SETS[name]]), bars, range(SETS[name].lookback - 5, len(bars), 7))
    expected, _ = recorded(SETS[name], bars, 3)
    assert published(SETS[name], bars, outcomes, 0) == expected


def test_sets_that_live_together_do_not_change_each_other(walk: Walk) -> None:
    bars = closed(walk(530, seed=6))
    sets = [SETS[name] for name in ALONE]
    together = fed(Engine(sets), bars, [100, 400, 520])
    for number, chosen in enumerate(sets):
        alone = fed(Engine([chosen]), bars)
        assert [event.results[number] for event in together if isinstance(event, AcceptedBars)] == [
            event.results[0] for event in alone if isinstance(event, AcceptedBars)
        ]


def test_a_set_that_looks_back_on_nothing_is_served(walk: Walk) -> None:
    chosen = feature_set("now", "close", "minute_sin")
    for symbols in (1, 9):
        bars = [bar for t in range(3) for bar in [closed(walk(3), f"S{i}")[t] for i in range(symbols)]]
        outcomes = fed(Engine([chosen]), bars, range(0, len(bars), symbols))
        assert published(chosen, bars[::symbols], outcomes[::symbols], 0) == recorded(chosen, closed(walk(3)), 3)[0]


def test_many_symbols_grow_the_bank_and_keep_apart(walk: Walk) -> None:
    walks = {f"S{i}": closed(walk(60, seed=i), f"S{i}") for i in range(37)}
    bars = [walks[symbol][t] for t in range(60) for symbol in walks]
    outcomes = fed(Engine(ONE), bars, range(0, len(bars), 50))
    for i, symbol in enumerate(walks):
        assert outcomes[i::37] == fed(Engine(ONE), walks[symbol])


def test_intervals_of_a_symbol_have_windows_of_their_own(walk: Walk) -> None:
    minutes, hours = closed(walk(30)), closed(walk(30, interval_ms=3_600_000))
    mixed = [bar for pair in zip(minutes, hours, strict=True) for bar in pair]
    outcomes = fed(Engine(ONE), mixed, [7, 21])
    assert outcomes[0::2] == fed(Engine(ONE), minutes)
    assert outcomes[1::2] == fed(Engine(ONE), hours)


def test_live_bars_continue_replayed_ones_and_synthetic_ones_do_not(walk: Walk) -> None:
    bars = closed(walk(4))
    live = closed(walk(4), origin="live")
    synthetic = closed(walk(4), origin="synthetic")
    outcomes = fed(Engine(ONE), [*bars[:2], live[2], synthetic[3], live[3]])
    kinds = [type(event.results[0]) for event in outcomes if isinstance(event, AcceptedBars)]
    assert kinds == [Withheld, ComputedVector, ComputedVector, Withheld, ComputedVector]


def test_what_is_withheld_says_how_many_bars_there_are_and_are_needed(walk: Walk) -> None:
    bars = closed(walk(20))
    outcomes = fed(Engine(ONE), [*bars[:3], bars[10], bars[11]])
    first, second, _, broken, again = outcomes
    assert first == AcceptedBars(0, False, (Withheld("warming", 1, 2),))
    assert broken == AcceptedBars(7, False, (Withheld("gap", 1, 2),))
    for event in (second, again):
        assert isinstance(event, AcceptedBars)
        assert isinstance(event.results[0], ComputedVector)


def test_bridged_bars_are_counted_while_they_stand_in_the_window(walk: Walk) -> None:
    bars = closed(walk(20))
    outcomes = fed(Engine(ONE), [*bars[:15], *bars[17:]])
    assert [event.missing for event in outcomes if isinstance(event, AcceptedBars)] == [0] * 15 + [2, 0, 0]
    one = fed(Engine(ONE), [*bars[:3], *bars[5:9]])
    results = [event.results[0] for event in one[1:] if isinstance(event, AcceptedBars)]
    assert [result.bridged for result in results if isinstance(result, ComputedVector)] == [0, 0, 1, 0, 0, 0]


def test_an_undefined_value_is_withheld_with_its_name(walk: Walk) -> None:
    bars = [
        BarClosed(
            symbol="AAA",
            interval_ms=MINUTE,
            open_time=i * MINUTE,
            open=1.0,
            high=1.0,
            low=1.0,
            close=1.0,
            volume=0.0,
            origin="live",
        )
        for i in range(60)
    ]
    chosen = feature_set("two", "close", "bb_position", "volume_ratio")
    last = fed(Engine([chosen]), bars, [30])[-1]
    assert last == AcceptedBars(0, False, (Withheld("undefined", 20, 20, "bb_position, volume_ratio"),))


def test_a_bar_that_lacks_what_a_feature_reads_withholds_the_set_and_says_what_it_lacks(walk: Walk) -> None:
    sets = (feature_set("flow", "close", "taker_imbalance_1", "log_trades_4_64"), feature_set("price", "close"))
    bars = closed(walk(66))
    lacking = replace(bars[64], taker_volume=None, trades=None)
    late = fed(Engine(sets), [*bars[:64], lacking, bars[65]])[64:]
    names = "taker_imbalance_1, log_trades_4_64; the bar has no trades, taker_volume"
    without, after = (outcome.results for outcome in late if isinstance(outcome, AcceptedBars))
    assert without[0] == Withheld("undefined", 64, 64, names)
    assert after[0] == Withheld("undefined", 64, 64, "log_trades_4_64"), "the bar before is in its window"
    assert isinstance(without[1], ComputedVector)
    assert isinstance(after[1], ComputedVector)


def test_a_bridged_bar_had_no_trades_where_others_say_how_many_they_had(walk: Walk) -> None:
    chosen = feature_set("flow", "taker_imbalance_4", "log_trades_4_64")
    bars = closed(walk(70))
    [last] = fed(Engine([chosen]), [*bars[:66], *bars[68:69]])[-1:]
    silent = replace(bars[65], volume=0.0, trades=0, taker_volume=0.0)
    flat = [replace(silent, open_time=bar.open_time) for bar in bars[66:68]]
    [same] = fed(Engine([chosen]), [*bars[:66], *flat, bars[68]])[-1:]
    assert isinstance(last, AcceptedBars)
    assert isinstance(same, AcceptedBars)
    bridged, whole = last.results[0], same.results[0]
    assert isinstance(bridged, ComputedVector)
    assert isinstance(whole, ComputedVector)
    assert (bridged.values, bridged.bridged) == (whole.values, 2)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, "duplicate"),
        ({"volume": 5.0}, "conflict"),
        ({"open_time": 0}, "out_of_order"),
        ({"open_time": 28_000_010 * MINUTE + 1}, "off_grid"),
        ({"high": 1.0}, "impossible_prices"),
        ({"low": float("nan")}, "impossible_prices"),
    ],
)
def test_a_refused_bar_changes_nothing(change: dict[str, float], reason: str, walk: Walk) -> None:
    bars = closed(walk(9))
    bad = replace(bars[5], **change)
    outcomes = fed(Engine(ONE), [*bars[:6], bad, *bars[6:]])
    refused = outcomes.pop(6)
    assert isinstance(refused, RefusedBar)
    assert refused.reason == reason
    assert outcomes == fed(Engine(ONE), bars)


def test_a_symbol_that_has_been_silent_for_long_is_forgotten(walk: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FORGET_AFTER", 40)
    monkeypatch.setattr(module, "SWEEP_EVERY", 8)
    dead, alive = closed(walk(3), "DEAD"), closed(walk(100), "LIVE")
    engine = Engine(ONE)
    fed(engine, [*dead, *alive[:30]])
    assert engine.oldest() == 3
    fed(engine, alive[30:], first=34)
    assert engine.oldest() == 103
    assert engine.handle([dead[2]], 104) == [AcceptedBars(0, False, (Withheld("warming", 1, 2),))]


def test_a_refused_bar_is_a_sign_of_life(walk: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a rebuilt engine, which may not know that it was refused, would forget at another moment."""
    monkeypatch.setattr(module, "FORGET_AFTER", 40)
    monkeypatch.setattr(module, "SWEEP_EVERY", 8)
    quiet, alive = closed(walk(3), "QUIET"), closed(walk(100), "LIVE")
    outcomes = fed(Engine(ONE), [*quiet[:2], *alive[:30], quiet[0], *alive[30:60], quiet[2]])
    assert isinstance(outcomes[32], RefusedBar)
    last = outcomes[-1]
    assert isinstance(last, AcceptedBars)
    assert isinstance(last.results[0], ComputedVector)


def test_a_flat_bar_needs_the_bar_whose_close_it_repeats(walk: Walk) -> None:
    bars = closed(walk(40))
    engine = Engine([feature_set("twenty", "volume_ma_ratio")])
    engine.handle(bars[:10], 1)
    engine.handle(bars[13:31], 11)  # a window of 20 now begins with the bar in row 12, a flat one
    assert engine.oldest() == 10
